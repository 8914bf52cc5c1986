"""What a user asks of a file of reviews, and what follows from it: forms, columns, identity."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from reelsense import __version__
from reelsense.bundle.folder import SHIPPED, folder_of, read_bundle
from reelsense.errors import BadInput
from reelsense.inference import outputs
from reelsense.inference.forms import Form, form_of, need_packages
from reelsense.inference.outputs import Output
from reelsense.inference.places import PIPE
from reelsense.inference.rows import Header
from reelsense.inference.workers import Model


@dataclass(frozen=True)
class Request:
    """What to do with a file, whichever it is.

    on_error: "stop", "keep" (the row, without an answer) or "skip" what cannot be scored.
    pipe: the kind of what comes through standard input or goes to standard output.
    """

    model: Model = field(default_factory=Model)
    text_column: str | None = None
    on_error: str = "stop"
    pipe: str | None = None


def forms_of(source: str, target: str, request: Request) -> tuple[Form, Form]:
    """Return how the input and the output are written.

    Raises:
        BadInput: their names do not say, or a pipe cannot carry it.
    """
    if source == PIPE and request.pipe is None:
        raise BadInput(
            "say what standard input holds: --format csv, tsv, jsonl or text (a review a line)"
        )
    before = Form(request.pipe or "") if source == PIPE else form_of(source)
    if target == PIPE:
        after = Form(request.pipe if request.pipe and source != PIPE else before.kind)
        after = Form("csv") if after.kind == "text" else after
    else:
        after = form_of(target)
    for name, form in ((source, before), (target, after)):
        need_packages(name, form)
        if name == PIPE and form.kind == "parquet":
            raise BadInput("Parquet cannot go through a pipe; name a file")
    if after.kind == "text":
        raise BadInput(
            f"{target}: plain text has no columns for the answers; name a .csv, .tsv, .jsonl or "
            ".parquet file"
        )
    if source == PIPE and before.kind == "jsonl" and after.kind != "jsonl":
        raise BadInput(
            f"{target}: its columns must be known before the first row, and standard input can be "
            "read once only; name a .jsonl file, or read from a file"
        )
    return before, after


def job_of(source: str, kind: str, request: Request) -> dict[str, str]:
    """Return what decides the bytes of an output, in words for who goes on with other ones.

    `source` names the input and its hash, `kind` is the suffix of the output.
    """
    model = request.model
    job = {
        "input": source,
        "model": seal_of(model.name or SHIPPED),
        "--second": seal_of(model.second) if model.second else "none",
        "--threshold": "the model's" if model.confidence is None else str(model.confidence),
        "--explain": "on" if model.explain else "off",
        "--text-column": request.text_column or "found",
        "--on-error": request.on_error,
        "kind of output": kind,
        "version of reelsense": __version__,
    }
    if kind.endswith((".parquet", ".zst")):
        import pyarrow

        job["version of pyarrow"] = pyarrow.__version__
    return job


def seal_of(name: str) -> str:
    """Return the name of a bundle and the beginning of the hash of what it says."""
    about = read_bundle(folder_of(name)).about
    return f"{about['name']} {about['seal'][:12]}"


def output_for(
    header: Header,
    forms: tuple[Form, Form],
    request: Request,
    source: str,
    columns: Mapping[str, str],
) -> Output:
    """Return what the output looks like; `columns` are those that a survey found."""
    before, after = forms
    taken = (*header.columns, *columns)
    names = outputs.names_for(taken, request.model.explain, source)
    if before.kind != "jsonl":
        is_new = before.kind != "parquet" and after.kind == "parquet"
        columns = dict.fromkeys(header.columns, "string") if is_new else {}
    elif after.kind == "jsonl":
        columns = {}
    return Output(after, before.kind, header, names, columns)
