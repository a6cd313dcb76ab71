"""Where the work of a study is done: in this process, in several of this machine, on a Ray cluster."""
