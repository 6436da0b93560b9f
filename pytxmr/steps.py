"""A job of several steps as one: the jobs that it is run by, its status, what is left of it."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from pytxmr.errors import BadInput, BadJob
from pytxmr.job.names import nearest
from pytxmr.job.operations import Input
from pytxmr.job.steps import Stage
from pytxmr.model import JobSpec
from pytxmr.records.formats import Reader
from pytxmr.storage.inputs import absolute_names, list_inputs
from pytxmr.storage.output import BAD


def stored_path(output: str, number: int | None = None) -> str:
    """The directory in which what a step stores is, or in which all those are."""
    path = f"{output.rstrip(os.sep)}.steps"
    return path if number is None else os.path.join(path, str(number))


def step_specs(stages: list[Stage], spec: JobSpec, inputs: Iterable[str]) -> list[JobSpec]:
    """A job for each step. ``spec`` is what they have in common, ``inputs`` are as they were given.

    Raises `BadInput` for an input that no view reads, a view that has none, or what a later step
    reads and cannot be; `BadJob` for options that the steps have no place for.
    """
    given = given_inputs(stages, inputs)
    map_only = all(stage.reducers == 0 for stage in stages)
    if spec.reducers is not None and map_only != (spec.reducers == 0):
        has = "no step that shuffles; say 0, or nothing" if map_only else "steps that shuffle"
        raise BadJob(f"--reducers {spec.reducers}: {spec.code.filename} has {has}")
    if spec.keep and map_only:
        raise BadJob("--keep: a job that shuffles nothing has no spills")
    if len(stages) > 1 and os.path.lexists(stored_path(spec.output)):
        raise BadInput(
            f"{stored_path(spec.output)}, where the steps' results go, exists already; remove it "
            f"or name another output"
        )
    specs = []
    for stage in stages:
        paths: list[str] = []
        sources: list[int] = []
        for at, source in enumerate(stage.sources):
            if isinstance(source.of, int):
                found = [stored_path(spec.output, source.of)]
            else:
                found = given[source.of.name] or [*absolute_names([source.of.pattern or ""])]
            paths += found
            sources += [at] * len(found)
        last = stage is stages[-1]
        reducers = spec.reducers if stage.reducers is None else stage.reducers
        readers = [functions.reader for functions in stage.functions]
        of_several = f", step {stage.number} of {len(stages)}" if len(stages) > 1 else ""
        specs.append(
            replace(
                spec,
                name=spec.name + of_several,
                inputs=tuple(paths),
                sources=tuple(sources),
                output=spec.output if last else stored_path(spec.output, stage.number),
                reducers=reducers,
                keep=spec.keep and reducers != 0,
                compress=spec.compress if last else "none",
                whole_files=any(isinstance(one, Reader) and one.whole_files for one in readers),
                step=stage.number,
            )
        )
    for later in specs[1:]:
        # What only a later step reads would be missed when the steps before it have run.
        list_inputs(set(later.inputs).difference(one.output for one in specs))
    return specs


def given_inputs(stages: list[Stage], inputs: Iterable[str]) -> dict[str | None, list[str]]:
    """The absolute paths that were given for each input, by name. Raises `BadInput`."""
    wanted = {
        source.of.name: source.of
        for stage in stages
        for source in stage.sources
        if isinstance(source.of, Input)
    }
    names = [name for name in wanted if name is not None]
    stdin = sys.stdin and sys.stdin.buffer
    given: dict[str | None, list[str]] = {name: [] for name in wanted}
    for text in inputs:
        name, equals, pattern = text.partition("=")
        if equals and name in wanted:
            given[name] += absolute_names([pattern], stdin)
        elif None in wanted and not (names and equals and not os.path.lexists(text)):
            given[None] += absolute_names([text], stdin)
        else:
            hint = nearest(name, names) or f"; its inputs are {', '.join(map('{}='.format, names))}"
            raise BadInput(f"{text}: the job has no such input{hint}")
    for source in wanted.values():
        if not given[source.name] and source.pattern is None:
            place = "INPUT" if source.name is None else f"{source.name}=PATTERN"
            raise BadInput(f"nothing is given for {source}: add {place}")
    return given


def of_steps(ended: list[dict[str, Any]]) -> dict[str, Any]:
    """The status of a job whose steps have succeeded: that of the last, with sums over all of
    them; ``steps`` has theirs."""
    counters: Counter[str] = Counter()
    for status in ended:
        counters.update(status["counters"])
    whole = ended[-1] | {name: sum(one[name] for one in ended) for name in ("seconds", "failures")}
    del whole["step"]
    return whole | {"counters": dict(counters), "steps": ended}


def remove_stored(specs: list[JobSpec]) -> None:
    """Remove what the steps have left for each other, but for the bad records of steps that have
    succeeded."""
    output = specs[-1].output
    left = False
    for number in range(1, len(specs)):
        directory = stored_path(output, number)
        if not os.path.isdir(os.path.join(directory, BAD)):
            shutil.rmtree(directory, ignore_errors=True)
            left = left or os.path.lexists(directory)
            continue
        for name in set(os.listdir(directory)) - {BAD}:
            try:
                os.unlink(os.path.join(directory, name))
            except OSError:
                left = True
    with suppress(OSError):
        os.rmdir(stored_path(output))  # only if it is empty
    if left:
        place = stored_path(output)
        print(f"pytxmr: cannot remove {place}, the steps' results: remove it", file=sys.stderr)
