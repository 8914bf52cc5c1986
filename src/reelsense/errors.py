"""The two ways in which Reelsense says no. The command line prints each as one line."""


class BadInput(ValueError):
    """What the user gave cannot be used: names the file, row or flag and what to do. Exits 2."""


class Failure(RuntimeError):
    """The input was fine and the work still failed. Says what happened. Exits 1."""


INSTALL = 'pip install "reelsense[train]"'  # what brings a package that is missing
INSTALL_FILES = 'pip install "reelsense[files]"'  # for Parquet, .zst and object stores
INSTALL_SCALE = 'pip install "reelsense[scale]"'  # for a Ray cluster
INSTALL_SERVE = 'pip install "reelsense[serve]"'  # for the server
INSTALL_TUNE = 'pip install "reelsense[train,tune]"'  # and the one that searches as well


def is_out_of_memory(error: Exception) -> bool:
    """Say whether memory was short; torch says so with a RuntimeError."""
    said = str(error)
    return isinstance(error, MemoryError) or "allocate memory" in said or "out of memory" in said
