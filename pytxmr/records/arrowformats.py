"""Parquet and Arrow files, with the library that the extra ``arrow`` brings.

pyarrow is imported when a file is read or written, not before: it takes longer than a small job.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from pytxmr.errors import AttemptFailed, BadJob
from pytxmr.model import FileRange
from pytxmr.records.columns import Columns
from pytxmr.records.formats import Block, Pair, Reader, Writer, as_they_are
from pytxmr.records.rawreaders import read_fully
from pytxmr.records.readers import RangeFile, Reading, open_range

#: Rows that are Python objects at a time.
_ROWS = 4096
#: A row group is written when it has so many bytes in memory.
_GROUP_BYTES = 32 << 20

#: Arrow's names of types, of those that a name is enough for. Here, so that a job is checked
#: without the library being imported.
_TYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float", "double", "string", "binary", "date32", "timestamp[s]", "timestamp[ms]"),
    *("timestamp[us]", "timestamp[ns]"),
)


def _check(name: str) -> None:
    if importlib.util.find_spec("pyarrow") is None:
        raise BadJob(f"{name} needs a library: pip install 'pytxmr[arrow]'")


@dataclass(frozen=True)
class _Tables(Reader):
    """Rows as dicts, under their numbers. ``columns``: which of them, in which order; None: all."""

    columns: tuple[str, ...] | None = None
    unit = "row"

    def __call__(self, *, columns: Sequence[str] | None = None) -> _Tables:
        """The reader of these columns only. Raises `ValueError` if they are no list of names."""
        if isinstance(columns, str):
            raise ValueError(f"columns={columns!r}: it is a list of names")
        return replace(self, columns=None if columns is None else tuple(columns))

    def check(self) -> None:
        _check(self.name)

    def blocks(self, part: FileRange, reading: Reading) -> Iterator[Block]:
        with open_range(part) as file:
            if file.end != part.end or not file.seekable():  # type: ignore[attr-defined]
                raise self._failed(part, "it is compressed, or cannot be read from its end")
            with self._naming(part):
                for block in self._blocks(part, file):
                    reading.done += block.size
                    yield block

    def _blocks(self, part: FileRange, file: RangeFile) -> Iterator[Block]:
        raise NotImplementedError

    def _wanted(self, part: FileRange, names: list[str]) -> list[str] | None:
        for name in self.columns or ():
            if name not in names:
                raise self._failed(part, f"it has no column {name}, but {', '.join(names)}")
        return None if self.columns is None else list(self.columns)

    @contextmanager
    def _naming(self, part: FileRange) -> Iterator[None]:
        import pyarrow

        try:
            yield
        except pyarrow.ArrowException as error:
            raise self._failed(part, str(error)) from error

    def _failed(self, part: FileRange, reason: str) -> AttemptFailed:
        message = f"{self.name} cannot read {part.shown}: {reason}"
        return AttemptFailed(message, where=part.shown, traceback="", final=True)


class Parquet(_Tables):
    """Rows of Parquet files, as dicts. Row groups are what large files are split at: a map of one
    piece reads those whose first column begins in it."""

    name = "readers.parquet"

    def _blocks(self, part: FileRange, file: RangeFile) -> Iterator[Block]:
        from pyarrow.parquet import ParquetFile

        parquet = ParquetFile(_seekable(file))
        wanted = self._wanted(part, parquet.schema_arrow.names)
        row = 0
        for number in range(parquet.num_row_groups):
            group = parquet.metadata.row_group(number)
            first, row = row, row + group.num_rows
            if not file.start <= _begin(group) < file.end:
                continue
            size = sum(group.column(at).total_compressed_size for at in range(group.num_columns))
            told = 0
            if not group.num_rows:
                continue
            for batch in parquet.iter_batches(_ROWS, [number], wanted, use_threads=False):
                rows = batch.to_pylist()
                places = range(first, first + len(rows))
                first += len(rows)
                done = size * (group.num_rows - row + first) // group.num_rows
                yield Block(places, rows, done - told, as_they_are)
                told = done


def _begin(group: Any) -> int:
    if not group.num_columns:
        return 0
    column = group.column(0)
    begins = [column.data_page_offset]
    if column.has_dictionary_page:
        begins.append(column.dictionary_page_offset)
    return int(min(begins))


class Arrow(_Tables):
    """Rows of files, not streams, of Arrow's IPC format, also known as Feather, as dicts. Batches
    are what large files are split at."""

    # Where a batch lies is not told by the library. So the range that batch i of n belongs to is
    # the one that the i-th n-th of the file begins in: each to one, and to all ranges as many.

    name = "readers.arrow"

    def _blocks(self, part: FileRange, file: RangeFile) -> Iterator[Block]:
        import pyarrow
        from pyarrow import ipc

        # Of a local file, only what is used is brought into memory.
        local = isinstance(file, io.FileIO)
        source = (
            pyarrow.memory_map(part.path) if local else pyarrow.PythonFile(_seekable(file), "r")
        )
        size = source.size()
        first_column = ipc.IpcReadOptions(included_fields=[0], use_threads=False)
        lengths = ipc.open_file(source, options=first_column)
        reader = ipc.open_file(source, options=ipc.IpcReadOptions(use_threads=False))
        wanted = self._wanted(part, reader.schema.names)
        count = reader.num_record_batches
        row = 0
        for number in range(count):
            begin = size * number // count
            if begin >= file.end:
                return
            if begin < file.start:
                row += lengths.get_batch(number).num_rows
                continue
            batch = reader.get_batch(number)
            batch = batch if wanted is None else batch.select(wanted)
            told = begin
            for at in range(0, batch.num_rows, _ROWS):
                rows = batch.slice(at, _ROWS).to_pylist()
                done = begin + (size // count) * (at + len(rows)) // batch.num_rows
                places = range(row + at, row + at + len(rows))
                yield Block(places, rows, done - told, as_they_are)
                told = done
            row += batch.num_rows


def _seekable(file: Any) -> io.RawIOBase:
    return file if isinstance(file, io.RawIOBase) else _Remote(file)


class _Remote(io.RawIOBase):
    """A remote file as Python has them, which is what pyarrow reads."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._size = file.size()
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            offset += self._size
        elif whence == io.SEEK_CUR:
            offset += self._position
        self._position = self._file.seek(offset)
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        left = self._size - self._position
        data = read_fully(self._file, left if size is None or size < 0 else min(size, left))
        self._position += len(data)
        return data


@dataclass(frozen=True)
class ParquetWriter(Writer):
    """A row a pair: the items of a dict are its columns, any other value is the column ``value``.

    The key, unless it is None, is the column ``key``. ``schema`` has the columns in order, with
    their types by Arrow's names; without one, the types are those of the first rows of each part
    file.
    """

    schema: Any = None
    compression: str = "snappy"
    name = "writers.parquet"
    compresses = True

    def __call__(self, *, schema: Any = None, compression: str = "snappy") -> ParquetWriter:
        """The writer with these options. Raises `ValueError` for one that makes no sense.

        ``schema``: a dict of names and types, or a `pyarrow.Schema`. ``compression``: snappy, gzip,
        zstd, brotli, lz4 or none.
        """
        if compression not in ("snappy", "gzip", "zstd", "brotli", "lz4", "none"):
            raise ValueError(f"compression={compression!r} is unknown")
        if isinstance(schema, Mapping):
            for name, kind in schema.items():
                if isinstance(kind, str) and kind not in _TYPES:
                    raise ValueError(f"{name!r}: {kind!r} is no type; {', '.join(_TYPES)} are")
            schema = tuple(schema.items())
        return replace(self, schema=schema, compression=compression)

    def check(self) -> None:
        _check(self.name)

    def _schema(self) -> Any:
        import pyarrow

        if not isinstance(self.schema, tuple):
            return self.schema
        return pyarrow.schema(
            [
                (name, pyarrow.type_for_alias(kind) if isinstance(kind, str) else kind)
                for name, kind in self.schema
            ]
        )

    def pieces(self, chunks: Iterable[Columns | list[Pair]]) -> Iterator[bytes]:
        import pyarrow
        from pyarrow import parquet

        schema = self._schema()
        sink = _Sink()
        writer: Any = None
        held: list[Any] = []

        def begun(schema: Any) -> Any:
            return parquet.ParquetWriter(
                pyarrow.PythonFile(sink, "w"), schema, compression=self.compression
            )

        for chunk in chunks:
            pairs = list(chunk.pairs()) if isinstance(chunk, Columns) else chunk
            for at in range(0, len(pairs), _ROWS):
                batch = self._batch(pairs[at : at + _ROWS], schema)
                if writer is None:
                    schema = batch.schema
                    writer = begun(schema)
                held.append(batch)
                if sum(batch.nbytes for batch in held) >= _GROUP_BYTES:
                    writer.write_table(pyarrow.Table.from_batches(held))
                    held = []
                    yield sink.taken()
        writer = writer or begun(schema or pyarrow.schema([]))
        if held:
            writer.write_table(pyarrow.Table.from_batches(held))
        writer.close()
        yield sink.taken()

    def _batch(self, pairs: list[Pair], schema: Any) -> Any:
        import pyarrow

        def made(pairs: list[Pair], schema: Any) -> Any:
            rows = [_row(key, value) for key, value in pairs]
            names = dict.fromkeys(name for row in rows for name in row)
            if schema is not None:
                for name in names:
                    if name not in schema.names:
                        raise ValueError(f"the schema has no column {name!r}")
                columns = [_column(rows, field.name, field.type) for field in schema]
                return pyarrow.RecordBatch.from_arrays(columns, schema=schema)
            columns = [_column(rows, name) for name in names]
            return pyarrow.RecordBatch.from_arrays(columns, names=list(names))

        try:
            return made(pairs, schema)
        except (pyarrow.ArrowException, ValueError, TypeError, OverflowError) as error:
            key, value, found = self._first_wrong(made, pairs, schema, error)
            hint = "" if self.schema is not None else f"; {self.name}(schema=...) names the types"
            raise AttemptFailed(
                f"{self.name} cannot write the value {value!r:.200}: {found}{hint}",
                where=f"key {key!r:.400}",
                traceback="",
                final=True,
            ) from error

    @staticmethod
    def _first_wrong(made: Any, pairs: list[Pair], schema: Any, error: Exception) -> Any:
        """The first pair that cannot follow those before it, and why."""
        import pyarrow

        for at, (key, value) in enumerate(pairs):
            try:
                made(pairs[at : at + 1] if schema is not None else pairs[: at + 1], schema)
            except (pyarrow.ArrowException, ValueError, TypeError, OverflowError) as found:
                return key, value, found
        return *pairs[0], error


def _row(key: Any, value: Any) -> dict[str, Any]:
    row = value if type(value) is dict else {"value": value}
    if key is None:
        return row
    if "key" in row:
        raise ValueError("it has a column 'key' beside its key")
    return {"key": key, **row}


def _column(rows: list[dict[str, Any]], name: str, kind: Any = None) -> Any:
    import pyarrow

    values = [row.get(name) for row in rows]
    if kind is None:
        return pyarrow.array(values)
    try:
        # Not `pyarrow.array(values, kind)`, which makes 2 of 2.5 if the kind is an integer.
        return pyarrow.array(values).cast(kind)
    except (OverflowError, pyarrow.ArrowNotImplementedError):
        return pyarrow.array(values, kind)  # unsigned integers of 64 bits, and maps


class _Sink(io.RawIOBase):
    """Takes what a library writes to a file."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        self._position += len(self._pieces[-1])
        return len(self._pieces[-1])

    def taken(self) -> bytes:
        """What has been written since it was last asked for."""
        data, self._pieces = b"".join(self._pieces), []
        return data
