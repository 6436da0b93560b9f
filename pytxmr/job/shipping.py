"""A job's own modules: found beside its file on the client, imported alike by every worker.

They are known by their paths from where they were found, such as ``lib/text.py``. On the client
`Beside` looks for them in the directory of the job, as Python does for a script; what a worker has
is a dict of what was found. Imports of both go through the same finder, so that they mean the same
in both places, and neither ``sys.path`` nor a file on the worker's disk has a part in it.

As with `context`, a process works for one job at a time: `importing` forgets the modules of the job
before, so that two jobs may have modules of the same name.

Modules of the standard library, and pytxmr, are never looked for beside a job.
"""

from __future__ import annotations

import ast
import linecache
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from pytxmr.errors import BadJob
from pytxmr.job.names import nearest

#: All modules of a job together: they travel in one message, and every worker holds them.
MOST_MODULE_BYTES = 8 << 20

#: path -> (the client's name of the file, which tracebacks show; the file's content)
Modules = Mapping[str, tuple[str, bytes]]

#: How the source of a module looks that imports something from its own package.
_RELATIVE = b"from ."
_NEVER = sys.stdlib_module_names | {"pytxmr"}


def remember_lines(filename: str, source: bytes) -> None:
    """Let tracebacks show the lines of a file that may not be on this machine."""
    text = source.decode("utf-8", "replace")
    linecache.cache[filename] = (len(text), None, text.splitlines(True), filename)


# ---- on the client: what is to be shipped


class Beside(Mapping[str, tuple[str, bytes]]):
    """Files by their paths from a directory, read when they are first asked for; ``given`` ones, by
    their first names, come before those that are there. As a mapping: what was read so far.

    If the directory is a package, what is in that is found as well, by its names in the package,
    unless one of that name is installed. ``package``: how the directory is called in it.
    """

    def __init__(self, directory: str, given: Modules) -> None:
        self._directory = directory
        self._above, self.package = _package_above(directory)
        self._found = dict(given)
        self._given = {top_of(path) for path in given}
        self._absent: set[str] = set()
        self._is_open = True

    def __getitem__(self, path: str) -> tuple[str, bytes]:
        if path not in self._found:
            if path in self._absent or not self._looks_for(path):
                raise KeyError(path)
            places = [self._directory]
            if top_of(path) == top_of(self.package):
                places.append(self._above)
            for place in places:
                filename = os.path.join(place, *path.split("/"))
                with suppress(OSError), open(filename, "rb") as file:
                    self._found[path] = (filename, file.read(MOST_MODULE_BYTES + 1))
                    break
            else:
                self._absent.add(path)
                raise KeyError(path)
        return self._found[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def _looks_for(self, path: str) -> bool:
        top = top_of(path)
        return self._is_open and top not in _NEVER and top not in self._given

    def is_directory(self, path: str) -> bool:
        """Is it a package without ``__init__.py``? One that is installed comes before it."""
        if not self._looks_for(path):
            return any(name.startswith(f"{path}/") for name in self._found)
        if not os.path.isdir(os.path.join(self._directory, *path.split("/"))):
            return False
        elsewhere = PathFinder.find_spec(top_of(path))
        return elsewhere is None or elsewhere.origin is None

    def names(self) -> list[str]:
        """The first names that can be imported."""
        with suppress(OSError):
            there = os.listdir(self._directory)
            return [*self._given, *(top_of(name) for name in there if name.endswith(".py"))]
        return [*self._given]

    def complete(self, source: bytes, filename: str) -> None:
        """Find all that the job's source, and what is found, imports: also within functions, which
        no import of the module would show. Raises `BadJob` for a module that is not there in a
        package that is.
        """
        if self.package and _RELATIVE in source:
            self._note(self.package)
        left: list[tuple[str, bytes, str]] = [(filename, source, self.package)]
        seen: set[str] = set()
        while left:
            filename, source, package = left.pop()
            try:
                tree = ast.parse(source)
            except (SyntaxError, ValueError):
                continue  # whoever imports it is told
            for line, name, is_sure in imports_in(tree, package):
                if not self._note(name) and is_sure and self._is_own(name):
                    raise BadJob(
                        f"{filename}, line {line}: there is no module {name}",
                        traceback=_place(filename, line, source),
                    )
            for path in self._found.keys() - seen:
                seen.add(path)
                if path.endswith(".py"):
                    left.append((*self._found[path], package_of(path)))

    def check_side_files(self, known: Iterable[str], source: bytes, filename: str) -> None:
        """Raises `BadJob` if the job's source, or what is found, asks for a side file by a name
        that is not known, wherever in it; what it does within `try` or `if` is left to chance.
        """
        files = [(filename, source), *self._found.values()]
        for filename, source in files:
            if b"side_file" not in source:
                continue
            with suppress(SyntaxError, ValueError):
                for line, name in _side_files(ast.parse(source)):
                    if name not in known:
                        hint = nearest(name, known)
                        raise BadJob(
                            f"{filename}, line {line}: no --file and no --archive has the name "
                            f"{name!r}{hint}",
                            traceback=_place(filename, line, source),
                        )

    def _note(self, name: str) -> bool:
        """Read the module and the packages that it is in. False if it is not there."""
        parts = name.split(".")
        found = False
        for end in range(1, len(parts) + 1):
            found = _find(self, "/".join(parts[:end])) is not None
        return found

    def _is_own(self, name: str) -> bool:
        return "." in name and _find(self, top_of(name)) is not None

    def shipped(self) -> dict[str, tuple[str, bytes]]:
        """What was found; nothing more is looked for. Raises `BadJob` if it is too much."""
        self._is_open = False
        size = sum(len(source) for _, source in self._found.values())
        if size > MOST_MODULE_BYTES:
            largest = max(self._found, key=lambda path: len(self._found[path][1]))
            raise BadJob(
                f"the modules that the job imports are larger than {MOST_MODULE_BYTES >> 20} MiB, "
                f"the most that is shipped; the largest is {self._found[largest][0]}"
            )
        return self._found | self._data(MOST_MODULE_BYTES - size)

    def _data(self, most_bytes: int) -> dict[str, tuple[str, bytes]]:
        """What lies in the packages that were found: of each all, or nothing if that is more than
        what is left of ``most_bytes``."""
        places = {
            top_of(path): filename.removesuffix(path)
            for path, (filename, _) in self._found.items()
            if "/" in path
        }
        found: dict[str, tuple[str, bytes]] = {}
        for top, above in sorted(places.items()):
            if os.path.isdir(directory := os.path.join(above, top)):  # it may be in a zip
                from pytxmr.job.packagedata import data_of  # few jobs have packages

                data = data_of(directory, most_bytes) or {}
                most_bytes -= sum(len(content) for _, content in data.values())
                found |= data
        return found


def _package_above(directory: str) -> tuple[str, str]:
    """Where the package begins that a directory is, and its name from there on; no name if it is
    none, or one of that name is installed."""
    above, names = directory, list[str]()
    while os.path.isfile(os.path.join(above, "__init__.py")):
        above, name = os.path.split(above)
        names.insert(0, name)
    # What is in the working directory is not what workers have.
    here = os.getcwd()
    installed = [path for path in sys.path if path and os.path.abspath(path) != here]
    if not names or names[0] in _NEVER or PathFinder.find_spec(names[0], installed):
        return directory, ""
    return above, ".".join(names)


def own_package(filename: str, source: bytes, modules: Modules) -> str:
    """The package in which a job's module looks for what it imports from ``.``."""
    if _RELATIVE not in source:
        return ""
    if isinstance(modules, Beside):
        return modules.package
    init = os.path.join(os.path.dirname(filename), "__init__.py")
    return next((package_of(path) for path, (name, _) in modules.items() if name == init), "")


def top_of(name: str) -> str:
    """The first part of a dotted name or a path: what is imported first."""
    return name.partition(".")[0].partition("/")[0]


def package_of(path: str) -> str:
    return path.rpartition("/")[0].replace("/", ".")


def imports_in(tree: ast.AST, package: str) -> Iterator[tuple[int, str, bool]]:
    """The full names of all that may be modules, with the line; False with those that may as well
    be something else, or missing."""
    for node, is_guarded in _walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, not is_guarded
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, package)
            if base:
                yield node.lineno, base, not is_guarded
                for alias in node.names:
                    yield node.lineno, f"{base}.{alias.name}", False


def _walk(tree: ast.AST) -> Iterator[tuple[ast.AST, bool]]:
    """Every node, and whether it is left to chance, by `try` or `if`, that it comes to that."""
    stack: list[tuple[ast.AST, bool]] = [(tree, False)]
    while stack:
        node, is_guarded = stack.pop()
        yield node, is_guarded
        is_guarded = is_guarded or isinstance(node, ast.Try | ast.TryStar | ast.If)
        stack += [(child, is_guarded) for child in ast.iter_child_nodes(node)]


def _side_files(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The names that `side_file` is called with, as far as they are written there."""
    for node, is_guarded in _walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(attr="side_file") | ast.Name(id="side_file"),
                args=[ast.Constant(value=str(name))],
            ) if not is_guarded:
                yield node.lineno, name


def _base(node: ast.ImportFrom, package: str) -> str:
    """The package or module that something is imported from, by its full name."""
    module = node.module or ""
    if not node.level:
        return module
    above = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*above, module] if module else above)


def _place(filename: str, line: int, source: bytes) -> str:
    text = source.decode("utf-8", "replace").splitlines()[line - 1].strip()
    return f'  File "{filename}", line {line}\n    {text}\n'


def read_py_files(paths: Iterable[str]) -> dict[str, tuple[str, bytes]]:
    """The files of ``--py-files``: of a module, of a package, or in a zip. Raises `BadJob`."""
    found: dict[str, tuple[str, bytes]] = {}
    for path in paths:
        where = os.path.abspath(path)
        try:
            if os.path.isdir(where):
                files = _read_package(where)
            elif where.endswith(".py"):
                with open(where, "rb") as file:
                    files = {os.path.basename(where): (where, file.read(MOST_MODULE_BYTES + 1))}
            else:
                files = _read_zip(where)
        except OSError as error:
            raise BadJob(f"cannot read --py-files {path}: {error.strerror}") from error
        for name in map(top_of, files):
            if name in _NEVER:
                raise BadJob(f"--py-files {path}: {name} is taken, by Python's own module; rename")
        found |= files
    return found


def _read_package(directory: str) -> dict[str, tuple[str, bytes]]:
    found = {}
    above = os.path.dirname(directory)
    for place, inner, names in os.walk(directory):
        inner[:] = sorted(name for name in inner if name != "__pycache__" and name[0] != ".")
        for name in sorted(names):
            if name.endswith(".py"):
                filename = os.path.join(place, name)
                path = os.path.relpath(filename, above).replace(os.sep, "/")
                with open(filename, "rb") as file:
                    found[path] = (filename, file.read(MOST_MODULE_BYTES + 1))
    if not found:
        raise BadJob(f"--py-files {directory}: no .py file is in it")
    return found


def _read_zip(path: str) -> dict[str, tuple[str, bytes]]:
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".py")]
            if sum(info.file_size for info in members) > MOST_MODULE_BYTES:
                raise BadJob(
                    f"--py-files {path}: larger than {MOST_MODULE_BYTES >> 20} MiB, the most that "
                    f"is shipped"
                )
            packages = {top_of(info.filename) for info in members if "/" in info.filename}
            data = [
                info
                for info in archive.infolist()
                if top_of(info.filename) in packages and not info.filename.endswith((".py", "/"))
            ]
            if sum(info.file_size for info in members + data) > MOST_MODULE_BYTES:
                data = []
            found = {
                info.filename: (f"{path}/{info.filename}", archive.read(info))
                for info in members + data
            }
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise BadJob(
            f"--py-files {path}: neither a .py file, a directory nor a zip ({error})"
        ) from error
    if not found:
        raise BadJob(f"--py-files {path}: no .py file is in it")
    return found


# ---- on both: how it is imported


def hint_for(error: BaseException | None, job_filename: str) -> str:
    """How a file can be had that a worker does not find; nothing for other errors."""
    if not isinstance(error, FileNotFoundError) or not isinstance(error.filename, str):
        return ""
    for path, (filename, _) in _FINDER.modules.items():
        if filename == error.filename:
            return (
                f"; it was sent along: importlib.resources.files({package_of(path)!r}) and "
                f"pkgutil.get_data find it"
            )
    is_beside = error.filename.startswith(os.path.dirname(job_filename) + os.sep)
    return "; --file sends a file along with the job" if is_beside else ""


@contextmanager
def importing(modules: Modules) -> Iterator[None]:
    """Let imports find these modules, from now on, and none of the job before.

    What this process has already imported from elsewhere under one of their names steps aside until
    the end: it is there for others.
    """
    _FINDER.forget()
    _FINDER.modules = modules
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    displaced = _take({top_of(path) for path in modules})
    try:
        yield
    finally:
        if displaced:
            _take(set(map(top_of, displaced)))
            sys.modules.update(displaced)


def _take(tops: set[str]) -> dict[str, ModuleType]:
    """Take all that was imported under these first names out of `sys.modules`."""
    return {name: sys.modules.pop(name) for name in list(sys.modules) if top_of(name) in tops}


def _find(modules: Modules, path: str) -> str | None:
    """The path of the module's file, or of its directory; None if there is none."""
    for name in (f"{path}/__init__.py", f"{path}.py"):
        if name in modules:
            return name
    if isinstance(modules, Beside):
        return path if modules.is_directory(path) else None
    return path if any(name.startswith(f"{path}/") for name in modules) else None


class _Finder:
    """In `sys.meta_path`: finds the modules of the job."""

    def __init__(self) -> None:
        self.modules: Modules = {}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if "." in name and not _is_ours(sys.modules.get(top_of(name))):
            return None
        found = _find(self.modules, name.replace(".", "/"))
        if found is None:
            return None
        if not found.endswith(".py"):
            spec = ModuleSpec(name, _Directory(self.modules), is_package=True)  # type: ignore[arg-type]
            spec.submodule_search_locations = [f"{_PACKAGES}/{found}"]
            return spec
        is_package = found.endswith("/__init__.py")
        filename, source = self.modules[found]
        loader: Any = _Loader(source, self.modules)
        spec = ModuleSpec(name, loader, origin=filename, is_package=is_package)
        spec.has_location = True
        return spec

    def forget(self) -> None:
        """Drop what was imported."""
        for name, module in list(sys.modules.items()):
            if _is_ours(module):
                del sys.modules[name]


_FINDER = _Finder()
#: What the packages without a file say of their place: nothing is looked for there.
_PACKAGES = "<shipped with the job>"


def _is_ours(module: ModuleType | None) -> bool:
    spec = getattr(module, "__spec__", None)
    return isinstance(getattr(spec, "loader", None), _Directory)


class _Directory:
    """The loader of a package without a file."""

    def __init__(self, modules: Modules) -> None:
        self._modules = modules

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        pass

    def get_resource_reader(self, name: str) -> Any:
        """For `importlib.resources`."""
        from pytxmr.job.packagedata import reader_of

        path = name.replace(".", "/")
        place = ""
        if isinstance(self._modules, Beside):  # the client, which may read what lies there
            inner = next((each for each in self._modules if each.startswith(f"{path}/")), None)
            if inner is not None:
                place = os.path.join(self._modules[inner][0].removesuffix(inner), path)
        return reader_of(self._modules, name, place if os.path.isdir(place) else "")


class _Loader(_Directory):
    """Of one module; found by `linecache` and `inspect` as well."""

    def __init__(self, source: bytes, modules: Modules) -> None:
        super().__init__(modules)
        self._source = source

    def exec_module(self, module: ModuleType) -> None:
        filename = str(module.__file__)
        remember_lines(filename, self._source)
        exec(compile(self._source, filename, "exec", dont_inherit=True), module.__dict__)

    def get_source(self, name: str) -> str:
        return self._source.decode("utf-8", "replace")

    def get_data(self, path: str) -> bytes:
        """For `pkgutil.get_data`, which asks for what lies beside ``__file__``."""
        for filename, content in self._modules.values():
            if filename == path:
                return content
        if isinstance(self._modules, Beside):
            with open(path, "rb") as file:
                return file.read()
        from pytxmr.job.packagedata import not_sent

        raise FileNotFoundError(not_sent(path))
