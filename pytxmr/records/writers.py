"""From output pairs to the bytes of a part file."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import IO, Any

from pytxmr.errors import AttemptFailed, Uncarryable
from pytxmr.records.columns import Columns
from pytxmr.records.compressed import SUFFIX_OF, compressed
from pytxmr.records.formats import Writer
from pytxmr.records.kinds import standard
from pytxmr.records.remote import is_remote

#: As messages name it.
WRITER = "the writer"
#: Some pairs of the output.
Chunk = Columns | list[tuple[Any, Any]]

#: Surrogates other than those that `surrogateescape` makes of bytes.
_NO_BYTE = re.compile("([\ud800-\udc7f\udd00-\udfff]+)")


def text(value: Any) -> str:
    """How the default writer shows a key or value.

    str as it is, bytes as the bytes they are, numbers, dates and the like as Python writes them;
    lists, tuples, dicts and sets as JSON, or as Python writes them if JSON cannot. Raises
    `Uncarryable` for an iterator, and for what has nothing to show but its address.
    """
    kind = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]
    if kind is bytes:
        return value.decode("utf-8", "surrogateescape")  # type: ignore[no-any-return]
    if kind in (int, float, bool) or value is None or standard(kind) is not None:
        return str(value)
    try:
        return to_json(value)
    except TypeError:  # a dict with keys that JSON does not know
        return repr(value)


def _jsonable(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    kind = type(value)
    if hasattr(kind, "__next__"):
        raise Uncarryable(
            f"a {kind.__name__} object cannot be written: yield a list of it", final=True
        )
    if kind.__str__ is object.__str__ and kind.__repr__ is object.__repr__:
        raise Uncarryable(
            f"a {kind.__name__} object cannot be written: yield what it holds, or give its class a "
            f"__str__()",
            final=True,
        )
    return str(value)


to_json = json.JSONEncoder(ensure_ascii=False, default=_jsonable).encode


def _lines_of_pairs(pairs: Iterable[tuple[Any, Any]]) -> str:
    """A line ``key<TAB>value`` per pair; None, on either side, leaves out itself and the tab."""
    return "".join(
        [
            f"{key}\t{value}\n"
            if type(key) is str and type(value) in (str, int)
            else _text_line(key, value)
            for key, value in pairs
        ]
    )


def _lines_of_columns(chunk: Columns) -> str:
    keys, values = chunk.keys, chunk.values
    if set(map(type, keys)) == {str}:
        if values.count(None) == len(values):
            return "\n".join([*keys, ""])
        if set(map(type, values)) <= {str, int}:
            return "".join([f"{key}\t{value}\n" for key, value in chunk.pairs()])
    return _lines_of_pairs(chunk.pairs())


def _text_line(key: Any, value: Any) -> str:
    try:
        if value is None:
            return f"{'' if key is None else text(key)}\n"
        return f"{text(value)}\n" if key is None else f"{text(key)}\t{text(value)}\n"
    except Uncarryable as error:  # without the frames of json
        raise Uncarryable(f"for the key {key!r:.400}: {error.message}", final=True) from None


def encoded(
    chunks: Iterable[Chunk],
    writer: Callable[..., Iterable[str | bytes]] | None,
    who: str = WRITER,
) -> Iterator[bytes]:
    """The bytes that ``writer`` makes of the pairs; without one, a line of text each. ``who``: what
    messages call the writer."""
    if writer is None:
        for chunk in chunks:
            if isinstance(chunk, Columns):
                yield encode(_lines_of_columns(chunk))
            else:
                yield encode(_lines_of_pairs(chunk))
        return
    if isinstance(writer, Writer):
        yield from writer.pieces(chunks)
        return
    pairs = (chunk.pairs() if isinstance(chunk, Columns) else chunk for chunk in chunks)
    for piece in writer(chain.from_iterable(pairs)):
        if isinstance(piece, bytes):
            yield piece
        elif isinstance(piece, str):
            yield encode(piece)
        else:
            raise AttemptFailed(
                f"{who} yielded {type(piece).__name__}: it must yield str or bytes", final=True
            )


class PartFile:
    """A part file of the output, compressed if ``compress`` says so (see `compressed`).
    ``size_bytes``: what is written of it so far; ``sent_bytes``: of one behind a URL, what is sent.
    """

    def __init__(self, path: str, compress: str = "none") -> None:
        self.path = path
        self.compress = compress
        self.size_bytes = self.sent_bytes = 0
        self._hasher = hashlib.sha256()

    def write(self, pieces: Iterable[bytes]) -> None:
        """Write all of it, and fsync. No file is left if that fails."""
        if is_remote(self.path):
            return self._send(pieces)
        try:
            with open(self.path, "wb", buffering=1 << 18) as file:
                self._fill(file, pieces)
                os.fsync(file.fileno())
        except BaseException:
            if os.path.exists(self.path):
                os.unlink(self.path)
            raise

    def _fill(self, file: IO[bytes], pieces: Iterable[bytes]) -> None:
        for piece in compressed(pieces, self.compress):
            self._hasher.update(piece)
            self.size_bytes += len(piece)
            file.write(piece)
        file.flush()

    def _send(self, pieces: Iterable[bytes]) -> None:
        from pytxmr.records.upload import send, to_be_sent  # few outputs are behind URLs

        def sent(size: int) -> None:
            self.sent_bytes += size

        with to_be_sent() as file:
            self._fill(file, pieces)
            send(file, self.path, SUFFIX_OF[self.compress], sent)

    @property
    def digest(self) -> str:
        return self._hasher.hexdigest()


def encode(piece: str) -> bytes:
    """Text as the bytes of a file; what `surrogateescape` has decoded becomes what it was."""
    try:
        return piece.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # A surrogate that no input byte stands behind, such as "\ud800" out of JSON.
        return b"".join(
            part.encode("utf-8", "surrogatepass" if at % 2 else "surrogateescape")
            for at, part in enumerate(_NO_BYTE.split(piece))
        )
