"""Data that lie in a job's own packages: found with their modules, and read as Python has it, by
`importlib.resources` and `pkgutil.get_data`, from wherever the modules are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from importlib.resources.abc import Traversable, TraversableResources
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

#: path -> (the client's name of the file; its content); see `shipping`.
Modules = Mapping[str, tuple[str, bytes]]

#: What nobody reads, or nobody can import from memory.
_NO_DATA = (".py", ".pyc", ".pyo", ".so", ".pyd")
#: Directories that are no package's own, and may be large, have more files than any package.
_MOST_FILES = 10_000


def data_of(directory: str, most_bytes: int) -> dict[str, tuple[str, bytes]] | None:
    """The data files in a package's directory and below, by their paths from above it; None if all
    of them together have more than ``most_bytes``. What cannot be read, and what is hidden, is left
    out."""
    above = os.path.dirname(directory)
    names: list[str] = []
    total = 0
    for place, inner, files in os.walk(directory):
        inner[:] = sorted(name for name in inner if name != "__pycache__" and name[0] != ".")
        for name in sorted(files):
            path = os.path.join(place, name)
            if name.endswith(_NO_DATA) or name[0] == "." or not os.path.isfile(path):
                continue
            names.append(path)
            total += os.path.getsize(path)
            if total > most_bytes or len(names) > _MOST_FILES:
                return None
    found = {}
    for path in names:
        try:
            with open(path, "rb") as file:
                content = file.read()
        except OSError:
            continue
        found[os.path.relpath(path, above).replace(os.sep, "/")] = (path, content)
    return found


def reader_of(modules: Modules, package: str, directory: str) -> TraversableResources:
    """What `importlib.resources` asks for a package: what is in its directory, if that is here to
    be read, or else what was shipped."""
    return _Reader(Path(directory) if directory else _Shipped(modules, package.replace(".", "/")))


class _Reader(TraversableResources):
    def __init__(self, files: Any) -> None:
        self._files = files

    def files(self) -> Traversable:
        found: Traversable = self._files
        return found


class _Shipped(Traversable):
    """A file or a directory among what was shipped."""

    def __init__(self, modules: Modules, path: str) -> None:
        self._modules = modules
        self._path = path

    @property
    def name(self) -> str:
        return self._path.rpartition("/")[2]

    def is_file(self) -> bool:
        return self._path in self._modules

    def is_dir(self) -> bool:
        return any(path.startswith(f"{self._path}/") for path in self._modules)

    def iterdir(self) -> Iterator[Traversable]:
        if not self.is_dir():
            raise NotADirectoryError(self._path)
        start = len(self._path) + 1
        inner = [path[start:] for path in self._modules if path.startswith(f"{self._path}/")]
        for name in sorted({path.partition("/")[0] for path in inner}):
            yield self.joinpath(name)

    def joinpath(self, *descendants: Any) -> Traversable:
        path = os.path.normpath("/".join([self._path, *map(os.fspath, descendants)]))
        return _Shipped(self._modules, path)

    def __truediv__(self, child: Any) -> Traversable:
        return self.joinpath(child)

    def read_bytes(self) -> bytes:
        if self._path not in self._modules:
            if self.is_dir():
                raise IsADirectoryError(self._path)
            raise FileNotFoundError(not_sent(self._path))
        return self._modules[self._path][1]

    def read_text(self, encoding: str | None = None) -> str:
        return self.open(encoding=encoding).read()  # type: ignore[no-any-return]

    def open(self, mode: str = "r", *args: Any, **options: Any) -> Any:
        data = BytesIO(self.read_bytes())
        return data if "b" in mode else TextIOWrapper(data, *args, **options)

    def __repr__(self) -> str:
        return f"<{self._path}, sent along with the job>"


def not_sent(path: str) -> str:
    return (
        f"{path} was not sent along with the job: it is not there, or the data of its package are "
        f"too large; --file sends a file"
    )
