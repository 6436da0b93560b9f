"""A filesystem as those of fsspec, over one of Hadoop in a Java that py4j reaches.

py4j carries bytes as text, at some 10 MB/s. So what is read, and what is written, goes through a
file of this machine: Java copies a piece into it, or out of it, and its name is gone at once.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import RawIOBase
from typing import Any

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem
from py4j.protocol import Py4JError, Py4JJavaError

from pytxmr.records.remote import scratch_directory

_PIECE_BYTES = 4 << 20
_KIND_OF = {
    "java.io.FileNotFoundException": FileNotFoundError,
    "org.apache.hadoop.fs.FileAlreadyExistsException": FileExistsError,
    "org.apache.hadoop.security.AccessControlException": PermissionError,
}


class HadoopFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """What of a `scheme` and an authority, which may be empty, Hadoop's configuration ``conf`` has.
    Paths in it have neither. Methods raise `OSError`."""

    cachable = False
    root_marker = "/"
    #: How much it may be asked for at once.
    at_a_time = 16
    #: Mode ``xb`` is one step on HDFS; on S3, by Hadoop 3.4.2 and newer, a conditional put.
    creates_new = True

    def __init__(self, jvm: Any, conf: Any, scheme: str, authority: str) -> None:
        super().__init__()
        self.protocol = scheme
        self.jvm = jvm
        self._authority = authority or None
        with java_errors():
            self.hadoop = jvm.org.apache.hadoop.fs.FileSystem.get(self.path("/").toUri(), conf)

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        if "://" in path:
            path = "/" + path.partition("://")[2].partition("/")[2]
        return path.rstrip("/") or "/"

    def path(self, path: str) -> Any:
        place = self._strip_protocol(path)
        return self.jvm.org.apache.hadoop.fs.Path(self.protocol, self._authority, place)

    # ---- what is there

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        with java_errors():
            found = [_entry(status) for status in self.hadoop.listStatus(self.path(path))]
        return found if detail else [entry["name"] for entry in found]

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        with java_errors():
            return _entry(self.hadoop.getFileStatus(self.path(path)))

    def exists(self, path: str, **options: Any) -> bool:
        with java_errors():
            return bool(self.hadoop.exists(self.path(path)))

    # ---- what changes it

    def mkdir(self, path: str, create_parents: bool = True, **options: Any) -> None:
        if not create_parents and self.exists(path):
            raise FileExistsError(f"{path} exists")
        self.makedirs(path, exist_ok=True)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        if not exist_ok and self.exists(path):
            raise FileExistsError(f"{path} exists")
        with java_errors():
            if not self.hadoop.mkdirs(self.path(path)):
                raise OSError(f"{path} cannot be made")

    def rm_file(self, path: str) -> None:
        with java_errors():
            if not self.hadoop.delete(self.path(path), False):
                raise FileNotFoundError(path)

    _rm = rm_file

    def rmdir(self, path: str) -> None:
        self.rm_file(path)

    def mv(self, path1: str, path2: str, **options: Any) -> None:
        with java_errors():
            if not self.hadoop.rename(self.path(path1), self.path(path2)):
                raise OSError(f"{path1} cannot be renamed to {path2}")

    # ---- files

    def _open(self, path: str, mode: str = "rb", block_size: Any = None, **options: Any) -> Any:
        """Modes are ``rb``, ``wb``, and ``xb``, which fails if the file is there."""
        if mode == "rb":
            return _Read(self, path, mode, block_size or _PIECE_BYTES, **options)
        return _Written(self, path, overwrite=mode == "wb")


class _Read(AbstractBufferedFile):  # type: ignore[misc]
    """A file that is read, in pieces of the block's size and those that are asked for."""

    def __init__(self, filesystem: HadoopFileSystem, path: str, *words: Any, **options: Any):
        super().__init__(filesystem, path, *words, **options)
        with java_errors():
            self._stream = filesystem.hadoop.open(filesystem.path(path))
        try:
            self._passage = _Passage(filesystem.jvm)
        except BaseException:
            self._stream.close()
            raise

    def _fetch_range(self, start: int, end: int) -> bytes:
        with java_errors():
            self._stream.seek(start)
            return self._passage.bytes_of(self._stream, end - start)

    def close(self) -> None:
        if not self.closed and hasattr(self, "_passage"):
            with suppress(OSError, Py4JError):
                self._passage.close()
                self._stream.close()
        super().close()


class _Written(RawIOBase):
    """A file that is written. It is there whole when `close` has not failed."""

    def __init__(self, filesystem: HadoopFileSystem, path: str, overwrite: bool) -> None:
        self._buffer = bytearray()
        with java_errors():
            # Unlike ``create``, it does not make the directory again of a job that is over.
            made = filesystem.hadoop.createFile(filesystem.path(path))
            self._stream = made.overwrite(overwrite).build()
        self._passage = _Passage(filesystem.jvm)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._buffer += data
        if len(self._buffer) >= _PIECE_BYTES:
            self._send()
        return len(data)

    def _send(self) -> None:
        with java_errors():
            self._passage.put(self._buffer, self._stream)
        self._buffer.clear()

    def close(self) -> None:
        if self.closed:
            return
        super().close()
        try:
            if self._buffer:
                self._send()
        finally:
            with suppress(OSError, Py4JError):
                self._passage.close()
            with java_errors():
                self._stream.close()


class _Passage:
    """The file through which bytes go between Java and us."""

    def __init__(self, jvm: Any) -> None:
        self._copy = jvm.org.apache.commons.io.IOUtils.copyLarge
        self._fd, path = tempfile.mkstemp(prefix="pytxmr-", dir=scratch_directory())
        try:
            with java_errors():
                self._java = jvm.java.io.RandomAccessFile(path, "rw")
                self._out = jvm.java.io.FileOutputStream(self._java.getFD())
                self._in = jvm.java.io.FileInputStream(self._java.getFD())
        except BaseException:
            os.close(self._fd)
            raise
        finally:
            os.unlink(path)

    def bytes_of(self, stream: Any, size: int) -> bytes:
        """The next so many bytes of a stream; fewer at its end."""
        self._java.seek(0)
        return os.pread(self._fd, self._copy(stream, self._out, 0, size), 0)

    def put(self, data: bytearray, stream: Any) -> None:
        os.pwrite(self._fd, data, 0)
        self._java.seek(0)
        self._copy(self._in, stream, 0, len(data))

    def close(self) -> None:
        os.close(self._fd)
        self._java.close()


def _entry(status: Any) -> dict[str, Any]:
    is_directory = status.isDirectory()
    return {
        "name": status.getPath().toUri().getPath(),
        "size": 0 if is_directory else status.getLen(),
        "type": "directory" if is_directory else "file",
    }


@contextmanager
def java_errors() -> Iterator[None]:
    """Raise what Java throws as an `OSError`."""
    try:
        yield
    except Py4JJavaError as error:
        thrown = error.java_exception
        name, text = thrown.getClass().getName(), thrown.getMessage() or ""
        reason = text.strip().partition("\n")[0] or name.rpartition(".")[2]
        raise _KIND_OF.get(name, OSError)(reason) from error
    except Py4JError as error:
        raise OSError(f"Hadoop's Java does not answer: {error}") from error
