"""A job of several steps as one: the jobs that it is run by, its status, what is left of it.

What a step stores goes to a directory of its own, beside the output unless it is said where::

    OUTPUT.steps/1/part-00000, ..., _SUCCESS
    OUTPUT.steps/2/...

So a step is run again, by itself or with those after it, on what the others have left. Then the
results that were made of its own older one go before it begins: what is there always fits together.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pytxmr.errors import BadInput, BadJob
from pytxmr.job.names import nearest
from pytxmr.job.operations import Input
from pytxmr.job.steps import Stage, ViewStage, named_views
from pytxmr.model import JobSpec
from pytxmr.records.formats import Reader
from pytxmr.records.partition import RangePartitioner
from pytxmr.records.remote import is_remote
from pytxmr.storage.inputs import absolute_names, list_inputs
from pytxmr.storage.output import OutputDirectory
from pytxmr.storage.stepresults import remove_results
from pytxmr.submission import params_digest

if TYPE_CHECKING:
    from pytxmr.specs import JobOptions


def step_specs(
    stages: list[Stage],
    spec: JobSpec,
    inputs: Iterable[str],
    options: JobOptions,
    module: ModuleType,
) -> list[JobSpec]:
    """A job for each step that is to run. ``spec`` is what they have in common, ``inputs`` are as
    they were given.

    Raises `BadInput` for an input that no view reads, a view that has none, what a later step reads
    and cannot be, or a step's result that is not there; `BadJob` for options that the steps have no
    place for.
    """
    place = (
        os.path.abspath(options.steps) if options.steps else f"{spec.output.rstrip(os.sep)}.steps"
    )
    running = chosen_steps(stages, module, options)
    given = given_inputs(stages, inputs, running)
    map_only = all(stage.reducers == 0 for stage in stages)
    if spec.reducers is not None and map_only != (spec.reducers == 0):
        has = "no step that shuffles; say 0, or nothing" if map_only else "steps that shuffle"
        raise BadJob(f"--reducers {spec.reducers}: {spec.code.filename} has {has}")
    if spec.keep and map_only:
        raise BadJob("--keep: a job that shuffles nothing has no spills")
    if len(stages) > 1 and is_remote(options.steps or place):
        raise BadInput(
            f"{spec.output}: the job has steps; say by --steps DIR where they leave their results "
            f"for each other, in a directory that all machines have"
        )
    specs = []
    for stage in running:
        paths: list[str] = []
        sources: list[int] = []
        for at, source in enumerate(stage.sources):
            if isinstance(source.of, int):
                found = [os.path.join(place, str(source.of))]
            else:
                found = given[source.of.name] or [*absolute_names([source.of.pattern or ""])]
            paths += found
            sources += [at] * len(found)
        last = stage is stages[-1]
        reducers = spec.reducers if stage.reducers is None else stage.reducers
        readers = [functions.reader for functions in stage.functions]
        specs.append(
            replace(
                spec,
                name=_name(spec, stage.number, len(stages)),
                inputs=tuple(paths),
                sources=tuple(sources),
                sides=tuple(os.path.join(place, str(side)) for side in stage.sides),
                output=spec.output if last else os.path.join(place, str(stage.number)),
                reducers=reducers,
                keep=spec.keep and reducers != 0,
                compress=spec.compress if last else "none",
                whole_files=any(isinstance(one, Reader) and one.whole_files for one in readers),
                combines=all(functions.combiner is not None for functions in stage.functions),
                step=stage.number,
                steps=len(stages),
            )
        )
    _check_places(stages, running, spec, place, options)
    for later in specs[1:]:
        # What only a later step reads would be missed when the steps before it have run.
        list_inputs(set(later.inputs).difference(one.output for one in specs))
    specs[0] = replace(specs[0], replaces=tuple(_outdated(stages, running, place)))
    # Who runs some of the steps has kept the others, and goes on so.
    keep = options.keep_steps or options.from_ or options.only
    leaves = () if keep else tuple(one.output for one in specs if one.step != one.steps)
    return [
        _sampled(stage, replace(one, leaves=leaves))
        for stage, one in zip(running, specs, strict=True)
    ]


def _sampled(stage: Stage, spec: JobSpec) -> JobSpec:
    """A step's job with a sample of its keys, if they are cut into ranges: taken now, if all that
    it is made of is there already."""
    first = stage.functions[0]
    if not isinstance(first.partitioner, RangePartitioner) or spec.reducers == 1:
        return spec
    if stage.sides or any(isinstance(source.of, int) for source in stage.sources):
        return replace(spec, key_sample=b"")
    from pytxmr.sampling import sample_of

    functions = replace(first, sources=stage.functions)
    return replace(spec, key_sample=sample_of(functions, spec.sourced_inputs))


def _name(spec: JobSpec, number: int, steps: int) -> str:
    return f"{spec.name}, step {number} of {steps}" if steps > 1 else spec.name


# ---- which steps


def chosen_steps(stages: list[Stage], module: ModuleType, options: JobOptions) -> list[Stage]:
    """Those that ``--from`` or ``--only`` name; without them all. Raises `BadJob`."""
    if options.only:
        number = _number(stages, module, "--only", options.only)
        return stages[number - 1 : number]
    if options.from_:
        return stages[_number(stages, module, "--from", options.from_) - 1 :]
    return stages


def _number(stages: list[Stage], module: ModuleType, option: str, text: str) -> int:
    views = named_views(module)
    names = {
        name: stage.number
        for stage in stages
        if isinstance(stage, ViewStage)
        for name, view in views.items()
        if view is stage.view
    }
    if text.isascii() and text.isdigit() and 1 <= int(text) <= len(stages):
        return int(text)
    if text in names:
        return names[text]
    shown = {number: name for name, number in reversed(names.items())}
    steps = [
        f"{number} ({shown[number]})" if number in shown else f"{number}"
        for number in range(1, len(stages) + 1)
    ]
    if text in views:
        what = f"{text} is a view that no step stores"
    else:
        what = f"the job has no such step{nearest(text, names)}"
    raise BadJob(f"{option} {text}: {what}; its steps are {', '.join(steps)}")


# ---- what is there of them


def _check_places(
    stages: list[Stage], running: list[Stage], spec: JobSpec, place: str, options: JobOptions
) -> None:
    """Nothing is where something is to be written, and what is to be read is there. Raises
    `BadInput`."""
    chosen = options.from_ or options.only
    again = os.path.isdir(place) and _first_missing(stages, spec, place)
    if stages[-1] in running and os.path.lexists(spec.output):
        other = f" (--output OTHER --steps {os.path.relpath(place)})" if again and chosen else ""
        raise BadInput(
            f"the output directory {spec.output} exists already; remove it or name another{other}"
        )
    inside = not is_remote(spec.output) and os.path.commonpath([place, spec.output]) == spec.output
    if inside:
        raise BadInput(f"--steps {options.steps}: it lies in the output, which the job makes")
    if not chosen:
        if len(stages) > 1 and os.path.lexists(place):
            go_on = f", or go on with --from {again}" if again and again > 1 else ""
            raise BadInput(
                f"{place}, where the steps' results go, exists already; remove it or name another "
                f"output{go_on}"
            )
        return
    ours = {stage.number for stage in running}
    for number in sorted(set().union(*[stage.needs for stage in running]) - ours):
        path = os.path.join(place, str(number))
        problem = _missing(path, _name(spec, number, len(stages)))
        if problem:
            where = "" if os.path.isdir(place) else "--steps DIR says where it is, or "
            raise BadInput(
                f"step {running[0].number} reads what step {number} has stored, but {problem}; "
                f"{where}--from {number} runs that step, too"
            )
        _tell_of_kept(path, spec, number, len(stages))


def _first_missing(stages: list[Stage], spec: JobSpec, place: str) -> int:
    """The number of the first step of which no result is kept."""
    for stage in stages[:-1]:
        path = os.path.join(place, str(stage.number))
        if _missing(path, _name(spec, stage.number, len(stages))):
            return stage.number
    return len(stages)


def _missing(path: str, name: str) -> str:
    """Why the result of the step that is called so cannot be read there; empty if it can."""
    manifest = OutputDirectory(path, "").manifest()
    if not manifest:
        return f"it is not in {path}" if not os.path.lexists(path) else f"{path} is not complete"
    if manifest.get("name") != name:
        return f"{path} is of {manifest.get('name')}, not of {name}"
    for part in manifest["parts"]:
        try:
            whole = os.path.getsize(os.path.join(path, part["name"])) == part["bytes"]
        except OSError:
            whole = False
        if not whole:
            return f"{path} lacks {part['name']}, or a piece of it"
    return ""


def _tell_of_kept(path: str, spec: JobSpec, number: int, steps: int) -> None:
    manifest = OutputDirectory(path, "").manifest()
    notes = [
        note
        for name, now, note in (
            ("source_sha256", spec.code.digest, f"by a different {spec.name}"),
            ("params_sha256", params_digest(spec.params), "with other parameters"),
        )
        if manifest.get(name) != now
    ]
    made = f", made {' and '.join(notes)}" if notes else ""
    shown = os.path.relpath(path)
    print(f"pytxmr: step {number} of {steps}: its result is in {shown}{made}", file=sys.stderr)


def _outdated(stages: list[Stage], running: list[Stage], place: str) -> list[str]:
    """The results of the steps that run again, and what others have made of them. Raises `BadInput`
    for a directory in the place of one that is no step's result."""
    numbers = {stage.number for stage in running}
    for stage in stages:
        if stage.needs & numbers:
            numbers.add(stage.number)
    numbers.discard(stages[-1].number)
    paths = [os.path.join(place, str(number)) for number in sorted(numbers)]
    return [path for path in paths if os.path.lexists(path)]


# ---- inputs


def given_inputs(
    stages: list[Stage], inputs: Iterable[str], running: list[Stage] | None = None
) -> dict[str | None, list[str]]:
    """The absolute paths that were given for each input, by name; what only steps read that do not
    run may be left out. Raises `BadInput`."""
    wanted = inputs_of(stages)
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
    for source in inputs_of(stages if running is None else running).values():
        if not given[source.name] and source.pattern is None:
            place = "INPUT" if source.name is None else f"{source.name}=PATTERN"
            raise BadInput(f"nothing is given for {source}: add {place}")
    return given


def inputs_of(stages: list[Stage]) -> dict[str | None, Input]:
    """What the steps read beside each other's results, by name."""
    sources = [source.of for stage in stages for source in stage.sources]
    return {source.name: source for source in sources if isinstance(source, Input)}


# ---- when they have run


def of_steps(ended: list[dict[str, Any]]) -> dict[str, Any]:
    """The status of a job whose steps have succeeded: that of the last, with sums over all of
    them; ``steps`` has theirs."""
    counters: Counter[str] = Counter()
    for status in ended:
        counters.update(status["counters"])
    whole = ended[-1] | {name: sum(one[name] for one in ended) for name in ("seconds", "failures")}
    whole.pop("step", None)
    return whole | {"counters": dict(counters), "steps": ended}


def remove_stored(specs: list[JobSpec]) -> None:
    """Remove what the steps have left for each other, unless it is to be kept."""
    left = remove_results(specs[0])
    if left:
        place = os.path.dirname(left[0])
        print(f"pytxmr: cannot remove {place}, the steps' results: remove it", file=sys.stderr)


def how_to_go_on(specs: list[JobSpec]) -> str:
    """What to say of a job that has not come to its end, and whose steps' results are kept; nothing
    if there is none of them, or if it still runs."""
    stopped = next(spec for spec in specs if spec is specs[-1] or _missing(spec.output, spec.name))
    if stopped.step == 1 or os.path.lexists(stopped.output):
        return ""
    return f"--from {stopped.step} goes on with what the steps before it have stored"
