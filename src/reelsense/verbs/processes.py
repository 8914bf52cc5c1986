"""One of several processes: the first speaks, the others only when something is wrong."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from reelsense.torchrun import PeerLost, place

if TYPE_CHECKING:
    from reelsense.training.team import Team


@contextlib.contextmanager
def joined() -> Iterator["Team"]:
    """Give the team of processes that torchrun has started; this one alone where it has not.

    A process that fails keeps its place in the team until it has said why and ends: the others
    notice its end, and speak later than it.

    Raises:
        PeerLost: another process has ended, and torchrun ends this one.
    """
    from reelsense.training.team import join

    here = place()
    team = join(here)
    if here.size == 1:
        yield team
        return
    before = signal.signal(signal.SIGTERM, _ended)
    with contextlib.ExitStack() as stack:
        if not team.first:
            nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        try:
            yield team
        except BaseException:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends by itself, with its line
            raise
    signal.signal(signal.SIGTERM, before)


def _ended(number: int, _: object) -> None:
    """Take the signal that torchrun sends to the others when one process has ended."""
    signal.signal(number, signal.SIG_IGN)
    raise PeerLost("torchrun has ended this training: one of its processes has ended")
