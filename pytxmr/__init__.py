"""MapReduce for Python programmers: jobs are plain modules of generators.

What a job module may use is here; nothing of this imports Twisted, so that it costs a worker
process next to nothing:

- ``pytxmr.params["name"]``: the job's parameters, declared by ``params = {...}`` in the module
- ``pytxmr.counter("bad lines")``: count something, summed over the whole job
- ``pytxmr.status("...")``: say what this attempt is doing
- ``pytxmr.side_file("NAME")``: the path of a file that was sent along with the job
- ``pytxmr.to("NAME", key, value)``: a pair for an output that the job declares by that name
- ``pytxmr.MapReduce``: the base of jobs written as a class
- ``pytxmr.RangePartitioner()``: a partitioner that makes the parts, in order, globally sorted
- ``pytxmr.readers``, ``pytxmr.writers``: ready-made ones, such as ``readers.csv(header=True)``
- ``pytxmr.folds``: ready-made combiners and reducers, such as ``folds.sum``
- ``pytxmr.identity``: the reducer that hands on every pair as it came
- ``pytxmr.pipeline``: views, for jobs of several steps; ``pytxmr.Step``: a step of a class
- ``pytxmr.run(job, input, output)``: run a job from a script or a notebook; ``pytxmr.JobFailed``
- ``pytxmr.batch``, ``pytxmr.columns``, ``pytxmr.Groups``: mappers and reducers that take many
  records at a time
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pytxmr.errors import JobFailed, PytxmrError
from pytxmr.job.context import counter, params, side_file, status, to
from pytxmr.job.mapreduce import MapReduce
from pytxmr.records import folds
from pytxmr.records.batch import batch
from pytxmr.records.columns import Groups, columns
from pytxmr.records.folds import identity
from pytxmr.records.partition import RangePartitioner

if TYPE_CHECKING:
    from pytxmr.result import Result

__all__ = [
    "Groups",
    "JobFailed",
    "MapReduce",
    "PytxmrError",
    "RangePartitioner",
    "batch",
    "columns",
    "counter",
    "folds",
    "identity",
    "params",
    "run",
    "side_file",
    "status",
    "to",
]
__version__ = "0.1.0"


def run(
    job: Any,
    input: Any,
    output: Any,
    *,
    progress: Callable[[dict[str, Any]], object] | None = None,
    **options: Any,
) -> Result:
    """Run a job and wait for its end: what ``pytxmr run`` does, for a program.

    ``job``: a path, ``"JOB.py"`` or ``"JOB.py:CLASS"``, or a module or class that is in a file;
    ``input``: a path or several; ``output``: a directory that must not exist. ``options`` are
    those of ``pytxmr run``, with ``_`` for ``-``: ``reducers=3``, ``split_size="64KiB"``,
    ``runner="inline"``, ``jobtracker="tcp:..."``; and ``params={"least": 2}`` for ``-D``.
    ``progress`` is called with the job's status, a dict, several times a second and at its end.

    The job runs in a process of its own, so this may be called as often as one likes, from any
    thread; with ``runner="inline"`` in this one. Raises `JobFailed` with the user's traceback, or
    another `PytxmrError` before anything runs. An exception of ``progress``, or Ctrl-C, ends the
    job and comes out when that is done.
    """
    from pytxmr.runners import blocking

    return blocking.run(job, input, output, progress=progress, **options)


#: Modules that most jobs do not use.
_LATER = ("pipeline", "readers", "testing", "writers")


def __getattr__(name: str) -> Any:
    """What most jobs do not use is imported when it is asked for."""
    if name in _LATER:
        from importlib import import_module

        return import_module(f"pytxmr.{'job.' if name == 'pipeline' else ''}{name}")
    if name == "Step":
        from pytxmr.job.steps import Step

        return Step
    raise AttributeError(f"module 'pytxmr' has no attribute {name!r}")


def __dir__() -> list[str]:
    # Without the modules that happen to be imported: they are nobody's to use.
    return sorted({*__all__, *_LATER, "Step"})
