"""The two ways in which Reelsense says no. The command line prints each as one line."""

from collections.abc import Iterable


class BadInput(ValueError):
    """What the user gave cannot be used: names the file, row or flag and what to do. Exits 2."""


class Failure(RuntimeError):
    """The input was fine and the work still failed. Says what happened. Exits 1."""


INSTALL = 'pip install "reelsense[train]"'  # what brings a package that is missing
INSTALL_FILES = 'pip install "reelsense[files]"'  # for Parquet, .zst and object stores

# package: the extras that bring it, where that is not `train` alone
_EXTRAS = {
    "optuna": ("train", "tune"),
    "ray": ("scale",),
    **dict.fromkeys(("starlette", "uvicorn", "httptools", "prometheus_client"), ("serve",)),
}


def installing(packages: Iterable[str]) -> str:
    """Return the command that installs what is missing."""
    needed = {extra for package in packages for extra in _EXTRAS.get(package, ("train",))}
    extras = ",".join(extra for extra in ("train", "tune", "scale", "serve") if extra in needed)
    return f'pip install "reelsense[{extras}]"'


def is_out_of_memory(error: Exception) -> bool:
    """Say whether memory was short; torch says so with a RuntimeError."""
    said = str(error)
    return isinstance(error, MemoryError) or "allocate memory" in said or "out of memory" in said
