"""Ctrl-C while something long goes on: what is saved, and the line that says how to go on."""

import contextlib
import shlex
import signal
import sys
from collections.abc import Callable, Iterator


class Interrupted(Exception):
    """A signal stopped the work; the exit code is 128 and the signal's number."""

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.code = 128 + number


@contextlib.contextmanager
def interruptible(resume: bool = True) -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C (or SIGTERM) end the step in hand, and the second end the program.

    `resume` says whether it takes --resume to go on.
    """
    asked: list[int] = []

    def remember(number: int, _: object) -> None:
        if asked:
            signal.signal(number, signal.SIG_DFL)
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:
        raise Interrupted(f"interrupted and saved; {how_to_go_on(resume)}", asked[0])


def how_to_go_on(resume: bool = True) -> str:
    """Return the command that goes on with this work: the same again, with --resume if needed."""
    more = ["--resume"] if resume and "--resume" not in sys.argv else []
    arguments = [*sys.argv[1:], *more]
    return f"go on with: {shlex.join(['reelsense', *arguments])}"
