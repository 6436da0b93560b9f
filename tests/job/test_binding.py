"""Which functions and methods play which roles, in both forms, and what is refused."""

from __future__ import annotations

from textwrap import dedent

import pytest
from sources import CLASS, CLASS_WITHOUT, MODULE, WITHOUT, code, refused

from pytxmr.errors import BadJob
from pytxmr.job.binding import bind
from pytxmr.job.loading import import_source, load
from pytxmr.records import folds
from pytxmr.records.batch import batch_form
from pytxmr.records.partition import stable_partition

# The module form


def test_a_module_gives_its_functions_and_the_defaults_of_the_others():
    job = load(code(MODULE), {})
    assert list(job.mapper(0, "line")) == [("line", 1)]
    assert list(job.reducer("line", iter([1, 2]))) == [("line", 3)]
    assert (job.combiner, job.reader, job.writer) == (None, None, None)
    assert job.partitioner is stable_partition


def test_a_module_may_define_every_role():
    more = "combiner = reducer\npartitioner = reader = writer = print\n"
    job = load(code(MODULE + more), {})
    assert job.combiner is job.reducer
    assert job.partitioner is job.reader is job.writer is print


def test_functions_may_go_by_other_names():
    source = MODULE.replace("mapper", "words").replace("reducer", "add_up")
    job = load(
        code(source, names={"mapper": "words", "reducer": "add_up", "combiner": "add_up"}), {}
    )
    assert job.mapper.__name__ == "words"
    assert job.combiner is job.reducer


# Folds and batches


def with_roles(**roles):
    """A module with a mapper and these roles, as they are written."""
    lines = [f"{role} = {written}" for role, written in roles.items()]
    head = "import pytxmr\nfrom pytxmr import folds\n"
    return head + MODULE.replace("def reducer", "def add_up") + "\n".join(lines) + "\n"


@pytest.mark.parametrize("fold", ["sum", "count", "mean", "distinct", "union", "top(3)"])
def test_a_fold_as_reducer_combines_as_well(fold):
    job = load(code(with_roles(reducer=f"folds.{fold}")), {})
    assert job.combiner == job.reducer == eval(f"folds.{fold}")
    source = f"""
    import pytxmr
    class Fold(pytxmr.MapReduce):
        reduce = pytxmr.folds.{fold}
        def map(self, key, value): ...
    """
    assert load(code(source, "Fold"), {}).combiner == job.reducer


def test_a_fold_that_combines_nothing_and_the_identity_have_no_combiner():
    for reducer in ("folds.collect", "folds.identity", "pytxmr.identity"):
        assert load(code(with_roles(reducer=reducer)), {}).combiner is None


def test_a_combiner_that_is_named_is_the_one_that_combines():
    job = load(code(with_roles(reducer="folds.sum", combiner="add_up")), {})
    assert job.combiner.__name__ == "add_up"
    job = load(code(with_roles(reducer="folds.mean", combiner="folds.max")), {})
    assert (job.reducer, job.combiner) == (folds.mean, folds.max)
    job = load(code(with_roles(reducer="add_up", combiner="folds.sum")), {})
    assert job.combiner == folds.sum


def test_what_combines_nothing_is_refused_as_combiner():
    for reducer in ("add_up", "folds.collect"):
        error = refused(with_roles(reducer=reducer, combiner="folds.collect"))
        assert error.message == "jobs/words.py: folds.collect combines nothing; leave it out"


def test_a_batch_is_refused_as_combiner():
    expected = "jobs/words.py: a combiner takes one group at a time, without @batch"
    for roles in (
        {"reducer": "pytxmr.batch(lambda groups: ())", "combiner": "reducer"},
        {"reducer": "folds.sum", "combiner": "pytxmr.batch(add_up)"},
    ):
        assert refused(with_roles(**roles)).message == expected
    method = "    @pytxmr.batch\n    def combine(self, groups): ...\n"
    assert refused(CLASS + method, "Words").message == expected


def test_a_batch_mapper_is_refused_with_a_reader():
    expected = (
        "jobs/words.py: a batch mapper of lines, bytes or a buffer reads the input itself; leave "
        'out the reader, or let it take the records: @pytxmr.batch("records")'
    )
    roles = {"mapper": "pytxmr.batch('buffer')(mapper)", "reducer": "add_up", "reader": "print"}
    assert refused(with_roles(**roles)).message == expected
    roles.pop("reader")
    assert batch_form(load(code(with_roles(**roles)), {}).mapper) == "buffer"
    marked = CLASS.replace("    def map(", "    @pytxmr.batch\n    def map(")
    assert batch_form(load(code(marked, "Words"), {"least": 1}).mapper) == "lines"
    assert refused(marked + "    def read(self, lines): ...\n", "Words").message == expected


def test_a_form_that_there_is_not_shows_where_it_was_asked_for():
    error = refused("import pytxmr\n@pytxmr.batch('line')\n" + MODULE.lstrip())
    assert "it takes one of 'lines', 'bytes', 'buffer'" in error.message
    assert 'File "jobs/words.py", line 2' in error.details["traceback"]


# Without a reducer


def test_a_job_needs_no_reducer():
    for job in (load(code(WITHOUT), {}), load(code(CLASS_WITHOUT, "Words"), {"least": 1})):
        assert (job.reducer, job.combiner) == (None, None)


@pytest.mark.parametrize("role", ["combiner", "partitioner", "reduce_init", "reduce_final"])
def test_what_comes_before_a_reducer_is_refused_where_there_is_none(role):
    if role != "reduce_final":  # which a module has only together with reduce_init
        error = refused(f"{WITHOUT}\ndef {role}(*args): ...\n")
        assert error.message.startswith(f"jobs/words.py has {role}(), but no reducer(): ")
    method = {"combiner": "combine", "partitioner": "partition"}.get(role, role)
    error = refused(f"{CLASS_WITHOUT}\n    def {method}(self, *args): ...\n", "Words")
    assert error.message.startswith(f"jobs/words.py has {method}(), but no reduce(): ")


# Hooks

HOOKS = ("map_init", "map_final", "reduce_init", "reduce_final")


def test_a_job_has_the_hooks_that_it_defines():
    hooks = "\n".join(f"def {hook}(): return [{hook!r}]" for hook in HOOKS)
    job = load(code(f"{MODULE}\n{hooks}\n"), {})
    assert [getattr(job, hook)() for hook in HOOKS] == [[hook] for hook in HOOKS]
    methods = "\n".join(f"    def {hook}(self): return self.params, {hook!r}" for hook in HOOKS)
    job = load(code(f"{CLASS}\n{methods}\n", "Words"), {"least": 7})
    for form in (job, job.fresh()):
        assert [getattr(form, hook)() for hook in HOOKS] == [({"least": 7}, h) for h in HOOKS]


@pytest.mark.parametrize(("source", "class_name"), [(MODULE, None), (CLASS, "Words")])
def test_a_job_without_hooks_has_none_and_one_instance_for_all_attempts(source, class_name):
    job = load(code(source, class_name), {"least": 1})
    assert [getattr(job, hook) for hook in HOOKS] == [None] * 4
    assert job.fresh() is job


def test_a_class_with_a_hook_begins_with_a_new_instance():
    method = "    def map_init(self): pass\n"
    job = load(code(CLASS + method, "Words"), {"least": 1})
    forms = [job, job.fresh(), job.fresh()]
    assert len({id(form.mapper.__self__) for form in forms}) == 3
    for form in forms:
        assert form.map_init.__self__ is form.mapper.__self__ is form.reducer.__self__


def test_a_range_partitioner_keeps_its_sample_when_there_is_a_new_instance():
    methods = """
        def map_init(self): pass
        def __init__(self): self.partition = pytxmr.RangePartitioner()
    """
    job = load(code(CLASS + dedent(methods).replace("\n", "\n    "), "Words"), {"least": 1})
    job.partitioner.bind(["a", "m", "z"])
    assert job.fresh().partitioner is job.partitioner


def test_an_error_of_a_new_instance_is_the_jobs():
    methods = """
        def map_init(self): pass
        made = []
        def __init__(self):
            self.made.append(1)
            assert len(self.made) < 2, "no more"
    """
    job = load(code(CLASS + dedent(methods).replace("\n", "\n    "), "Words"), {"least": 1})
    with pytest.raises(BadJob, match="no more") as caught:
        job.fresh()
    assert "len(self.made) < 2" in caught.value.details["traceback"]


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_that_wants_an_argument_is_refused(hook):
    error = refused(f"{MODULE}\ndef {hook}(self): ...")
    assert error.message.startswith(f"jobs/words.py: {hook}() is called without arguments: ")
    error = refused(f"{CLASS}\n    def {hook}(self, key): ...", "Words")
    assert error.message.startswith(f"jobs/words.py: {hook}() is called without arguments: ")
    assert f"{hook} is int, not a function" in refused(f"{MODULE}\n{hook} = 3").message


@pytest.mark.parametrize("kind", ["map", "reduce"])
def test_a_module_that_ends_attempts_has_to_begin_them_too(kind):
    error = refused(f"{MODULE}\ndef {kind}_final(): ...")
    assert f"has {kind}_final(), but no {kind}_init()" in error.message
    load(code(f"{MODULE}\ndef {kind}_init(): ..."), {})
    load(code(f"{CLASS}\n    def {kind}_final(self): ...", "Words"), {"least": 1})


# What is wrong with a module


@pytest.mark.parametrize(
    ("missing", "written", "message"),
    [
        ("mapper", "mappre", "no mapper(); did you mean mappre?, or name another with --mapper"),
        ("mapper", "zzz", "jobs/words.py has no mapper(), or name another with --mapper"),
    ],
)
def test_a_function_that_is_missing_is_named_with_the_nearest_there_is(missing, written, message):
    assert message in refused(MODULE.replace(missing, written)).message


@pytest.mark.parametrize(
    "role", ["mapper", "reducer", "combiner", "reader", "writer", "partitioner"]
)
def test_a_name_that_was_given_must_be_there(role):
    error = refused(MODULE, names={role: "reducers"})
    assert error.message == "jobs/words.py has no reducers(); did you mean reducer?"


@pytest.mark.parametrize("role", ["mapper", "combiner", "writer"])
def test_what_is_no_function_is_refused(role):
    assert (
        refused(f"{MODULE}\n{role} = 7").message == f"jobs/words.py: {role} is int, not a function"
    )


ARGUMENTS = {
    "mapper": ["value", "key, value, more", "", "self, key, value", "key, *, value"],
    "reducer": ["key", "key, values, more"],
    "combiner": ["key"],
    "partitioner": ["key"],
    "reader": ["", "lines, more"],
    "writer": ["key, value"],
}


@pytest.mark.parametrize(
    ("role", "arguments"), [(role, one) for role, several in ARGUMENTS.items() for one in several]
)
def test_a_function_that_cannot_be_called_as_its_role_is_refused(role, arguments):
    error = refused(f"{MODULE}\ndef {role}({arguments}): ...\n")
    line = MODULE.count("\n") + 2
    assert error.message.startswith(f"jobs/words.py, line {line}: {role}() is called with ")


@pytest.mark.parametrize(
    "arguments", ["*args", "key, value, more=1", "key, *rest", "k, v, *, more=1", "k, v, **rest"]
)
def test_a_function_that_can_be_called_as_its_role_is_not(arguments):
    load(code(f"{MODULE}\ndef mapper({arguments}): ...\n"), {})
    load(code(f"{CLASS}\n    def map(self, {arguments}): ...\n", "Words"), {"least": 1})


def test_a_method_without_self_is_refused():
    error = refused(f"{CLASS}\n    def map(key, value): ...\n", "Words")
    assert "map() is called with key and value, which is not what it takes" in error.message
    load(code(f"{CLASS}\n    @staticmethod\n    def map(key, value): ...\n", "Words"), {"least": 1})


def test_a_batch_reducer_is_called_with_groups():
    head = f"import pytxmr\n{MODULE}\n@pytxmr.batch\n"
    load(code(f"{head}def reducer(groups): ...\n"), {})
    error = refused(f"{head}def reducer(key, values): ...\n")
    assert "reducer() is called with groups, which is not what it takes" in error.message


def test_a_class_that_is_not_named_is_offered():
    assert refused(CLASS).message.endswith("; for the class say words.py:Words")


@pytest.mark.parametrize(
    ("written", "like"),
    [("json", "readers.json"), ("whole", "readers.whole"), ("x", "readers.json")],
)
def test_a_reader_that_is_a_text_is_refused_with_one_that_is_none(written, like):
    error = refused(f"{MODULE}\nreader = {written!r}\n")
    assert error.message == (
        f"jobs/words.py: reader is the text {written!r}, not a function; say "
        f"`from pytxmr import readers` and reader = {like}, for one"
    )


# The class form


def test_a_class_gives_its_methods():
    job = load(code(CLASS, "Words"), {"least": 5})
    assert list(job.mapper(0, "line")) == [("line", 5)]
    assert list(job.reducer("line", iter([1, 2]))) == [("line", 3)]
    assert (job.combiner, job.reader, job.writer) == (None, None, None)
    assert job.partitioner is stable_partition


def test_a_class_may_define_every_role():
    roles = dedent(
        """
            combine = reduce
            def partition(self, key, partitions): return self.params["least"] % partitions
            def read(self, lines): yield from lines
            def write(self, pairs): yield repr(list(pairs))
        """
    )
    job = load(code(CLASS + roles.replace("\n", "\n    "), "Words"), {"least": 8})
    assert list(job.combiner("k", [1, 2])) == [("k", 3)]
    assert job.partitioner("k", 5) == 3
    assert list(job.reader([1])) == [1]
    assert list(job.writer([("k", 1)])) == ["[('k', 1)]"]


def test_a_class_needs_not_inherit():
    job = load(code(CLASS.replace("pytxmr.MapReduce", ""), "Words"), {"least": 2})
    assert list(job.mapper(0, "line")) == [("line", 2)]


def test_methods_may_go_by_other_names():
    source = CLASS.replace("def map(", "def words(")
    assert load(code(source, "Words", {"mapper": "words"}), {}).mapper.__name__ == "words"


def test_an_instance_has_its_own_parameters():
    module_code = code(CLASS, "Words")
    module = import_source(module_code)
    bind(module, module_code, {"least": 9})
    assert module.Words.params == {"least": 1}


@pytest.mark.parametrize(
    ("source", "class_name", "message"),
    [
        (CLASS, "Word", "jobs/words.py has no class Word; did you mean Words?"),
        (CLASS, "Zzz", "jobs/words.py has no class Zzz"),
        (MODULE, "mapper", "jobs/words.py has no class mapper"),
        (
            CLASS.replace("def map(", "def mapp("),
            "Words",
            "class Words has no method map; did you mean mapp?",
        ),
        (CLASS + "    combine = 3\n", "Words", "combine is int, not a function"),
    ],
    ids=["near", "far", "no class", "no map", "no function"],
)
def test_what_is_wrong_with_a_class_is_named(source, class_name, message):
    assert message in refused(source, class_name).message


def test_a_method_that_was_named_must_be_there():
    error = refused(CLASS, "Words", {"combiner": "combined"})
    assert error.message == "jobs/words.py: class Words has no method combined"


@pytest.mark.parametrize("raised", ["ValueError('no')", "SystemExit(1)"])
def test_a_class_that_cannot_be_made_is_refused_with_the_traceback(raised):
    error = refused(CLASS + f"    def __init__(self): raise {raised}\n", "Words")
    assert error.message.startswith("jobs/words.py:Words() raised ")
    assert "in __init__" in error.details["traceback"]
    assert "pytxmr/job/" not in error.details["traceback"]
