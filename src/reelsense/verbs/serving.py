"""serve: predictions and explanations over HTTP."""

import asyncio
import math
import os
from pathlib import Path

import click

from reelsense.errors import BadInput
from reelsense.verbs import printing
from reelsense.verbs.options import THREADS
from reelsense.verbs.prediction import MODEL, SECOND, THRESHOLD

TOKEN = "REELSENSE_TOKEN"  # the environment variable, not a token


@click.command()
@MODEL
@SECOND
@THRESHOLD
@THREADS
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS",
              help="Where to listen; 0.0.0.0 is every address of this machine.")  # fmt: skip
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True,
              metavar="N", help="Port; 0 takes one that is free, and says which.")  # fmt: skip
@click.option("--allow-host", "names", multiple=True, metavar="NAME",
              help="A name under which clients know this server, as their Host header says it; "
                   "may come several times. localhost and the address of --host always "
                   "are; '*' takes any.")  # fmt: skip
@click.option("--token-file", metavar="FILE",
              help=f"A file with the token that clients have to send (Authorization: Bearer ...); "
                   f"or the environment variable {TOKEN}. The page, /healthz and /readyz are "
                   "open.")  # fmt: skip
@click.option("--cors", "origins", multiple=True, metavar="ORIGIN",
              help="A site whose pages may ask from a browser, as https://example.org; may come "
                   "several times.")  # fmt: skip
@click.option("--max-wait", type=click.FloatRange(0.001, 60), metavar="SECONDS",
              help="Refuse a request (429) that would have to wait longer for those before it; "
                   "0.05 by default.")  # fmt: skip
@click.option("--time-limit", type=click.FloatRange(0.01, 3600), metavar="SECONDS",
              help="Give up a request (503) without an answer by then; 30 by default.")  # fmt: skip
@click.option("--max-body", type=click.IntRange(64), metavar="BYTES",
              help="Largest body of a request (413); 1048576 by default.")  # fmt: skip
@click.option("--max-texts", type=click.IntRange(1), metavar="N",
              help="Most texts of a request (413); 256 by default.")  # fmt: skip
@click.option("--log", is_flag=True,
              help="Write a line for each request to standard error; never a text.")  # fmt: skip
def serve(
    name: str | None,
    second: str | None,
    threshold: float | None,
    threads: int | None,
    host: str,
    port: int,
    names: tuple[str, ...],
    token_file: str | None,
    origins: tuple[str, ...],
    max_wait: float | None,
    time_limit: float | None,
    max_body: int | None,
    max_texts: int | None,
    log: bool,
) -> None:
    """Answer over HTTP: an API, and a page to try it.

    POST {"text": "..."} to /v1/predict or /v1/explain; /docs shows all addresses. A process for
    each core holds the model, beside the one that listens. SIGTERM or Ctrl-C lets it finish what it
    has accepted; a second one ends it at once.
    """
    for option, value in (
        ("threshold", threshold), ("max-wait", max_wait), ("time-limit", time_limit)
    ):  # fmt: skip
        if value is not None and math.isnan(value):
            raise BadInput(f"--{option} nan: must be a number")
    token = _token(token_file)

    from reelsense.cores import available_cores
    from reelsense.serving.limits import Access, Limits
    from reelsense.serving.worker import Worker

    workers = [
        Worker(path=name, threads=1, confidence=threshold, second=second)
        for _ in range(threads or available_cores())
    ]
    given = {"waiting": max_wait, "seconds": time_limit, "body": max_body, "texts": max_texts}
    limits = Limits(**{key: value for key, value in given.items() if value is not None})  # type: ignore[arg-type]
    shown = f"[{host}]" if ":" in host else host
    always = Access().hosts | {shown.lower()}
    access = Access(always | {name.lower() for name in names}, token, frozenset(origins))

    async def start() -> None:
        try:
            await workers[0].begin()  # it loads while this process imports
            from reelsense.serving.server import listen, serve
            from reelsense.serving.service import Service

            service = Service(limits, access, printing.versions, log=log)
            with listen(host, port) as listening:
                address = f"http://{shown}:{listening.getsockname()[1]}"
                said = f"Listening on {address}"
                await serve(listening, service, workers, lambda: click.echo(said))
        finally:
            for worker in workers:
                await worker.end()

    # Not uvloop's loop: a tenth faster, and an exception where a client has just gone.
    asyncio.run(start())


def _token(file: str | None) -> str | None:
    """Return the token of a file or of the environment, if there is one.

    Raises:
        BadInput: it is empty, or holds what no header can.
    """
    if file is None:
        if TOKEN not in os.environ:
            return None
        source, text = TOKEN, os.environ[TOKEN]
    else:
        source = f"--token-file {file}"
        try:
            text = Path(file).read_text("utf-8")
        except UnicodeDecodeError:
            raise BadInput(f"{source}: is no text; write the token into it, as one line") from None
        except OSError as error:
            raise BadInput(f"{source}: {error.strerror or error}") from None
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise BadInput(f"{source}: a token is one line of letters, digits and marks, without "
                       "spaces")  # fmt: skip
    return token
