"""Ctrl-C while something long goes on: what is saved, and the line that says how to go on."""

import contextlib
import shlex
import signal
import sys
from collections.abc import Callable, Iterator

from reelsense.torchrun import place


class Interrupted(Exception):
    """A signal stopped the work; the exit code is 128 and the signal's number."""

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.code = 128 + number


@contextlib.contextmanager
def interruptible(
    resume: bool = True, agreed: Callable[[int], int] = int
) -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C (or SIGTERM) end the step in hand, and the second end the program.

    `resume` says whether it takes --resume to go on. Processes that work together must end after
    the same step: `agreed` takes the number of the signal that came here (0: none) and returns the
    one that counts for all.
    """
    asked: list[int] = []

    def remember(number: int, _: object) -> None:
        if asked:
            signal.signal(number, signal.SIG_DFL)
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}

    def interrupted() -> bool:
        number = agreed(asked[0] if asked else 0)
        if number and not asked:
            asked.append(number)
        return bool(number)

    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:
        raise Interrupted(f"interrupted and saved; {how_to_go_on(resume)}", asked[0])


def how_to_go_on(resume: bool = True) -> str:
    """Return the command that goes on with this work: the same again, with --resume if needed."""
    more = ["--resume"] if resume and "--resume" not in sys.argv else []
    if place().size > 1:  # torchrun's own flags are not known here
        return f"go on with the same torchrun command{' and --resume' if more else ''}"
    arguments = [*sys.argv[1:], *more]
    return f"go on with: {shlex.join(['reelsense', *arguments])}"
