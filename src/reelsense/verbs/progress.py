"""How long work shows itself: a bar on a terminal, plain lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import click


@dataclass(frozen=True)
class Progress:
    """Where the work is: in which `part`, how far in all (0 to 1), and a line that says more."""

    part: str
    share_done: float
    now: str


def draw_progress(
    running: Generator[Any],
    show: Callable[[Any], Progress | str],
    interrupted: Callable[[], bool],
    pause: float = 10,
) -> None:
    """Show what comes as it comes; close `running` when it is interrupted.

    `show` says of each event where the work is, or returns a row that stays. Where there is no
    terminal, a line says where the work is when nothing has been said for `pause` seconds.
    """
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    terminal = sys.stdout.isatty()
    console = Console(highlight=False, markup=False, force_terminal=terminal)
    columns = (
        TextColumn("{task.fields[part]}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[now]}"),
    )
    bar = Bar(*columns, console=console, transient=True, expand=True, disable=not terminal)
    task = bar.add_task("", total=1.0, part="", now="")
    last_line = time.monotonic()
    # A broken pipe ends the loop too; closing then saves the run, as after a Ctrl-C.
    with bar, contextlib.closing(running):
        for event in running:
            shown = show(event)
            if isinstance(shown, str):
                # Above the bar; elsewhere a line has no width to be folded at.
                console.print(shown, soft_wrap=True) if terminal else click.echo(shown)
            else:
                bar.update(task, completed=shown.share_done, part=shown.part, now=shown.now)
                if not terminal and time.monotonic() - last_line > pause:
                    last_line = time.monotonic()
                    click.echo(f"  {shown.share_done:5.0%}  {shown.now}")
            if interrupted():
                break


def clock(seconds: float) -> str:
    """Return seconds as minutes:seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
