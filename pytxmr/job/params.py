"""A job's parameters: as it declares them, and with what ``-D`` or a program gives on top."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from pytxmr.errors import BadJob
from pytxmr.job.classes import job_class
from pytxmr.job.names import nearest
from pytxmr.model import JobCode

_CONTAINERS = (list, tuple, dict)


def literal_params(code: JobCode) -> dict[str, Any]:
    """The module's parameters, as far as they are known before it is imported."""
    try:
        for node in ast.parse(code.source).body if b"params" in code.source else ():
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "params":
                found = ast.literal_eval(node.value)
                return found if isinstance(found, dict) else {}
    except (SyntaxError, ValueError):
        pass  # importing it will tell
    return {}


def declared_params(module: ModuleType, code: JobCode) -> dict[str, Any]:
    """The parameters and defaults that the module, or the class, declares."""
    owner = job_class(module, code) if code.class_name else module
    declared = getattr(owner, "params", {})
    if not isinstance(declared, dict):
        raise BadJob(f"{code.filename}: params is {type(declared).__name__}, not a dict")
    for name, default in declared.items():
        if type(name) is not str or not is_plain(default):
            raise BadJob(
                f"{code.filename}: params: {name!r} is declared as {default!r:.100}; a parameter "
                f"is None, bool, int, float, str or bytes, or a list, tuple or dict of these"
            )
    return dict(declared)


def is_plain(value: Any) -> bool:
    """Can a parameter be this?"""
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(is_plain(key) and is_plain(found) for key, found in value.items())
    return value is None or type(value) in (bool, int, float, str, bytes)


def convert_params(declared: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The declared defaults with what is given on top. A text is converted to its default's type,
    lists, tuples and dicts as Python writes them; another value has to be of it. Raises `BadJob`.
    """
    values = dict(declared)
    for name, text in given.items():
        if name not in declared:
            raise BadJob(f"-D {name}: the job declares no such parameter{nearest(name, declared)}")
        kind = type(declared[name])
        try:
            if not isinstance(text, str):
                values[name] = _fitting(declared[name], text)
            elif kind is bool:
                values[name] = {"true": True, "1": True, "false": False, "0": False}[text.lower()]
            elif kind is bytes:
                values[name] = text.encode()
            elif kind in _CONTAINERS:
                values[name] = _literal(kind, text)
            else:
                values[name] = text if declared[name] is None else kind(text)
        except (KeyError, ValueError, TypeError, SyntaxError) as error:
            like = f", which is written {declared[name]!r:.60}" if kind in _CONTAINERS else ""
            raise BadJob(f"-D {name}={text}: not {kind.__name__}{like}") from error
    return values


def _fitting(default: Any, value: Any) -> Any:
    """The value as its default's type has it, which is the same but for a little. Raises
    `TypeError`."""
    kind = type(value) if default is None else type(default)
    alike = {float: (int,), str: (int, float), list: (tuple,), tuple: (list,)}.get(kind, ())
    if type(value) not in (kind, *alike) or not is_plain(value):
        raise TypeError(type(value))
    return value if type(value) is kind else kind(value)


def _literal(kind: type[Any], text: str) -> Any:
    """A list, tuple or dict as Python writes it. Raises `ValueError` or `SyntaxError`."""
    value = ast.literal_eval(text.strip())
    if type(value) is not kind or not is_plain(value):
        raise ValueError(text)
    return value


def with_tuples(params: dict[str, Any], declared: dict[str, Any]) -> dict[str, Any]:
    """The parameters as they were before they travelled: a tuple arrives as a list."""
    return {
        name: tuple(value) if isinstance(declared.get(name), tuple) else value
        for name, value in params.items()
    }
