"""The server's hold on a process that has the model.

Threads of the server that scored held Python's lock against its event loop. In a flood of four
times the load /healthz took 49 ms (p99) with threads, 10 with processes, and at most 91 and 35;
accepted requests were answered in 172 and 93 ms (p99; means of 2 floods of 30 s).
"""

import asyncio
import json
import sys
from typing import Any

from reelsense.errors import BadInput, Failure
from reelsense.inference.answers import Prediction
from reelsense.serving.limits import Refused
from reelsense.serving.shapes import encoded
from reelsense.serving.worker_main import Loaded


class Worker(asyncio.SubprocessProtocol):
    """A process that answers with the model, one request after the other.

    opening: what `predictor.load` takes.
    code: its exit code, once it has ended.
    """

    def __init__(self, **opening: Any) -> None:
        self._opening = opening
        self._begun: asyncio.Task[tuple[asyncio.SubprocessTransport, Any]] | None = None
        self._process: asyncio.SubprocessTransport | None = None
        self._heard: list[bytes] = []
        self._said: asyncio.Future[bytes] | None = None
        self._exited: asyncio.Future[None] | None = None
        self.code: int | None = None

    @property
    def lives(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self.code is None

    async def begin(self) -> None:
        """Start the process, and let it load the model.

        Raises:
            Failure: the system has none left.
        """
        loop = asyncio.get_running_loop()
        self._heard, self.code = [], None
        self._exited, self._said = loop.create_future(), loop.create_future()
        starting = loop.subprocess_exec(
            lambda: self,
            # -P: what lies in the folder of the user is not to be taken for a package.
            *(sys.executable, "-P", "-c", "from reelsense.serving.worker_main import main; main()"),
            json.dumps(self._opening),
            stderr=None,
            process_group=0,  # a terminal's Ctrl-C is for the server, which has answers to wait for
        )
        # asyncio waits for ever where this is cancelled half-way; so `end` waits for it.
        self._begun = loop.create_task(starting)
        try:
            await asyncio.shield(self._begun)
        except OSError as error:
            self._begun = None
            raise Failure(f"no process can be started: {error.strerror}") from None

    async def loaded(self) -> Loaded:
        """Return the model of a process that has begun, once it is there.

        Raises:
            BadInput: there is no such bundle, or it is damaged. Failure: the process has died.
        """
        assert self._said is not None
        said = json.loads(await self._said)
        if "wrong" in said:
            raise BadInput(said["wrong"]) if said["input"] else Failure(said["wrong"])
        return Loaded(**said | {"probe": Prediction(**said["probe"])})

    def ask(self, texts: list[str], explain: bool) -> asyncio.Future[bytes]:
        """Return what will be said of texts, or of one that is to be explained: see `understood`.

        Or Failure: the process has died meanwhile, and is to begin again.
        """
        assert self._process is not None
        self._said = asyncio.get_running_loop().create_future()
        to: Any = self._process.get_pipe_transport(0)
        to.write(encoded([texts, explain]) + b"\n")
        return self._said

    async def ended(self) -> None:
        """Wait for the end of a process that has begun."""
        assert self._exited is not None
        await asyncio.shield(self._exited)

    async def end(self) -> None:
        """End the process, whatever it does."""
        if self._begun is not None:
            process, _ = await self._begun
            if self._said is not None:
                self._said.cancel()  # nobody waits for it any more
            process.close()
            await self.ended()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Take a part of a line; the next one comes when something has been asked."""
        self._heard.append(data)
        if data.endswith(b"\n"):
            line, self._heard = b"".join(self._heard)[:-1], []
            if self._said is not None and not self._said.done():
                self._said.set_result(line)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the process."""
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._process = transport

    def process_exited(self) -> None:
        """Let who waits for an answer know that there will be none."""
        assert self._process is not None
        assert self._exited is not None
        self.code = self._process.get_returncode()
        self._exited.set_result(None)
        if self._said is not None and not self._said.done():
            self._said.set_exception(_died(self.code))


def understood(line: bytes, explain: bool) -> Any:
    """Return predictions, or the JSON of an explanation, from what a process has said.

    Raises:
        BadInput: the model cannot explain. Refused: a defect, which the process has reported.
    """
    if explain and line.startswith(b"{"):
        return line  # of a long text megabytes, which only the client reads
    said = json.loads(line)
    if isinstance(said, str):
        raise BadInput(said)
    if said is None:
        raise Refused(500, "internal", "the server failed; its log says where")
    return [Prediction(**row) for row in said]


def _died(code: int | None) -> Failure:
    return Failure(f"a process with the model has died (exit code {code})")
