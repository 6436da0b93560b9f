"""A job's own modules: which of them are found and shipped, and how they are imported."""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from textwrap import dedent

import pytest

from pytxmr.client import JobOptions, make_spec
from pytxmr.errors import BadJob, PeerBroke, Uncarryable
from pytxmr.job import context, shipping
from pytxmr.job.loading import load
from pytxmr.model import JobCode, JobSpec
from pytxmr.records import kinds
from pytxmr.records.codec import check_value, use_pickle

JOB = """
{imports}

def mapper(key, value):
    {lazily}
    yield {said}, 1

def reducer(key, values):
    yield key, sum(values)
"""


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    modules, finders, params = set(sys.modules), list(sys.meta_path), dict(context.params)
    yield
    context.begin_job(params)
    context.begin_side_files({})
    kinds.declare(())
    use_pickle(False)
    with shipping.importing({}):
        pass
    sys.meta_path[:] = finders
    left = set(sys.modules) - modules
    for name in left:
        if name.startswith("pytxmr_job_"):
            del sys.modules[name]
    assert not left & {"helpers", "lib", "lib.text"}


def write(directory: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))


def spec_of(directory: Path, *py_files: str, job: str = "job.py") -> JobSpec:
    output = directory / "out"
    return make_spec(JobOptions(str(directory / job), ("in",), str(output), py_files=py_files))


def job(imports: str = "", lazily: str = "pass", said: str = "1") -> str:
    return JOB.format(imports=imports, lazily=lazily, said=said)


def says(code: JobCode) -> object:
    """What the job's mapper yields as its key, loaded as a worker does it."""
    functions = load(JobCode.from_plain(code.to_plain()), {})
    ((key, _),) = functions.mapper(0, "")
    return key


@pytest.mark.parametrize(
    ("imports", "said"),
    [
        ("import helpers", "helpers.NAME"),
        ("import helpers as other", "other.NAME"),
        ("from helpers import NAME", "NAME"),
        ("import lib.text", "lib.text.NAME"),
        ("from lib import text", "text.NAME"),
        ("from lib.text import NAME", "NAME"),
        ("import lib", "lib.NAME"),
        ("from lib import NAME", "NAME"),
        ("import bare.text", "bare.text.NAME"),
        ("from bare import text", "text.NAME"),
    ],
)
@pytest.mark.parametrize("where", ["imports", "lazily"])
def test_what_a_job_imports_is_shipped_and_imported_where_its_files_are_not(
    tmp_path: Path, imports: str, said: str, where: str
) -> None:
    there = tmp_path / "there"
    files = {
        "helpers.py": "from deeper import NAME",
        "deeper.py": "NAME = 'mine'",
        "lib/__init__.py": "from .text import NAME",
        "lib/text.py": "from . import names; NAME = names.NAME",
        "lib/names.py": "NAME = 'mine'",
        "bare/text.py": "from .names import NAME",
        "bare/names.py": "NAME = 'mine'",
        "unwanted.py": "raise SystemExit",
        "job.py": job(**{where: imports}, said=said),
    }
    write(there, files)
    code = spec_of(there).code
    there.rename(tmp_path / "moved")
    assert says(code) == "mine"
    assert "unwanted.py" not in code.modules
    assert not any(str(tmp_path) in place for place in sys.path)


@pytest.mark.parametrize(
    ("imports", "said"),
    [
        ("from helpers import *", "NAME"),
        ("import importlib; h = importlib.import_module('hel' + 'pers')", "h.NAME"),
    ],
)
def test_what_the_job_imports_by_a_name_that_no_import_shows_is_shipped_as_well(
    tmp_path: Path, imports: str, said: str
) -> None:
    files = {"helpers.py": "from deeper import NAME", "deeper.py": "NAME = 'mine'"}
    write(tmp_path / "there", files | {"job.py": job(imports, said=said)})
    code = spec_of(tmp_path / "there").code
    (tmp_path / "there").rename(tmp_path / "moved")
    assert says(code) == "mine"


@pytest.mark.parametrize(
    ("imports", "said", "packages"),
    [
        ("from .text import NAME", "NAME", {"lib/__init__.py", "lib/inner/__init__.py"}),
        ("from . import text", "text.NAME", {"lib/__init__.py", "lib/inner/__init__.py"}),
        ("from ..names import NAME", "NAME", {"lib/__init__.py", "lib/inner/__init__.py"}),
        ("from lib.names import NAME", "NAME", {"lib/__init__.py"}),
        ("import lib.inner.text", "lib.inner.text.NAME", None),
        ("from text import NAME", "NAME", set()),
    ],
)
@pytest.mark.parametrize("where", ["imports", "lazily"])
def test_a_job_in_a_package_imports_from_it(
    tmp_path: Path, imports: str, said: str, packages: set[str] | None, where: str
) -> None:
    there = tmp_path / "there"
    files = {
        "lib/__init__.py": "",
        "lib/names.py": "NAME = 'mine'",
        "lib/inner/__init__.py": "",
        "lib/inner/text.py": "NAME = 'mine'",
        "lib/inner/job.py": job(**{where: imports}, said=said),
    }
    write(there, files)
    code = spec_of(there, job="lib/inner/job.py").code
    there.rename(tmp_path / "moved")
    assert says(code) == "mine"
    found = {path for path in code.modules if path.endswith("__init__.py")}
    assert found == (packages if packages is not None else {*files} & found)


def test_a_package_that_is_installed_is_not_that_of_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "installed", {"lib/__init__.py": "NAME = 'theirs'"})
    write(
        tmp_path / "there",
        {"lib/__init__.py": "", "lib/job.py": job("import lib", said="lib.NAME")},
    )
    monkeypatch.syspath_prepend(tmp_path / "installed")
    code = spec_of(tmp_path / "there", job="lib/job.py").code
    assert says(code) == "theirs"
    assert code.modules == {}
    del sys.modules["lib"]


def test_a_job_in_no_package_is_told_to_import_without_the_dot(tmp_path: Path) -> None:
    write(tmp_path, {"helpers.py": "", "job.py": job("from .helpers import NAME")})
    with pytest.raises(BadJob, match="there is no __init__.py beside it, import what is there wi"):
        spec_of(tmp_path)


def test_modules_of_the_standard_library_are_not_looked_for_beside_the_job(tmp_path: Path) -> None:
    write(tmp_path, {"json.py": "x = 1", "pytxmr.py": "x = 1"})
    write(tmp_path, {"job.py": job("import json, pytxmr", said="json.dumps(pytxmr.params)")})
    code = spec_of(tmp_path).code
    assert code.modules == {}
    assert says(code) == "{}"


def test_nothing_is_looked_for_beside_the_job_when_it_has_been_read(tmp_path: Path) -> None:
    lazily = "name = 'lazily'; helpers = __import__(name)"
    write(tmp_path, {"job.py": job("import helpers", lazily, "helpers.NAME")})
    write(tmp_path, {"helpers.py": "f = None", "lazily.py": "NAME = 1"})
    assert spec_of(tmp_path).code.modules.keys() == {"helpers.py"}
    with pytest.raises(ModuleNotFoundError):
        __import__("lazily")


def test_an_installed_package_comes_before_a_directory_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"site/rareness/__init__.py": "NAME = 'installed'"})
    write(tmp_path, {"rareness/data.py": ""})
    write(tmp_path, {"job.py": job("import rareness", said="rareness.NAME")})
    monkeypatch.syspath_prepend(tmp_path / "site")
    code = spec_of(tmp_path).code
    assert code.modules == {}
    assert says(code) == "installed"
    del sys.modules["rareness"]


def test_jobs_with_modules_of_one_name_do_not_meet(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write(tmp_path / name, {"helpers.py": f"NAME = {name!r}"})
        write(tmp_path / name, {"job.py": job("import helpers", "import helpers", "helpers.NAME")})
    codes = [spec_of(tmp_path / name).code for name in ("first", "second")]
    assert [says(code) for code in codes] == ["first", "second"]


def test_what_the_process_has_imported_under_a_name_is_there_again_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "helpers", pytest)
    write(tmp_path, {"helpers.py": "NAME = 'mine'"})
    write(tmp_path, {"job.py": job("from helpers import NAME", said="NAME")})
    assert says(spec_of(tmp_path).code) == "mine"
    assert sys.modules["helpers"] is pytest


def test_a_traceback_shows_the_users_file_and_line_of_a_module(tmp_path: Path) -> None:
    write(tmp_path, {"lib/text.py": "def shout(text):\n    return text.uper()\n"})
    write(tmp_path, {"job.py": job("from lib import text", said="text.shout('a')")})
    code = spec_of(tmp_path).code
    (tmp_path / "lib" / "text.py").unlink()
    functions = load(JobCode.from_plain(code.to_plain()), {})
    with pytest.raises(AttributeError) as caught:
        list(functions.mapper(0, ""))
    last = caught.traceback[-1]
    assert (str(last.path), last.lineno + 1) == (str(tmp_path / "lib" / "text.py"), 2)
    assert str(last.statement).strip() == "return text.uper()"


def refused(tmp_path: Path, *py_files: str) -> BadJob:
    with pytest.raises(BadJob) as caught:
        spec_of(tmp_path, *py_files)
    return caught.value


def test_a_module_that_is_missing_is_refused_with_the_users_traceback(tmp_path: Path) -> None:
    write(tmp_path, {"helpers.py": "import lib", "lib/__init__.py": "import helprs"})
    write(tmp_path, {"job.py": job("import helpers")})
    error = refused(tmp_path)
    assert error.message.endswith("No module named 'helprs'; did you mean helpers?")
    shown = error.details["traceback"]
    files = [f'File "{tmp_path / name}"' for name in ("job.py", "helpers.py", "lib/__init__.py")]
    assert [shown.index(name) for name in files] == sorted(shown.index(name) for name in files)
    assert shown.count("File ") == 3


def test_an_error_in_a_module_is_the_users_own(tmp_path: Path) -> None:
    write(tmp_path, {"helpers.py": "x = 1\nx += None\n", "job.py": job("import helpers")})
    error = refused(tmp_path)
    assert "cannot be imported: TypeError" in error.message
    assert error.details["traceback"].count("File ") == 2
    assert f'File "{tmp_path / "helpers.py"}", line 2' in error.details["traceback"]
    write(tmp_path, {"helpers.py": "x = = 1\n"})
    error = refused(tmp_path)
    assert f'File "{tmp_path / "helpers.py"}", line 1' in error.details["traceback"]


def test_a_module_of_the_jobs_own_package_that_a_function_would_miss_is_refused(
    tmp_path: Path,
) -> None:
    write(tmp_path, {"lib/__init__.py": "", "lib/text.py": ""})
    write(tmp_path, {"job.py": job(lazily="import lib.txet")})
    error = refused(tmp_path)
    assert error.message == f"{tmp_path / 'job.py'}, line 5: there is no module lib.txet"
    assert "import lib.txet" in error.details["traceback"]


@pytest.mark.parametrize(
    "lazily",
    ["try: import lib.txet\n    except ImportError: pass", "import txet", "import os.txet"],
)
def test_what_a_function_may_do_without_or_find_elsewhere_is_not_missed(
    tmp_path: Path, lazily: str
) -> None:
    write(tmp_path, {"lib/__init__.py": "", "job.py": job(lazily=lazily)})
    assert set(spec_of(tmp_path).code.modules) <= {"lib/__init__.py"}


def test_py_files_are_modules_packages_and_zips_of_them(tmp_path: Path) -> None:
    other = tmp_path / "other"
    write(other, {"alone.py": "NAME = 1", "pack/__init__.py": "", "pack/in/text.py": "NAME = 2"})
    with zipfile.ZipFile(other / "many.zip", "w") as archive:
        archive.writestr("zipped.py", "NAME = 3")
        archive.writestr("README", "not shipped")
    imports = "import alone, zipped\nimport importlib\n"
    imports += "text = importlib.import_module('pack.in.text')"
    said = "(alone.NAME, text.NAME, zipped.NAME)"
    write(tmp_path / "jobs", {"job.py": job(imports, said=said), "alone.py": "NAME = 9"})
    given = [str(other / name) for name in ("alone.py", "pack", "many.zip")]
    code = spec_of(tmp_path / "jobs", *given).code
    assert says(code) == (1, 2, 3)
    assert set(code.modules) == {"alone.py", "pack/__init__.py", "pack/in/text.py", "zipped.py"}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("absent.py", None, "No such file or directory"),
        ("absent.zip", None, "No such file or directory"),
        ("words.txt", "", "neither a .py file, a directory nor a zip"),
        ("json.py", "", "json is taken"),
    ],
)
def test_py_files_that_cannot_be_shipped_are_refused(
    tmp_path: Path, name: str, text: str | None, said: str
) -> None:
    write(tmp_path, {"job.py": job()} | ({} if text is None else {name: text}))
    assert said in refused(tmp_path, str(tmp_path / name)).message


def test_modules_larger_than_the_most_that_is_shipped_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping, "MOST_MODULE_BYTES", 3 << 20)
    text = "x = 1\n" + "#" * (2 << 20)
    write(tmp_path, {"one.py": text, "two.py": text, "job.py": job("import one, two")})
    error = refused(tmp_path)
    assert "larger than 3 MiB" in error.message
    write(tmp_path, {"job.py": job("import one")})
    assert set(spec_of(tmp_path).code.modules) == {"one.py"}


def test_modules_that_were_changed_on_the_way_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {"helpers.py": "x = 1", "job.py": job("import helpers")})
    code = spec_of(tmp_path).code
    assert JobCode.from_plain(code.to_plain()) == code
    changed = replace(code, modules={"helpers.py": ("helpers.py", b"x = 2")})
    with pytest.raises(PeerBroke, match="digest"):
        JobCode.from_plain(changed.to_plain() | {"digest": code.digest})
    with pytest.raises(PeerBroke):
        JobCode.from_plain(code.to_plain() | {"modules": {"helpers.py": ["x"]}})


def with_files(
    directory: Path, files: tuple[str, ...] = (), archives: tuple[str, ...] = ()
) -> JobSpec:
    options = JobOptions(str(directory / "job.py"), ("in",), str(directory / "out"))
    return make_spec(replace(options, files=files, archives=archives))


def test_a_side_file_is_there_while_the_job_is_loaded_on_the_client(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("in/stop.txt", "the")
    write(tmp_path, {"stop.txt": "a"})
    source = """
    import pytxmr
    ONE = open(pytxmr.side_file("stop.txt")).read()
    OTHER = open(pytxmr.side_file("all") + "/in/stop.txt").read()
    def mapper(key, value):
        yield (ONE, OTHER), open(pytxmr.side_file("stop.txt")).read()
    def reducer(key, values):
        yield key, None
    """
    write(tmp_path, {"job.py": source})
    spec = with_files(tmp_path, (f"{tmp_path}/stop.txt",), (f"{tmp_path}/all.zip#all",))
    assert [file.name for file in spec.files] == ["stop.txt", "all"]
    assert JobSpec.from_plain(spec.to_plain()) == spec
    assert list(load(spec.code, {}).mapper(0, "")) == [(("a", "the"), "a")]
    unpacked = Path(context.side_file("all"))
    assert unpacked.is_dir()
    write(tmp_path, {"job.py": job()})
    assert with_files(tmp_path).files == ()
    assert not unpacked.exists()


@pytest.mark.parametrize("where", ["imports", "lazily"])
def test_a_side_file_that_nobody_gave_is_refused_with_the_nearest_name(
    tmp_path: Path, where: str
) -> None:
    write(tmp_path, {"stop.txt": "", "job.py": job(**{where: "PYTXMR.side_file('stp.txt')"})})
    with open(tmp_path / "job.py") as file:
        text = file.read()
    (tmp_path / "job.py").write_text("import pytxmr as PYTXMR\n" + text)
    with pytest.raises(BadJob) as caught:
        with_files(tmp_path, (f"{tmp_path}/stop.txt",))
    said = "no --file and no --archive has the name 'stp.txt'; did you mean stop.txt?"
    assert said in caught.value.message
    assert "PYTXMR.side_file('stp.txt')" in caught.value.details["traceback"]
    context.begin_side_files({"stop.txt": "/x"})
    with pytest.raises(FileNotFoundError, match="did you mean stop.txt"):
        context.side_file("stp.txt")


def test_a_side_file_that_may_not_be_asked_for_may_be_missing(tmp_path: Path) -> None:
    body = "if value: pytxmr.side_file('stop.txt')"
    write(tmp_path, {"job.py": job("import pytxmr", body)})
    assert with_files(tmp_path).files == ()


def test_what_a_job_says_of_its_values_is_for_those_who_load_it_to_run_it(tmp_path: Path) -> None:
    write(tmp_path, {"job.py": job("serializer = 'pickle'")})
    code = spec_of(tmp_path).code
    with pytest.raises(Uncarryable):
        check_value([object()])
    says(code)
    check_value([object()])
    codecs = "from collections import Counter\ncodecs = {Counter: (dict, Counter)}"
    write(tmp_path, {"job.py": job(codecs)})
    code = spec_of(tmp_path).code
    with pytest.raises(Uncarryable):
        check_value(Counter())
    says(code)
    check_value(Counter())


@pytest.mark.parametrize(
    ("said", "because"),
    [
        ("serializer = 'pickel'", "not msgpack or pickle; did you mean pickle?"),
        ("serializer = 7", "serializer is 7"),
        ("codecs = [1]", "1 is not a class"),
        ("class Job:\n    serializer = 'json'", "serializer is 'json'"),
    ],
)
def test_values_that_cannot_be_carried_so_are_refused(
    tmp_path: Path, said: str, because: str
) -> None:
    write(tmp_path, {"job.py": job(said)})
    name = f"{tmp_path}/job.py:Job" if "class" in said else f"{tmp_path}/job.py"
    with pytest.raises(BadJob) as caught:
        make_spec(JobOptions(name, ("in",), f"{tmp_path}/out"))
    assert because in caught.value.message


def test_a_job_may_import_what_python_calls_codecs(tmp_path: Path) -> None:
    write(tmp_path, {"job.py": job("import codecs", said="codecs.encode('a', 'rot13')")})
    assert says(spec_of(tmp_path).code) == "n"


def test_annotations_mean_in_a_job_what_its_own_imports_say(tmp_path: Path) -> None:
    write(tmp_path, {"helpers.py": "def f(x: int): pass"})
    write(
        tmp_path,
        {"job.py": job("import helpers", said="(helpers.f.__annotations__, f.__annotations__)")},
    )
    with open(tmp_path / "job.py", "a") as file:
        file.write("\ndef f(x: int): pass\n")
    assert says(spec_of(tmp_path).code) == ({"x": int}, {"x": int})


# ---- data in packages

DATA_FILES = {
    "lib/__init__.py": "",
    "lib/words.txt": "wörter\n",
    "lib/deep/more.json": "[1]",
    "lib/.hidden": "no",
    "lib/__pycache__/old.pyc": "no",
    "bare/text.py": "",
    "bare/list.txt": "bare",
    "data/none.txt": "of no package",
}
READS = {
    "files": "(importlib.resources.files('lib') / 'words.txt').read_text('utf-8')",
    "joined": "importlib.resources.files('lib').joinpath('deep', 'more.json').read_text()",
    "opened": "importlib.resources.files('lib').joinpath('words.txt').open('rb').read()",
    "listed": "sorted(f.name for f in importlib.resources.files('lib').iterdir() if f.is_file())",
    "read_text": "importlib.resources.read_text('lib', 'words.txt', encoding='utf-8')",
    "pkgutil": "pkgutil.get_data('lib', 'deep/more.json')",
    "bare": "importlib.resources.files('bare').joinpath('list.txt').read_text()",
    "as_file": "open(stack.enter_context(importlib.resources.as_file("
    "importlib.resources.files('lib') / 'words.txt')), 'rb').read()",
}
WANTED = {
    "files": "wörter\n",
    "joined": "[1]",
    "opened": "wörter\n".encode(),
    "listed": ["__init__.py", "words.txt"],
    "read_text": "wörter\n",
    "pkgutil": b"[1]",
    "bare": "bare",
    "as_file": "wörter\n".encode(),
}
READER = """
import contextlib, importlib.resources, pkgutil
import lib, bare.text

stack = contextlib.ExitStack()
FOUND = {at_once}

def mapper(key, value):
    with stack:
        yield {lazily}, FOUND
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("way", READS)
def test_data_in_a_jobs_packages_are_read_as_python_has_it_where_its_files_are_not(
    tmp_path: Path, way: str
) -> None:
    there = tmp_path / "there"
    source = READER.format(at_once="None", lazily=READS[way])
    write(there, DATA_FILES | {"job.py": source})
    code = spec_of(there).code
    assert sorted(path for path in code.modules if not path.endswith(".py")) == [
        "bare/list.txt",
        "lib/deep/more.json",
        "lib/words.txt",
    ]
    there.rename(tmp_path / "moved")
    found = says(code)
    assert (sorted(set(found) - {"deep"}) if way == "listed" else found) == WANTED[way]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("way", READS)
def test_a_module_may_read_them_when_it_is_imported_on_the_client_too(
    tmp_path: Path, way: str
) -> None:
    if way == "as_file":  # it is gone when the stack is closed
        return
    there = tmp_path / "there"
    write(there, DATA_FILES | {"job.py": READER.format(at_once=READS[way], lazily="FOUND")})
    code = spec_of(there).code
    there.rename(tmp_path / "moved")
    found = says(code)
    assert ([name for name in found if name[0] != "."] if way == "listed" else found) == WANTED[way]


@pytest.mark.parametrize("form", ["directory", "zip"])
def test_data_of_py_files_go_with_them(tmp_path: Path, form: str) -> None:
    there = tmp_path / "there"
    write(there, {f"more/{name}": text for name, text in DATA_FILES.items()})
    given = [str(there / "more" / "lib"), str(there / "more" / "bare")]
    if form == "zip":
        given = [str(there / "more.zip")]
        with zipfile.ZipFile(given[0], "w") as archive:
            for name in DATA_FILES:
                archive.write(there / "more" / name, name)
    for way in ("files", "pkgutil", "bare"):
        write(there, {"job.py": READER.format(at_once=READS[way], lazily=READS[way])})
        code = spec_of(there, *given).code
        there.rename(tmp_path / "moved")
        assert says(code) == WANTED[way]
        (tmp_path / "moved").rename(there)


def test_data_that_are_too_large_are_not_sent_and_whoever_reads_them_is_told_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there"
    for way, path in (("files", "lib/words.txt"), ("pkgutil", f"{there}/lib/deep/more.json")):
        write(there, DATA_FILES | {"job.py": READER.format(at_once="None", lazily=READS[way])})
        monkeypatch.setattr(shipping, "MOST_MODULE_BYTES", (there / "job.py").stat().st_size)
        (there / "lib" / "words.txt").write_bytes(b"x" * 1000)
        code = spec_of(there).code
        assert [path for path in code.modules if path.startswith("lib/")] == ["lib/__init__.py"]
        with pytest.raises(FileNotFoundError, match=f"{path} was not sent .* --file sends a file"):
            says(code)


def test_an_altered_data_file_is_noticed_on_the_way(tmp_path: Path) -> None:
    write(tmp_path, DATA_FILES | {"job.py": job("import lib")})
    plain = spec_of(tmp_path).code.to_plain()
    filename, _ = plain["modules"]["lib/words.txt"]
    plain["modules"]["lib/words.txt"] = (filename, b"other")
    with pytest.raises(PeerBroke, match="does not match its digest"):
        JobCode.from_plain(plain)


@pytest.mark.parametrize(
    ("opened", "hint"),
    [
        ("lib/words.txt", "it was sent along: importlib.resources.files('lib') and pkgutil"),
        ("data/none.txt", "--file sends a file along with the job"),
    ],
)
def test_a_file_that_is_opened_by_its_place_beside_the_job_is_told_of(
    tmp_path: Path, opened: str, hint: str
) -> None:
    there = tmp_path / "there"
    source = f"import os\nimport lib\nopen(os.path.join(os.path.dirname(__file__), {opened!r}))\n"
    write(there, DATA_FILES | {"job.py": source + job()})
    code = spec_of(there).code
    there.rename(tmp_path / "moved")
    with pytest.raises(BadJob, match=f"No such file or directory: .*; {re.escape(hint)}"):
        says(code)


# ---- packed environments


def packed(directory: Path, name: str, version: str = "", python: str = "") -> str:
    """An archive of an environment with a package in it."""
    python = python or f"python3.{sys.version_info.minor}"
    path = str(directory / name)
    package = f"import sys\nVERSION = {version!r}\n".encode()
    members = {f"env/lib/{python}/site-packages/plural/__init__.py": package}
    with tarfile.open(path, "w:gz") as archive:
        for member, content in members.items():
            info = tarfile.TarInfo(member.removeprefix("env/"))
            info.size = len(content)
            archive.addfile(info, BytesIO(content))
        for link, target in (("bin/python", "python3"), ("bin/python3", "/usr/bin/python3")):
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return path


def test_a_job_imports_what_is_installed_in_a_packed_environment(tmp_path: Path) -> None:
    before = list(sys.path)
    for version in ("1.0", "2.0"):
        archive = packed(tmp_path, "env.tar.gz", version)
        for where in ("imports", "lazily"):
            write(tmp_path, {"job.py": job(**{where: "import plural"}, said="plural.VERSION")})
            spec = with_files(tmp_path, archives=(archive,))
            assert says(spec.code) == version
    assert [path for path in spec.code.modules if "plural" in path] == []
    (place,) = [place for place in sys.path if place not in before]
    assert sys.path[0] == place
    context.begin_side_files({})
    assert sys.path == before
    assert "plural" not in sys.modules


def test_an_environment_of_another_python_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"job.py": job()})
    archive = packed(tmp_path, "env.tar.gz", python="python3.7")
    with pytest.raises(BadJob, match=r"in the archive env.tar.gz is of python3.7, and what runs"):
        with_files(tmp_path, archives=(archive,))
