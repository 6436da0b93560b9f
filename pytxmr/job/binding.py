"""Which function of a job's module, or method of its class, plays which role.

Whatever cannot be called as its role is, or is nearly called as a role that the job lacks, is
refused here, before anything runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from pathlib import PurePath
from types import ModuleType
from typing import Any

from pytxmr.errors import BadJob
from pytxmr.job.classes import job_class, new_instance, own_attribute
from pytxmr.job.names import misspelt, misspelt_attribute, nearest
from pytxmr.job.readymade import FORMATS, ready_made, ready_made_names, usable
from pytxmr.model import JobCode, JobFunctions
from pytxmr.records.batch import LINES, batch_form
from pytxmr.records.folds import Fold, Identity
from pytxmr.records.partition import RangePartitioner, stable_partition

#: role -> (is it required, the method's name in a class)
ROLES = {
    "mapper": (True, "map"),
    "reducer": (False, "reduce"),
    "combiner": (False, "combine"),
    "partitioner": (False, "partition"),
    "reader": (False, "read"),
    "writer": (False, "write"),
}
#: role -> what it is called with
_CALLED_WITH = {
    "mapper": ("key", "value"),
    "reducer": ("key", "values"),
    "combiner": ("key", "values"),
    "partitioner": ("key", "partitions"),
    "reader": ("lines",),
    "writer": ("pairs",),
}
#: Called before the first record or key of an attempt, and after the last. Both forms name them so.
HOOKS = ("map_init", "map_final", "reduce_init", "reduce_final")
#: What else a job may say, and the types of it.
_OF_MODULES = {"params": dict, "codecs": (list, tuple), "serializer": str}
_OF_CLASSES = _OF_MODULES | {
    "input": (str, PathLike, list, tuple),
    "output": (str, PathLike),
    "reducers": int,
}
#: Of a function's flags, as `inspect` has it: ``*args``.
_TAKES_ANY = 4


def bind(module: ModuleType, code: JobCode, params: dict[str, Any]) -> JobFunctions:
    """Find each role's function. Raises `BadJob` for one that is missing or not callable."""
    if code.class_name:
        cls = job_class(module, code)
        instance = new_instance(cls, code, params)
        found = {role: method_for(instance, code, role) for role in ROLES}
        found |= {hook: checked_hook(own_attribute(instance, hook), code, hook) for hook in HOOKS}
        _check_names(_own_names(cls), found, code)
        _check_attributes(_own_attributes(cls), _OF_CLASSES, code)
    else:
        found = {role: function_for(module, code, role) for role in ROLES}
        found |= {hook: checked_hook(getattr(module, hook, None), code, hook) for hook in HOOKS}
        _check_names(_defined(vars(module), module.__name__), found, code)
        _check_attributes(vars(module), _OF_MODULES, code)
        _check_reset(found, code)
    reducer, combiner = found["reducer"], found["combiner"]
    if reducer is None:
        _check_map_only(found, code)
    if combiner is None and isinstance(reducer, Fold) and reducer.combines:
        found["combiner"] = reducer
    if isinstance(combiner, Fold) and not combiner.combines:
        raise BadJob(f"{code.filename}: folds.{combiner.name} combines nothing; leave it out")
    if batch_form(combiner) is not None:
        raise BadJob(f"{code.filename}: a combiner takes one group at a time, without @batch")
    for role in FORMATS:
        found[role] = usable(found[role], role, code.filename)
    if found["reader"] is not None and batch_form(found["mapper"]) in LINES:
        raise BadJob(
            f"{code.filename}: a batch mapper of lines, bytes or a buffer reads the input itself; "
            f'leave out the reader, or let it take the records: @pytxmr.batch("records")'
        )
    found["partitioner"] = found["partitioner"] or stable_partition
    found["outputs"] = outputs_of(module, code, found["writer"])
    if not code.class_name or not any(found[hook] for hook in HOOKS):
        return JobFunctions(**found)

    def renew() -> JobFunctions:
        again, kept = bind(module, code, params), found["partitioner"]
        return replace(again, partitioner=kept) if isinstance(kept, RangePartitioner) else again

    return JobFunctions(**found, renew=renew)


def outputs_of(module: ModuleType, code: JobCode, writer: Any) -> dict[str, Any]:
    """The outputs by name that the class, or the module, declares, and the writer of each: it is
    ``writer`` where none is named. Raises `BadJob`."""
    owner = job_class(module, code) if code.class_name else module
    said = getattr(owner, "outputs", ())
    if not said or isinstance(said, ModuleType):
        return {}
    from pytxmr.job.outputs import declared_outputs  # few jobs have any

    return declared_outputs(said, code, writer)


def function_for(module: ModuleType, code: JobCode, role: str) -> Any:
    """What a module has for a role, or None. Raises `BadJob`."""
    required, _ = ROLES[role]
    name = code.names.get(role, role)
    found = getattr(module, name, None)
    if isinstance(found, ModuleType):  # `import json` does not hide `--reader json`
        found = None
    if found is None and role in FORMATS and role in code.names:
        found = ready_made(role, name)
    if found is None:
        if required or role in code.names:
            known = [n for n, v in vars(module).items() if callable(v)]
            hint = nearest(name, [*known, *ready_made_names(role)])
            option = "" if role in code.names else f", or name another with --{role}"
            hint = f"{hint}{option}" if hint else f"{option}{_classes(module, code)}"
            raise BadJob(f"{code.filename} has no {name}(){hint}")
        return None
    return _checked(found, code, name, role)


def _classes(module: ModuleType, code: JobCode) -> str:
    """That a module without functions has a class that could be meant."""
    own = (
        name
        for name, value in vars(module).items()
        if isinstance(value, type)
        and value.__module__ == module.__name__
        and callable(getattr(value, "map", None))
    )
    found = next(own, None)
    return f"; for the class say {PurePath(code.filename).name}:{found}" if found else ""


def method_for(instance: Any, code: JobCode, role: str) -> Any:
    """What a class has for a role, or None. Raises `BadJob`."""
    required, method = ROLES[role]
    name = code.names.get(role, method)
    found = own_attribute(instance, name)
    if found is None:
        if required or role in code.names:
            if role in FORMATS and (made := ready_made(role, name)) is not None:
                return made
            hint = nearest(name, [*_own_names(type(instance)), *ready_made_names(role)])
            raise BadJob(f"{code.filename}: class {code.class_name} has no method {name}{hint}")
        return None
    return _checked(found, code, name, role)


def checked_hook(found: Any, code: JobCode, name: str) -> Any:
    """The hook, if there is one. Raises `BadJob` if it cannot be called without arguments."""
    if found is None:
        return None
    # Not at the top: a worker's start would be longer by it, and few jobs have hooks.
    from inspect import signature

    try:
        signature(_callable(found, code, name)).bind()
    except TypeError as error:
        raise BadJob(f"{code.filename}: {name}() is called without arguments: {error}") from error
    except ValueError:
        pass  # of some functions that are written in C nothing is known
    return found


def _checked(found: Any, code: JobCode, name: str, role: str) -> Any:
    """What has been found for a role. Raises `BadJob` if it cannot be called as that is."""
    if isinstance(found, str) and role in FORMATS:
        like = f"{role}s.{found}" if found in ready_made_names(role) else f"{role}s.json"
        raise BadJob(
            f"{code.filename}: {name} is the text {found!r:.60}, not a function; say "
            f"`from pytxmr import {role}s` and {name} = {like}, for one"
        )
    function = getattr(_callable(found, code, name), "__func__", found)
    inner = getattr(function, "__code__", None)
    given = ("groups",) if batch_form(found) and role == "reducer" else _CALLED_WITH[role]
    if inner is None or (batch_form(found) and role == "combiner"):
        return found  # nothing is known of it, or what is wrong is said elsewhere
    most = inner.co_argcount - (function is not found)
    least = most - len(function.__defaults__ or ())
    named = inner.co_kwonlyargcount - len(function.__kwdefaults__ or ())
    takes_any = bool(inner.co_flags & _TAKES_ANY)
    if named or len(given) < least or (len(given) > most and not takes_any):
        raise BadJob(
            f"{code.filename}, line {inner.co_firstlineno}: {name}() is called with "
            f"{' and '.join(given)}, which is not what it takes"
        )
    return found


def _callable(found: Any, code: JobCode, name: str) -> Any:
    if not callable(found):
        raise BadJob(f"{code.filename}: {name} is {type(found).__name__}, not a function")
    return found


def _defined(attributes: Mapping[str, Any], module: str) -> list[str]:
    """The names of the functions that a job has written itself, and of the folds that it uses."""
    return [
        name
        for name, value in attributes.items()
        if isinstance(value, Fold | Identity)
        or (
            callable(value)
            and not isinstance(value, type)
            and getattr(value, "__module__", None) == module
        )
    ]


def _own_names(cls: type[Any]) -> list[str]:
    bases = [base for base in cls.__mro__ if base.__module__ == cls.__module__]
    return [name for base in bases for name in _defined(vars(base), cls.__module__)]


def _own_attributes(cls: type[Any]) -> dict[str, Any]:
    bases = [base for base in reversed(cls.__mro__) if base.__module__ == cls.__module__]
    return {name: value for base in bases for name, value in vars(base).items()}


def _check_names(defined: list[str], found: dict[str, Any], code: JobCode) -> None:
    """Nothing that the job defines is nearly called as something that it lacks."""
    methods = {role: method for role, (_, method) in ROLES.items()} if code.class_name else {}
    names = {what: code.names.get(what, methods.get(what, what)) for what in found}
    missing = [names[what] for what, it in found.items() if it is None]
    unused = [name for name in defined if name not in names.values()]
    problem = misspelt(unused, missing, methods or {"reduce": "reducer"})
    if problem:
        raise BadJob(f"{code.filename} {problem}")


def _check_attributes(attributes: Mapping[str, Any], known: dict[str, Any], code: JobCode) -> None:
    problem = misspelt_attribute(attributes, known, code.source)
    if problem:
        raise BadJob(f"{code.filename} {problem}")


def _check_map_only(found: dict[str, Any], code: JobCode) -> None:
    """Without a reducer, nothing can come before it."""
    names = {role: method if code.class_name else role for role, (_, method) in ROLES.items()}
    for name in ("combiner", "partitioner", "reduce_init", "reduce_final"):
        if found[name] is not None:
            raise BadJob(
                f"{code.filename} has {names.get(name, name)}(), but no {names['reducer']}(): "
                f"without one, what a map puts out is a part of the output as it is; define one, "
                f"or leave {names.get(name, name)}() out"
            )


def _check_reset(found: dict[str, Any], code: JobCode) -> None:
    """What a module keeps outlives the attempt, so that the next one would add to it unnoticed."""
    for before, after in (("map_init", "map_final"), ("reduce_init", "reduce_final")):
        if found[after] is not None and found[before] is None:
            raise BadJob(
                f"{code.filename} has {after}(), but no {before}(): a worker runs several tasks in "
                f"one process, so define {before}() to begin each with nothing kept of the last"
            )
