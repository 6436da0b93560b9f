"""Input files on other filesystems: whatever fsspec opens, by their URLs.

fsspec comes with the extra of that name, and is imported by nothing that reads local files only.
Who may read what is for each filesystem's library to know: from the environment, or from files of
its own.
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from io import UnsupportedOperation
from types import TracebackType
from typing import Any, Self

from pytxmr.errors import BadInput
from pytxmr.model import FileRange, shown_path

#: Bytes that are asked for at a time: a request costs as long as it takes to send a good part.
_REQUEST_BYTES = 4 << 20

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(?:::|://)")
_PASSWORD = re.compile(r"://[^/@:]*:[^/@]*@")

#: What brings the libraries of a protocol, but for fsspec itself.
_EXTRAS = {"s3": "s3", "s3a": "s3", "sftp": "sftp", "ssh": "sftp", "webhdfs": "webhdfs"}

#: What opens URLs of a protocol in place of what fsspec has for it: of a URL, it gives a
#: filesystem as those of fsspec, and the path in it.
Opener = Callable[[str], tuple[Any, str]]
_openers: dict[str, Opener] = {}

#: Filesystems that keep no connection, by their servers.
_shared: dict[str, Any] = {}

#: Where files are written that are to be sent; None: where temporary files are.
_scratch: str | None = None


def send_from(directory: str) -> None:
    """From now on, write in that directory what is to be sent."""
    global _scratch
    _scratch = directory


def scratch_directory() -> str | None:
    return _scratch


def open_by(protocols: Iterable[str], opener: Opener | None) -> None:
    """From now on, open URLs of these protocols by that; None: by what fsspec has for them."""
    for protocol in protocols:
        if opener is None:
            _openers.pop(protocol, None)
        else:
            _openers[protocol] = opener


def is_remote(path: str) -> bool:
    return "://" in path and _URL.match(path) is not None


def is_s3(url: str) -> bool:
    """Are outputs there written by S3's own requests? Not where something else opens the URL, as
    Hadoop does on Spark: that has none of them, but can rename."""
    protocol = url.partition("://")[0]
    return protocol in ("s3", "s3a") and protocol not in _openers


def checked_url(url: str, verb: str = "read") -> str:
    """The URL, with the path of a local file that it goes through, as an archive, made absolute.
    ``verb``: what is to be done there, as messages say it.

    Raises `BadInput` if there is a password in it, or if a library is not installed.
    """
    if _PASSWORD.search(url):
        raise BadInput(
            f"cannot {verb} {_PASSWORD.sub('://...@', url)}: a password on the command line can be "
            f"seen by others; give it in the environment or in a file, as the library for "
            f"{url.partition(':')[0]} has it"
        )
    *through, last = url.split("::")
    if through and "://" not in last:
        last = os.path.abspath(last)
    protocols = [part.partition("://")[0] for part in (*through, last) if not os.path.isabs(part)]
    try:
        from fsspec import get_filesystem_class
    except ImportError:
        raise BadInput(f"cannot {verb} {shown_path(url)}: pip install 'pytxmr[fsspec]'") from None
    for protocol in protocols:
        if protocol in _openers and not through:
            continue
        try:
            get_filesystem_class(protocol)
        except ImportError as error:
            extra = _EXTRAS.get(protocol)
            reason = f"pip install 'pytxmr[{extra}]'" if extra else error
            raise BadInput(f"cannot {verb} {shown_path(url)}: {reason}") from error
        except ValueError as error:
            raise BadInput(f"cannot {verb} {shown_path(url)}: {error}") from error
    return "::".join([*through, last])


def list_url(url: str) -> Iterator[tuple[str, int]]:
    """``(url, size)`` of the files that a URL names, in order of their names: a file, a directory,
    or a glob; by a listing of each directory. Raises `BadInput`."""
    try:
        # s3fs remembers what was there for an earlier job of this process.
        filesystem, path = _filesystem(url)
        filesystem.invalidate_cache()
        found = sorted(_sizes(filesystem, path, url).items())
    except BadInput:
        raise
    except Exception as error:  # each library has errors of its own
        raise BadInput(f"cannot read {shown_path(url)}: {reason_of(error)}") from _shown(error)
    if not found and _has_magic(url, path):
        raise BadInput(f"no file matches {shown_path(url)}")
    name = _naming(filesystem, path, url)
    for path, size in found:
        if size is None:
            raise BadInput(f"cannot read {shown_path(name(path))}: it is not known how large it is")
        yield name(path), size


def _filesystem(url: str, own: bool = False) -> tuple[Any, str]:
    """The filesystem of a URL, and the path in it; with ``own``, one that nobody else has."""
    opener = _openers.get(url.partition("://")[0])  # none is called as what has a "::" in it
    if opener is not None:
        return opener(url)
    if url.startswith(("sftp://", "ssh://")) and "::" not in url:
        from pytxmr.records.sftp import sftp_filesystem

        return sftp_filesystem(url, own)
    from fsspec.core import url_to_fs

    filesystem, path = url_to_fs(url, skip_instance_cache=True) if own else url_to_fs(url)
    return filesystem, path


@contextmanager
def own_filesystem(url: str) -> Iterator[tuple[Any, str]]:
    """The filesystem of a URL, and the path in it.

    If it keeps a connection, this has one of its own, and closes it: one that is shared, and is
    broken, would stay so. Those that do not are shared, by all threads as well.
    """
    from fsspec import get_filesystem_class

    protocol, _, place = url.partition("://")
    if protocol == "s3a" and is_s3(url):  # to s3fs the two are one
        protocol, url = "s3", f"s3://{place}"
    if protocol in _openers:
        yield _filesystem(url)
        return
    server = f"{protocol}://{place.partition('/')[0]}"
    if get_filesystem_class(protocol).async_impl:
        if server not in _shared:  # fsspec would make another for each thread, which takes 0.5 s
            _shared[server], _ = _filesystem(url)
        filesystem = _shared[server]
        filesystem.invalidate_cache()
        yield filesystem, filesystem._strip_protocol(url)
        return
    filesystem, path = _filesystem(url, own=True)
    try:
        yield filesystem, path
    finally:
        close = getattr(getattr(filesystem, "client", None), "close", None)
        if close is not None:
            with suppress(Exception):
                close()


def _has_magic(url: str, path: str) -> bool:
    if url.startswith("http"):  # where a question mark is something else
        path = path.replace("?", "")
    return glob.has_magic(path)


def _sizes(filesystem: Any, path: str, url: str) -> dict[str, int | None]:
    """The files, by their paths in the filesystem."""
    if _has_magic(url, path):
        wanted = [part for part in path.split("/") if part.startswith((".", "_"))]
        entries: dict[str, Any] = {}
        for name, entry in filesystem.glob(path, detail=True).items():
            if _hidden(name, wanted):
                continue
            if entry["type"] == "directory":
                entries |= _below(filesystem, name)
            else:
                entries[name] = entry
    else:
        first = url.partition("::")[0]
        # To ask whether it is a directory is, by HTTP, to read it all.
        entry = {"type": "directory"} if first.endswith("/") else filesystem.info(path)
        if entry["type"] == "directory":
            entries = _below(filesystem, path)
        else:
            entries = {path: entry}
    sizes = {name: entry.get("size") for name, entry in entries.items()}
    unknown = [name for name, size in sizes.items() if size is None]
    return sizes | dict(zip(unknown, filesystem.sizes(unknown), strict=True))


def _below(filesystem: Any, path: str) -> dict[str, Any]:
    found = filesystem.find(path, detail=True)
    base = len(path.rstrip("/"))
    apart = tuple(_outputs_by_name(filesystem, found))
    return {
        name: entry
        for name, entry in found.items()
        if not (_hidden(name[base:], []) or name.startswith(apart))
    }


def _outputs_by_name(filesystem: Any, found: dict[str, Any]) -> Iterator[str]:
    """Of the outputs of jobs among these files, the directories of their outputs by name, each of
    which is an input by itself. Only where there are directories a manifest is read."""
    have_directories = {_above(_above(name)) for name in found if not _hidden(_above(name), [])}
    for name, entry in found.items():
        directory = _above(name)
        if name != f"{directory}/_SUCCESS" or directory not in have_directories:
            continue
        if entry.get("size") == 0:
            continue
        data = filesystem.cat_file(name)
        try:
            outputs = frozenset(json.loads(data)["outputs"])
        except (ValueError, KeyError, TypeError):
            continue  # somebody else's
        for output in outputs:
            yield f"{directory}/{output}/"


def _above(path: str) -> str:
    return path.rpartition("/")[0]


def _hidden(path: str, wanted: list[str]) -> bool:
    """Has it a part that begins with . or _, and that no part of the pattern asks for?"""
    return any(
        not any(part[0] == like[0] and fnmatchcase(part, like) for like in wanted)
        for part in path.split("/")
        if part.startswith((".", "_"))
    )


def _naming(filesystem: Any, path: str, url: str) -> Any:
    """The function from a path in the filesystem to a URL."""
    parts = url.split("::")
    at = next(at for at, part in enumerate(parts) if "://" in part)
    whole = parts[at] if parts[at].endswith(path) else parts[at].rstrip("/")
    # What comes before may be a host, which the paths do not have.
    if whole.endswith(path):
        prefix = whole[: len(whole) - len(path)]
    else:
        prefix = f"{whole.partition('://')[0]}://"
    return lambda found: "::".join([*parts[:at], prefix + found, *parts[at + 1 :]])


class RemoteFile:
    """A binary file behind a URL, read by large requests. If it cannot be sought in, as a file of a
    web server that does not serve ranges, it can be read forward, and from within the last read.
    """

    key_base = 0

    def __init__(self, part: FileRange) -> None:
        """Raises `OSError` for whatever does not work, as its methods do."""
        self.start, self.end = part.start, part.end
        self._position = 0
        self._last = self._again = b""
        try:
            self._filesystem, self._path = _filesystem(part.path)
            self._seekable = True
            self._seekable = self._serves_ranges()
            self._file = self._opened()
            self._seekable = self._seekable and bool(self._file.seekable())
        except Exception as error:  # each library has errors of its own
            raise OSError(reason_of(error)) from _shown(error)

    def _opened(self, **cache: str) -> Any:
        size = _REQUEST_BYTES if self._seekable else 0  # 0: by HTTP, a stream
        return self._filesystem.open(self._path, "rb", block_size=size, **cache)

    def _serves_ranges(self) -> bool:
        """A web server need not, and may not say so: then fsspec finds out at the second block."""
        if "http" not in self._filesystem.protocol:
            return True
        with self._opened(cache_type="none") as file:
            try:
                file.seek(1)
                file.read(1)
            except ValueError:
                return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, where: TracebackType | None
    ) -> None:
        self._file.close()

    def seekable(self) -> bool:
        return self._seekable

    def head(self, size: int) -> bytes:
        """The first bytes, whatever is read afterwards."""
        if self.start and self.seekable():
            # Nothing else is wanted from there.
            # By their names: what s3fs has takes a version first.
            return self._asked(lambda: self._filesystem.cat_file(self._path, start=0, end=size))
        data = b""
        while len(data) < size and (more := self.read(size - len(data))):
            data += more
        self._last = data
        self.seek(0)
        return data

    def size(self) -> int:
        return int(self._asked(lambda: self._filesystem.size(self._path)))

    def stored_at(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        self._last, self._again = self._again[:size], self._again[size:]
        lacking = size - len(self._last)
        if lacking:
            self._last += self._asked(lambda: self._file.read(lacking))
        self._position += len(self._last)
        return self._last

    def seek(self, position: int) -> int:
        back = self._position - position
        if 0 < back <= len(self._last):
            self._again = self._last[-back:] + self._again
            self._last = self._last[:-back]
        elif back and self.seekable():
            self._last = self._again = b""
            self._asked(lambda: self._file.seek(position))
        elif back > 0:
            raise UnsupportedOperation("this file can only be read forward")
        else:
            while self._position < position and self.read(min(-back, _REQUEST_BYTES)):
                back = self._position - position
        self._position = position
        return position

    @staticmethod
    def _asked(ask: Any) -> Any:
        try:
            return ask()
        except Exception as error:  # each library has errors of its own
            raise OSError(reason_of(error)) from _shown(error)


def _shown(error: Exception) -> Exception | None:
    """What may be shown as the cause of an error: not one that tells the signature of a URL."""
    return error if shown_path(f"{error}") == f"{error}" else None


def reason_of(error: Exception) -> str:
    """What a library says was the matter, without what must not be seen."""
    if isinstance(error, FileNotFoundError):
        return "No such file"
    reason = getattr(error, "strerror", None) or f"{error}" or type(error).__name__
    return shown_path(reason)
