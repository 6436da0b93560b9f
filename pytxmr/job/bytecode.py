"""What a piece of compiled code names: globals, attributes, imports, texts.

All of it is of the code and of each piece that is in it, such as a lambda or a comprehension.
"""

from __future__ import annotations

import dis
import functools
import re
import types
from typing import Any

#: Instructions whose name is no global's.
_OF_OBJECTS = frozenset((
    "LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR", "DELETE_ATTR", "LOAD_SUPER_ATTR", "IMPORT_NAME",
    "IMPORT_FROM",
))  # fmt: skip
_ATTRIBUTE = frozenset(("LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR", "DELETE_ATTR", "LOAD_SUPER_ATTR"))
_READ = frozenset(("LOAD_ATTR", "LOAD_METHOD"))
#: Special names that lead from an instance to nothing but what they name.
_TAME = frozenset((
    "__init__", "__name__", "__doc__", "__len__", "__iter__", "__next__", "__call__", "__eq__",
))  # fmt: skip
_IDLE = frozenset(("CACHE", "EXTENDED_ARG", "PRECALL", "PUSH_NULL", "NOP", "RESUME", "NOT_TAKEN"))
SPECIAL = re.compile(r"__\w+__")


@functools.lru_cache(maxsize=1024)
def _instructions(code: types.CodeType) -> list[list[dis.Instruction]]:
    """Those of a piece of code and of each that is in it."""
    found = [[one for one in dis.get_instructions(code) if one.opname not in _IDLE]]
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found += _instructions(constant)
    return found


def paths(code: types.CodeType) -> list[tuple[str, ...]]:
    """The global names in the code, each with the attributes that are read of it at once, and
    ``("import", name)`` for what it imports."""
    found: dict[tuple[str, ...], None] = {}
    for some in _instructions(code):
        for at, one in enumerate(some):
            if one.opname == "IMPORT_NAME":
                # The level is the constant before the names.
                level = some[at - 2].argval if at > 1 else 1
                found["import", f"{'.' * level}{one.argval}"] = None
            elif one.opcode in dis.hasname and one.opname not in _OF_OBJECTS:
                path = [str(one.argval)]
                for following in some[at + 1 :]:
                    if following.opname not in _READ:
                        break
                    path.append(str(following.argval))
                found[tuple(path)] = None
    return list(found)


def attributes(code: types.CodeType) -> list[str]:
    """All names of attributes in the code."""
    return [
        str(one.argval) for some in _instructions(code) for one in some if one.opname in _OF_OBJECTS
    ]


def texts(code: types.CodeType) -> list[str]:
    """All texts in it: somebody may look for an attribute of that name."""
    found: list[str] = []
    left: list[Any] = [code]
    while left:
        item = left.pop(0)
        if isinstance(item, types.CodeType):
            left += item.co_consts
        elif isinstance(item, tuple | frozenset):
            left += sorted(item, key=repr)
        elif isinstance(item, str):
            found.append(item)
    return found


def escapes(code: types.CodeType) -> bool:
    """Does a method do more with its instance than to name an attribute of it?"""
    if not code.co_argcount:
        return True
    me = code.co_varnames[0]
    for some in _instructions(code):
        for at, one in enumerate(some):
            names = one.argval if isinstance(one.argval, tuple) else (one.argval,)
            is_load = "LOAD_FAST" in one.opname or "DEREF" in one.opname
            if me not in names or not is_load:
                continue
            after = [next_one.opname for next_one in some[at + 1 : at + 3]]
            if after[:1] == ["COPY"]:  # self.n += 1
                after = after[1:]
            if names[-1] != me or names.count(me) > 1 or not _ATTRIBUTE.issuperset(after[:1]):
                return True
    special = filter(SPECIAL.fullmatch, attributes(code))
    return not _TAME.issuperset(special)
