"""The output directory of a job: attempts write aside, and the winners are renamed at the end.

::

    DIR/_temporary/Reduce000.0    what attempt 0 of reduce 0 writes, and fsyncs
    DIR/part-00000                the winner, renamed when every reduce is done
    DIR/_SUCCESS                  created last, exclusively: a manifest in JSON

A reader that finds ``_SUCCESS`` finds every part whole. A job that fails leaves nothing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pytxmr.errors import BadInput, PytxmrError

_TEMPORARY = "_temporary"
SUCCESS = "_SUCCESS"
_PART = re.compile(r"part-[0-9]{5,}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Part:
    """The file of a winning attempt: its name in ``_temporary``, its bytes and SHA-256."""

    attempt: str
    size_bytes: int
    digest: str


class OutputDirectory:
    """The output of one job, at an absolute path."""

    def __init__(self, path: str) -> None:
        self.path = path

    def reserve(self) -> None:
        """Create the directory, which must not exist. Raises `BadInput`."""
        if os.path.lexists(self.path):
            raise BadInput(
                f"the output directory {self.path} exists already; remove it or name another"
            )
        try:
            os.makedirs(os.path.dirname(self.path.rstrip(os.sep)), exist_ok=True)
            os.mkdir(self.path)
            os.mkdir(os.path.join(self.path, _TEMPORARY))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", error)
            raise BadInput(f"cannot create {self.path!r}: {reason}") from error

    def attempt_path(self, attempt: str) -> str:
        return os.path.join(self.path, _TEMPORARY, attempt)

    def commit(self, parts: Iterable[Part], manifest: dict[str, Any]) -> None:
        """Rename each part to its place, then create ``_SUCCESS``. Raises `PytxmrError`."""
        listed = []
        try:
            for number, part in enumerate(parts):
                name = f"part-{number:05d}"
                source = self.attempt_path(part.attempt)
                size = os.path.getsize(source)
                if size != part.size_bytes:
                    raise PytxmrError(f"{source} has {size} bytes, not {part.size_bytes}")
                os.rename(source, os.path.join(self.path, name))
                listed.append({"name": name, "bytes": size, "sha256": part.digest})
            shutil.rmtree(os.path.join(self.path, _TEMPORARY))
            _fsync_directory(self.path)
            # What UTF-8 cannot say, a lone surrogate in a counter's name, becomes JSON's \udcff.
            success = os.path.join(self.path, SUCCESS)
            with open(success, "x", encoding="utf-8", errors="backslashreplace") as file:
                json.dump(manifest | {"parts": listed}, file, indent=1, ensure_ascii=False)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            _fsync_directory(self.path)
        except OSError as error:
            raise PytxmrError(f"cannot commit to {self.path}: {error}") from error

    def discard(self) -> None:
        """Remove what the job has written; somebody else's files stay, and so does then DIR."""
        shutil.rmtree(os.path.join(self.path, _TEMPORARY), ignore_errors=True)
        try:
            for name in os.listdir(self.path):
                if _PART.fullmatch(name) or name == SUCCESS:
                    os.unlink(os.path.join(self.path, name))
            os.rmdir(self.path)
        except OSError:
            pass


def _fsync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
