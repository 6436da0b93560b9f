"""From a job's views, or its list of steps, to MapReduce steps, and to the functions of each.

Every shuffle is a step. What is narrow costs none: maps and filters run in the mapper before a
shuffle, and those behind it in its reducer, up to where a view is used twice or shuffled again.
What the last of them gives is what the step stores, so it is computed once. What is made of an
input by narrow operations alone is not stored: each step that uses it reads the input, and the
first of them counts what it counts. To store it was the other way; where lines become words that
took twice the time, and nowhere less. What a broadcast join looks up in is always stored.

The graph is compiled anew wherever the module was imported, and is the same there: client and
workers name a step by its number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from itertools import chain, takewhile
from types import ModuleType
from typing import Any

from pytxmr.errors import BadJob
from pytxmr.job.binding import HOOKS, checked_hook, function_for, method_for, outputs_of
from pytxmr.job.classes import job_class, new_instance, own_attribute
from pytxmr.job.context import uncounted
from pytxmr.job.names import nearest
from pytxmr.job.operations import (
    BroadcastJoin,
    Function,
    Input,
    Narrow,
    Shuffle,
    Stored,
    Union,
)
from pytxmr.job.pipeline import View
from pytxmr.job.readymade import usable
from pytxmr.job.tracebacks import user_traceback
from pytxmr.model import JobCode, JobFunctions
from pytxmr.records.batch import LINES, batch_form
from pytxmr.records.folds import Fold, identity
from pytxmr.records.lookup import Table
from pytxmr.records.pairfile import PairReader, StepWriter
from pytxmr.records.partition import RangePartitioner, stable_partition

#: The view that is the job's result.
OUTPUT = "output"
#: What of a job's roles views leave to the module.
_ROLES = ("reader", "writer")


@dataclass(frozen=True)
class Step:
    """A step of a class whose ``steps()`` returns a list of them.

    Each is called as that of a job is, and may be left out; then pairs go on as they came. The
    mapper of the first gets the records of the input, that of another the pairs of the one before.
    A step with neither combiner nor reducer shuffles nothing. The hooks are those of a job.
    """

    mapper: Function | None = None
    combiner: Function | None = None
    reducer: Function | None = None
    map_init: Function | None = None
    map_final: Function | None = None
    reduce_init: Function | None = None
    reduce_final: Function | None = None

    def __post_init__(self) -> None:
        for role, function in vars(self).items():
            if function is not None and not callable(function):
                raise TypeError(f"Step({role}=...) is {type(function).__name__}, not a function")
        if isinstance(self.combiner, Fold) and not self.combiner.combines:
            raise TypeError(f"folds.{self.combiner.name} combines nothing; leave it out")
        if batch_form(self.combiner) is not None:
            raise TypeError("a combiner takes one group at a time, without @batch")
        if not self.shuffles and (self.reduce_init or self.reduce_final):
            raise TypeError("Step(): a step without a reducer has no reduce_init or reduce_final")

    @property
    def shuffles(self) -> bool:
        """Does it bring pairs together by key?"""
        return self.reducer is not None or self.combiner is not None


@dataclass(frozen=True)
class Flow:
    """Narrow operations on the way to one side of a shuffle."""

    side: int
    ops: tuple[Narrow, ...]


@dataclass(frozen=True)
class Source:
    """What a step reads: an input, or what the step of that number has stored."""

    of: Input | int
    flows: tuple[Flow, ...] = ()


@dataclass(frozen=True)
class Stage:
    """One MapReduce step; ``number`` counts from 1. ``functions`` has those of each source;
    ``reducers`` is None for as many as is said, and 0 for none. ``sides`` are the steps of whose
    results tasks read everything, as ``tables`` of the first functions."""

    number: int
    sources: tuple[Source, ...]
    reducers: int | None
    functions: tuple[JobFunctions, ...]
    sides: tuple[int, ...]

    @property
    def needs(self) -> set[int]:
        """The steps of which it reads what they have stored."""
        return {source.of for source in self.sources if isinstance(source.of, int)}.union(
            self.sides
        )


@dataclass(frozen=True)
class ViewStage(Stage):
    """``shuffled`` is made by the shuffle, and ``view``, which is stored, by ``after`` in its
    reducer, or in the mapper if there is none. ``again`` are operations that an earlier step does
    as well: what they count was counted there."""

    shuffled: View
    after: tuple[Narrow, ...]
    view: View
    again: frozenset[Narrow]


# ---- what a job's module says


def stages_of(module: ModuleType, code: JobCode, params: dict[str, Any]) -> list[Any] | None:
    """The steps of a job that has any: a class with ``steps()``, or a module with views. Raises
    `BadJob`."""
    if code.class_name:
        cls = job_class(module, code)
        return _of_class(module, cls, code, params) if hasattr(cls, "steps") else None
    views = named_views(module)
    found = getattr(module, OUTPUT, None)
    if not isinstance(found, View):
        if views and not hasattr(module, "mapper"):
            hint = nearest(OUTPUT, views) or f"; its views are {', '.join(views)}"
            raise BadJob(f"{code.filename} has no view {OUTPUT}, the job's result{hint}")
        return None
    for role in code.names:
        if role not in _ROLES:
            raise BadJob(f"--{role}: {code.filename} has views, which leave no place for it")
    for name in ("partitioner", *HOOKS):
        if hasattr(module, name):
            raise BadJob(f"{code.filename}: views leave no place for a {name}; take it out")
    for view in reachable(found):
        if isinstance(view.op, Input):
            usable(view.op.reader, "reader", code.filename)
    own = {role: usable(function_for(module, code, role), role, code.filename) for role in _ROLES}
    if outputs_of(module, code, None):
        raise BadJob(f"{code.filename}: views leave no place for outputs by name; take them out")
    names = {view: name for name, view in views.items()}
    return compile_views(found, own["reader"], own["writer"], names)


def named_views(module: ModuleType) -> dict[str, View]:
    """The module's views by the names of their variables."""
    return {name: view for name, view in vars(module).items() if isinstance(view, View)}


# ---- views


def compile_views(
    output: View,
    reader: Function | None = None,
    writer: Function | None = None,
    names: Mapping[View, str] | None = None,
) -> list[ViewStage]:
    """The steps of a view, in an order in which they can be run. ``reader`` is for inputs without
    one of their own, ``writer`` for the last step; messages name views by ``names``."""
    return _Graph(output, names or {}).stages(reader, writer)


class _Graph:
    """Which step makes what of the views that ``output`` needs."""

    def __init__(self, output: View, names: Mapping[View, str]) -> None:
        self._names = names
        views = reachable(output)
        users: dict[View, list[View]] = {view: [] for view in views}
        for view in views:
            for parent in view.parents:
                users[parent].append(view)
        #: The views that are looked up in, by how.
        self._looked_up = {
            view.op.table: view.parents[1] for view in views if isinstance(view.op, BroadcastJoin)
        }
        looked_up = set(self._looked_up.values())
        #: Of each step: its shuffle, what its reducer does after that, what it stores.
        self._ends: list[tuple[View, tuple[Narrow, ...], View]] = []
        #: The numbers of the steps that store views, and of those that store pairs as they are.
        self._made: dict[View, int] = {}
        self._pairs: set[int] = set()
        #: The operations of steps that were made already: they count there.
        self._counted: set[Narrow] = set()
        for view in views:
            if isinstance(view.op, Shuffle):
                self._store(view, *_behind(view, users))
            elif (view in looked_up or view is output) and view not in self._made:
                self._store(View((view,), Stored()), (), view)

    def _store(self, shuffled: View, after: tuple[Narrow, ...], end: View) -> None:
        self._ends.append((shuffled, after, end))
        self._made[end] = len(self._ends)
        if _hands_on_pairs(shuffled.op, after):
            self._pairs.add(len(self._ends))

    def stages(self, reader: Function | None, writer: Function | None) -> list[ViewStage]:
        return [
            self._stage(number, *end, (reader, writer), number == len(self._ends))
            for number, end in enumerate(self._ends, 1)
        ]

    def _stage(
        self,
        number: int,
        shuffled: View,
        after: tuple[Narrow, ...],
        view: View,
        own: tuple[Function | None, Function | None],
        last: bool,
    ) -> ViewStage:
        shuffle = shuffled.op
        assert isinstance(shuffle, Shuffle)
        flows: dict[View | int, list[Flow]] = {}
        for side, parent in enumerate(shuffled.parents):
            for origin, ops in self._origins(parent, number):
                # What has no reducer is all done by its mapper.
                ops += () if shuffle.reducers != 0 else after
                flows.setdefault(origin, []).append(Flow(side, ops))
        done = [flow.ops for of_it in flows.values() for flow in of_it]
        tables = _tables([*done, after])
        again = self._counted.intersection(chain.from_iterable(done))
        partitioner: Any = _by_first if shuffle.by_part else stable_partition
        if shuffle.by_range:
            partitioner = RangePartitioner()  # one for all sources, as it is bound once
        reader, writer = own
        sources = []
        functions = []
        for origin, of_it in flows.items():
            op = origin.op if isinstance(origin, View) else origin
            assert isinstance(op, Input | int)
            sources.append(Source(op, tuple(of_it)))
            functions.append(
                JobFunctions(
                    mapper=_mapper(_emit(shuffle, last), of_it, op in self._pairs, again),
                    reducer=_reducer(shuffle, after, last),
                    combiner=shuffle.combiner,
                    partitioner=partitioner,
                    reader=PairReader() if isinstance(op, int) else op.reader or reader,
                    writer=writer if last else StepWriter(),
                    by_part=shuffle.by_part,
                    map_init=_loading(_tables(flow.ops for flow in of_it)),
                    reduce_init=_loading(_tables([after])) if shuffle.reducers != 0 else None,
                    tables=tuple(tables),
                )
            )
        self._counted.update(*done)
        return ViewStage(
            number,
            tuple(sources),
            shuffle.reducers,
            tuple(functions),
            tuple(map(self._side, tables)),
            shuffled,
            after,
            view,
            frozenset(again),
        )

    def _side(self, table: Table) -> int:
        """The step that has stored it."""
        view = self._looked_up[table]
        number = self._made[view]
        table.name(self._names.get(view, "the view in the parentheses"), number in self._pairs)
        return number

    def _origins(self, view: View, number: int) -> Iterator[tuple[View | int, tuple[Narrow, ...]]]:
        """Where the step of that number reads a view's elements, and what is done on the way."""
        if self._made.get(view, number) != number:
            yield self._made[view], ()
        elif isinstance(view.op, Input):
            yield view, ()
        else:
            assert isinstance(view.op, Narrow | Union)
            more = (view.op,) if isinstance(view.op, Narrow) else ()
            for parent in view.parents[:1] if more else view.parents:
                for origin, ops in self._origins(parent, number):
                    yield origin, ops + more


def _behind(view: View, users: dict[View, list[View]]) -> tuple[tuple[Narrow, ...], View]:
    """What is made of a view alone, by narrow operations: these, and the last view of them."""
    ops: tuple[Narrow, ...] = ()
    while len(users[view]) == 1:
        (user,) = users[view]
        if not isinstance(user.op, Narrow) or user.parents[0] is not view:
            break
        ops += (user.op,)
        view = user
    return ops, view


def _tables(flows: Iterable[tuple[Narrow, ...]]) -> list[Table]:
    """What is looked up in on the way."""
    ops = chain.from_iterable(flows)
    return [*dict.fromkeys(op.table for op in ops if isinstance(op, BroadcastJoin))]


def _loading(tables: list[Table]) -> Function | None:
    """The hook that has them in memory."""
    if not tables:
        return None

    def load() -> None:
        for table in tables:
            table.load()

    return load


def reachable(output: View) -> list[View]:
    """The views that a view is made of, and itself: each once, behind what it is made of."""
    found: dict[View, None] = {}
    waiting = [(output, False)]
    while waiting:
        view, parents_done = waiting.pop()
        if view in found:
            continue
        if parents_done:
            found[view] = None
        else:
            waiting.append((view, True))
            # What is looked up in comes first: the step that does so may be that of the other.
            in_turn = isinstance(view.op, BroadcastJoin)
            parents = view.parents if in_turn else reversed(view.parents)
            waiting += [(parent, False) for parent in parents]
    return list(found)


def _hands_on_pairs(shuffle: Any, after: tuple[Narrow, ...]) -> bool:
    """Are the elements of what a step stores its pairs, and not the values of these?"""
    return shuffle.result is not None and not after


#: ``emit(side, key, elements)``: see `operations.Shuffle`.
_Emit = Callable[[int, Any, Iterable[Any]], Iterator[tuple[Any, Any]]]


def _emit(shuffle: Shuffle, last: bool) -> _Emit:
    if last and shuffle.reducers == 0:
        return lambda side, key, items: _as_pairs(items)
    return shuffle.emit


def _mapper(emit: _Emit, flows: list[Flow], takes_pairs: bool, counted: Set[Narrow]) -> Function:
    """``counted``: what has counted in an earlier step what there was to count."""
    if len(flows) == 1:  # said here again: it is called for each record
        side, run = flows[0].side, _fused(flows[0].ops, counted)
        if takes_pairs:
            return lambda key, value: emit(side, key, run(((key, value),)))
        return lambda key, value: emit(side, key, run((value,)))
    emitted = _branches(emit, [(flow.side, flow.ops) for flow in flows], counted)
    if takes_pairs:
        return lambda key, value: emitted(key, ((key, value),))
    return lambda key, value: emitted(key, (value,))


def _branches(
    emit: _Emit, flows: list[tuple[int, tuple[Narrow, ...]]], counted: Set[Narrow]
) -> Callable[[Any, Iterable[Any]], Iterable[Any]]:
    """All that is emitted for some elements. What flows begin with in common is done once."""
    if len(flows) == 1:
        ((side, ops),) = flows
        run = _fused(ops, counted)
        return lambda key, items: emit(side, key, run(items))
    first = flows[0][1]
    same = 0
    while all(ops[same : same + 1] == first[same : same + 1] != () for _, ops in flows):
        same += 1
    run = _fused(first[:same], counted)
    by_next: dict[Any, list[tuple[int, tuple[Narrow, ...]]]] = {}
    for at, (side, ops) in enumerate(flows):
        # A flow that ends here has nothing more in common with others.
        by_next.setdefault(ops[same] if same < len(ops) else at, []).append((side, ops[same:]))
    branches = [_branches(emit, some, counted) for some in by_next.values()]

    def emitted(key: Any, items: Iterable[Any]) -> Iterable[Any]:
        items = list(run(items))
        return chain.from_iterable(branch(key, items) for branch in branches)

    return emitted


def _fused(
    ops: tuple[Narrow, ...], counted: Set[Narrow] = frozenset()
) -> Callable[[Iterable[Any]], Iterable[Any]]:
    # What leads to a view that an earlier step has made as well was done there, all of it.
    again = len(list(takewhile(counted.__contains__, ops)))
    if any(op.may_count for op in ops[:again]):
        first, then = uncounted(_fused(ops[:again])), _fused(ops[again:])
        return lambda items: then(first(items))
    if not ops:
        return lambda items: items
    head, *rest = (op.run for op in ops)
    if not rest:
        return head

    def run(items: Iterable[Any]) -> Iterable[Any]:
        items = head(items)
        for step in rest:
            items = step(items)
        return items

    return run


def _reducer(shuffle: Shuffle, after: tuple[Narrow, ...], last: bool) -> Function | None:
    if shuffle.reducers == 0:
        return None
    if _hands_on_pairs(shuffle, after):
        return shuffle.result
    reduce, run = shuffle.reduce, _fused(after)
    if last:
        return lambda key, values: _as_pairs(run(reduce(key, values)))
    return lambda key, values: ((None, item) for item in run(reduce(key, values)))


def _as_pairs(items: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Elements as the writer gets them: what is no pair is a key with None."""
    for item in items:
        yield item if type(item) is tuple and len(item) == 2 else (item, None)


def _by_first(key: Any, partitions: int) -> int:
    return stable_partition(key[0], partitions)


# ---- classes


def _of_class(
    module: ModuleType, cls: type[Any], code: JobCode, params: dict[str, Any]
) -> list[Stage]:
    for role in code.names:
        if role not in _ROLES:
            raise BadJob(f"--{role}: {code.class_name} has steps(), which name what each calls")
    instance = new_instance(cls, code, params)
    try:
        steps = instance.steps()
    except Exception as error:
        raise BadJob(
            f"{code.filename}: {code.class_name}.steps() raised {type(error).__name__}: {error}",
            traceback=user_traceback(error),
        ) from error
    if not isinstance(steps, list | tuple) or not steps:
        raise BadJob(f"{code.filename}: {code.class_name}.steps() is no list of pytxmr.Step")
    for step in steps:
        if not isinstance(step, Step):
            raise BadJob(
                f"{code.filename}: in {code.class_name}.steps(), {step!r:.100} is no pytxmr.Step"
            )
    for hook in HOOKS:
        found = own_attribute(instance, hook)
        if found is not None and found not in [getattr(step, hook) for step in steps]:
            raise BadJob(
                f"{code.filename}: {code.class_name} has {hook}(), which is of no step; say "
                f"Step(..., {hook}=self.{hook})"
            )
    own = {
        role: usable(method_for(instance, code, role), role, code.filename)
        for role in ("partitioner", *_ROLES)
    }
    stages = []
    for number, step in enumerate(steps, 1):
        first, last = number == 1, number == len(steps)
        if batch_form(step.mapper) in LINES and not (first and own["reader"] is None):
            raise BadJob(
                f"{code.filename}: a batch mapper reads the input itself: it is for a first step, "
                f'without a reader; others take @pytxmr.batch("records")'
            )
        hooks = {hook: checked_hook(getattr(step, hook), code, hook) for hook in HOOKS}
        reducer = identity if step.reducer is None and step.shuffles else step.reducer
        combiner = step.combiner
        if combiner is None and isinstance(reducer, Fold) and reducer.combines:
            combiner = reducer
        functions = JobFunctions(
            mapper=_same if step.mapper is None else step.mapper,
            reducer=reducer,
            combiner=combiner,
            partitioner=own["partitioner"] or stable_partition,
            reader=own["reader"] if first else PairReader(),
            writer=own["writer"] if last else StepWriter(),
            outputs=outputs_of(module, code, own["writer"]) if last else {},
            **hooks,
        )
        if any(hooks.values()):
            renew = _renew(module, cls, code, params, functions, number)
            functions = replace(functions, renew=renew)
        of: Input | int = Input(None, None, None) if first else number - 1
        reducers = None if step.shuffles else 0
        stages.append(Stage(number, (Source(of),), reducers, (functions,), ()))
    return stages


def _renew(
    module: ModuleType,
    cls: type[Any],
    code: JobCode,
    params: dict[str, Any],
    functions: JobFunctions,
    number: int,
) -> Callable[[], JobFunctions]:
    def renew() -> JobFunctions:
        stage = _of_class(module, cls, code, params)[number - 1]
        (again,), kept = stage.functions, functions.partitioner
        return replace(again, partitioner=kept) if isinstance(kept, RangePartitioner) else again

    return renew


def _same(key: Any, value: Any) -> Iterator[tuple[Any, Any]]:
    return iter(((key, value),))


# ---- running


def functions_of(
    module: ModuleType, code: JobCode, params: dict[str, Any], number: int
) -> JobFunctions:
    """The functions of one step; `JobFunctions.of` gives those of each of its sources."""
    stages = stages_of(module, code, params)
    assert stages is not None
    functions: tuple[JobFunctions, ...] = stages[number - 1].functions
    return replace(functions[0], sources=functions)
