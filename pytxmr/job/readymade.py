"""Ready-made readers and writers by name, as the command line has them: ``--reader json``."""

from __future__ import annotations

import ast
import inspect
import re
from types import ModuleType
from typing import Any

from pytxmr.errors import BadJob
from pytxmr.job.names import nearest
from pytxmr.records.formats import Reader, Writer

#: The roles that ready-made ones can play.
FORMATS = ("reader", "writer")


def ready_made(role: str, text: str) -> Any:
    """What ``json``, ``readers.json`` or ``csv(header=True)`` names; None if no ready-made one is
    called that.

    Raises `BadJob` for options that it cannot have, or that are not written as plain values.
    """
    text = text.strip().removeprefix("pytxmr.").removeprefix(f"{role}s.")
    match = re.fullmatch(r"(\w+)\s*(\(.*\))?", text, re.ASCII | re.DOTALL)
    if match is None or match[1] not in ready_made_names(role):
        return None
    made = getattr(_module(role), match[1])
    if match[2] is None:
        return made
    try:
        call = ast.parse(text, mode="eval").body
        assert isinstance(call, ast.Call)
        args = [ast.literal_eval(arg) for arg in call.args]
        options = {str(option.arg): ast.literal_eval(option.value) for option in call.keywords}
        known = inspect.signature(made).parameters
        for name in options.keys() - known:
            raise ValueError(f"there is no option {name}{nearest(name, known)}")
        return made(*args, **options)
    except (SyntaxError, ValueError, TypeError, AssertionError) as error:
        raise BadJob(f"--{role} {text}: {error}") from error


def ready_made_names(role: str) -> list[str]:
    """How those for a role are called; nothing for a role that has none."""
    if role not in FORMATS:
        return []
    named = vars(_module(role)).items()
    return [name for name, value in named if isinstance(value, Reader | Writer)]


def usable(found: Any, role: str, filename: str) -> Any:
    """What a job has for a role, checked; None for the default, by whatever name it goes.

    Raises `BadJob` if it is ready-made, and not for this role, or cannot be used as it is, or here.
    """
    if not isinstance(found, Reader | Writer):
        return found
    if isinstance(found, Reader) != (role == "reader"):
        raise BadJob(f"{filename}: {found.name} is no {role}")
    try:
        found.check()
    except BadJob as error:
        raise BadJob(f"{filename}: {error}") from error
    return None if found.is_default else found


def _module(role: str) -> ModuleType:
    # Not before they are wanted: a job that has its own, or the default, starts without them.
    from pytxmr import readers, writers

    return readers if role == "reader" else writers
