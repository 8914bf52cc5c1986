"""Rows out of Parquet files, and Parquet files of rows. The room's only use of Arrow's tables."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import IO, Any, Final

from reelsense.errors import BadInput
from reelsense.inference.places import BUFFER
from reelsense.inference.rows import Header, Problem, Row, problem_of
from reelsense.text.tables import TEXT_COLUMNS, find_column

BATCH: Final = 512  # rows that are decoded at once
# What each answer's column holds; see `outputs.ADDED`.
TYPES: Final = {
    "label": "string", "probability": "float64", "tokens": "int64", "unknown": "float64",
    "truncated": "bool", "logit": "float64",
}  # fmt: skip


def read_parquet(
    file: IO[bytes], name: str, text_column: str | None, skip: int = 0, all_columns: bool = True
) -> tuple[Header, Iterator[Row]]:
    """Return the header and the rows of a Parquet file behind the first `skip`.

    Raises:
        BadInput: it is no whole Parquet file, or has no column of texts.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    damage = (pa.ArrowException, OSError, UnicodeDecodeError)
    try:
        # With a buffer a column of a row group is decoded as it is read. Read ahead, as usual, it
        # is held: 600,000 reviews, a file of 490 MB, took 600 MB, and take 138 MB like this.
        source = pq.ParquetFile(file, buffer_size=BUFFER, pre_buffer=False)
        schema = source.schema_arrow
    except damage as error:
        raise BadInput(f"{name}: broken or not Parquet ({_reason(error)}); get it again") from None
    column = find_column(name, schema.names, text_column, TEXT_COLUMNS, "text")
    if len(set(schema.names)) < len(schema.names):
        twice = next(known for known in schema.names if schema.names.count(known) > 1)
        raise BadInput(f"{name}: two columns are called {twice!r}; rename one")
    kind = schema.field(column).type
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not any(
        is_kind(inner)
        for is_kind in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    ):
        raise BadInput(f"{name}: the column {column!r} holds {kind}, not text; name another")
    header = Header(tuple(schema.names), column, schema=schema)
    columns = None if all_columns else [column]

    def rows() -> Iterator[Row]:
        first, left = _groups_behind(source, skip)
        number = skip - left
        groups = list(range(first, source.num_row_groups))
        try:
            batches = source.iter_batches(BATCH, row_groups=groups, columns=columns)
            for batch in batches:
                if left >= len(batch):
                    left, number = left - len(batch), number + len(batch)
                    continue
                yield from _rows_of(batch, column, number, left)
                left, number = 0, number + len(batch)
        except damage as error:
            raise BadInput(
                f"{name}: cut short or damaged behind row {number:,} ({_reason(error)}); "
                "get it again"
            ) from None

    return header, rows()


def _groups_behind(source: Any, skip: int) -> tuple[int, int]:
    """Return the first row group that holds a row behind `skip`, and how many to skip in it."""
    for group in range(source.num_row_groups):
        rows = source.metadata.row_group(group).num_rows
        if skip < rows:
            return group, skip
        skip -= rows
    return source.num_row_groups, 0


def _rows_of(batch: Any, column: str, number: int, skip: int) -> Iterator[Row]:
    """Yield the rows of a batch behind the first `skip`; `number` rows stand before it."""
    import pyarrow as pa

    values = batch.column(column)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    each = batch.nbytes // max(1, len(batch))
    for place in range(skip, len(batch)):
        text, problem = _text_at(values, place)
        size = max(each, len(text))
        yield Row(number + place + 1, 0, text, problem, "", (batch, place), size)


def _text_at(values: Any, place: int) -> tuple[str, Problem | None]:
    """Return a text, or what is wrong with it: Parquet does not check that it is UTF-8."""
    try:
        text = values[place].as_py()
    except UnicodeDecodeError as error:
        odd = error.object[error.start]
        return "", Problem("encoding", f"the byte 0x{odd:02x} is not UTF-8")
    problem = problem_of(text, "")
    return ("" if problem else text), problem


def cells_of(row: Row) -> dict[str, Any]:
    """Return a row of a Parquet file as Python's values by column."""
    batch, place = row.cells
    values = (_value_at(column, place) for column in batch.columns)
    return dict(zip(batch.schema.names, values, strict=True))


def _value_at(column: Any, place: int) -> Any:
    """Return a value; of text that is not UTF-8 odd bytes become surrogates, as Python's do."""
    value = column[place]
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return value.as_buffer().to_pybytes().decode("utf-8", "surrogateescape")


def taken(rows: Sequence[Row]) -> Any:
    """Return rows of a Parquet file as a table, as they stand there."""
    import pyarrow as pa

    parts = []
    for _, group in groupby(rows, key=lambda row: id(row.cells[0])):
        some = list(group)
        batch, places = some[0].cells[0], [row.cells[1] for row in some]
        whole = len(places) == places[-1] - places[0] + 1
        parts.append(batch.slice(places[0], len(places)) if whole else batch.take(pa.array(places)))
    return pa.Table.from_batches(parts)


def typed(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return rows as a table of columns of these types, Arrow's names for them."""
    import pyarrow as pa

    fields = [pa.field(name, pa.type_for_alias(kind)) for name, kind in columns.items()]
    return pa.Table.from_pylist(list(rows), schema=pa.schema(fields))


def with_answers(table: Any, names: Mapping[str, str], answers: Sequence[Mapping[str, Any]]) -> Any:
    """Return a table with a column more for each answer, under its name in the output."""
    import pyarrow as pa

    for key, name in names.items():
        if key == "evidence":
            word = {"start": pa.int32(), "end": pa.int32(), "evidence": pa.float64()}
            kind = pa.list_(pa.struct(list(word.items())))
        else:
            kind = pa.type_for_alias(TYPES[key])
        table = table.append_column(name, pa.array([row[key] for row in answers], kind))
    return table


def write_table(path: Path, table: Any) -> None:
    """Write a part: a file of one row group, quickly."""
    import pyarrow.parquet as pq

    pq.write_table(table, path, row_group_size=max(1, len(table)), compression="zstd")


def join_tables(parts: Sequence[Path], target: Path) -> None:
    """Write the parts, which have the same columns, as one file with a row group of each."""
    import pyarrow.parquet as pq

    schema = pq.read_schema(parts[0])
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for part in parts:
            table = pq.read_table(part, partitioning=None)
            if len(table):
                writer.write_table(table, row_group_size=len(table))


def _reason(error: Exception) -> str:
    return str(error).split("\n")[0].rstrip(".")[:120]
