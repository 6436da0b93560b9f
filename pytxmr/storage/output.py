"""The output directory of a job: attempts write aside, and the winners are renamed at the end.

Of one on this machine, or on a filesystem that all machines have mounted::

    DIR/_temporary/OWNER/              OWNER names the submission that writes here
    DIR/_temporary/OWNER/Reduce000.0   what attempt 0 of reduce 0 writes, and fsyncs
    DIR/_temporary/OWNER/Map001.0      the same of map 1, in a job without reduces
    DIR/_temporary/OWNER/Map001.0.bad  the records that attempt 0 of map 1 has set aside, if any
    DIR/_bad/Map001.jsonl              those of the attempt that counts
    DIR/part-00000                     the winner, renamed when all are there; part-00000.gz or the
                                       like if the output is compressed
    DIR/_temporary/OWNER/Reduce000.0@errors   what the attempt writes to the output named errors
    DIR/errors/part-00000              the same of the attempt that counts
    DIR/_temporary/OWNER/_above        how many of the directories above DIR were made for it
    DIR/_temporary/OWNER/_SUCCESS      a manifest in JSON, fsynced
    DIR/_SUCCESS                       the same, linked last, exclusively

A reader that finds ``_SUCCESS`` finds every part and the manifest whole. A job that fails leaves
nothing. A commit that was cut short at any step is taken up by making it again. An attempt that is
cut off from its cluster, and goes on when its job is over, finds its directory gone: it cannot
write among the files of a later job, although both have attempts of the same name.

An output behind a URL keeps the same promises in other ways: see `remoteoutput` and `s3output`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from pytxmr.errors import BadInput, PytxmrError
from pytxmr.failpoints import fail_point
from pytxmr.records.named import OUTPUT_NAME, beside

_TEMPORARY = "_temporary"
_ABOVE = "_above"
SUCCESS = "_SUCCESS"
BAD = "_bad"
PART = re.compile(r"part-[0-9]{5,}(\.(gz|bz2|xz|lz4|zst))?", re.ASCII)
BAD_FILE = re.compile(r"Map[0-9]{3,}\.jsonl", re.ASCII)


@dataclass(frozen=True, slots=True)
class Part:
    """A file of a winning attempt: the attempt, the file's bytes and SHA-256; ``output`` is the
    name of the output that it belongs to, empty for the one that has none."""

    attempt: str
    size_bytes: int
    digest: str
    output: str = ""

    @property
    def file(self) -> str:
        """What it is called in ``_temporary``."""
        return beside(self.attempt, self.output) if self.output else self.attempt


class Output(Protocol):
    """The output of one job; `OutputDirectory` says what each method promises."""

    path: str

    def reserve(self) -> None: ...
    def attempt_path(self, attempt: str) -> str: ...
    def bad_path(self, attempt: str) -> str: ...
    def commit(
        self,
        parts: Iterable[Part],
        manifest: dict[str, Any],
        bad: Iterable[tuple[str, str]] = (),
        suffix: str = "",
    ) -> None: ...
    def manifest(self) -> dict[str, Any]: ...
    def discard(self, job: str = "") -> None: ...


def is_part(name: str) -> bool:
    """Is it the name of a part, relative to the output's directory?"""
    output, slash, file = name.rpartition("/")
    return bool(PART.fullmatch(file) and (not slash or OUTPUT_NAME.fullmatch(output)))


def manifest_text(manifest: dict[str, Any]) -> bytes:
    """What ``_SUCCESS`` has. What UTF-8 cannot say, a lone surrogate in a counter's name, becomes
    JSON's \\udcff."""
    text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "backslashreplace")


class OutputDirectory:
    """The output of one job, at an absolute path. ``owner`` is a name that no other job has."""

    def __init__(self, path: str, owner: str) -> None:
        self.path = path
        self.owner = owner
        self._temporary = os.path.join(path, _TEMPORARY)
        self._own = os.path.join(self._temporary, owner)

    def reserve(self) -> None:
        """Create the directory, which must not exist. Raises `BadInput`."""
        if os.path.lexists(self.path):
            raise BadInput(
                f"the output directory {self.path} exists already; remove it or name another"
            )
        above = self._above()
        missing = sum(not os.path.exists(path) for path in above)
        try:
            os.makedirs(above[0], exist_ok=True)
            os.mkdir(self.path)
            try:
                os.makedirs(self._own)
                if missing:
                    with open(os.path.join(self._own, _ABOVE), "w") as file:
                        file.write(str(missing))
            except OSError:
                self.discard()
                raise
        except (OSError, ValueError) as error:
            _remove_empty(above[:missing])
            reason = getattr(error, "strerror", error)
            raise BadInput(f"cannot create {self.path!r}: {reason}") from error

    def _above(self) -> list[str]:
        """The directories above DIR, the nearest first."""
        found = [os.path.dirname(self.path.rstrip(os.sep))]
        while found[-1] != (above := os.path.dirname(found[-1])):
            found.append(above)
        return found

    def _made_above(self) -> int:
        """How many of these were made for it."""
        try:
            with open(os.path.join(self._own, _ABOVE)) as file:
                return int(file.read())
        except (OSError, ValueError):
            return 0

    def attempt_path(self, attempt: str) -> str:
        return os.path.join(self._own, attempt)

    def bad_path(self, attempt: str) -> str:
        """Where an attempt sets bad records aside."""
        return self.attempt_path(f"{attempt}.bad")

    def commit(
        self,
        parts: Iterable[Part],
        manifest: dict[str, Any],
        bad: Iterable[tuple[str, str]] = (),
        suffix: str = "",
    ) -> None:
        """Rename each part to its place, then create ``_SUCCESS``. Raises `PytxmrError`.

        Parts are numbered as they come, those of each output by themselves.
        ``bad``: attempts that have set records aside, and the tasks that these are named for.
        ``suffix``: what the names of the parts end in, as ``.gz``.
        May be repeated with the same arguments, whether it was cut short or not.
        """
        success = os.path.join(self.path, SUCCESS)
        try:
            listed: dict[str, list[dict[str, Any]]] = {"": []}
            for part in parts:
                of_output = listed.setdefault(part.output, [])
                of_output.append(self._place(f"part-{len(of_output):05d}{suffix}", part))
            parts_listed = listed.pop("")
            for name in listed:
                _fsync_directory(os.path.join(self.path, name))
            if listed:
                manifest = manifest | {"outputs": listed}
            set_aside = [self._place_bad(attempt, task) for attempt, task in bad]
            if set_aside:
                manifest = manifest | {"bad": set_aside}
                _fsync_directory(os.path.join(self.path, BAD))
            data = manifest_text(manifest | {"parts": parts_listed})
            if not self._is_there(success, data):
                written = self.attempt_path(SUCCESS)
                with open(written, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                _fsync_directory(self.path)
                fail_point("commit-before-success")
                os.link(written, success)
                fail_point("commit-after-success")
            shutil.rmtree(self._own, ignore_errors=True)
            with suppress(FileNotFoundError):
                os.rmdir(self._temporary)
            _fsync_directory(self.path)
        except OSError as error:
            raise PytxmrError(f"cannot commit to {self.path}: {error}") from error

    def _place(self, name: str, part: Part) -> dict[str, Any]:
        """Rename a part to its place, unless it is there; what the manifest says of it."""
        if part.output:
            name = f"{part.output}/{name}"
            os.makedirs(os.path.join(self.path, part.output), exist_ok=True)
        source, target = self.attempt_path(part.file), os.path.join(self.path, name)
        placed = os.path.lexists(target) and not os.path.lexists(source)
        here = target if placed else source
        size = os.path.getsize(here)
        if size != part.size_bytes:
            raise PytxmrError(f"{here} has {size} bytes, not {part.size_bytes}")
        if not placed:
            os.rename(source, target)
            fail_point("commit-renamed")
        return {"name": name, "bytes": size, "sha256": part.digest}

    @staticmethod
    def _is_there(path: str, data: bytes) -> bool:
        """Is this very manifest in its place? Another one is not overwritten: linking fails."""
        try:
            with open(path, "rb") as file:
                return file.read() == data
        except FileNotFoundError:
            return False

    def manifest(self) -> dict[str, Any]:
        """What ``_SUCCESS`` says; empty if there is none, or if it is not one of ours."""
        try:
            with open(os.path.join(self.path, SUCCESS), encoding="utf-8") as file:
                found = json.load(file)
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _place_bad(self, attempt: str, task: str) -> dict[str, Any]:
        os.makedirs(os.path.join(self.path, BAD), exist_ok=True)
        name = f"{BAD}/{task}.jsonl"
        source, target = self.bad_path(attempt), os.path.join(self.path, name)
        if os.path.lexists(source) or not os.path.lexists(target):
            os.rename(source, target)
        return {"name": name, "bytes": os.path.getsize(target)}

    def discard(self, job: str = "") -> None:
        """Remove what the job has written, which was committed if ``_SUCCESS`` is of that ``job``.
        Somebody else's files stay, and so does then DIR. If nothing was committed, directories
        above it that were made for it go as well, if they are empty."""
        above = self._above()[: self._made_above()]
        if os.path.isdir(self._own) or (job and self.manifest().get("job") == job):
            self._discard_in(BAD, BAD_FILE)
            for name in filter(OUTPUT_NAME.fullmatch, os.listdir(self.path)):
                self._discard_in(name, PART)
            parts = filter(PART.fullmatch, os.listdir(self.path))
            # What says whose all this is goes last.
            for name in (*parts, SUCCESS):
                with suppress(OSError):
                    os.unlink(os.path.join(self.path, name))
            shutil.rmtree(self._own, ignore_errors=True)
        _remove_empty([self._temporary, self.path, *above])

    def _discard_in(self, name: str, files: re.Pattern[str]) -> None:
        """Remove such files from a directory in DIR, and that if it is then empty."""
        directory = os.path.join(self.path, name)
        if os.path.islink(directory):
            return
        try:
            for found in filter(files.fullmatch, os.listdir(directory)):
                os.unlink(os.path.join(directory, found))
            os.rmdir(directory)
        except OSError:
            pass


def _remove_empty(directories: Iterable[str]) -> None:
    for path in directories:
        with suppress(OSError):
            os.rmdir(path)  # only if it is empty


def _fsync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
