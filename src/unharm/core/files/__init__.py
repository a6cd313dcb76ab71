"""Reading and writing single files."""
