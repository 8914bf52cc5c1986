"""Where a study is kept: a database, in the study's folder or elsewhere, and the folder's locks.

A lock on a file is gone with the process that holds it, however that ended. Knows no recipe.
"""

import contextlib
import fcntl
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import optuna
import sqlalchemy

from reelsense.errors import BadInput, Failure
from reelsense.model.settings import flag

DATABASE: Final = "study.db"
LOCK: Final = ".lock"  # of a study's folder: held to begin the study, and to claim a trial
STATED: Final = "study"  # the attribute of a study that says what it is
PATIENCE: Final = 100  # seconds to wait for another process that writes to the same file


def open_storage(folder: Path, url: str | None) -> optuna.storages.RDBStorage:
    """Return the database at a URL as SQLAlchemy writes it, or SQLite in the folder.

    Raises:
        BadInput: no database of studies is there. Never says the URL: it may hold a password.
    """
    where, another = _in_words(folder, url)
    try:
        if url is not None:
            return _at(url)
        path = (folder / DATABASE).absolute()  # in a URL some letters would mean something else
        connect = {"creator": lambda: sqlite3.connect(path, timeout=PATIENCE)}
        return optuna.storages.RDBStorage(f"sqlite:///{DATABASE}", connect)
    except (sqlalchemy.exc.ArgumentError, LookupError, ValueError):
        raise BadInput(
            f"{where}: not the URL of a database, such as postgresql://user@machine/name; check it"
        ) from None
    except ImportError:
        raise BadInput(
            f"{where}: the Python driver of this kind of database is missing; install it"
        ) from None
    except RuntimeError as error:  # tables of another version
        if "version" not in str(error):
            raise
        raise BadInput(
            f"{where}: written by another version of Optuna; install that one, or {another}"
        ) from None
    except sqlalchemy.exc.DatabaseError as error:
        if "not a database" not in str(error):
            raise
        raise BadInput(f"{where}: not a database; {another}") from None


def _at(url: str) -> optuna.storages.RDBStorage:
    """Return the database at a URL; two machines may be making its tables at the same moment."""
    waits = {"connect_args": {"timeout": PATIENCE}} if url.startswith("sqlite") else {}
    try:
        return optuna.storages.RDBStorage(url, waits)
    except sqlalchemy.exc.DatabaseError as error:
        if "exists" not in str(error):
            raise
    time.sleep(1)
    return optuna.storages.RDBStorage(url, waits)


@contextlib.contextmanager
def in_one_line(folder: Path, url: str | None) -> Iterator[None]:
    """Say in one line what a database fails with.

    Raises:
        Failure: it cannot be reached or written.
    """
    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        cause = error.__cause__ or error
        said = str(getattr(cause, "orig", None) or cause).splitlines()[0]
        raise Failure(
            f"{_in_words(folder, url)[0]}: the database failed ({said}); the trials that have "
            "ended are kept, run the same command again"
        ) from None


def check_study(folder: Path, study: optuna.Study, stated: Mapping[str, Any]) -> None:
    """Refuse a study of another recipe, other ranges or other data.

    Args:
        folder: of the study, for messages.
        study: as it is in its storage.
        stated: what it should be: "recipe", "ranges" and "hashes" of the data, by their names;
            what is missing is not compared.

    Raises:
        BadInput: names what differs.
    """
    said = f"--study {folder}:"
    if STATED not in study.user_attrs:
        raise BadInput(f"{said} the storage has a study of that name that is not of this program")
    before, now = study.user_attrs[STATED], json.loads(json.dumps(stated))
    for part in now:
        changed = [name for name in {**before[part], **now[part]}
                   if before[part].get(name) != now[part].get(name)]  # fmt: skip
        if not changed:
            continue
        if part == "hashes":
            raise BadInput(f"{said} began with other {', '.join(changed)}; {_AGAIN}")
        listed = "; ".join(
            f"{_CALLED[part]}{flag(name) if part == 'recipe' else name} was "
            f"{before[part].get(name, 'not there')}, is {now[part].get(name, 'not there')}"
            for name in changed
        )
        raise BadInput(f"{said} began with {_OTHER[part]}: {listed}; {_AGAIN}")


_CALLED: Final = {"recipe": "", "ranges": "--range "}
_OTHER: Final = {"recipe": "another recipe", "ranges": "other ranges"}
_AGAIN: Final = "give the same as then, or begin another study with --study FOLDER"


def _in_words(folder: Path, url: str | None) -> tuple[str, str]:
    """Return where the storage is, and how to use another, for messages."""
    if url is not None:
        return "--storage", "name another"
    return str(folder / DATABASE), "move it away"


# --- Locks ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which is made, and wait for whoever holds it."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_locked(path: Path) -> bool:
    """Say whether somebody holds the lock of a file."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
