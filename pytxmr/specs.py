"""From what a user asks for to `JobSpec`s: the job is imported, checked, and packed up to travel.

Nothing of it needs Twisted or a cluster.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, NamedTuple

from pytxmr.errors import BadInput, BadJob
from pytxmr.job import loading
from pytxmr.job.binding import bind
from pytxmr.job.classes import declared_by_class
from pytxmr.job.context import begin_job, begin_side_files
from pytxmr.job.names import nearest
from pytxmr.job.params import convert_params, declared_params, literal_params
from pytxmr.job.shipping import Beside, read_py_files
from pytxmr.model import JobCode, JobSpec, SideFile
from pytxmr.records import kinds
from pytxmr.records.codec import use_pickle
from pytxmr.records.compression import CODECS, missing
from pytxmr.records.formats import Reader, Writer
from pytxmr.records.partition import RangePartitioner
from pytxmr.records.remote import is_remote
from pytxmr.storage.inputs import absolute_names
from pytxmr.storage.places import absolute_output, check_free

#: A job's source travels in one string of a remote call, which is bounded.
MOST_SOURCE_BYTES = 512 * 1024

#: The directory, beside an output, in which results are kept for reuse.
KEPT = ".pytxmr-kept"


@dataclass(frozen=True, slots=True)
class JobOptions:
    """A job as the user names it. ``job``: ``FILE.py`` or ``FILE.py:CLASS``; sizes are bytes,
    ``task_timeout`` is in seconds. The others are what the options of ``pytxmr run`` say;
    ``params`` are ``-D``, as text, ``names`` the roles that functions of other names play, as in
    ``{"mapper": "other"}``, ``files`` and ``archives`` each ``PATH`` or ``PATH#NAME``.

    Without ``inputs``, ``output`` or ``reducers`` it is what the class declares that counts.
    """

    job: str
    inputs: tuple[str, ...]
    output: str
    names: dict[str, str] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    reducers: int | None = None
    split_bytes: int | None = None
    keep: bool = False
    speculate: bool = True
    memory_bytes: int | None = None
    task_timeout: int = 600
    codec: str = "none"
    skip_bad_records: int = 0
    py_files: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    archives: tuple[str, ...] = ()
    compress: str = "none"
    #: Which of its steps are to run, where the results of the steps are (see `steps`), and whether
    #: they stay.
    from_: str = ""
    only: str = ""
    steps: str = ""
    keep_steps: bool = False
    #: Whether results are kept, and those kept before are taken; where, if not beside the output.
    reuse: bool = False
    reuse_dir: str | None = None


def make_spec(options: JobOptions) -> JobSpec:
    """What `Client.submit` and `Client.run` take, of a job that has one step, as most have.

    The job's module is imported, and paths become absolute. Raises `BadJob`, also for a job of
    several steps, or `BadInput` for what only the client can see; the jobtracker sees whether the
    input is there.
    """
    spec, *others = make_specs(options)
    if others:
        raise BadJob(f"{options.job} has {spec.steps} steps: make_specs() gives those")
    return spec


def make_specs(options: JobOptions) -> list[JobSpec]:
    """Check what only the client can; paths become absolute. Raises `BadJob` or `BadInput`.

    There is a `JobSpec` for each of the job's steps, to be run one after the other. The module is
    imported here, so an error in it shows at once. The input is looked at only if its keys are to
    be sampled: the jobtracker, which plans it, refuses what cannot be read.
    """
    code, files, module, params, stages = load_job(options)
    # Of a job with steps, the last is what writes the output.
    functions = stages[-1].functions[0] if stages else bind(module, code, params)
    if (extra := missing(options.codec)) is not None:
        raise BadJob(f"--codec {options.codec} needs a library: pip install '{extra}'")
    if options.compress in CODECS and (extra := missing(options.compress)) is not None:
        raise BadJob(f"--compress {options.compress} needs a library: pip install '{extra}'")
    for writer in (functions.writer, *functions.outputs.values()):
        if options.compress != "none" and isinstance(writer, Writer) and writer.compresses:
            raise BadJob(
                f"--compress {options.compress}: {writer.name} compresses by itself, as its own "
                f"option says"
            )
    declared = declared_by_class(module, code)
    names = options.inputs or declared.inputs
    if not names and not stages:
        raise BadInput(f"no input is named{_or_declare(code, 'input')}")
    if "-" in names:
        raise BadInput("standard input, -, is only for a job that runs here: not on a cluster")
    inputs = () if stages else tuple(absolute_names(names, sys.stdin and sys.stdin.buffer))
    named = options.output or declared.output
    if not named:
        raise BadInput(f"--output DIR is needed{_or_declare(code, 'output')}")
    output = absolute_output(named)
    if not stages:
        check_free(output)
    reducers = declared.reducers if options.reducers is None else options.reducers
    if functions.reducer is None and not stages:
        if reducers:
            raise BadJob(
                f"--reducers {reducers}: {code.filename} has no reducer; say 0, or nothing"
            )
        reducers = 0
    if options.keep and reducers == 0 and not stages:
        raise BadJob("--keep: a job without a reducer has no spills; its parts are its output")
    spec = JobSpec(
        name=os.path.basename(options.job),
        code=code,
        inputs=inputs,
        output=output,
        params=params,
        reducers=reducers,
        split_bytes=options.split_bytes,
        keep=options.keep,
        speculate=options.speculate,
        memory_bytes=options.memory_bytes,
        task_timeout=options.task_timeout,
        codec=options.codec,
        skip_bad_records=options.skip_bad_records,
        whole_files=isinstance(functions.reader, Reader) and functions.reader.whole_files,
        files=files,
        compress=options.compress,
        combines=functions.combiner is not None,
        reuse=_reuse_dir(options, output),
    )
    if spec.reuse is not None:
        from pytxmr.reuse import check_code  # few jobs want it

        for of_step in [stage.functions for stage in stages] if stages else [(functions,)]:
            check_code(code, of_step)
    if not stages:
        for option in ("from_", "only", "steps"):
            if getattr(options, option):
                raise BadJob(f"--{option.rstrip('_')}: {options.job} has one step")
        if reducers != 0 and isinstance(functions.partitioner, RangePartitioner):
            from pytxmr.sampling import sample_of

            spec = replace(spec, key_sample=sample_of(functions, spec.sourced_inputs))
        return [spec]
    from pytxmr.steps import step_specs

    return step_specs(stages, spec, names, options, module)


class Loaded(NamedTuple):
    """A job's module, and what goes with it. ``steps``: see `loading.stages`."""

    code: JobCode
    files: tuple[SideFile, ...]
    module: ModuleType
    params: dict[str, Any]
    steps: list[Any] | None


def load_job(options: JobOptions) -> Loaded:
    """Import a job, with its own modules and what travels with it. Raises `BadJob`."""
    code = _read_code(options)
    modules = Beside(os.path.dirname(code.filename), read_py_files(options.py_files))
    modules.complete(code.source, code.filename)
    files = _read_side_files(options)
    modules.check_side_files({file.name for file in files}, code.source, code.filename)
    # A module that makes views may do so by its parameters, which are declared at its top.
    literal = literal_params(code)
    given = {name: text for name, text in options.params.items() if name in literal}
    begin_job(convert_params(literal, given))
    module = loading.import_source(code, modules)
    # Again: what was imported by a name that was put together imports more.
    modules.complete(code.source, code.filename)
    code = replace(code, modules=modules.shipped())
    loading.declare_values(module, code)
    # That they can be is all to know here: this process may be a tasktracker as well.
    kinds.declare(())
    use_pickle(False)
    params = convert_params(declared_params(module, code), options.params)
    begin_job(params)
    if b"to(" in code.source:
        from pytxmr.job.outputs import check_output_names

        check_output_names(module, code)
    return Loaded(code, files, module, params, loading.stages(module, code, params))


def _reuse_dir(options: JobOptions, output: str) -> str | None:
    """Where results are kept: where every machine finds the output as well. Raises `BadInput`."""
    if options.reuse_dir is None:
        if not options.reuse:
            return None
        if is_remote(output):
            raise BadInput("--reuse: the output is no local directory; say --reuse-dir KEPT, too")
        return os.path.join(os.path.dirname(output.rstrip(os.sep)), KEPT)
    if is_remote(options.reuse_dir):
        raise BadInput(f"--reuse-dir {options.reuse_dir}: it is a directory, not a URL")
    return os.path.abspath(options.reuse_dir)


def _or_declare(code: JobCode, name: str) -> str:
    return f"; name it, or let {code.class_name} have an {name}" if code.class_name else ""


def _read_code(options: JobOptions) -> JobCode:
    path, _, class_name = options.job.partition(".py:")
    path = f"{path}.py" if class_name else path
    try:
        with open(path, "rb") as file:
            source = file.read(MOST_SOURCE_BYTES + 1)
    except OSError as error:
        raise BadJob(f"cannot read the job module {path}: {error.strerror}{_near(path)}") from error
    if len(source) > MOST_SOURCE_BYTES:
        raise BadJob(f"{path} is larger than {MOST_SOURCE_BYTES} bytes, the most that is shipped")
    return JobCode(os.path.abspath(path), source, class_name or None, dict(options.names))


def _near(path: str) -> str:
    """Which module is meant, if there is none of that name."""
    directory, name = os.path.split(path)
    with suppress(OSError):
        there = [found[:-3] for found in os.listdir(directory or ".") if found.endswith(".py")]
        hint = "" if os.path.exists(path) else nearest(name.removesuffix(".py"), there)
        return hint and hint.replace("?", ".py?")
    return ""


def _read_side_files(options: JobOptions) -> tuple[SideFile, ...]:
    """Read what is sent along, and let the job have it, here as well."""
    _remove_unpacked()
    files: list[SideFile] = []
    paths: dict[str, str] = {}
    if options.files or options.archives:
        from pytxmr.storage.sidefiles import lay_down, read_side_files

        found = read_side_files(options.files, options.archives)
        files = [file for _, file in found]
        paths = {file.name: os.path.abspath(path) for path, file in found}
        archives = [file for file in files if file.is_archive]
        if archives:
            _UNPACKED.append(tempfile.mkdtemp(prefix="pytxmr-archives-"))
            directory = os.path.join(_UNPACKED[-1], "files")
            try:
                lay_down(archives, directory)
            except OSError as error:
                raise BadJob(f"cannot unpack in {directory}: {error.strerror}") from error
            paths |= {file.name: os.path.join(directory, file.name) for file in archives}
    begin_side_files(paths)
    return tuple(files)


#: Directories with the archives of the job that was made last: its module may read them.
_UNPACKED: list[str] = []


@atexit.register
def _remove_unpacked() -> None:
    while _UNPACKED:
        shutil.rmtree(_UNPACKED.pop(), ignore_errors=True)
