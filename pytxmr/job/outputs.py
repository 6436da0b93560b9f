"""Outputs by name: what a job declares of them, and what it calls them."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from pytxmr.errors import BadJob
from pytxmr.job.names import nearest
from pytxmr.job.readymade import usable
from pytxmr.model import JobCode
from pytxmr.records.named import OUTPUT_NAME

#: Each has a file and a thread in every attempt.
MOST_OUTPUTS = 100


def declared_outputs(said: Any, code: JobCode, writer: Any) -> dict[str, Any]:
    """The writer of each output that ``said`` declares: its own, or else the job's ``writer``.
    Raises `BadJob`."""
    if not isinstance(said, tuple | list | Mapping):
        raise BadJob(
            f"{code.filename}: outputs is {type(said).__name__}, not a tuple of names, or a dict "
            f"of names and writers"
        )
    if len(said) > MOST_OUTPUTS:
        raise BadJob(f"{code.filename}: {len(said)} outputs are more than {MOST_OUTPUTS}")
    found: dict[str, Any] = {}
    for name in said:
        if not isinstance(name, str) or OUTPUT_NAME.fullmatch(name) is None:
            raise BadJob(
                f"{code.filename}: outputs: {name!r:.200} is no name for an output: it takes "
                f"letters, digits, '-', '_' and '.', begins with a letter or a digit, and is not "
                f"that of a part"
            )
        if name in found:
            raise BadJob(f"{code.filename}: outputs: {name!r} is there twice")
        own = said[name] if isinstance(said, Mapping) else None
        if own is not None and not callable(own):
            kind = type(own).__name__
            raise BadJob(f"{code.filename}: outputs: the writer of {name!r} is {kind}")
        found[name] = writer if own is None else usable(own, "writer", code.filename)
    return found


def check_output_names(module: ModuleType, code: JobCode) -> None:
    """Raise `BadJob` if the job's source writes to an output by a name that nothing in it declares.

    Of another class than the job's that may be right, so all that are declared count.
    """
    known: set[str] = set()
    for owner in (module, *(value for value in vars(module).values() if isinstance(value, type))):
        said = getattr(owner, "outputs", ())
        if isinstance(said, tuple | list | Mapping):
            known.update(name for name in said if isinstance(name, str))
        elif not isinstance(said, ModuleType):
            return  # computed, perhaps: then it shows when the job runs
    for line, name in _written_to(ast.parse(code.source)):
        if name not in known:
            hint = nearest(name, known) or "; outputs = (...) declares them"
            text = code.source.decode("utf-8", "replace").splitlines()[line - 1].strip()
            raise BadJob(
                f"{code.filename}, line {line}: there is no output {name!r}{hint}",
                traceback=f'  File "{code.filename}", line {line}\n    {text}\n',
            )


def _written_to(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The names of outputs that are written in calls of ``pytxmr.to``, and their lines."""
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "pytxmr"
        for alias in node.names
        if alias.name == "to"
    }
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="pytxmr"), attr="to"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name
            case ast.Call(func=ast.Name(id=function), args=[ast.Constant(value=str(name)), *_]) if (
                function in imported
            ):
                yield node.lineno, name
