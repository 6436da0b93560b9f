"""A store of objects that is shown as a filesystem, as Hadoop's ``s3a`` shows S3.

A directory is there because something in it is, or by an empty object whose name ends in a slash.
That is put for one that is made, and for one of which the last file is removed. To make one that is
there is no error. Whoever writes a file needs no directory for it, and nobody sees it before it is
closed. To rename is to copy, and then to remove.
"""

from __future__ import annotations

import io
import posixpath
from collections.abc import Callable
from typing import Any

from fsspec.spec import AbstractFileSystem


class ObjectStore(AbstractFileSystem):
    cachable = False
    protocol = "s3a"
    at_a_time = 4
    creates_new = True

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, bytes] = {}
        #: Called before each request that changes something.
        self.breaks: Callable[[], object] = lambda: None

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return f"/{path.partition('://')[2] or path.lstrip('/')}".rstrip("/")

    def _put(self, name: str, data: bytes, new: bool = False) -> None:
        self.breaks()
        if not new:
            self.objects[name] = data
        elif self.objects.setdefault(name, data) is not data:
            raise OSError("412 Precondition Failed")

    # ---- what is there

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        if path in self.objects:
            return {"name": path, "size": len(self.objects[path]), "type": "file"}
        if not any(name.startswith(f"{path}/") for name in [*self.objects]):
            raise FileNotFoundError(path)
        return {"name": path, "size": 0, "type": "directory"}

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        path = self._strip_protocol(path)
        found = [self.info(path)]
        if found[0]["type"] == "directory":
            below = [name.removeprefix(f"{path}/") for name in [*self.objects]]
            names = {name.partition("/")[0] for name in below if not name.startswith("/")}
            found = [self.info(f"{path}/{name}") for name in sorted(names - {""})]
        return found if detail else [entry["name"] for entry in found]

    # ---- what changes it

    def mkdir(self, path: str, create_parents: bool = True, **options: Any) -> None:
        if self.exists(path):
            raise FileExistsError(path)
        self.makedirs(path)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        self._put(f"{self._strip_protocol(path)}/", b"")

    def rm_file(self, path: str) -> None:
        path = self._strip_protocol(path)
        name = path if path in self.objects else f"{path}/"
        if name not in self.objects:
            raise FileNotFoundError(path)
        self.breaks()
        del self.objects[name]
        above = posixpath.dirname(path)
        if above.count("/") > 1 and not self.exists(above):
            self.objects[f"{above}/"] = b""

    rmdir = rm_file

    def mv(self, path1: str, path2: str, **options: Any) -> None:
        self._put(self._strip_protocol(path2), self.objects[self._strip_protocol(path1)])
        self.rm_file(path1)

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        path = self._strip_protocol(path)
        if mode != "rb":
            return _Written(self, path, mode == "xb")
        if path not in self.objects:
            raise FileNotFoundError(path)
        return io.BytesIO(self.objects[path])


class _Written(io.BytesIO):
    def __init__(self, store: ObjectStore, path: str, new: bool) -> None:
        super().__init__()
        self._new = new
        self._store = store
        self._path = path

    def close(self) -> None:
        if not self.closed:
            data = self.getvalue()
            super().close()
            self._store._put(self._path, data, self._new)
