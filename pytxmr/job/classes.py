"""A job's class: found in its module, made an instance, asked what it declares."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike, fspath
from types import ModuleType
from typing import Any

from pytxmr.errors import BadJob
from pytxmr.job.mapreduce import MapReduce
from pytxmr.job.names import nearest
from pytxmr.job.tracebacks import user_traceback
from pytxmr.model import JobCode


def job_class(module: ModuleType, code: JobCode) -> type[Any]:
    cls = getattr(module, str(code.class_name), None)
    if not isinstance(cls, type):
        classes = [name for name, value in vars(module).items() if isinstance(value, type)]
        hint = nearest(str(code.class_name), classes)
        raise BadJob(f"{code.filename} has no class {code.class_name}{hint}")
    return cls


def new_instance(cls: type[Any], code: JobCode, params: dict[str, Any]) -> Any:
    """An instance of the job's class, with its parameters. Raises `BadJob`."""
    try:
        instance = cls()
    except (Exception, SystemExit) as error:
        raise BadJob(
            f"{code.filename}:{code.class_name}() raised {type(error).__name__}: {error}",
            traceback=user_traceback(error),
        ) from error
    instance.params = dict(params)
    return instance


def own_attribute(instance: Any, name: str) -> Any:
    """The attribute, unless it is what `MapReduce` has by that name."""
    found = getattr(instance, name, None)
    inherited = getattr(MapReduce, name, None)
    return None if getattr(found, "__func__", None) is inherited is not None else found


@dataclass(frozen=True, slots=True)
class Declared:
    """What a class says of where its input is, where its output goes, and of its reducers."""

    inputs: tuple[str, ...] = ()
    output: str = ""
    reducers: int | None = None


def declared_by_class(module: ModuleType, code: JobCode) -> Declared:
    """What the class declares; of a module nothing, where these names are anybody's."""
    if not code.class_name:
        return Declared()
    cls = job_class(module, code)
    found: dict[str, Any] = {}
    for name, types in (
        ("input", (str, PathLike, list, tuple)),
        ("output", (str, PathLike)),
        ("reducers", (int, type(None))),
    ):
        value = found[name] = getattr(cls, name, None)
        if callable(value) or value is None:  # a method that happens to be called so
            found[name] = None
        elif not isinstance(value, types) or isinstance(value, bool):
            raise BadJob(f"{code.filename}: {name} of {cls.__name__} is {type(value).__name__}")
    given, output = found["input"] or (), found["output"] or ""
    try:
        inputs = [given] if isinstance(given, str | PathLike) else given
        return Declared(tuple(map(fspath, inputs)), fspath(output), found["reducers"])
    except TypeError as error:
        raise BadJob(f"{code.filename}: input of {cls.__name__}: {error}") from error
