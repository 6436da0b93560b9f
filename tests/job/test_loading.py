"""A job's source, imported and shipped, and tracebacks of it; what is said when it cannot be."""

from __future__ import annotations

import json
from textwrap import dedent

import pytest
from sources import CLASS, MODULE, code, refused

import pytxmr
from pytxmr.errors import BadJob, PeerBroke
from pytxmr.job.loading import import_source, load
from pytxmr.job.tracebacks import user_traceback
from pytxmr.model import JobCode


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


# What is wrong with its top level


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
