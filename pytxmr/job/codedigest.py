"""Digests of the code of a job's map side and of its reduce side.

Each changes when anything changes that its functions can reach, see `reach`, and otherwise not: so
to edit the reducer leaves the map side's as it was. Where it cannot be told what they reach, it is
of all of the job's code.
"""

from __future__ import annotations

import ast
import hashlib
import io
import re
import sys
from collections.abc import Mapping
from typing import Any

from pytxmr.job.installed import installed_version
from pytxmr.job.loading import MODULE_PREFIX
from pytxmr.job.reach import Hidden, Reach
from pytxmr.job.shipping import imports_in, own_package, package_of, top_of
from pytxmr.job.toplevel import effects_of
from pytxmr.model import JobCode, JobFunctions
from pytxmr.records import codec, kinds

_NO_FILE = ""
_MAP_SIDE = ("mapper", "combiner", "partitioner", "reader", "map_init", "map_final")
_WRITERS = ("writer", "outputs")
_REDUCE_SIDE = ("reducer", "reduce_init", "reduce_final", *_WRITERS)


class CodeDigests:
    """Of a job that was just loaded into this process; ask before any of its functions has run,
    since these may change the values that they reach. ``step``: which of the job's steps it is.
    """

    def __init__(self, code: JobCode, step: int | None = None) -> None:
        self._code = code
        self._step = step
        self._modules = own_modules(code)

    def of_map(self, functions: JobFunctions, to_part: bool) -> str:
        """Of all that makes a map's output of a split; ``to_part``: it is a part of the job's.

        Raises `BadJob` if the code reaches something of which nobody can tell whether it changed.
        """
        roles = (*_MAP_SIDE, *_WRITERS) if to_part else _MAP_SIDE
        return self._of({role: getattr(functions, role) for role in roles})

    def of_reduce(self, functions: JobFunctions) -> str:
        """Of all that makes a part of what has come from the maps. Raises as `of_map`."""
        roots = {role: getattr(functions, role) for role in _REDUCE_SIDE}
        # Values are partials if the maps have combined them by the same fold.
        folded = functions.combiner == functions.reducer
        return self._of(roots | {"folded": folded, "by_part": functions.by_part})

    def _of(self, roots: dict[str, Any]) -> str:
        reach = Reach(self._modules, _instance_in(roots, self._code.class_name))
        try:
            return self._exact(reach, roots)
        except (Hidden, RecursionError):
            return self._whole(tuple(roots))

    def _exact(self, reach: Reach, roots: dict[str, Any]) -> str:
        if codec.pickles():
            raise Hidden("what is pickled leads to classes by their names")
        for role, function in roots.items():
            reach.put(role)
            reach.add(function)
            if type(function).__module__ == "pytxmr.records.arrowformats":
                reach.put(installed_version("pyarrow"))
        for kind, carried in kinds.declared():
            reach.add((kind, carried.plain, carried.restore))
        for name, path in self._modules.items():
            self._note_effects(reach, name, path)
        for path, (_, content) in sorted(self._code.modules.items()):
            if not path.endswith(".py"):  # data of a package: anything may read them
                reach.put("data", path, hashlib.sha256(content).hexdigest())
        return reach.digest

    def _note_effects(self, reach: Reach, name: str, path: str | None) -> None:
        module = sys.modules.get(name)
        if module is None or path == _NO_FILE:
            return  # it was not imported, or there is nothing in it, so it has done nothing
        source = self._code.source if path is None else self._code.modules[path][1]
        effects = effects_of(source, vars(module))
        reach.put("module", name, *effects.done)
        for used in dict.fromkeys(effects.names):
            found = vars(module).get(used)
            # What was read of a file is in the values that it was given to.
            if not isinstance(found, io.IOBase):
                reach.put(used)
                reach.add(found)
        for top in sorted(set(effects.imported)):
            # Those of Python itself do nothing to each other.
            if top not in sys.stdlib_module_names and not self._is_own(top):
                reach.put("import", top, installed_version(top))

    def _whole(self, roles: tuple[str, ...]) -> str:
        code = self._code
        said = (code.class_name, sorted(code.names.items()), self._step, roles)
        package = own_package(code.filename, code.source, code.modules)
        imported = set(_imported(code.source, package))
        for path, (_, source) in code.modules.items():
            imported.update(_imported(source, package_of(path)))
        tops = sorted(top for top in imported if not self._is_own(top))
        return repr((code.digest, said, [(top, installed_version(top)) for top in tops]))

    def _is_own(self, top: str) -> bool:
        return any(top_of(name) == top for name in self._modules)


def own_modules(code: JobCode) -> dict[str, str | None]:
    """The names of a job's modules when they are imported, and the path by which each is shipped:
    None for that of the job itself, `_NO_FILE` for a package without ``__init__.py``."""
    stem = re.split(r"[/\\]", code.filename)[-1].removesuffix(".py")
    names: dict[str, str | None] = {f"{MODULE_PREFIX}{stem}": None}
    for path in sorted(path for path in code.modules if path.endswith(".py")):
        name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        names[name] = path
        while "." in name:
            name = name.rpartition(".")[0]
            names.setdefault(name, _NO_FILE)
    return names


def _imported(source: bytes, package: str) -> set[str]:
    try:
        return {top_of(name) for _, name, _ in imports_in(ast.parse(source), package)}
    except (SyntaxError, ValueError):
        return set()


def _instance_in(roots: Mapping[str, Any], class_name: str | None) -> Any:
    """The instance of the job's class, if it has one."""
    for function in roots.values():
        owner = getattr(function, "__self__", None)
        if class_name is not None and type(owner).__name__ == class_name:
            return owner
    return None
