"""From a job's source to its functions: the client does it to check, each worker to run.

The source is compiled under the path that the user typed, and put into `linecache`, so that a
traceback on any machine shows the user's own file, line and text.
"""

from __future__ import annotations

import ast
import builtins
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import dropwhile
from os import PathLike, fspath, sep
from pathlib import PurePath
from types import ModuleType, TracebackType
from typing import Any

from pytxmr.errors import BadJob
from pytxmr.job.context import begin_job, begin_outputs
from pytxmr.job.mapreduce import MapReduce
from pytxmr.job.names import misspelt, misspelt_attribute, nearest, nearest_option
from pytxmr.job.readymade import FORMATS, ready_made, ready_made_names, usable
from pytxmr.job.shipping import (
    Beside,
    Modules,
    hint_for,
    importing,
    own_package,
    remember_lines,
)
from pytxmr.model import JobCode, JobFunctions
from pytxmr.records import kinds
from pytxmr.records.attempt import not_there
from pytxmr.records.batch import LINES, batch_form
from pytxmr.records.codec import use_pickle
from pytxmr.records.folds import Fold, Identity
from pytxmr.records.partition import RangePartitioner, stable_partition

#: What a job's module is named when it is imported as one, before the name of its file.
MODULE_PREFIX = "pytxmr_job_"
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
SERIALIZERS = ("msgpack", "pickle")
#: What else a job may say, and the types of it.
_OF_MODULES = {"params": dict, "codecs": (list, tuple), "serializer": str}
_OF_CLASSES = _OF_MODULES | {
    "input": (str, PathLike, list, tuple),
    "output": (str, PathLike),
    "reducers": int,
}
#: Of a function's flags, as `inspect` has it: ``*args``.
_TAKES_ANY = 4
_CONTAINERS = (list, tuple, dict)


def load(code: JobCode, params: dict[str, Any], step: int | None = None) -> JobFunctions:
    """Import the job and bind its functions, or those of one of its steps. Raises `BadJob` with the
    user's traceback."""
    begin_job(params)
    module = import_source(code)
    declare_values(module, code)
    params = _with_tuples(params, declared_params(module, code))
    begin_job(params)
    if step is None:
        functions = bind(module, code, params)
    else:
        from pytxmr.job.steps import functions_of

        functions = functions_of(module, code, params, step)
    begin_outputs(functions.outputs)
    return functions


def stages(module: ModuleType, code: JobCode, params: dict[str, Any]) -> list[Any] | None:
    """The steps of a job that has any (see `job.steps`); most have none, and pay nothing for it."""
    steps = code.class_name and getattr(job_class(module, code), "steps", None)
    if not steps and "pytxmr.job.pipeline" not in sys.modules:
        return None
    from pytxmr.job.steps import stages_of

    return stages_of(module, code, params)


def import_source(code: JobCode, modules: Modules | None = None) -> ModuleType:
    """Run the module's top level. Raises `BadJob` if it does not compile or raises.

    ``modules``: where its own imports are found, if that is not what was shipped with it.
    """
    remember_lines(code.filename, code.source)
    module = ModuleType(f"{MODULE_PREFIX}{PurePath(code.filename).stem}")
    module.__file__ = code.filename
    sys.modules[module.__name__] = module
    known = code.modules if modules is None else modules
    module.__package__ = own_package(code.filename, code.source, known) or None
    try:
        with importing(known):
            exec(compile(code.source, code.filename, "exec", dont_inherit=True), module.__dict__)
    except (Exception, SystemExit) as error:
        if isinstance(error, SyntaxError) and error.filename == code.filename:
            raise BadJob(
                f"{code.filename}, line {error.lineno}: {error.msg}",
                traceback="".join(traceback.format_exception_only(error)),
            ) from error
        hint = _import_hint(error, module, modules)
        raise BadJob(
            f"{code.filename} cannot be imported: {type(error).__name__}: {error}{hint}",
            traceback=user_traceback(error),
        ) from error
    return module


def _import_hint(error: BaseException, module: ModuleType, modules: Modules | None) -> str:
    """What was probably meant, where a name was not found; Python says so for few of them."""
    if isinstance(error, ModuleNotFoundError):
        return nearest(str(error.name), modules.names()) if isinstance(modules, Beside) else ""
    if isinstance(error, AttributeError) and isinstance(error.obj, ModuleType | type):
        return nearest(str(error.name), dir(error.obj))
    if isinstance(error, TypeError) and (option := nearest_option(error)):
        return option
    if isinstance(error, NameError):
        return nearest(str(error.name), [*vars(module), *vars(builtins)])
    if type(error) is ImportError and error.name is None and module.__package__ is None:
        return "; as there is no __init__.py beside it, import what is there without the dot"
    beside = "" if isinstance(modules, Beside) else hint_for(error, str(module.__file__))
    return beside or not_there(error)


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


def _with_tuples(params: dict[str, Any], declared: dict[str, Any]) -> dict[str, Any]:
    """The parameters as they were before they travelled: a tuple arrives as a list."""
    return {
        name: tuple(value) if isinstance(declared.get(name), tuple) else value
        for name, value in params.items()
    }


@dataclass(frozen=True, slots=True)
class Declared:
    """What a class says of where its input is, where its output goes, and of its reducers."""

    inputs: tuple[str, ...] = ()
    output: str = ""
    reducers: int | None = None


def declared(module: ModuleType, code: JobCode) -> Declared:
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


def declare_values(module: ModuleType, code: JobCode) -> None:
    """Let values be carried as ``codecs`` and ``serializer`` of the class or the module say."""
    owners = [job_class(module, code), module] if code.class_name else [module]
    said = {
        name: value
        for owner in reversed(owners)
        for name in ("codecs", "serializer")
        # Python has a module of the name codecs, which a job may have imported.
        if not isinstance(value := getattr(owner, name, None), ModuleType | None)
    }
    kinds.declare(said.get("codecs", ()))
    serializer = said.get("serializer", SERIALIZERS[0])
    if serializer not in SERIALIZERS:
        hint = nearest(str(serializer), SERIALIZERS)
        known = " or ".join(SERIALIZERS)
        raise BadJob(f"{code.filename}: serializer is {serializer!r}, not {known}{hint}")
    use_pickle(serializer == "pickle")


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


def job_class(module: ModuleType, code: JobCode) -> type[Any]:
    cls = getattr(module, str(code.class_name), None)
    if not isinstance(cls, type):
        classes = [name for name, value in vars(module).items() if isinstance(value, type)]
        hint = nearest(str(code.class_name), classes)
        raise BadJob(f"{code.filename} has no class {code.class_name}{hint}")
    return cls


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


def own_attribute(instance: Any, name: str) -> Any:
    """The attribute, unless it is what `MapReduce` has by that name."""
    found = getattr(instance, name, None)
    inherited = getattr(MapReduce, name, None)
    return None if getattr(found, "__func__", None) is inherited is not None else found


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


def _check_names(defined: list[str], found: dict[str, Any], code: JobCode) -> None:
    """Nothing that the job defines is nearly called as something that it lacks."""
    methods = {role: method for role, (_, method) in ROLES.items()} if code.class_name else {}
    names = {what: code.names.get(what, methods.get(what, what)) for what in found}
    missing = [names[what] for what, it in found.items() if it is None]
    unused = [name for name in defined if name not in names.values()]
    problem = misspelt(unused, missing, methods or {"reduce": "reducer"})
    if problem:
        raise BadJob(f"{code.filename} {problem}")


def _own_attributes(cls: type[Any]) -> dict[str, Any]:
    bases = [base for base in reversed(cls.__mro__) if base.__module__ == cls.__module__]
    return {name: value for base in bases for name, value in vars(base).items()}


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


def user_traceback(error: BaseException) -> str:
    """The traceback from the user's first frame on: pytxmr's own frames are left out."""
    summary = traceback.TracebackException.from_exception(error)
    link: traceback.TracebackException | None = summary
    while link is not None:
        theirs = [frame for frame in link.stack if not is_ours(frame.filename)]
        # What Python's own modules do for us, before it comes to the user's code, if it does.
        first = dropwhile(lambda frame: frame.filename.startswith(_PYTHON), theirs)
        link.stack = traceback.StackSummary.from_list(list(first))
        link = link.__cause__ or link.__context__
    return "".join(summary.format(chain=True))[-16384:]


def user_frames(link: TracebackType | None) -> TracebackType | None:
    """A traceback from the user's first frame on; None if there is none of theirs in it."""
    while link is not None and is_ours(link.tb_frame.f_code.co_filename):
        link = link.tb_next
    return link


_PACKAGE = PurePath(__file__).parent.parent
#: Where Python's own modules are, of which some are directories.
_PYTHON = f"{PurePath(traceback.__file__).parent}{sep}"


def is_ours(filename: str) -> bool:
    return filename.startswith("<frozen importlib") or _PACKAGE in PurePath(filename).parents
