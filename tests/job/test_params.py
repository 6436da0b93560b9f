"""A job's parameters: declared, converted, refused."""

from __future__ import annotations

import pytest
from sources import CLASS, MODULE, code

import pytxmr
from pytxmr.errors import BadJob
from pytxmr.job.loading import import_source, load
from pytxmr.job.params import convert_params, declared_params


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
