"""The output of a job on another filesystem that can rename, such as that of an SFTP server.

It is laid out as on this machine (see `output`), and made in the same steps: attempts send what
they have written to names of their own, which are renamed, and ``_SUCCESS`` comes last. By SFTP, a
rename fails if the target is there; elsewhere that is looked at before. Whether what a server has
taken is on its disks is for it to know.
"""

from __future__ import annotations

import json
import logging
import posixpath
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from pytxmr.errors import BadInput, PytxmrError
from pytxmr.failpoints import fail_point
from pytxmr.records.remote import checked_url, own_filesystem, reason_of
from pytxmr.records.upload import TEMPORARY, is_s3
from pytxmr.storage.output import (
    BAD,
    BAD_FILE,
    OUTPUT_NAME,
    PART,
    SUCCESS,
    Output,
    Part,
    manifest_text,
)
from pytxmr.storage.patience import patiently

_log = logging.getLogger(__name__)


def remote_output(path: str, owner: str) -> Output:
    """The output behind a URL."""
    if is_s3(path):
        from pytxmr.storage.s3output import S3Output

        return S3Output(path, owner)
    return RemoteDirectory(path, owner)


def checked_output(url: str) -> str:
    """The URL of an output, if there can be one. Raises `BadInput`."""
    url = checked_url(url, "write to").rstrip("/")
    protocol = url.partition("://")[0]
    if "::" in url or protocol in ("http", "https", "memory", "data"):
        raise BadInput(f"cannot write to {url}: nothing can be written there")
    return url


class RemoteDirectory:
    """See `output.OutputDirectory`, which promises the same."""

    def __init__(self, path: str, owner: str) -> None:
        self.path = path.rstrip("/")
        self._own = f"{TEMPORARY}/{owner}"

    def attempt_path(self, attempt: str) -> str:
        return f"{self.path}/{self._own}/{attempt}"

    def bad_path(self, attempt: str) -> str:
        """Where an attempt sets bad records aside."""
        return self.attempt_path(f"{attempt}.bad")

    def reserve(self) -> None:
        """Create the directory, which must not exist. Raises `BadInput`."""
        try:
            with own_filesystem(self.path) as (filesystem, path):
                taken = BadInput(
                    f"the output directory {self.path} exists already; remove it or name another"
                )
                if filesystem.exists(path):
                    raise taken
                filesystem.makedirs(posixpath.dirname(path), exist_ok=True)
                try:
                    filesystem.mkdir(path, create_parents=False)
                except OSError:
                    if filesystem.exists(path):  # another job was faster
                        raise taken from None
                    raise
                filesystem.makedirs(f"{path}/{self._own}")
                # Where to make a directory that is there is no error, of two jobs none gets it, but
                # never both.
                directory = _Directory(filesystem, path)
                if len(directory.directories(TEMPORARY)) > 1:
                    for name in (self._own, TEMPORARY, ""):
                        directory.remove_directory(name)
                    raise taken
        except BadInput:
            raise
        except Exception as error:
            raise BadInput(f"cannot write to {self.path}: {reason_of(error)}") from error

    def commit(
        self,
        parts: Iterable[Part],
        manifest: dict[str, Any],
        bad: Iterable[tuple[str, str]] = (),
        suffix: str = "",
    ) -> None:
        """Rename each part to its place, then create ``_SUCCESS``. Raises `PytxmrError`. A server
        that is away is waited for.

        May be repeated with the same arguments, whether it was cut short or not.
        """
        parts, bad = list(parts), list(bad)

        def commit() -> None:
            with own_filesystem(self.path) as (filesystem, path):
                self._commit(_Directory(filesystem, path), parts, manifest, bad, suffix)

        patiently(commit, self.path)

    def _commit(
        self,
        directory: _Directory,
        parts: list[Part],
        manifest: dict[str, Any],
        bad: list[tuple[str, str]],
        suffix: str,
    ) -> None:
        aside = directory.sizes(self._own)
        listed: dict[str, list[dict[str, Any]]] = {"": []}
        there: dict[str, dict[str, int]] = {}
        for part in parts:
            of_output = listed.setdefault(part.output, [])
            name = f"part-{len(of_output):05d}{suffix}"
            if part.output not in there:
                if part.output:
                    directory.make(part.output)
                there[part.output] = directory.sizes(part.output)
            placed = name in there[part.output] and part.file not in aside
            size = there[part.output][name] if placed else aside.get(part.file)
            name = f"{part.output}/{name}" if part.output else name
            if size != part.size_bytes:
                raise PytxmrError(f"{self.path}/{name} has {size} bytes, not {part.size_bytes}")
            if not placed:
                directory.rename(f"{self._own}/{part.file}", name)
                fail_point("commit-renamed")
            of_output.append({"name": name, "bytes": size, "sha256": part.digest})
        parts_listed = listed.pop("")
        if listed:
            manifest = manifest | {"outputs": listed}
        if bad:
            directory.make(BAD)
            manifest = manifest | {"bad": [self._place_bad(directory, aside, *one) for one in bad]}
        data = manifest_text(manifest | {"parts": parts_listed})
        if directory.read(SUCCESS) != data:
            written = f"{self._own}/{SUCCESS}"
            directory.write(written, data)
            fail_point("commit-before-success")
            directory.rename(written, SUCCESS)
            fail_point("commit-after-success")
        # The output is whole: what cannot be cleared away now disturbs nobody.
        with suppress(Exception):
            self._clear(directory)

    def _place_bad(
        self, directory: _Directory, aside: dict[str, int], attempt: str, task: str
    ) -> dict[str, Any]:
        name = f"{BAD}/{task}.jsonl"
        if f"{attempt}.bad" in aside:
            directory.rename(f"{self._own}/{attempt}.bad", name)
        return {"name": name, "bytes": directory.sizes(BAD)[f"{task}.jsonl"]}

    def _clear(self, directory: _Directory) -> None:
        for name in directory.sizes(self._own):
            directory.remove(f"{self._own}/{name}")
        directory.remove_directory(self._own)
        directory.remove_directory(TEMPORARY)

    def manifest(self) -> dict[str, Any]:
        """What ``_SUCCESS`` says; empty if there is none, or if it is not one of ours."""
        try:
            with own_filesystem(self.path) as (filesystem, path):
                found = json.loads(_Directory(filesystem, path).read(SUCCESS) or b"{}")
        except Exception:
            return {}
        return found if isinstance(found, dict) else {}

    def discard(self, job: str = "") -> None:
        """Remove what the job has written, which was committed if ``_SUCCESS`` is of that ``job``.
        Somebody else's files stay, and so does then DIR. If the server is away, all stays, and is
        told of."""
        try:
            with own_filesystem(self.path) as (filesystem, path):
                self._discard(_Directory(filesystem, path), job)
        except Exception as error:
            _log.warning("cannot remove what is left in %s: %s", self.path, reason_of(error))

    def _discard(self, directory: _Directory, job: str) -> None:
        if directory.has(self._own) or (job and self.manifest().get("job") == job):
            self._discard_in(directory, BAD, BAD_FILE)
            for name in filter(OUTPUT_NAME.fullmatch, directory.directories()):
                self._discard_in(directory, name, PART)
            there = directory.sizes("")
            # What says whose all this is goes last.
            for name in (*filter(PART.fullmatch, there), *({SUCCESS} & there.keys())):
                directory.remove(name)
            self._clear(directory)
        directory.remove_directory(TEMPORARY)
        directory.remove_directory("")

    @staticmethod
    def _discard_in(directory: _Directory, name: str, files: re.Pattern[str]) -> None:
        for found in filter(files.fullmatch, directory.sizes(name)):
            directory.remove(f"{name}/{found}")
        directory.remove_directory(name)


class _Directory:
    """A directory of a filesystem. Names are relative to it. Raises what the filesystem does."""

    def __init__(self, filesystem: Any, path: str) -> None:
        self._filesystem = filesystem
        self._path = path.rstrip("/")

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}".rstrip("/")

    def has(self, name: str) -> bool:
        return bool(self._filesystem.exists(self._at(name)))

    def sizes(self, name: str) -> dict[str, int]:
        """The files in a directory, and how large they are; none if there is none."""
        try:
            found = self._filesystem.ls(self._at(name), detail=True)
        except FileNotFoundError:
            return {}
        return {
            posixpath.basename(entry["name"]): entry["size"]
            for entry in found
            if entry["type"] == "file"
        }

    def directories(self, name: str = "") -> list[str]:
        found = self._filesystem.ls(self._at(name), detail=True)
        return [posixpath.basename(one["name"]) for one in found if one["type"] == "directory"]

    def read(self, name: str) -> bytes | None:
        try:
            with self._filesystem.open(self._at(name), "rb") as file:
                data: bytes = file.read()
        except FileNotFoundError:
            return None
        return data

    def write(self, name: str, data: bytes) -> None:
        with self._filesystem.open(self._at(name), "wb") as file:
            file.write(data)

    def rename(self, old: str, new: str) -> None:
        """Raises if ``new`` is there."""
        old, new = self._at(old), self._at(new)
        sftp: Any = getattr(self._filesystem, "ftp", None)
        if hasattr(sftp, "posix_rename"):
            sftp.rename(old, new)  # unlike the other, this is refused if there is one
        elif self._filesystem.exists(new):
            raise PytxmrError(f"{new} is there already, and not of this job")
        else:
            self._filesystem.mv(old, new)
            if self._filesystem.exists(old):  # WebHDFS may refuse without saying so
                raise PytxmrError(f"{old} cannot be renamed to {new}")

    def make(self, name: str) -> None:
        self._filesystem.makedirs(self._at(name), exist_ok=True)

    def remove(self, name: str) -> None:
        self._filesystem.rm_file(self._at(name))

    def remove_directory(self, name: str) -> None:
        """If it is empty."""
        with suppress(Exception):
            path = self._at(name)
            if not self._filesystem.ls(path, detail=False):
                self._filesystem.rmdir(path)
                if self._filesystem.exists(path):  # fsspec has no rmdir for it, but for files
                    self._filesystem.rm(path)
