"""Results of attempts that are kept for later jobs, by digests of all that they came of.

::

    DIR/3f/3f9c...e1/             one result; its name is the digest, called its key
    DIR/3f/3f9c...e1/answer       what the attempt reported, packed, behind a checksum of it
    DIR/3f/3f9c...e1/result0      the file that it wrote; of a spill, result1 is the index
    DIR/3f/.new-...               one that is being written, or whose writer was killed

A result is written aside and renamed when all of it is fsynced, so it is there whole or not at all,
whoever else keeps the same one. Each file's digest is looked at before it is used: what is damaged
is removed, as if it had never been there. Everything in DIR may be removed at any time.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgpack
from xxhash import xxh3_64_digest, xxh3_128

from pytxmr.errors import BadInput

#: A result that no job has used for so long is removed.
UNUSED_SECONDS = 30 * 86400
#: What was begun so long ago is not being written any more.
_ABANDONED_SECONDS = 86400

_ANSWER = "answer"
_RESULT = "result"
_NEW = ".new-"
_CHUNK_BYTES = 1 << 20


class KeptResults:
    """The results in a directory, which need not be there. Any number of processes may use it."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def make(self) -> None:
        """Make the directory, for this user alone: who can write there can alter what jobs put
        out. Raises `BadInput`."""
        try:
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
        except OSError as error:
            raise BadInput(f"cannot make {self.directory}: {error.strerror}") from error

    def find(self, key: str, paths: Sequence[str], share: bool) -> Any:
        """Put the files of a result at ``paths``; what was reported of it, or None if there is
        none, or none that is whole: then nothing is there.

        ``share``: they may be the very files, as nobody will write to them; otherwise they are
        fsynced, as what becomes output is.
        """
        entry = self._entry(key)
        if not os.path.isdir(entry):
            return None
        try:
            with open(os.path.join(entry, _ANSWER), "rb") as file:
                data = file.read()
            checksum, packed = data[:8], data[8:]
            if xxh3_64_digest(packed) != checksum:
                raise ValueError("the answer does not match its checksum")
            answer, digests = msgpack.unpackb(packed, unicode_errors="surrogatepass")
            for number, (path, digest) in enumerate(zip(paths, digests, strict=True)):
                _bring(os.path.join(entry, f"{_RESULT}{number}"), path, share)
                if _digest(path) != digest:
                    raise ValueError("a file does not match its digest")
                if not share:
                    _fsync(path)
            os.utime(os.path.join(entry, _ANSWER))
        except (FileNotFoundError, ValueError, TypeError, msgpack.UnpackException):
            _unlink(paths)
            shutil.rmtree(entry, ignore_errors=True)
            return None
        except OSError:  # it may be whole, and not to be had at present
            _unlink(paths)
            return None
        return answer

    def keep(self, key: str, paths: Sequence[str], answer: Any, share: bool) -> None:
        """Keep the files at ``paths`` as a result. Raises `OSError`; then nothing is kept."""
        entry = self._entry(key)
        above = os.path.dirname(entry)
        os.makedirs(above, exist_ok=True)
        new = tempfile.mkdtemp(prefix=_NEW, dir=above)
        try:
            digests = []
            for number, path in enumerate(paths):
                place = os.path.join(new, f"{_RESULT}{number}")
                _bring(path, place, share)
                _fsync(place)
                digests.append(_digest(place))
            packed = msgpack.packb([answer, digests], unicode_errors="surrogatepass")
            place = os.path.join(new, _ANSWER)
            with open(place, "wb") as file:
                file.write(xxh3_64_digest(packed) + packed)
            _fsync(place)
            _fsync(new)
            try:
                os.rename(new, entry)
            except OSError:
                if not os.path.isdir(entry):
                    raise
                # Somebody else has kept it meanwhile.
                shutil.rmtree(new, ignore_errors=True)
            _fsync(above)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise

    def forget_unused(self, now: float | None = None) -> None:
        """Remove what no job has used for `UNUSED_SECONDS`, and what was never finished. What
        cannot be removed stays."""
        now = time.time() if now is None else now
        with suppress(OSError):
            for above in os.scandir(self.directory):
                if not above.is_dir(follow_symlinks=False) or len(above.name) != 2:
                    continue
                for entry in os.scandir(above.path):
                    with suppress(OSError):
                        if _is_over(entry, now):
                            shutil.rmtree(entry.path, ignore_errors=True)
                with suppress(OSError):
                    os.rmdir(above.path)  # only if it is empty

    def _entry(self, key: str) -> str:
        return os.path.join(self.directory, key[:2], key)


def _is_over(entry: os.DirEntry[str], now: float) -> bool:
    if entry.name.startswith(_NEW):
        return now - entry.stat().st_mtime > _ABANDONED_SECONDS
    return now - os.stat(os.path.join(entry.path, _ANSWER)).st_mtime > UNUSED_SECONDS


def _bring(source: str, target: str, share: bool) -> None:
    """Let the file be at ``target`` as well. Not by a link if somebody may write to it later."""
    _unlink([target])
    if share:
        try:
            return os.link(source, target)
        except OSError:
            pass  # they are on different filesystems, or this one has no links
    shutil.copyfile(source, target)


def _unlink(paths: Sequence[str]) -> None:
    for path in paths:
        with suppress(FileNotFoundError):
            os.unlink(path)


def _digest(path: str) -> bytes:
    found = xxh3_128()
    with open(path, "rb", buffering=0) as file:
        while data := file.read(_CHUNK_BYTES):
            found.update(data)
    return found.digest()


def _fsync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
