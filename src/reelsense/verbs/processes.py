"""One of several processes: the first speaks, the others only when something is wrong."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from reelsense.torchrun import place

if TYPE_CHECKING:
    from reelsense.training.team import Team


@contextlib.contextmanager
def joined() -> Iterator["Team"]:
    """Give the team of processes that torchrun has started; this one alone where it has not.

    A process that fails keeps its place in the team until it has said why and ends: the others
    notice its end, and speak later than it.
    """
    from reelsense.training.team import join

    team = join(place())
    if team.first:
        yield team
        return
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield team
