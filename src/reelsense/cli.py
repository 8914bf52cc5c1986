"""The command line's root: the verbs in one group, and every error as one line."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final

import click

from reelsense import __version__, torchrun
from reelsense.errors import BadInput, Failure, installing, is_out_of_memory
from reelsense.verbs.interruption import Interrupted

# The verbs in their order, each with its module of `verbs`, which is read when the verb is called:
# all of them took 0.1 s, a third of what a prediction takes.
VERBS: Final = {
    "predict": "prediction",
    "score": "scoring",
    "serve": "serving",
    "info": "prediction",
    "doctor": "prediction",
    "train": "training",
    "distil": "training",
    "pretrain": "pretraining",
    "tune": "tuning",
    "evaluate": "finished",
    "export": "finished",
    "compare": "comparing",
    "data": "data",
    "augment": "augmentation",
    "download": "data",
    "recipes": "data",
}


class _Unread(Exception):
    """Nobody reads the output any more, as in `| head -1`."""


def main() -> None:
    """Run the command line; every error is one line on standard error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # for a word that the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    try:
        code = cli(sys.argv[1:] or ["--help"], prog_name="reelsense", standalone_mode=False)
    except click.UsageError as error:
        verb = error.ctx.command_path if error.ctx else "reelsense"
        code = _refuse(f"{error.format_message().rstrip('.')}; see `{verb} --help`", 2)
    except BadInput as error:
        code = _refuse(str(error), 2)
    except Failure as error:
        code = _refuse(str(error), 1)
    except Interrupted as error:
        code = _refuse(str(error), error.code)
    except ModuleNotFoundError as error:
        install = installing([(error.name or "").partition(".")[0]])
        code = _refuse(f"this needs the package {error.name}; install it with: {install}", 1)
    except OSError as error:
        code = _refuse(f"{error.filename or 'input or output'}: {error.strerror or error}", 1)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        code = _refuse("out of memory; try a smaller --batch-tokens or --hidden", 1)
    except _Unread:
        # What is still in the buffer goes nowhere, without a word from Python at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 128 + 13  # what a shell reports of a program that SIGPIPE ended
    sys.exit(code)


def _refuse(message: str, code: int) -> int:
    """Print an error as one line, of several processes the first, and return the exit code."""
    if torchrun.first_to_complain():
        click.echo("reelsense: " + " ".join(message.split()), err=True)
    return code


@contextlib.contextmanager
def _before_click() -> Iterator[None]:
    """Take what click would word in its own way, or end with 1 in silence."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("interrupted") from None
    except BrokenPipeError:
        raise _Unread from None


class _Verbs(click.Group):
    """The verbs, in their order."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        verb: click.Command = getattr(import_module(f"reelsense.verbs.{VERBS[cmd_name]}"), cmd_name)
        return verb

    def make_context(self, *arguments: Any, **named: Any) -> click.Context:
        with _before_click():
            return super().make_context(*arguments, **named)

    def invoke(self, ctx: click.Context) -> Any:
        with _before_click():
            return super().invoke(ctx)


@click.group(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="reelsense")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Film-review sentiment with a bidirectional LSTM on GloVe word vectors."""
    if torchrun.place().size > 1 and ctx.invoked_subcommand != "train":
        raise BadInput(
            f"`reelsense {ctx.invoked_subcommand}` runs in one process, and torchrun has started "
            f"{torchrun.place().size}; only `reelsense train` runs in several"
        )
