"""The files that an attempt writes beside its part: one for each output by name.

A writer pulls the pairs that it writes, and there are several of them now, while a reducer goes on
only as one of them pulls. So the writer of each output by name has a thread of its own, which runs
only while the attempt's waits for it: no two of the user's functions ever run at the same time.
Pairs are handed over in chunks, and are not kept.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from pytxmr.errors import AttemptFailed, PytxmrError
from pytxmr.records.columns import Columns
from pytxmr.records.named import BYTES, RECORDS, To, beside
from pytxmr.records.usercode import in_user_code
from pytxmr.records.writers import Chunk, PartFile, encoded

Write = Callable[..., Any] | None


class Outputs:
    """The outputs by name of the attempt that writes to ``path``; ``writers`` are theirs by name.

    All files are there when the pieces of `beside` are through. After `abort` none is.
    """

    def __init__(self, writers: Mapping[str, Write], path: str, compress: str) -> None:
        self._all = {
            name: _Output(name, writer, PartFile(beside(path, name), compress))
            for name, writer in writers.items()
        }

    def rest_of(self, chunk: Chunk | To) -> Chunk:
        """Write what goes to an output by name; the others of the chunk, which may be none.

        Raises `AttemptFailed`.
        """
        if isinstance(chunk, Columns):
            return chunk
        if isinstance(chunk, To):
            chunk = [chunk]  # type: ignore[list-item]
        if To not in set(map(type, chunk)):
            return chunk
        rest: list[Any] = []
        named: dict[str, list[Any]] = {}
        for item in chunk:
            if type(item) is not To:
                rest.append(item)
            elif isinstance(item.key, Columns):
                self._write(item.output, item.key)
            else:
                named.setdefault(item.output, []).append(item[1:])
        for name, pairs in named.items():
            self._write(name, pairs)
        return rest

    def _write(self, name: str, chunk: Chunk) -> None:
        if name not in self._all:  # made before it was known which outputs there are
            raise AttemptFailed(f"there is no output {name!r}", final=True)
        self._all[name].write(chunk)

    def beside(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The same pieces; after the last, the outputs by name are completed and fsynced."""
        yield from pieces
        for output in self._all.values():
            output.write(None)

    def abort(self) -> None:
        """Leave no file."""
        for output in self._all.values():
            output.abort()

    @property
    def signs(self) -> int:
        """A number that changes whenever something has been written."""
        return sum(out.part.size_bytes + out.part.sent_bytes for out in self._all.values())

    @property
    def written(self) -> tuple[tuple[str, int, str], ...]:
        """Of each output its name, and bytes and SHA-256 of the file."""
        return tuple(
            (name, output.part.size_bytes, output.part.digest) for name, output in self._all.items()
        )

    def counters(self) -> dict[str, int]:
        return {
            f"{what} of {name}": count
            for name, output in self._all.items()
            for what, count in ((RECORDS, output.records), (BYTES, output.part.size_bytes))
        }


class _Abandoned(BaseException):
    """Raised in a writer whose attempt has failed elsewhere."""


class _Output:
    """One output, and its writer, which goes on while `write` waits."""

    def __init__(self, name: str, writer: Write, part: PartFile) -> None:
        self.part = part
        self.records = 0
        self._who = f"the writer of {name!r}"
        self._writer = writer
        self._chunk: Chunk | None = None
        self._go = threading.Semaphore(0)
        self._back = threading.Semaphore(0)
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._ended = self._abandoned = False

    def write(self, chunk: Chunk | None) -> None:
        """Return when the writer wants more; of None, which is the end, when the file is there."""
        if self._ended:  # it did not want all of them
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._who, daemon=True)
            self._thread.start()
        self.records += len(chunk or ())
        self._chunk = chunk
        self._go.release()
        self._back.acquire()
        if self._failure is not None:
            raise self._explained(self._failure)

    def _run(self) -> None:
        self._go.acquire()
        try:
            self.part.write(encoded(self._chunks(), self._writer, self._who))
        except BaseException as error:
            self._failure = error
        self._ended = True
        self._back.release()

    def _chunks(self) -> Iterator[Chunk]:
        while self._chunk is not None:
            yield self._chunk
            self._back.release()
            self._go.acquire()
        if self._abandoned:
            raise _Abandoned

    def _explained(self, error: BaseException) -> BaseException:
        if isinstance(error, PytxmrError):
            return error
        if isinstance(error, OSError) and not in_user_code(error):
            failed = AttemptFailed(f"{self.part.path}: {error.strerror}")
        elif isinstance(error, TypeError) and not in_user_code(error):
            failed = AttemptFailed(
                f"{self._who} cannot be called, or returned no text ({error}); does it lack a "
                f"yield?",
                final=True,
            )
        else:
            failed = AttemptFailed(f"{self._who} raised {type(error).__name__}: {error}")
        failed.__cause__ = error
        return failed

    def abort(self) -> None:
        if self._thread is not None and not self._ended:
            self._abandoned, self._chunk = True, None
            self._go.release()
            self._thread.join()
        with suppress(FileNotFoundError):
            os.unlink(self.part.path)
