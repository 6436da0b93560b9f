"""`pytxmr.run`: a job from a script, a notebook or any other program, waited for.

It runs in a child process, which is the ``pytxmr run`` command but that it tells its status to a
pipe, a line of JSON each, instead of to a terminal. A reactor in the caller's process was the other
way: it cannot be started twice, wants the main thread and the signal handlers, and does not share a
process with another event loop, such as a notebook's.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from types import FrameType, ModuleType
from typing import Any, NoReturn

from pytxmr.cli.options import build_parser, parse, settle_runner
from pytxmr.errors import (
    BadConfiguration,
    BadJob,
    JobFailed,
    PytxmrError,
    from_plain,
)
from pytxmr.job.loading import MODULE_PREFIX
from pytxmr.job.names import nearest
from pytxmr.job.params import is_plain
from pytxmr.result import Result, with_notes

Progress = Callable[[dict[str, Any]], object]

#: As a worker does, the child finds pytxmr where we did, and nothing in the working directory.
_BOOT = f"""\
import sys
where = {os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir))!r}
if where not in sys.path:
    sys.path.insert(0, where)
from pytxmr.cli import command
from pytxmr.cli.piped import Piped
command(Piped(int(sys.argv.pop(1))))
"""


def run(
    job: Any, input: Any, output: Any, *, progress: Progress | None = None, **options: Any
) -> Result:
    """See `pytxmr.run`."""
    _refuse_within_a_job()
    words = _words(job, input, output, options)
    parsed = parse(build_parser(_Parser), words)
    settle_runner(parsed)
    if parsed.runner == "inline":
        return _run_inline(parsed, progress)
    return _run_child(words, progress)


def _run_inline(options: argparse.Namespace, progress: Progress | None) -> Result:
    from pytxmr.cli.commands import keeping_no_steps, make_jobs
    from pytxmr.runners import inline

    try:
        specs = make_jobs(options)
        with keeping_no_steps(specs, options):
            return Result.of(inline.run_all(specs, progress or (lambda status: None)))
    except PytxmrError as error:
        with_notes(error)
        raise


def _refuse_within_a_job() -> None:
    """A script that runs itself as a job, and does so whenever it is imported, would never end."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if frame.f_code.co_name == "<module>" and name.startswith(MODULE_PREFIX):
            raise BadJob(
                "pytxmr.run is called while the job's module is imported: put the call below "
                "`if __name__ == '__main__':`"
            )
        frame = frame.f_back


# ---- from arguments to a command line


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadConfiguration(message)


def _words(job: Any, input: Any, output: Any, options: dict[str, Any]) -> list[str]:
    """The command line that says the same. Raises `BadConfiguration` or `BadJob`."""
    inputs = [input] if isinstance(input, str | os.PathLike) else list(input)
    params = options.pop("params", None) or {}
    # Whatever the command line knows, this does.
    plain = build_parser().parse_args(["run", "JOB", "INPUT", "--output", "DIR"])
    known = vars(plain).keys() - {"command", "job", "inputs", "output"}
    words = ["run", f"--output={os.fspath(output)}"]
    for name, value in options.items():
        if name not in known:
            hint = nearest(name, known)
            raise BadConfiguration(f"pytxmr.run knows no option {name}{hint}")
        option = f"--{name.rstrip('_').replace('_', '-')}"
        if value is True:
            words.append(option)
        elif isinstance(value, list | tuple):
            words += [f"{option}={os.fspath(one)}" for one in value]
        elif value is not None and value is not False:
            words.append(f"{option}={value}")
    return [
        *words,
        *_definitions(params),
        "--",
        _name_of(job),
        *[os.fspath(path) for path in inputs],
    ]


def _definitions(params: Mapping[str, Any]) -> Iterator[str]:
    values = {}
    for name, value in params.items():
        if isinstance(value, str | os.PathLike):
            yield f"-D{name}={os.fspath(value)}"
        elif isinstance(value, float) and not math.isfinite(value):
            yield f"-D{name}={value}"  # which cannot be written as a literal
        elif is_plain(value):
            values[name] = value
        else:
            raise BadConfiguration(
                f"params: {name} is {type(value).__name__}; a parameter is None, bool, int, float, "
                f"str or bytes, or a list, tuple or dict of these"
            )
    if values:
        yield f"--values={values!r}"


def _name_of(job: Any) -> str:
    """The job as the command line names it."""
    if isinstance(job, str | os.PathLike):
        return os.fspath(job)
    is_module = isinstance(job, ModuleType)
    if not is_module and not isinstance(job, type):
        raise BadJob(f"{job!r:.200} is no job: it must be a path, a module or a class")
    module = job if is_module else sys.modules.get(job.__module__)
    path = getattr(module, "__file__", None)
    if not path or not os.path.exists(path):
        raise BadJob(f"{job.__name__} is in no file, which workers could read: write it to one")
    if is_module:
        return str(path)
    name = job.__qualname__
    if getattr(module, name, None) is not job:
        raise BadJob(f"{name} is not at the top of {path}, where workers look for it")
    return f"{path}:{name}"


# ---- the child


def _run_child(words: list[str], progress: Progress | None) -> Result:
    ours, theirs = os.pipe()
    with open(ours, encoding="ascii") as told:
        try:
            # Not in our process group: a Ctrl-C comes to us alone, and from us to the child, once.
            child = subprocess.Popen(
                [sys.executable, "-P", "-c", _BOOT, str(theirs), *words],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs,),
                start_new_session=True,
            )
        finally:
            os.close(theirs)
        try:
            last = _listen(told, progress)
        except BaseException:
            _end(child, told)
            raise
    status = child.wait()
    if "succeeded" in last:
        return Result.of(last["succeeded"])
    if "failed" in last:
        raise with_notes(from_plain(last["failed"]))
    if status in (130, 143):
        raise JobFailed("the job was ended by a signal to the process that ran it", status=status)
    raise PytxmrError(f"the process that ran the job ended with status {status}", status=status)


def _listen(told: Any, progress: Progress | None) -> dict[str, Any]:
    """What the child says at last; its progress on the way is handed on."""
    last: dict[str, Any] = {}
    for line in told:
        last = json.loads(line)
        status = last.get("progress") or last.get("succeeded")
        if status is not None and progress is not None:
            progress(status)
    return last


def _end(child: subprocess.Popen[bytes], told: Any) -> None:
    """Have the child end its job, and wait for it; no longer, if it is interrupted again."""
    told.close()
    child.send_signal(signal.SIGINT)
    try:
        child.wait()
    except KeyboardInterrupt:
        child.send_signal(signal.SIGINT)
        child.wait()
        raise
