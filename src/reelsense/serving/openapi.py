"""The OpenAPI document: openapi.json of this folder, with what a server was started with."""

import json
from importlib import resources
from typing import Any

from reelsense import __version__
from reelsense.serving.limits import Limits


def document(limits: Limits, token: bool) -> dict[str, Any]:
    """Return the document of a server with these limits, and with a token or without."""
    text = resources.files("reelsense.serving").joinpath("openapi.json").read_text("utf-8")
    content: dict[str, Any] = json.loads(text)
    content["info"]["version"] = __version__
    schemas = content["components"]["schemas"]
    schemas["Text"]["maxLength"] = limits.characters
    for name in ("PredictTexts", "HuggingFaceRequest", "TextEmbeddingsRequest"):
        _limit_lists(schemas[name], limits.texts)
    if token:
        content["security"] = [{"token": []}]
    return content


def _limit_lists(schema: Any, texts: int) -> None:
    """Enter the greatest number of texts in the lists that say "maxItems": 256."""
    if isinstance(schema, dict):
        if schema.get("maxItems") == Limits.texts:
            schema["maxItems"] = texts
        for value in schema.values():
            _limit_lists(value, texts)
    elif isinstance(schema, list):
        for value in schema:
            _limit_lists(value, texts)
