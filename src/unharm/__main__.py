"""`python -m unharm` is the `unharm` command."""

from unharm.cli.app import main

if __name__ == "__main__":
    main()
