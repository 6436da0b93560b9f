"""Files and archives that travel with a job: read on the client, laid down once on each tracker.

An archive may come from anywhere, so nothing of it may come to lie, or point, outside of the
directory that it is unpacked into. Names are checked before anything is written. Links come last:
while files are written there is no link that could lead them elsewhere; and when all links are
there, each is followed to its end.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import IO, Any

from pytxmr.errors import BadJob
from pytxmr.model import SideFile

#: What all side files of a job may take together: they go through the jobtracker, which keeps them
#: for as long as the job runs, in one message, beside the rest of the job.
MOST_BYTES = 48 << 20
MOST_UNPACKED_BYTES = 2 << 30
MOST_MEMBERS = 100_000

_CHUNK_BYTES = 1 << 20
_INTERPRETER = re.compile(r"/bin/python[0-9.]*$", re.ASCII)


def read_side_files(files: Iterable[str], archives: Iterable[str]) -> list[tuple[str, SideFile]]:
    """What is given as ``PATH`` or ``PATH#NAME``, with where it is. Raises `BadJob`."""
    found: dict[str, tuple[str, SideFile]] = {}
    left = MOST_BYTES
    given = [("--file", text) for text in files] + [("--archive", text) for text in archives]
    for option, text in given:
        path, hash_sign, name = text.rpartition("#")
        if not hash_sign or os.path.exists(text):
            path, name = text, os.path.basename(text)
        try:
            with open(path, "rb") as file:
                content = file.read(left + 1)
            side = SideFile(name, content, option == "--archive")
        except OSError as error:
            raise BadJob(f"cannot read {option} {path}: {error.strerror}") from error
        except ValueError as error:
            raise BadJob(f"{option} {text}: {error}; say {option} PATH#NAME") from error
        left -= len(content)
        if left < 0:
            raise BadJob(
                f"{option} {path}: the files that travel with a job may have {MOST_BYTES >> 20} "
                f"MiB together; put what is larger where every machine sees it, and open it there"
            )
        if name in found:
            other = found[name][0]
            raise BadJob(f"{option} {path}: {other} has the name {name} already; say #NAME")
        found[name] = (path, side)
    return list(found.values())


def lay_down(files: Iterable[SideFile], directory: str) -> None:
    """Make ``directory``, and in it each file, for reading only, or what an archive has in it.

    Raises `BadJob` for an archive that cannot be used, and `OSError`; then something may be left.
    """
    os.mkdir(directory)
    for file in files:
        path = os.path.join(directory, file.name)
        if file.is_archive:
            _unpack(file, path)
        else:
            with open(path, "wb") as written:
                written.write(file.content)
            os.chmod(path, 0o444)


def _unpack(file: SideFile, directory: str) -> None:
    os.mkdir(directory)
    is_zip = file.content[:2] == b"PK"
    members = _zip_members(file) if is_zip else _tar_members(file)
    modes: dict[str, int] = {}
    links: dict[str, str] = {}
    written = 0
    for number, (name, kind, mode, opened) in enumerate(members):
        if number == MOST_MEMBERS:
            raise BadJob(f"the archive {file.name} has more than {MOST_MEMBERS} members")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts or "\0" in name:
            raise BadJob(f"the archive {file.name} has a member outside of itself: {name!r:.200}")
        path = os.path.join(directory, *parts)
        with _clashing(file, name):
            if kind == "directory":
                os.makedirs(path, exist_ok=True)
                continue
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if kind == "link":
                links[path] = opened
                continue
            with open(path, "wb") as target:
                for chunk in _chunks(file, opened):
                    written += len(chunk)
                    if written > MOST_UNPACKED_BYTES:
                        most = MOST_UNPACKED_BYTES >> 30
                        raise BadJob(f"the archive {file.name} unpacks to more than {most} GiB")
                    target.write(chunk)
        modes[path] = 0o555 if mode & 0o100 else 0o444
    for path, mode in modes.items():
        os.chmod(path, mode)
    _link(file, directory, links)


def _link(file: SideFile, directory: str, links: dict[str, str]) -> None:
    for path, target in links.items():
        with _clashing(file, path):
            os.symlink(target, path)
    root = os.path.realpath(directory)
    out = [
        path
        for path, target in links.items()
        if os.path.isabs(target) or os.path.commonpath([root, os.path.realpath(path)]) != root
    ]
    for path in out:
        target = links[path]
        if _INTERPRETER.search(path):  # of a packed environment, and of no use here
            os.unlink(path)
        else:
            raise BadJob(
                f"the archive {file.name} has a link out of itself: {os.path.basename(path)!r} "
                f"to {target!r:.200}"
            )


def _chunks(file: SideFile, opened: IO[bytes]) -> Iterator[bytes]:
    while True:
        with _whole(file):
            chunk = opened.read(_CHUNK_BYTES)
        if not chunk:
            return
        yield chunk


#: name, kind ("file", "directory" or "link"), mode, what it is read from or where it leads to
_Members = Iterator[tuple[str, str, int, Any]]


def _zip_members(file: SideFile) -> _Members:
    import zipfile

    with _whole(file):
        archive = zipfile.ZipFile(BytesIO(file.content))
    for info in archive.infolist():
        mode = info.external_attr >> 16
        if info.is_dir():
            yield info.filename, "directory", mode, None
            continue
        is_link = stat.S_ISLNK(mode)
        with _whole(file):
            opened = os.fsdecode(archive.read(info)) if is_link else archive.open(info)
        yield info.filename, "link" if is_link else "file", mode, opened


def _tar_members(file: SideFile) -> _Members:
    import tarfile

    with _whole(file):
        archive = tarfile.open(fileobj=BytesIO(file.content), mode="r:*")
    while True:
        with _whole(file):
            member = archive.next()
        if member is None:
            return
        if member.isdir():
            yield member.name, "directory", member.mode, None
        elif member.issym():
            yield member.name, "link", member.mode, member.linkname
        elif member.isreg() or member.islnk():  # a hard link becomes a file of its own
            with _whole(file):
                opened = archive.extractfile(member)
            yield member.name, "file", member.mode, opened
        else:
            raise BadJob(f"the archive {file.name} has a device in it: {member.name!r:.200}")


@contextmanager
def _whole(file: SideFile) -> Iterator[None]:
    """Around what reads the archive."""
    try:
        yield
    except BadJob:
        raise
    except Exception as error:  # their readers raise all kinds, down to struct.error
        raise BadJob(
            f"the archive {file.name} is damaged, or neither zip nor tar: "
            f"{type(error).__name__}: {error}"
        ) from error


@contextmanager
def _clashing(file: SideFile, name: str) -> Iterator[None]:
    """Around what writes a member: of a name that is taken already, or below a file."""
    try:
        yield
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise BadJob(f"the archive {file.name} has two members at {name!r:.200}") from error
