"""What ``pytxmr plan`` shows: views, and steps: what each reads, shuffles and writes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from pytxmr.cli.report import show_table
from pytxmr.job.binding import bind
from pytxmr.job.classes import declared_by_class
from pytxmr.job.operations import Input, Shuffle, called
from pytxmr.job.pipeline import View
from pytxmr.job.steps import OUTPUT, Flow, Source, Stage, ViewStage, named_views, reachable
from pytxmr.model import JobFunctions, shown_path
from pytxmr.records.partition import stable_partition
from pytxmr.records.remote import is_remote
from pytxmr.specs import JobOptions, load_job
from pytxmr.steps import given_inputs
from pytxmr.storage.inputs import (
    CutWhereItMay,
    InputFile,
    absolute_names,
    even_split_bytes,
    list_inputs,
    plan_splits,
)

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def show_plan(options: JobOptions) -> None:
    """Raises `BadJob` or `BadInput`, as `pytxmr run` would before it runs anything."""
    code, _, module, params, stages = load_job(options)
    if stages is None:
        functions = bind(module, code, params)
        reducers = None if functions.reducer else 0
        stages = [Stage(1, (Source(Input(None, None, None)),), reducers, (functions,), ())]
    names: dict[View, str] = {}
    if isinstance(stages[-1], ViewStage):
        names = _names(named_views(module))
        used = reachable(getattr(module, OUTPUT))
        rows = [[name, "=", _made_of(view, names)] for view, name in names.items() if view in used]
        show_table(rows)
        unused = [name for view, name in names.items() if view not in used]
        if unused:
            print(f"not used: {', '.join(unused)}")
        print()
    inputs = options.inputs or declared_by_class(module, code).inputs
    given = given_inputs(stages, inputs)
    for stage in stages:
        last = stage is stages[-1]
        print(f"step {stage.number} of {len(stages)}")
        shown = _view_stage if isinstance(stage, ViewStage) else _stage
        for what, text in shown(stage, given, names, last, stages):
            print(f"  {what:<9} {text}")


def _names(named: dict[str, View]) -> dict[View, str]:
    """A view with several names has the first, but ``output`` is always called so."""
    names: dict[View, str] = {}
    for name, view in named.items():
        if name == OUTPUT or view not in names:
            names[view] = name
    return names


def _name(view: View, names: dict[View, str]) -> str:
    return names.get(view) or _made_of(view, names)


def _made_of(view: View, names: dict[View, str]) -> str:
    """How a view is made, from those before it that have names."""
    if not view.parents:
        return f"pipeline.{view.op}"
    mine, *others = (_name(parent, names) for parent in view.parents)
    name, _, options = str(view.op).partition("(")
    given = [*others, options.removesuffix(")")]
    return f"{mine}.{name}({', '.join(filter(None, given))})"


Lines = Iterator[tuple[str, str]]
Given = dict[str | None, list[str]]


def _view_stage(
    stage: ViewStage, given: Given, names: dict[View, str], last: bool, stages: list[Any]
) -> Lines:
    shuffle = stage.shuffled.op
    assert isinstance(shuffle, Shuffle)
    several = len(stage.shuffled.parents) > 1
    for source in stage.sources:
        yield "reads", _read(source, given, names, stages)
        for flow in source.flows:
            if flow.ops:
                side = f" = {_name(stage.shuffled.parents[flow.side], names)}" if several else ""
                yield "maps", f"{_chain(flow.ops)}{side}{_counted(flow, stage, stages)}"
    for number in stage.sides:
        yield "reads", f"all of {_stored(number, names, stages)}, in each worker"
    functions = stage.functions[0]
    if functions.reducer is not None:
        combiner = shuffle.combiner
        beside = f"; {called(combiner)} beside the mapper" if combiner else ""
        yield "shuffles", f"by {shuffle.by}{beside}"
        yield "reduces", f"{_chain((shuffle, *stage.after))}{_parts(stage)}"
    yield "writes", _written(stage, _name(stage.view, names), functions, last, stages)


def _stage(
    stage: Stage, given: Given, names: dict[View, str], last: bool, stages: list[Any]
) -> Lines:
    (functions,) = stage.functions
    yield "reads", _read(stage.sources[0], given, names, stages)
    yield "maps", called(functions.mapper)
    if functions.reducer is not None:
        yield from _shuffle(functions, stage)
    yield "writes", _written(stage, "pairs", functions, last, stages)


def _shuffle(functions: JobFunctions, stage: Stage) -> Lines:
    partitioner = functions.partitioner
    by = "" if partitioner is stable_partition else f", by {called(partitioner)}"
    combiner = functions.combiner
    beside = f"; {called(combiner)} beside the mapper" if combiner else ""
    yield "shuffles", f"by key{by}{beside}"
    yield "reduces", f"{called(functions.reducer)}{_parts(stage)}"


def _read(source: Source, given: Given, names: dict[View, str], stages: list[Any]) -> str:
    if isinstance(source.of, int):
        return _stored(source.of, names, stages)
    paths = given[source.of.name] or [*absolute_names([source.of.pattern or ""])]
    files = list_inputs(paths)
    size = _size(sum(file.size_bytes for file in files))
    name = f"{source.of.name}=" if source.of.name else ""
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    count = f"{len(files):,} file{'s' if len(files) != 1 else ''}"
    first = shown_path(paths[0]) if is_remote(paths[0]) else os.path.relpath(paths[0])
    return f"{name}{first}{more}: {count}, {size}{_uncut(files)}"


def _uncut(files: list[InputFile]) -> str:
    """How many files would be one map each, if the job ran here, though large enough for more."""
    cut = CutWhereItMay()
    total = sum(file.size_bytes for file in files)
    plan_splits(files, even_split_bytes(total, len(os.sched_getaffinity(0))), cut)
    return f"; {cut.whole} cannot be cut, as compressed: one map each" if cut.whole else ""


def _stored(number: int, names: dict[View, str], stages: list[Any]) -> str:
    step = stages[number - 1]
    name = _name(step.view, names) if isinstance(step, ViewStage) else "pairs"
    return f"{name}, which step {number} has written"


def _counted(flow: Flow, stage: ViewStage, stages: list[Any]) -> str:
    """Where the counters of operations are counted that earlier steps do as well."""
    again = [op for op in flow.ops if op in stage.again and op.may_count]
    if not again:
        return ""
    first = next(
        other.number
        for other in stages
        if any(again[-1] in flow.ops for source in other.sources for flow in source.flows)
    )
    return f"; {_chain(again)} counts in step {first}"


def _chain(ops: Iterable[object]) -> str:
    return " → ".join(map(str, ops))


def _parts(stage: Stage) -> str:
    return f", in {stage.reducers} part" if stage.reducers else ""


def _written(
    stage: Stage, name: str, functions: JobFunctions, last: bool, stages: list[Any]
) -> str:
    if last:
        writer = f", by {called(functions.writer)}" if functions.writer else ", as text"
        return f"{name}, the result{writer}"
    users = [str(other.number) for other in stages if stage.number in other.needs]
    return f"{name}, for step{'s' if len(users) > 1 else ''} {' and '.join(users)}"


def _size(octets: float) -> str:
    for unit in _UNITS:
        if octets < 1024 or unit == _UNITS[-1]:
            return f"{octets:.0f} {unit}" if unit == "bytes" else f"{octets:.1f} {unit}"
        octets /= 1024
    raise AssertionError
