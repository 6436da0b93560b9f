"""Hooks: what a job does once before an attempt's first record or key, and once after its last."""

from __future__ import annotations

from collections import Counter

import pytest
from attempts import OURS, add_up, failed_map, failed_reduce, functions, loaded, map_all, run, whole
from test_quarantine import Run

from pytxmr.job.tracebacks import user_traceback
from pytxmr.records import folds
from pytxmr.records.mapping import sample_keys

LINES = b"b a\na b\nc a\n"
IN_MAPPER = """
    import pytxmr
    from collections import Counter

    class Words(pytxmr.MapReduce):
        def map_init(self):
            self.counts = Counter()

        def map(self, key, value):
            self.counts.update(value.split())
            return ()

        def map_final(self):
            yield from self.counts.items()

        def reduce(self, key, values):
            yield key, sum(values)
    """


@pytest.fixture
def lines(tmp_path):
    path = tmp_path / "in.txt"
    path.write_bytes(LINES)
    return path


def test_each_attempt_of_a_class_begins_with_an_instance_of_its_own(tmp_path, lines):
    # Nothing is reset here but by what __init__ does.
    job = loaded(IN_MAPPER.replace("map_init", "__init__"), "Words")
    assert run(job, [whole(lines), whole(lines)], tmp_path) == [b"a\t6\nb\t4\nc\t2\n"]


# Of a class that has a hook, so that what it keeps from __init__ on is of one attempt.
KEEPING = """
    import pytxmr

    class Job(pytxmr.MapReduce):
        def __init__(self):
            self.seen = 0

        def map(self, key, value):
            self.seen += 1
            yield value, {third} if self.seen == 3 else 1

        def reduce(self, key, values):
            self.seen += 1
            return ()

        def reduce_final(self):
            yield "keys", self.seen
    """


def test_each_reduce_of_a_class_begins_with_an_instance_of_its_own(tmp_path, lines):
    method = "    def partition(self, key, partitions): return int(key != 'a b')\n    "
    job = loaded(KEEPING.format(third=1) + method, "Job")
    parts = run(job, [whole(lines)], tmp_path, partitions=2)
    assert parts == [b"keys\t1\n", b"keys\t2\n"]


def test_a_record_at_fault_is_looked_for_with_a_new_instance(tmp_path):
    error = failed_map(tmp_path, loaded(KEEPING.format(third="open"), "Job"))
    assert error.details["where"].endswith("offset 8, record 'three'")
    assert error.message.startswith("for the key 'three': ")


def test_a_sample_is_taken_of_a_new_instance(lines):
    job = loaded(
        KEEPING.format(third=1).replace("yield value", "if self.seen < 3: yield value"), "Job"
    )
    for _ in range(2):
        assert sample_keys(job, whole(lines), 10) == ["b a", "a b"]


def test_what_a_combiner_in_the_mapper_counted_is_counted_once(tmp_path, lines):
    _, (outcome,) = map_all(loaded(IN_MAPPER, "Words"), [whole(lines)], tmp_path)
    assert outcome.counters["map output records"] == 3
    assert run(loaded(IN_MAPPER, "Words"), [whole(lines)], tmp_path) == [b"a\t3\nb\t2\nc\t1\n"]


def test_a_module_begins_each_attempt_with_its_init(tmp_path, lines):
    job = loaded("""
        from collections import Counter
        counts = Counter()
        map_init = counts.clear

        def mapper(key, value):
            counts.update(value.split())
            return ()

        def map_final():
            yield from counts.items()

        def reducer(key, values):
            yield key, sum(values)
        """)
    assert run(job, [whole(lines), whole(lines)], tmp_path) == [b"a\t6\nb\t4\nc\t2\n"]


def test_a_hook_of_a_class_has_the_parameters_and_its_methods_one_instance(tmp_path, lines):
    job = loaded(
        """
        import pytxmr
        class Job(pytxmr.MapReduce):
            def map_init(self):
                self.least = 2
                self.of_params = dict(self.params)
            def map(self, key, value):
                for word in value.split():
                    yield word, 1
            def partition(self, key, partitions):
                return self.least - 2
            def combine(self, key, values):
                yield key, sum(values) * (self.of_params == {})
            def reduce(self, key, values):
                yield key, sum(values)
        """,
        "Job",
    )
    assert run(job, [whole(lines)], tmp_path, partitions=2) == [b"a\t3\nb\t2\nc\t1\n", b""]


@pytest.mark.parametrize("reducer", [add_up, folds.sum], ids=["a function", "a fold"])
def test_both_hooks_of_both_kinds_may_yield_pairs(tmp_path, lines, reducer):
    called = []

    def hook(name, key):
        def yielding():
            called.append(name)
            yield key, 1

        return yielding

    job = functions(
        reducer=reducer,
        map_init=hook("map_init", "a"),
        map_final=hook("map_final", "z"),
        reduce_init=hook("reduce_init", "first"),
        reduce_final=hook("reduce_final", "last"),
    )
    assert run(job, [whole(lines)], tmp_path) == [b"first\t1\na\t4\nb\t2\nc\t1\nz\t1\nlast\t1\n"]
    assert called == ["map_init", "map_final", "reduce_init", "reduce_final"]


def test_hooks_that_yield_nothing_add_nothing(tmp_path, lines):
    called = []
    hooks = {
        name: lambda name=name: called.append(name)
        for name in ("map_init", "map_final", "reduce_init", "reduce_final")
    }
    job = functions(**hooks)
    assert run(job, [whole(lines)], tmp_path) == run(functions(), [whole(lines)], tmp_path)
    assert called == list(hooks)


def test_hooks_are_called_once_for_all_files_of_a_split_and_where_there_is_no_key(tmp_path, lines):
    called = []
    other = tmp_path / "other.txt"
    other.write_bytes(b"\n")
    hooks = {
        name: lambda name=name: called.append(name)
        for name in ("map_init", "map_final", "reduce_init", "reduce_final")
    }
    run(functions(lambda key, value: (), **hooks), [whole(other, other)], tmp_path)
    assert called == list(hooks)


@pytest.mark.parametrize("form", ["lines", "bytes", "buffer"])
def test_hooks_of_a_batch_mapper_may_yield_whatever_that_yields(tmp_path, lines, form):
    job = loaded(f"""
        import pytxmr
        from collections import Counter
        counts = Counter()

        def map_init():
            counts.clear()
            yield pytxmr.columns(["first"])

        @pytxmr.batch({form!r})
        def mapper(offset, records):
            counts["batches"] += 1
            return ()

        def map_final():
            yield counts
            yield "pair", 1

        def reducer(key, values):
            yield key, list(values)
        """)
    assert run(job, [whole(lines)], tmp_path) == [b"batches\t[1]\nfirst\t[null]\npair\t[1]\n"]


def test_a_batch_reducer_has_hooks_too(tmp_path, lines):
    job = loaded("""
        import pytxmr

        def mapper(key, value):
            for word in value.split():
                yield word, 1

        def reduce_init():
            global keys
            keys = 0

        @pytxmr.batch
        def reducer(groups):
            global keys
            keys += len(groups.keys)
            return ()

        def reduce_final():
            yield {"keys": keys}
        """)
    assert run(job, [whole(lines)], tmp_path) == [b"keys\t3\n"]


# What goes wrong


def raising(*arguments):
    raise ValueError("no luck")


def yielding_then_raising():
    yield "key", 1
    raise ValueError("no luck")


@pytest.mark.parametrize("hook", ["map_init", "map_final"])
@pytest.mark.parametrize("broken", [raising, yielding_then_raising])
def test_a_hook_of_a_map_that_raises_is_named(tmp_path, hook, broken):
    error = failed_map(tmp_path, functions(**{hook: broken}))
    assert error.message == f"{hook}() raised ValueError: no luck"
    assert not error.details.get("where")
    shown = user_traceback(error.__cause__)
    assert broken.__name__ in shown
    assert OURS not in shown


@pytest.mark.parametrize("hook", ["reduce_init", "reduce_final"])
@pytest.mark.parametrize("broken", [raising, yielding_then_raising])
def test_a_hook_of_a_reduce_that_raises_is_named(tmp_path, hook, broken):
    error = failed_reduce(tmp_path, functions(**{hook: broken}))
    assert error.message == f"{hook}() raised ValueError: no luck"
    assert error.details == {}
    assert broken.__name__ in user_traceback(error.__cause__)


def test_after_a_hook_it_is_the_mapper_again_that_raises(tmp_path):
    error = failed_map(tmp_path, functions(raising, map_init=lambda: [("key", 1)]))
    assert error.message == "the mapper raised ValueError: no luck"
    assert error.details["where"].endswith("offset 0, record 'one'")
    error = failed_reduce(tmp_path, functions(reducer=raising, reduce_init=lambda: [("key", 1)]))
    assert error.message == "the reducer raised ValueError: no luck"
    assert error.details == {"where": "key 'four'"}


def test_a_writer_that_raises_over_what_a_hook_yields_is_blamed_itself(tmp_path):
    def writer(pairs):
        for key, _ in pairs:
            if key == "key":
                raise ValueError(key)
            yield f"{key}\n"

    error = failed_reduce(tmp_path, functions(writer=writer, reduce_final=lambda: [("key", 1)]))
    assert error.message == "the writer raised ValueError: key"


@pytest.mark.parametrize("hook", ["map_init", "map_final"])
@pytest.mark.parametrize("form", [None, "lines", "buffer"])
@pytest.mark.parametrize(
    ("made", "problem"),
    [
        ([("k", 1), ("k", open)], "for the key 'k'"),
        ([("k", 1), "ab"], "{hook}() yielded 'ab': not a pair (key, value)"),
        (["ab"], "{hook}() yielded 'ab': not a pair (key, value)"),
    ],
)
def test_what_a_hook_of_a_map_yields_is_checked_as_what_the_mapper_yields(
    tmp_path, hook, form, made, problem
):
    import pytxmr

    def mapper(key, value):
        return [("k", 1)]

    job = functions(pytxmr.batch(form)(mapper) if form else mapper, **{hook: lambda: iter(made)})
    error = failed_map(tmp_path, job)
    assert error.message.startswith(problem.format(hook=hook))
    assert error.details["final"]
    assert not error.details.get("where")


@pytest.mark.parametrize("hook", ["map_init", "map_final", "reduce_init", "reduce_final"])
def test_a_hook_that_returns_what_is_no_pairs_is_told_so(tmp_path, hook):
    failed = failed_map if hook.startswith("map") else failed_reduce
    error = failed(tmp_path, functions(**{hook: lambda: 7}))
    assert error.message.startswith(f"{hook}() ")
    assert "int" in error.message
    assert error.details["final"]


@pytest.mark.parametrize("hook", ["reduce_init", "reduce_final"])
def test_a_hook_of_a_reduce_yields_pairs_or_is_refused(tmp_path, hook):
    error = failed_reduce(tmp_path, functions(**{hook: lambda: ["ab"]}))
    assert error.message.startswith(f"{hook}() yielded 'ab': not a pair (key, value)")
    assert error.details == {"final": True}


def test_a_fold_cannot_take_a_value_of_a_hook_and_says_so(tmp_path):
    job = functions(reducer=folds.sum, combiner=folds.sum, map_final=lambda: [("k", 1), ("k", "x")])
    error = failed_map(tmp_path, job)
    assert error.message.startswith("folds.sum cannot take the value 'x'")


# With bad records set aside


@pytest.mark.parametrize("hook", ["map_init", "map_final"])
def test_an_error_in_a_hook_is_no_bad_record(tmp_path, hook):
    failing = Run(tmp_path, functions(**{hook: raising}))
    with pytest.raises(Exception, match=rf"^{hook}\(\) raised ValueError: no luck$"):
        failing.run()
    assert not failing.path.exists()
    assert not failing.spill.exists()


def test_a_map_that_starts_anew_to_set_records_aside_begins_with_its_hooks(tmp_path):
    job = loaded(
        IN_MAPPER.replace(
            "return ()", "assert not value.startswith('bad')\n" + " " * 12 + "return ()"
        ),
        "Words",
    )
    done = Run(tmp_path, job, lines=b"a b\nbad one\na\n").run()
    assert Counter(done.keys()) == Counter(["a", "b", "bad", "one"])
    assert [line["record"] for line in done.aside()] == ["bad one"]
    assert done.outcome.counters["map output records"] == 4


def test_what_kills_a_worker_in_a_hook_is_not_the_last_record(tmp_path):
    from pytxmr.records.quarantine import read_note

    noted = []
    run = Run(
        tmp_path,
        functions(map_final=lambda: noted.append(read_note(str(tmp_path / "note")))),
        most=0,
        careful=True,
    )
    run.run()
    assert noted == [None]


def test_a_sample_of_the_keys_is_taken_of_a_job_with_hooks(tmp_path, lines):
    job = loaded(IN_MAPPER, "Words")
    assert sorted(sample_keys(job, whole(lines), 10)) == ["a", "b", "c"]
    assert sorted(sample_keys(job, whole(lines), 10)) == ["a", "b", "c"]
