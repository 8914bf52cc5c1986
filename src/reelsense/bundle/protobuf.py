"""The wire format of Protocol Buffers, read by hand and only as far as somebody asks.

protobuf.dev/programming-guides/encoding. A message is a run of fields, each a number, a kind and
a value. Whoever reads one says which fields it may have; anything else is refused, so nothing
reaches ONNX Runtime that has not been looked at. Floating point fields are among what is refused:
no graph of ours has one outside its weights, which are bytes here.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from reelsense.errors import BadInput

MOST: Final = 1000  # fields of one kind in a message
LONGEST: Final = 200  # bytes of a text; names stand in messages to the user
_CUT: Final = "not a whole ONNX file"


class Field(NamedTuple):
    """A field that a message may have, or (`kind` is empty) must not have, and `name` says why."""

    name: str
    kind: str  # int, text, or span: where a message or weights begin and end
    many: bool


def layout(fields: Mapping[int, str]) -> dict[int, Field]:
    """Describe a message: for each field number name and kind, with "s" for many, or "!why not"."""
    described = {}
    for number, text in fields.items():
        name, _, kind = (text, "", "") if text[0] == "!" else text.partition(" ")
        described[number] = Field(name, kind.removesuffix("s"), kind.endswith("s"))
    return described


Span = tuple[int, int]
Message = dict[str, Any]


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return the integer (64 bits, signed) at `at`, and where the next thing begins."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            value &= 2**64 - 1
            return value - 2**64 if value >= 2**63 else value, at
    raise BadInput(_CUT)


def read_message(data: bytes, span: Span, fields: Mapping[int, Field]) -> Message:
    """Read the fields of a message; the messages in it stay spans. Linear in its fields."""
    found: Message = {field.name: [] for field in fields.values() if field.many}
    at, end = span
    while at < end:
        key, at = _varint(data, at, end)
        field, wire = fields.get(key >> 3), key & 7
        if field is None:
            raise BadInput(f"holds what no graph of ours has (field {key >> 3})")
        if not field.kind:
            raise BadInput(field.name[1:])
        value, at = _varint(data, at, end)
        if wire == 2 and 0 <= value <= end - at:
            values = _inside(data, (at, at + value), field)
            at += value
        elif wire == 0 and field.kind == "int":
            values = [value]
        else:
            raise BadInput(_CUT)
        if field.many:
            found[field.name] += values
            if len(found[field.name]) > MOST:
                raise BadInput(f"has more than {MOST} {field.name}")
        elif field.name in found:
            raise BadInput(f"says twice what its {field.name} is")
        else:
            found[field.name] = values[0]
    return found


def fields(data: bytes, span: Span) -> Iterator[tuple[int, Span, Span]]:
    """Yield each field's number, where it lies and where its value does.

    Of messages that `read_message` has let through, so each is a number or has a length.
    """
    at, end = span
    while at < end:
        start = at
        key, at = _varint(data, at, end)
        value, at = _varint(data, at, end)
        inside = (at, at + value) if key & 7 == 2 else (at, at)
        at = inside[1]
        yield key >> 3, (start, at), inside


def with_length(number: int, content: bytes) -> bytes:
    """Return a field that has a length."""
    return _as_varint(number << 3 | 2) + _as_varint(len(content)) + content


def _as_varint(value: int) -> bytes:
    """Return a number from 0 on as the bytes that `_varint` reads."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _inside(data: bytes, span: Span, field: Field) -> list[Any]:
    """Return what a field with a length holds."""
    if field.kind == "text":
        if span[1] - span[0] > LONGEST:
            raise BadInput(f"has a {field.name} of more than {LONGEST} bytes")
        try:
            return [str(data[span[0] : span[1]], "utf-8")]
        except UnicodeDecodeError:
            raise BadInput(f"has a {field.name} that is not UTF-8") from None
    if field.kind == "span":
        return [span]
    if not field.many:
        raise BadInput(_CUT)
    packed: list[int] = []
    at, end = span
    while at < end and len(packed) <= MOST:
        value, at = _varint(data, at, end)
        packed.append(value)
    return packed
