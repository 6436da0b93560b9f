"""Loading a job: in both forms, with its parameters; and what is said when it cannot be."""

from __future__ import annotations

import json
import re
import sys
from textwrap import dedent

import pytest

import pytxmr
from pytxmr import readers, writers
from pytxmr.errors import BadJob, PeerBroke
from pytxmr.job import context
from pytxmr.job.binding import bind
from pytxmr.job.loading import import_source, load
from pytxmr.job.params import convert_params, declared_params
from pytxmr.job.tracebacks import user_traceback
from pytxmr.model import JobCode
from pytxmr.records import folds
from pytxmr.records.batch import batch_form
from pytxmr.records.partition import stable_partition

MODULE = """
def mapper(key, value):
    yield value, 1

def reducer(key, values):
    yield key, sum(values)
"""

CLASS = """
import pytxmr

class Words(pytxmr.MapReduce):
    params = {"least": 1}

    def map(self, key, value):
        yield value, self.params["least"]

    def reduce(self, key, values):
        yield key, sum(values)
"""


@pytest.fixture(autouse=True)
def nothing_left_behind():
    params, modules = dict(context.params), set(sys.modules)
    yield
    context.begin_job(params)
    for name in set(sys.modules) - modules:
        if name.startswith("pytxmr_job_"):
            del sys.modules[name]


def code(source, class_name=None, names=None, filename="jobs/words.py"):
    return JobCode(filename, dedent(source).encode(), class_name, names or {})


def refused(*arguments, params=None, **options):
    """Load a job that must be refused; returns the error."""
    with pytest.raises(BadJob) as caught:
        load(code(*arguments, **options), params or {})
    return caught.value


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


def test_functions_read_the_jobs_parameters():
    source = """
    import pytxmr
    params = {"field": 0}
    at_import = pytxmr.params["field"]

    def mapper(key, value):
        yield at_import, pytxmr.params["field"]

    def reducer(key, values): ...
    """
    assert list(load(code(source), {"field": 3}).mapper(0, "")) == [(3, 3)]
    assert list(load(code(source), {"field": 4}).mapper(0, "")) == [(4, 4)]
    assert pytxmr.params == {"field": 4}


def test_dataclasses_and_own_classes_work_in_a_module():
    source = MODULE + dedent(
        """
        from __future__ import annotations
        import dataclasses

        @dataclasses.dataclass
        class Hit:
            where: dataclasses.InitVar[int] = 1
        """
    )
    assert "from __future__ imports must occur at the beginning" in refused(source).message
    source = "from __future__ import annotations\n" + source.replace(
        "from __future__ import annotations\n", ""
    )
    load(code(source), {})


def test_a_source_in_another_encoding_is_read_as_it_says():
    source = ("# -*- coding: latin-1 -*-\nname = 'café'\n" + MODULE).encode("latin-1")
    assert import_source(JobCode("words.py", source)).name == "café"


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


WITHOUT = MODULE.partition("def reducer")[0]
CLASS_WITHOUT = CLASS.partition("    def reduce")[0]


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


def test_a_syntax_error_is_told_with_its_line():
    error = refused("def mapper(key, value):\n    yield value, 1)\n")
    assert error.message == "jobs/words.py, line 2: unmatched ')'"
    assert "yield value, 1)" in error.details["traceback"]
    assert 'File "jobs/words.py", line 2' in error.details["traceback"]


def test_a_source_with_a_null_byte_is_refused():
    with pytest.raises(BadJob, match="null bytes"):
        load(JobCode("words.py", MODULE.encode() + b"\x00"), {})


def test_a_module_that_cannot_import_another_is_told_so():
    error = refused("x = 1\nimport no_such_module_anywhere\n" + MODULE)
    assert error.message == (
        "jobs/words.py cannot be imported: "
        "ModuleNotFoundError: No module named 'no_such_module_anywhere'"
    )
    assert 'File "jobs/words.py", line 2, in <module>' in error.details["traceback"]
    assert "import no_such_module_anywhere" in error.details["traceback"]
    assert "pytxmr/job/" not in error.details["traceback"]


@pytest.mark.parametrize("top", ["1 / 0", "raise SystemExit(0)", "import sys; sys.exit('bye')"])
def test_a_module_whose_top_level_raises_is_refused(top):
    error = refused(MODULE + top)
    assert "cannot be imported: " in error.message
    assert top in error.details["traceback"]


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


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("folds.summ", "has no attribute 'summ'; did you mean sum?"),
        ("readers.jsom", "has no attribute 'jsom'; did you mean json?"),
        ("pytxmr.MapRedcue", "has no attribute 'MapRedcue'; did you mean MapReduce?"),
        ("pytxmr.reader", "has no attribute 'reader'; did you mean readers?"),
        ("pytxmr.step", "has no attribute 'step'; did you mean Step?"),
        ("fold.sum", "name 'fold' is not defined; did you mean folds?"),
        ("None.summ", "has no attribute 'summ'"),
        ("pipeline.input(raeder=None)", "argument 'raeder'; did you mean reader?"),
        ("pipeline.input().join(1, brodcast=True)", "'brodcast'; did you mean broadcast?"),
        ("pytxmr.Step(reduser=1)", "argument 'reduser'; did you mean reducer?"),
        ("(lambda named: 1)(name=1)", "got an unexpected keyword argument 'name'"),
    ],
)
def test_what_the_top_of_a_module_misspells_is_refused_with_the_nearest(line, hint):
    error = refused(
        f"import pytxmr\nfrom pytxmr import folds, pipeline, readers\n{MODULE}\nx = {line}\n"
    )
    # Newer Pythons ask in their own words as well.
    assert error.message.endswith(hint)


# Misspelt names

ORDINARY = re.findall(
    r"\w+",
    """
    all_words choose clean clear combinator combine combined combines combiners composer count
    emit final header init initial is_word key_of keys leader load loader main map_initial map_it
    map_one map_unit map_word mapped mapping mappers maps mean merge normalise partial partition
    partitioned partitions parts petition position read read_config readable reader_of readers
    readings reads reaper reduce_all reduce_it reduced reduces reducers reduction refuse remove
    render reorder rest reuse rewrite sample split summed tokenize total trader wait waiter white
    winter word words write write_all writers writes written wrote
    """,
)


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_names_are_no_misspelt_ones(name):
    # Neither in a job that has nothing but what it must have, nor in one with all there is.
    helper = f"def {name}(*args): ..."
    assert load(code(f"{WITHOUT}\n{helper}\n"), {}).reducer is None
    load(code(f"{MODULE}\n{helper}\n"), {})
    roles = ("combine", "partition", "read", "write")
    method = helper if name not in roles else ""
    assert load(code(f"{CLASS_WITHOUT}\n    {method}\n", "Words"), {"least": 1}).mapper
    load(code(f"{CLASS}\n    {method}\n", "Words"), {"least": 1})


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("reduer", "reducer"),
        ("reducerr", None),
        ("redcuer", "reducer"),
        ("reduccer", "reducer"),
        ("reduser", "reducer"),
        ("combimer", "combiner"),
        ("map_imit", None),
        ("Reducer", "reducer"),
        ("reduce", "reducer"),
        ("combner", "combiner"),
        ("combienr", "combiner"),
        ("partioner", "partitioner"),
        ("partitoner", "partitioner"),
        ("readr", "reader"),
        ("wirter", "writer"),
        ("mapinit", "map_init"),
        ("mapInit", "map_init"),
        ("map_inti", None),
        ("map_fnal", "map_final"),
        ("reduce_intit", "reduce_init"),
        ("mapper_init", "map_init"),
        ("mapper_final", "map_final"),
        ("reducer_init", "reduce_init"),
        ("reducer_final", "reduce_final"),
    ],
)
def test_a_name_in_a_module_that_is_nearly_a_role_or_hook_is_refused(written, meant):
    source = f"{WITHOUT}\ndef {written}(*args): ...\n"
    if meant is None:  # At the end of a name it may be another word.
        load(code(source), {})
        return
    error = refused(source)
    assert error.message == (
        f"jobs/words.py defines {written}(); did you mean {meant}()? If not, call it _{written}()"
    )
    load(code(source.replace(written, f"_{written}")), {})


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("reuce", "reduce"),
        ("reducer", "reduce"),
        ("combne", "combine"),
        ("combiner", "combine"),
        ("partion", "partition"),
        ("partitioner", "partition"),
        ("reader", "read"),
        ("writer", "write"),
        ("wriite", "write"),
        ("mapper_init", "map_init"),
        ("reducer_final", "reduce_final"),
    ],
)
def test_a_method_that_is_nearly_a_role_or_hook_is_refused(written, meant):
    error = refused(f"{CLASS_WITHOUT}\n    def {written}(self, *args): ...\n", "Words")
    assert error.message.startswith(
        f"jobs/words.py defines {written}(); did you mean {meant}()? If not, "
    )


@pytest.mark.parametrize("name", ["combiner_init", "combine_final"])
def test_hooks_that_mrjob_has_and_we_have_not_are_refused(name):
    for source, class_name in ((MODULE, None), (CLASS, "Words")):
        error = refused(
            f"{source}\n    def {name}(self): ..."
            if class_name
            else f"{source}\ndef {name}(): ...",
            class_name,
        )
        assert f"defines {name}(), but a combiner has no hooks" in error.message


def test_a_fold_by_a_misspelt_name_is_refused_and_what_is_imported_is_not():
    head = "from pytxmr import folds\n" + WITHOUT
    assert (
        "defines reduer(); did you mean reducer()?"
        in refused(f"{head}\nreduer = folds.sum").message
    )
    load(code("from functools import reduce\n" + WITHOUT), {})
    load(code("from os import read, write\n" + WITHOUT), {})


def test_a_name_beside_the_right_one_is_a_helper():
    load(code(f"{MODULE}\ndef reduer(): ...\ndef reduce(): ..."), {})
    load(code(f"{CLASS}\n    def reducer(self): ...", "Words"), {"least": 1})


def test_a_name_that_was_given_is_not_misspelt():
    source = MODULE.replace("def reducer", "def redcuer")
    assert load(code(source, names={"reducer": "redcuer"}), {}).reducer.__name__ == "redcuer"
    assert load(code(source, names={"reducer": "mapper", "combiner": "redcuer"}), {}).combiner


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("param = {'a': 1}", "params"),
        ("serialiser = 'pickle'", "serializer"),
        ("codec = []", "codecs"),
        ("parmas = {}", "params"),
        ("param = 1", None),
        ("param = {'a': 1}\nprint(param)", None),
        ("_param = {}", None),
        ("param = {}\nparams = {'least': 1}", None),
        ("input = 'x'\ninputs = ['x']", None),
    ],
)
def test_what_a_module_sets_by_a_misspelt_name_is_refused_unless_it_is_used(line, meant):
    source = f"{MODULE}\n{line}\n"
    if meant is None:
        load(code(source), {})
        return
    name = line.partition(" ")[0]
    assert refused(source).message == (
        f"jobs/words.py defines {name}; did you mean {meant}? If not, call it _{name}"
    )


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("inputs = ['a.txt']", "input"),
        ("output_ = 'out'", "output"),
        ("reducer = 3", "reducers"),
        ("serialiser = 'pickle'", "serializer"),
        ("inputs = 3", None),
        ("count = 3", None),
    ],
)
def test_what_a_class_sets_by_a_misspelt_name_is_refused(line, meant):
    source = f"{CLASS}\n    {line}\n"
    if meant is None:
        load(code(source, "Words"), {"least": 1})
    else:
        assert f"; did you mean {meant}? If not, " in refused(source, "Words").message


def test_a_misspelt_method_of_an_own_base_is_found_and_one_of_anothers_is_not():
    source = CLASS_WITHOUT.replace(
        "class Words(", "class Base:\n    def reuce(self): ...\n\nclass Words(Base, "
    )
    assert "defines reuce(); did you mean reduce()?" in refused(source, "Words").message
    source = "import collections\n" + CLASS_WITHOUT.replace(
        "Words(", "Words(collections.UserDict, "
    )
    load(code(source, "Words"), {"least": 1})


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


# Parameters


def declared(source, class_name=None):
    job = code(source, class_name)
    return declared_params(import_source(job), job)


def test_parameters_are_declared_by_the_module_or_the_class():
    assert declared(MODULE) == {}
    assert declared("params = {'field': 0}\n" + MODULE) == {"field": 0}
    assert declared("params = {'other': 0}\n" + CLASS, "Words") == {"least": 1}
    with pytest.raises(BadJob, match="params is list, not a dict"):
        declared("params = []\n" + MODULE)
    with pytest.raises(BadJob, match="has no class Sentences"):
        declared(CLASS, "Sentences")


DEFAULTS = {
    "count": 1,
    "ratio": 0.5,
    "flag": False,
    "name": "x",
    "anything": None,
    "separator": b",",
    "names": ["x"],
    "columns": (0, 2),
    "weights": {"x": 1.5},
}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("count", "7", 7),
        ("count", "-7", -7),
        ("ratio", "2", 2.0),
        ("ratio", "1e-3", 0.001),
        ("flag", "true", True),
        ("flag", "True", True),
        ("flag", "1", True),
        ("flag", "false", False),
        ("flag", "FALSE", False),
        ("flag", "0", False),
        ("name", "", ""),
        ("name", "7", "7"),
        ("anything", "7", "7"),
        ("separator", "é", "é".encode()),
        ("names", "['a', 'b']", ["a", "b"]),
        ("names", "[]", []),
        ("columns", " (1,)", (1,)),
        ("weights", "{'a': 2}", {"a": 2}),
    ],
)
def test_a_parameter_is_converted_to_the_type_of_its_default(name, text, value):
    found = convert_params(DEFAULTS, {name: text})
    assert found == {**DEFAULTS, name: value}
    assert type(found[name]) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("count", "seven", "int"),
        ("count", "1.5", "int"),
        ("count", "", "int"),
        ("ratio", "half", "float"),
        ("flag", "yes", "bool"),
        ("flag", "", "bool"),
    ],
)
def test_a_text_that_is_not_of_that_type_is_refused(name, text, kind):
    with pytest.raises(BadJob) as caught:
        convert_params(DEFAULTS, {name: text})
    assert caught.value.message == f"-D {name}={text}: not {kind}"


@pytest.mark.parametrize(
    ("name", "text", "like"),
    [
        ("names", "a,b", "list, which is written ['x']"),
        ("names", "('a', 'b')", "list, which is written ['x']"),
        ("names", "[{1, 2}]", "list, which is written ['x']"),
        ("columns", "1", "tuple, which is written (0, 2)"),
        ("weights", "{", "dict, which is written {'x': 1.5}"),
    ],
)
def test_a_list_that_is_not_written_as_one_is_refused_with_one_that_is(name, text, like):
    with pytest.raises(BadJob) as caught:
        convert_params(DEFAULTS, {name: text})
    assert caught.value.message == f"-D {name}={text}: not {like}"


@pytest.mark.parametrize("default", ["{1}", "pathlib.Path()", "[1j]", "{'a': object()}"])
def test_a_default_that_could_not_travel_is_refused(default):
    with pytest.raises(
        BadJob, match=r"words.py: params: 'field' is declared as .*; a parameter is "
    ):
        declared(f"import pathlib\nparams = {{'field': {default}}}\n" + MODULE)


def test_a_parameter_that_is_a_tuple_is_one_for_the_job_on_every_machine():
    source = "params = {'columns': (0, 2), 'names': ['x']}\n" + MODULE
    load(code(source), {"columns": [1, 3], "names": ["y"]})  # as it arrives
    assert pytxmr.params == {"columns": (1, 3), "names": ["y"]}


@pytest.mark.parametrize(
    ("default", "given", "found"),
    [
        (1, 7, 7),
        (0.5, 2, 2.0),
        ("x", 7, "7"),
        (False, True, True),
        (b"", b"\xff", b"\xff"),
        ([], (1, "x"), [1, "x"]),
        ((1,), [2, (3,)], (2, (3,))),
        ({}, {"a": [1]}, {"a": [1]}),
        (None, {"a": (1, b"x")}, {"a": (1, b"x")}),
        (None, 7, 7),
        (1, None, BadJob),
        (1, True, BadJob),
        (1, 1.5, BadJob),
        (False, 1, BadJob),
        ("x", ["x"], BadJob),
        ([1], {1: 2}, BadJob),
        ([1], [{1, 2}], BadJob),
        (None, object(), BadJob),
    ],
)
def test_a_program_gives_a_parameter_as_a_value_of_its_type(default, given, found):
    if found is BadJob:
        with pytest.raises(BadJob, match="^-D name=.*: not "):
            convert_params({"name": default}, {"name": given})
        return
    value = convert_params({"name": default}, {"name": given})["name"]
    assert value == found
    assert type(value) is type(found)


def test_a_parameter_that_is_not_declared_is_refused_with_the_nearest_there_is():
    with pytest.raises(BadJob) as caught:
        convert_params(DEFAULTS, {"cuont": "1"})
    assert caught.value.message == (
        "-D cuont: the job declares no such parameter; did you mean count?"
    )
    with pytest.raises(BadJob, match="no such parameter$"):
        convert_params({}, {"count": "1"})


def test_defaults_are_not_altered():
    before = dict(DEFAULTS)
    assert convert_params(DEFAULTS, {}) == before
    convert_params(DEFAULTS, {"count": "2"})
    assert before == DEFAULTS


# Shipped code


def test_code_comes_back_as_it_was_shipped():
    job = code(CLASS, "Words", {"mapper": "map"})
    assert JobCode.from_plain(job.to_plain()) == job


def test_a_source_that_does_not_match_its_digest_is_refused():
    plain = code(MODULE).to_plain()
    with pytest.raises(PeerBroke, match="does not match its digest"):
        JobCode.from_plain({**plain, "source": plain["source"] + b"#"})
    with pytest.raises(PeerBroke, match="does not match its digest"):
        JobCode.from_plain({**plain, "digest": "0" * 64})


@pytest.mark.parametrize("field", ["filename", "source", "names", "digest"])
@pytest.mark.parametrize("value", [None, 7, "missing"])
def test_code_with_a_field_missing_or_of_another_type_is_refused(field, value):
    plain = code(MODULE).to_plain()
    if value == "missing":
        del plain[field]
    else:
        plain[field] = value
    with pytest.raises(PeerBroke, match=field):
        JobCode.from_plain(plain)


# Tracebacks


def test_frames_of_ours_are_left_out_and_those_beside_us_are_not():
    ours = pytxmr.__file__.removesuffix("__init__.py")
    beside = ours.removesuffix("/") + "_jobs/words.py"
    for filename, seen in ((f"{ours}records/x.py", False), (beside, True), ("words.py", True)):
        with pytest.raises(ZeroDivisionError) as caught:
            exec(compile("1 / 0", filename, "exec"))
        shown = user_traceback(caught.value)
        assert (f'File "{filename}"' in shown) is seen
        assert "ZeroDivisionError: division by zero" in shown


def test_frames_of_python_itself_are_left_out_up_to_the_users_first():
    source = "import contextlib\n@contextlib.contextmanager\ndef f():\n    1 / 0\n    yield\n"
    names = {}
    exec(compile(source, "words.py", "exec"), names)
    with pytest.raises(ZeroDivisionError) as caught, names["f"]():
        pass
    ours = caught.value.with_traceback(caught.value.__traceback__.tb_next)
    shown = user_traceback(ours)
    assert "contextlib.py" not in shown
    assert 'File "words.py", line 4, in f' in shown
    with pytest.raises(json.JSONDecodeError) as caught:
        exec(compile("import json\njson.loads('{')", "words.py", "exec"))
    assert "decoder.py" in user_traceback(caught.value)


def test_a_traceback_without_end_is_cut_at_its_beginning():
    error = ValueError("x" * 100_000 + "the end")
    assert len(user_traceback(error)) <= 16384
    assert user_traceback(error).endswith("the end\n")


# What the user's functions may call


def test_counters_and_status_are_those_of_the_attempt():
    context.begin_attempt()
    pytxmr.counter("bad lines")
    pytxmr.counter("bad lines", 2)
    pytxmr.status("x" * 1000)
    assert context.counters() == {"bad lines": 3}
    assert context.current_status() == "x" * 200
    context.begin_attempt()
    assert context.counters() == {}
    assert context.current_status() == ""


class Whole:
    """As an integer of numpy."""

    def __index__(self):
        return 2


def test_a_counter_counts_whole_numbers_and_no_others():
    context.begin_attempt()
    pytxmr.counter("rows", Whole())
    pytxmr.counter("rows", True)
    for n in (1.5, "1", None):
        with pytest.raises(TypeError):
            pytxmr.counter("rows", n)
    assert [(type(n), n) for n in context.counters().values()] == [(int, 3)]
    context.begin_attempt()


# Ready-made readers and writers


def named(reader, writer=None):
    names = {"reader": reader, "writer": writer}
    return JobCode("jobs/words.py", MODULE.encode(), None, {k: v for k, v in names.items() if v})


def test_a_reader_or_writer_is_the_jobs_own_or_a_ready_made_one():
    job = load(named("json", "csv"), {})
    assert (job.reader, job.writer) == (readers.json, writers.csv)
    job = load(named("csv(header=['a', 'b'], lists=True)", "csv(header=['n'])"), {})
    assert job.reader == readers.csv(header=["a", "b"], lists=True)
    assert job.writer == writers.csv(header=["n"])
    assert load(named(r"delimited(b'\0')"), {}).reader == readers.delimited(b"\0")
    own = MODULE + "def json(lines): ...\n"
    assert load(
        JobCode("words.py", own.encode(), None, {"reader": "json"}), {}
    ).reader.__name__ == ("json")


def test_a_module_that_the_job_imports_does_not_hide_the_reader_of_its_name():
    source = MODULE + "import json\n"
    code = JobCode("words.py", source.encode(), None, {"reader": "json"})
    assert load(code, {}).reader is readers.json


def test_a_class_may_have_ready_made_ones():
    source = """
    import pytxmr
    from pytxmr import readers, writers

    class Rows(pytxmr.MapReduce):
        read = readers.csv(header=True)
        write = writers.json
        def map(self, key, value): ...
        def reduce(self, key, values): ...
    """
    job = load(code(source, "Rows"), {})
    assert (job.reader, job.writer) == (readers.csv(header=True), writers.json)
    source = code(source, "Rows").source
    job = load(JobCode("words.py", source, "Rows", {"reader": "tsv"}), {})
    assert job.reader is readers.tsv


def test_the_default_by_its_name_is_the_default():
    job = load(named("text", "text"), {})
    assert (job.reader, job.writer) == (None, None)


@pytest.mark.parametrize(
    ("reader", "text"),
    [
        ("jsn", "jobs/words.py has no jsn(); did you mean json?"),
        (
            "csv(headr=True)",
            "--reader csv(headr=True): there is no option headr; did you mean header?",
        ),
        ("csv(header=open('x'))", "malformed node or string"),
        ("csv(", "jobs/words.py has no csv(()"),
        ("fixed(0)", "--reader fixed(0): readers.fixed(0): a record has one byte at least"),
        ("fixed", "jobs/words.py: readers.fixed needs to know the bytes of a record"),
        ("json(1)", "--reader json(1): readers.json has no options"),
    ],
)
def test_a_reader_that_is_misspelt_is_refused_with_the_nearest(reader, text):
    with pytest.raises(BadJob) as caught:
        load(named(reader), {})
    assert text in caught.value.message


def test_a_ready_made_one_may_be_named_with_its_module():
    for name in ("readers.json", "pytxmr.readers.json"):
        assert load(named(name), {}).reader is readers.json
    assert load(named("readers.csv(header=True)", "writers.json"), {}).writer is writers.json
    with pytest.raises(BadJob, match="has no writers.json"):
        load(named("writers.json"), {})


def test_a_writer_that_is_misspelt_is_refused_with_the_nearest_also_for_a_class():
    with pytest.raises(BadJob, match="did you mean values"):
        load(named("json", "value"), {})
    source = (
        "import pytxmr\nclass Words(pytxmr.MapReduce):\n def map(self, k, v): ...\n reduce = map\n"
    )
    with pytest.raises(BadJob, match="class Words has no method jsn; did you mean json"):
        load(JobCode("words.py", source.encode(), "Words", {"writer": "jsn"}), {})


def test_a_writer_as_reader_is_refused():
    source = MODULE + "from pytxmr import writers\nreader = writers.json\n"
    assert refused(source).message == "jobs/words.py: writers.json is no reader"
