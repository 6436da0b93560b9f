"""What a job misspells is refused with the nearest name; ordinary names are not."""

from __future__ import annotations

import re

import pytest
from sources import CLASS, CLASS_WITHOUT, MODULE, WITHOUT, code, refused

from pytxmr.job.loading import load


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
