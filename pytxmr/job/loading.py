"""From a job's source to its functions: the client does it to check, each worker to run.

The source is compiled under the path that the user typed, and put into `linecache`, so that a
traceback on any machine shows the user's own file, line and text.
"""

from __future__ import annotations

import builtins
import sys
import traceback
from pathlib import PurePath
from types import ModuleType
from typing import Any

from pytxmr.errors import BadJob
from pytxmr.job.binding import bind
from pytxmr.job.classes import job_class
from pytxmr.job.context import begin_job, begin_outputs
from pytxmr.job.names import nearest, nearest_option
from pytxmr.job.params import declared_params, with_tuples
from pytxmr.job.shipping import (
    Beside,
    Modules,
    hint_for,
    importing,
    own_package,
    remember_lines,
)
from pytxmr.job.tracebacks import user_traceback
from pytxmr.model import JobCode, JobFunctions
from pytxmr.records import kinds
from pytxmr.records.codec import use_pickle
from pytxmr.records.usercode import not_there

#: What a job's module is named when it is imported as one, before the name of its file.
MODULE_PREFIX = "pytxmr_job_"
SERIALIZERS = ("msgpack", "pickle")


def load(code: JobCode, params: dict[str, Any], step: int | None = None) -> JobFunctions:
    """Import the job and bind its functions, or those of one of its steps. Raises `BadJob` with the
    user's traceback."""
    begin_job(params)
    module = import_source(code)
    declare_values(module, code)
    params = with_tuples(params, declared_params(module, code))
    begin_job(params)
    if step is None:
        functions = bind(module, code, params)
    else:
        from pytxmr.job.steps import functions_of  # most jobs have none

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
