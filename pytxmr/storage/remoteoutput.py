"""The output of a job on another filesystem that can rename, such as that of an SFTP server.

It is laid out as on this machine (see `output`), and made in the same steps: attempts send what
they have written to names of their own, which are renamed, and ``_SUCCESS`` comes last. By SFTP, a
rename fails if the target is there; elsewhere that is looked at before. Whether what a server has
taken is on its disks is for it to know.

What a store of objects shows as a filesystem, as Hadoop's ``s3a`` does, has directories by name
only: whoever writes a file makes those above it again. So ``_above`` is always there, as long as
the job goes on. The job's end removes it first, and then looks for what attempts have left; an
attempt looks for it when it has sent all. One of the two sees the other. A rename copies there,
and then removes: cut short, it leaves both, and is ended when the commit is made again.
"""

from __future__ import annotations

import json
import logging
import posixpath
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from pytxmr.errors import BadInput, PytxmrError
from pytxmr.failpoints import fail_point
from pytxmr.records.remote import own_filesystem, reason_of
from pytxmr.records.upload import ABOVE, MARKER, TEMPORARY, remove_empty
from pytxmr.storage.output import (
    BAD,
    BAD_FILE,
    OUTPUT_NAME,
    PART,
    SUCCESS,
    Part,
    manifest_text,
)
from pytxmr.storage.patience import patiently

_log = logging.getLogger(__name__)


class RemoteDirectory:
    """See `output.OutputDirectory`, which promises the same."""

    def __init__(self, path: str, owner: str) -> None:
        self.path = path.rstrip("/")
        self._mark = f"{TEMPORARY}/{MARKER}"
        self._owner = owner.encode()
        self._own = f"{TEMPORARY}/{owner}"
        self._begun: set[str] = set()

    def attempt_path(self, attempt: str) -> str:
        return f"{self.path}/{self._own}/{attempt}"

    def bad_path(self, attempt: str) -> str:
        """Where an attempt sets bad records aside."""
        return self.attempt_path(f"{attempt}.bad")

    def reserve(self) -> None:
        """Create the directory, which must not exist. Raises `BadInput`."""
        try:
            with own_filesystem(self.path) as (filesystem, path):
                self._reserve(_Directory(filesystem, path))
        except BadInput:
            raise
        except Exception as error:
            raise BadInput(f"cannot write to {self.path}: {reason_of(error)}") from error

    def _reserve(self, directory: _Directory) -> None:
        taken = BadInput(
            f"the output directory {self.path} exists already; remove it or name another"
        )
        if directory.has(""):
            raise taken
        missing = directory.make_above()
        if not directory.begin():  # another job was faster
            raise taken
        try:
            directory.make(TEMPORARY)
            if not directory.claim(self._mark, self._owner):
                raise taken
            directory.make(self._own)
            directory.write(f"{self._own}/{ABOVE}", str(missing).encode())
            # Where neither a directory nor a file that is there is an error, of two jobs none gets
            # it, but never both, also if the other has begun and ended meanwhile.
            owners = {*directory.names(TEMPORARY)} - {MARKER}
            if len(owners) > 1 or directory.names("") != [TEMPORARY]:
                raise taken
        except BaseException:
            with suppress(Exception):
                self._clear(directory)
            directory.remove_directory("", missing)
            raise

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
                directory = _Directory(filesystem, path, self._begun)
                self._commit(directory, parts, manifest, bad, suffix)

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
        renamed: list[tuple[str, str]] = []
        listed: dict[str, list[dict[str, Any]]] = {"": []}
        there: dict[str, dict[str, int]] = {}
        for part in parts:
            of_output = listed.setdefault(part.output, [])
            if part.output not in there:
                if part.output:
                    directory.make(part.output)
                there[part.output] = directory.sizes(part.output)
            file = f"part-{len(of_output):05d}{suffix}"
            name = f"{part.output}/{file}" if part.output else file
            size = aside.get(part.file, there[part.output].get(file))
            if size != part.size_bytes:
                raise PytxmrError(f"{self.path}/{name} has {size} bytes, not {part.size_bytes}")
            if part.file in aside:
                renamed.append((f"{self._own}/{part.file}", name))
            of_output.append({"name": name, "bytes": size, "sha256": part.digest})
        directory.rename_all(renamed)
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
        if ABOVE in directory.sizes(self._own):
            directory.remove(f"{self._own}/{ABOVE}")
        directory.unclaim(self._mark, self._owner)
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
        Somebody else's files stay, and so does then DIR. If nothing was committed, directories
        above it that were made for it go as well, if they are empty. If the server is away, all
        stays, and is told of."""
        try:
            with own_filesystem(self.path) as (filesystem, path):
                self._discard(_Directory(filesystem, path), job)
        except Exception as error:
            _log.warning("cannot remove what is left in %s: %s", self.path, reason_of(error))

    def _discard(self, directory: _Directory, job: str) -> None:
        above = int(directory.read(f"{self._own}/{ABOVE}") or 0)
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
        directory.remove_directory("", above)

    @staticmethod
    def _discard_in(directory: _Directory, name: str, files: re.Pattern[str]) -> None:
        for found in filter(files.fullmatch, directory.sizes(name)):
            directory.remove(f"{name}/{found}")
        directory.remove_directory(name)


class _Directory:
    """A directory of a filesystem. Names are relative to it. Raises what the filesystem does.
    ``begun``: where a renaming has begun to, here or by an earlier one."""

    def __init__(self, filesystem: Any, path: str, begun: set[str] | None = None) -> None:
        self._filesystem = filesystem
        self._path = path.rstrip("/")
        self._begun = set() if begun is None else begun

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}".rstrip("/")

    def make_above(self) -> int:
        """Make the directories above it that are not there; how many."""
        missing, above = 0, posixpath.dirname(self._path)
        while above.strip("/") and not self._filesystem.exists(above):
            missing, above = missing + 1, posixpath.dirname(above)
        self._filesystem.makedirs(posixpath.dirname(self._path), exist_ok=True)
        return missing

    def begin(self) -> bool:
        """Make it, unless it is there."""
        try:
            self._filesystem.mkdir(self._path, create_parents=False)
        except OSError:
            if self._filesystem.exists(self._path):
                return False
            raise
        return True

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

    def directories(self) -> list[str]:
        found = self._filesystem.ls(self._path, detail=True)
        return [posixpath.basename(one["name"]) for one in found if one["type"] == "directory"]

    def names(self, name: str) -> list[str]:
        found = self._filesystem.ls(self._at(name), detail=False)
        return [posixpath.basename(one) for one in found]

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

    def claim(self, name: str, data: bytes) -> bool:
        """Write it, unless it is there, if the filesystem can make that one step; False if another
        is there."""
        if getattr(self._filesystem, "creates_new", False):
            try:
                with self._filesystem.open(self._at(name), "xb") as file:
                    file.write(data)
            except OSError:
                found = self.read(name)
                if found is None:
                    raise
                return found == data
        return True

    def unclaim(self, name: str, data: bytes) -> None:
        if getattr(self._filesystem, "creates_new", False) and self.read(name) == data:
            self.remove(name)

    def rename_all(self, renamed: list[tuple[str, str]]) -> None:
        """Some at a time, if the filesystem can, since a store of objects copies."""

        def rename(names: tuple[str, str]) -> None:
            self.rename(*names)
            fail_point("commit-renamed")

        with ThreadPoolExecutor(getattr(self._filesystem, "at_a_time", 1)) as pool:
            for _ in pool.map(rename, renamed):
                pass

    def rename(self, old: str, new: str) -> None:
        """Raises if ``new`` is there, and not by a renaming that was cut short."""
        filesystem, old, new = self._filesystem, self._at(old), self._at(new)
        sftp: Any = getattr(filesystem, "ftp", None)
        if hasattr(sftp, "posix_rename"):
            sftp.rename(old, new)  # unlike the other, this is refused if there is one
        elif not filesystem.exists(new):
            self._begun.add(new)
            filesystem.mv(old, new)
            if filesystem.exists(old):  # WebHDFS may refuse without saying so
                raise PytxmrError(f"{old} cannot be renamed to {new}")
        elif new in self._begun and filesystem.size(old) == filesystem.size(new):
            filesystem.rm_file(old)
        else:
            raise PytxmrError(f"{new} is there already, and not of this job")

    def make(self, name: str) -> None:
        self._filesystem.makedirs(self._at(name), exist_ok=True)

    def remove(self, name: str) -> None:
        self._filesystem.rm_file(self._at(name))

    def remove_directory(self, name: str, above: int = 0) -> None:
        """If it is empty, and so many of those above it."""
        path = self._at(name)
        with suppress(Exception):
            for _ in range(above + 1):
                remove_empty(self._filesystem, path)
                path = posixpath.dirname(path)
