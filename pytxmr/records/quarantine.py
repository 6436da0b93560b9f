"""Bad records: those at which the mapper raises, or the worker process dies.

A map that may set records aside first runs as any other. Only if it fails does it start anew, in
careful mode: each record by itself, all of what the mapper yields for it or nothing. Before each,
its number is noted in a small file that is mapped into memory, so it outlives the process: the next
attempt leaves that record out. The note, of `NOTE_BYTES`, in little-endian order::

    u64  number of the record at hand, counted from 1 over the split; 0: none
    u32  length of what follows
         where it is, in UTF-8: file, offset, the beginning of the record

A record that is set aside becomes a line of JSON in a file beside the attempt's output.

A probe is a careful attempt whose mapper is given the records of a window only. It looks whether
the worker dies of these: what it puts out, or raises, is thrown away. The last record that it was
given stays noted.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import TextIOWrapper
from typing import Any, NoReturn

from pytxmr.errors import AttemptFailed, Uncarryable, Undecodable
from pytxmr.records.attempt import Problem, pair_problem
from pytxmr.records.batch import as_columns, pairs_of
from pytxmr.records.columns import Columns
from pytxmr.records.remote import is_remote
from pytxmr.records.spill import remove_spill

NOTE_BYTES = 8192
_NOTE = struct.Struct("<QI")
_MAPPER = "the mapper"
#: Characters of a record that a message shows.
_SHOWN = 400


def read_note(path: str) -> tuple[int, str] | None:
    """The record that was at hand when the writer of the note died: its number, and where it is.

    None if there was none.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(NOTE_BYTES)
        number, length = _NOTE.unpack_from(data)
    except (OSError, struct.error):
        return None
    text = data[_NOTE.size : _NOTE.size + length].decode("utf-8", "backslashreplace")
    return (number, text) if number else None


def read_bad_records(path: str) -> list[dict[str, Any]]:
    """The records that were set aside there: file, offset, record, traceback and task of each."""
    with open(path, encoding="ascii") as file:
        return [json.loads(line) for line in file]


@dataclass(frozen=True, slots=True)
class UserCode:
    """What a quarantine needs to know of the user's code: how to show an error of it, and how to
    take back what a call of it has counted."""

    traceback: Callable[[BaseException], str]
    save_counters: Callable[[], Any] = lambda: None
    restore_counters: Callable[[Any], None] = lambda saved: None


class Quarantine:
    """The bad records of one map attempt.

    Up to ``most`` are set aside, as lines of ``path``; with 0 the mapper's error goes on its way,
    and records are only noted, in ``note_path``. ``skip`` are numbers of records that the mapper is
    not to be given, each with the reason. ``careful``: whether to begin in careful mode.
    ``window``: of a probe, the records after the first so many, up to that one.
    """

    def __init__(
        self,
        most: int,
        path: str,
        note_path: str,
        task: str,
        code: UserCode,
        careful: bool = False,
        skip: Iterable[tuple[int, str]] = (),
        window: tuple[int, int] | None = None,
    ) -> None:
        self.most = most
        self.window = window
        self.careful = careful
        self.count = 0
        self.first: dict[str, str] = {}
        self._path = path
        self._note_path = note_path
        self._task = task
        self._code = code
        self._skip = dict(skip)
        self._counters = code.save_counters()
        self._file: TextIOWrapper | None = None
        self._note: mmap.mmap | None = None
        self._number = 0
        self._offset = 0
        self._raised = False
        self._given = ""

    def begin(self) -> None:
        """Start, or start anew, in careful mode, with nothing set aside."""
        self.discard()
        self.careful = True
        self.count = self._number = 0
        self.first = {}
        self._code.restore_counters(self._counters)
        if self._note is None:
            with open(self._note_path, "w+b") as file:
                file.truncate(NOTE_BYTES)
                self._note = mmap.mmap(file.fileno(), NOTE_BYTES)

    def finish(self) -> None:
        """What was set aside is on disk."""
        if self._file is not None:
            self._file.flush()
            if is_remote(self._path):
                from pytxmr.records.upload import send

                buffer: Any = self._file.buffer
                send(buffer, self._path)
            else:
                os.fsync(self._file.fileno())
            self._file.close()
            self._file = None

    def discard(self) -> None:
        """Remove what was set aside."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if not is_remote(self._path):
            with suppress(FileNotFoundError):
                os.unlink(self._path)

    def probe(self, run: Callable[[], Any], path: str) -> NoReturn:
        """Run the attempt, which writes a spill or a part at ``path``, as a probe. Raises
        `AttemptFailed` that says, as ``survived``, that the worker has not died of it, also if it
        has raised; then nothing is left of it.
        """
        try:
            run()
        except (Exception, SystemExit):
            self._raised = True
        self.discard()
        remove_spill(path)
        raise AttemptFailed(
            "the worker outlived this probe",
            survived=True,
            records=self._number,
            raised=self._raised,
            where=self._given,
        )

    # ---- around the user's functions

    def reader(self, reader: Callable[..., Any]) -> Callable[..., Any]:
        """The user's reader; its records are where the last line is that it has read."""

        def tracked(lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
            for line in lines:
                self._offset = line[0]
                yield line

        return lambda lines: reader(tracked(lines))

    def mapper(
        self,
        mapper: Callable[..., Any],
        form: str | None,
        own_reader: bool,
        file: Callable[[], str],
        problem: Problem = pair_problem,
    ) -> Callable[[Any, Any], Iterable[Any]]:
        """The user's mapper in careful mode. ``file`` gives the path that is being read.
        What the mapper yields is set aside if it has a ``problem``."""

        def where(key: Any, value: Any) -> tuple[str, int, Any]:
            if own_reader:
                return file(), self._offset, (key, value)
            return file(), key, value[0] if isinstance(value, list) else value

        def noted(key: Any, value: Any) -> Any:
            self._at_hand(*where(key, value))
            return mapper(key, value)

        def probed(key: Any, value: Any) -> Any:
            if first <= self._number < last:
                return tried(key, value)
            self._number += 1
            return ()

        def guarded(key: Any, value: Any) -> list[Any]:
            place = where(key, value)
            self._at_hand(*place)
            reason = self._skip.get(self._number)
            if reason is not None:
                self._set_aside(*place, reason, None)
                return []
            counters = self._code.save_counters()
            try:
                result = mapper(key, value)
                return (_pairs if form is None else _columns)(result, problem)
            except Undecodable as error:
                self._set_aside(*place, error.message, None)
                return []
            except (Exception, SystemExit) as error:
                self._raised = True
                if type(error) is AttemptFailed:
                    # Raised by what of ours the mapper has called, as `pytxmr.to` for an output
                    # that is not declared: that is a mistake in the job, whatever the record.
                    error.details.setdefault("where", self._given)
                    raise
                self._code.restore_counters(counters)
                reason = (
                    error.message
                    if isinstance(error, Uncarryable)
                    else f"{_MAPPER} raised {type(error).__name__}: {error}"
                )
                self._set_aside(*place, reason, error)
                return []
            finally:
                self.none_at_hand()

        tried = guarded if self.most else noted
        first, last = self.window or (0, 0)
        return tried if self.window is None else probed

    # ---- one record

    def none_at_hand(self) -> None:
        """What kills the process from now on is no record; of a probe, it may be."""
        if self.window is None:
            self._write_note(0, b"")

    def _at_hand(self, path: str, offset: int, record: Any) -> None:
        self._number += 1
        self._given = _place(path, offset, record)
        text = self._given.encode("utf-8", "backslashreplace")
        self._write_note(self._number, text[: NOTE_BYTES - _NOTE.size])

    def _write_note(self, number: int, text: bytes) -> None:
        assert self._note is not None
        self._note[: _NOTE.size + len(text)] = _NOTE.pack(number, len(text)) + text

    def _set_aside(
        self, path: str, offset: int, record: Any, reason: str, error: BaseException | None
    ) -> None:
        shown = reason if error is None else self._code.traceback(error)
        self.count += 1
        if not self.first:
            self.first = {"where": _place(path, offset, record), "message": reason}
            if error is not None:
                self.first["traceback"] = shown
        if self.count > self.most:
            raise too_many(self.count, self.most, self.first, final=True)
        if self._file is None:
            self._file = self._opened()
        line = {
            "file": path,
            "offset": offset,
            "record": _content(record),
            "traceback": shown,
            "task": self._task,
        }
        self._file.write(json.dumps(line) + "\n")

    def _opened(self) -> TextIOWrapper:
        if is_remote(self._path):
            from pytxmr.records.upload import to_be_sent

            return TextIOWrapper(to_be_sent(), "ascii")
        return open(self._path, "w", encoding="ascii")


def too_many(count: int, most: int, first: dict[str, str], **details: Any) -> AttemptFailed:
    """The error of a job or an attempt with more bad records than it may have."""
    message = f"{count:,} bad records are more than the {most:,} that may be skipped; the first: "
    error = AttemptFailed(message + first.get("message", "unknown"))
    error.details = details | {k: v for k, v in first.items() if k in ("where", "traceback")}
    # The traceback is that of the record, or there is none: never that of this error itself.
    error.details.setdefault("traceback", "")
    return error


def _content(record: Any) -> str:
    if isinstance(record, bytes):
        return record.decode("utf-8", "surrogateescape")
    return record if isinstance(record, str) else repr(record)


def _place(path: str, offset: int, record: Any) -> str:
    shown = record[:_SHOWN] if isinstance(record, str | bytes) else record
    return f"{path}, offset {offset}, record {shown!r:.{_SHOWN}}"


def checked(result: Any, problem: Callable[[Any], AttemptFailed | None], who: str) -> Iterator[Any]:
    """The pairs of what ``who``, the mapper, returned, up to one with a problem, which is raised.

    It is thrown into the mapper at its ``yield``, so the traceback shows the user's line.
    """
    try:
        pairs = iter(result)
    except TypeError:
        hint = "; does it lack a yield?" if result is None else ""
        raise Uncarryable(
            f"{who} returned {type(result).__name__}, not an iterable of pairs{hint}",
            final=True,
        ) from None
    throw = getattr(result, "throw", None)
    for pair in pairs:
        found = problem(pair)
        if found is None:
            yield pair
            continue
        if throw is not None:
            try:
                throw(found)
            except BaseException:
                pass  # the problem itself, with the user's frame, or what they made of it
        raise found


def _pairs(result: Any, problem: Problem) -> list[Any]:
    return list(checked(result, lambda pair: problem(pair, _MAPPER), _MAPPER))


def _columns(result: Any, problem: Problem) -> list[Columns]:
    found = list(as_columns(result, _MAPPER, named=True))
    for columns in found:
        for pair in pairs_of(columns):
            error = problem(pair, _MAPPER)
            if error is not None:
                raise error
    return found
