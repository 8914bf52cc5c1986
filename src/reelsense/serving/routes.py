"""The addresses of a server, and what each answers."""

import hashlib
from collections.abc import Awaitable, Callable, Container
from importlib import resources
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from reelsense.errors import BadInput
from reelsense.serving import shapes
from reelsense.serving.limits import Limits, Refused
from reelsense.serving.openapi import document
from reelsense.serving.service import Service, read, waited_for
from reelsense.serving.shapes import Asked

Endpoint = Callable[[Request], Awaitable[Response]]
Routes = dict[str, dict[str, Endpoint]]  # address: its methods, and what answers each

KINDS: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
}
# Names that are not those of their files.
PAGES: Final = {"index.html": "/", "docs.html": "/docs"}
MODELS: Final = "/models"  # with a name behind it, whichever
# What needs no token: whether the server lives, and files that are the same for everybody. A
# browser cannot send a token for a page that it is about to open, and the page asks for one.
OPEN: Final = {"/healthz", "/readyz", "/openapi.json"}


def routes_of(service: Service) -> tuple[Routes, set[str]]:
    """Return the routes, and at which addresses GET needs no token."""

    def answering(
        asked_of: Callable[[dict[str, Any], Limits], Asked],
        shape: Callable[[Asked, list[Any]], Any],
    ) -> Endpoint:
        async def answer(request: Request) -> Response:
            service.let_in()  # before a body is read that would have to wait
            asked = asked_of(await read(request, service), service.limits)
            work = service.let_in(request.state.bytes)
            said = await waited_for(request, work, work.begin(asked.texts), service)
            service.metrics.texts.inc(len(said))
            return as_json(shapes.encoded(shape(asked, said)))

        return answer

    async def explain(request: Request) -> Response:
        service.let_in()
        text = shapes.asked_of_explain(await read(request, service), service.limits)
        work = service.let_in(request.state.bytes)
        try:
            content = await waited_for(request, work, work.begin([text], True), service)
        except BadInput:
            raise Refused(422, "no_evidence", "this model cannot say what each word adds; ask "
                          "/v1/predict") from None  # fmt: skip
        service.metrics.texts.inc()
        return as_json(content)

    async def model(request: Request) -> Response:
        return as_json(service.card)

    async def health(request: Request) -> Response:
        return as_json(b'{"status":"ok"}')

    async def ready(request: Request) -> Response:
        await service.self_test()
        return as_json(b'{"status":"ready"}')

    async def metrics(request: Request) -> Response:
        return Response(service.metrics.show(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    openapi = shapes.encoded(document(service.limits, service.access.token is not None))

    async def described(request: Request) -> Response:
        return as_json(openapi)

    def own(asked: Asked, said: list[Any]) -> Any:
        answers = [shapes.prediction_json(one) for one in said]
        return {"predictions": answers} if asked.listed else answers[0]

    def scores(asked: Asked, said: list[Any]) -> Any:
        assert service.work is not None
        labels = service.work.loaded.about["labels"]
        if not asked.top:
            return [shapes.scores_json(one, labels, 1)[0] for one in said]
        answers = [shapes.scores_json(one, labels, asked.top) for one in said]
        return answers if asked.listed else answers[0]

    pages = {PAGES.get(name, f"/{name}"): {"GET": page} for name, page in files().items()}
    routes: Routes = {
        "/v1/predict": {"POST": answering(shapes.asked_of_predict, own)},
        "/v1/explain": {"POST": explain},
        "/v1/model": {"GET": model},
        "/predict": {"POST": answering(shapes.asked_of_text_embeddings, scores)},
        MODELS: {"POST": answering(shapes.asked_of_hugging_face, scores)},
        "/healthz": {"GET": health},
        "/readyz": {"GET": ready},
        "/metrics": {"GET": metrics},
        "/openapi.json": {"GET": described},
        **pages,
    }
    routes["/"]["POST"] = answering(shapes.asked_of_pipeline, scores)
    return routes, OPEN | pages.keys()


def route_of(path: str, routes: Container[str]) -> str:
    """Return the address that a request is for, as it is counted: never what a client made up."""
    if path.startswith(f"{MODELS}/") and path != f"{MODELS}/":
        return MODELS
    return path if path in routes and path != MODELS else "other"


def as_json(content: bytes) -> Response:
    """Return an answer of JSON that is there already."""
    return Response(content, media_type="application/json")


def files() -> dict[str, Endpoint]:
    """Return what answers each file of the page. They are read once: a few, and small."""
    folder = resources.files("reelsense.serving").joinpath("static")
    found = {}
    for file in folder.iterdir():
        kind = KINDS.get(file.name[file.name.rfind(".") :])
        if kind is not None:
            found[file.name] = _file(file.read_bytes(), kind)
    return found


def _file(content: bytes, kind: str) -> Endpoint:
    """Return what answers one file; a browser that has it already gets 304."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
    headers = {"Content-Type": kind, "ETag": tag, "Cache-Control": "no-cache"}

    async def send(request: Request) -> Response:
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)  # they replace those of the copy
        return Response(content, headers=headers)

    return send
