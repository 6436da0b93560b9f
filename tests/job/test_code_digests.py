"""Digests of a job's two sides change when what these can reach changes, and only then."""

from __future__ import annotations

import ast
import functools
import inspect
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from digesting import CLASS, changed, digests

import pytxmr
from pytxmr.errors import BadJob
from pytxmr.job import codedigest, loading, operations, reach
from pytxmr.job.codedigest import CodeDigests
from pytxmr.job.reach import EMIT_READS
from pytxmr.model import JobCode

IMPORTED_FROM = Path(pytxmr.__file__).resolve().parent.parent


JOB = """\
import collections
import functools
import math
import re
from dataclasses import dataclass

import pytxmr
from lib import tools
from lib.words import split as apart, joined

params = {"least": 1}

WORD = re.compile("[a-z]+")
STOP = {"a", "the", "of"}
SIZES = collections.Counter(a=1)
LIMITS = {"low": 1, "high": [2, 3]}
UNUSED = 1


@dataclass
class Pair:
    left: str
    right: int = 5

    def swapped(self):
        return (self.right, self.left)


class Base:
    limit = 10

    def clean(self, word):
        return word.strip("!")


class Cleaner(Base):
    def clean(self, word):
        return super().clean(word).lower()


def twice(function):
    @functools.wraps(function)
    def called(*args):
        return function(function(*args))
    return called


@twice
def shortened(word):
    return word[:20]


@functools.lru_cache(maxsize=10)
def stem(word):
    return word.removesuffix("s")


def is_wanted(word, least=3, *, most=30):
    return least <= len(word) <= most and word not in STOP


def inner(n):
    def add(m):
        return n + m
    return add


add_one = inner(1)
by_name = {"plain": lambda word: word + "p", "other": str.upper}
part = functools.partial(max, 7)


def mapper(key, value):
    cleaner = Cleaner()
    for word in WORD.findall(cleaner.clean(value)):
        if is_wanted(word) and len(word) > LIMITS["low"]:
            pair = Pair(stem(shortened(word)))
            yield by_name["plain"](pair.left), add_one(pair.right) + SIZES["a"] + part(1)
    for word in apart(value):
        yield word, tools.weight(word)


def total(values):
    return sum(values)


def reducer(key, values):
    yield joined(key), math.floor(total(values) * tools.scale(1))


if __name__ == "__main__":
    print("run as a program")
"""
MODULES = {
    "lib/__init__.py": "",
    "lib/tools.py": """\
import pytxmr
FACTOR = 2
def weight(word): return len(word) * FACTOR
def scale(n): return n * 3
def unused(n): return n * 4
""",
    "lib/words.py": """\
from lib import deep
SEPARATOR = ","
def split(line): return deep.cut(line, SEPARATOR)
def joined(key): return key
""",
    "lib/deep.py": """\
def cut(line, by): return line.split(by)
def other(line): return line
""",
}


@functools.cache
def of_job() -> tuple[str, str]:
    return digests(JOB, MODULES)


#: what is in the job, what becomes of it, the sides that it changes
EDITS = [
    # what changes nothing
    ("import math\n", "import math\n\n\n# a comment\n", ""),
    ("    return sum(values)", "    # a comment\n\n    return sum(values)", ""),
    ("UNUSED = 1", "UNUSED = 2", ""),
    ("import math\n", "import math\nimport json\n", ""),
    ('print("run as a program")', 'print("run so")', ""),
    ("STOP = {", "def another(): return 1\n\n\nSTOP = {", ""),
    ('{"a", "the", "of"}', '{"of", "the", "a"}', ""),
    # the reducer's
    ("return sum(values)", "return max(values)", "reduce"),
    ("math.floor(", "math.ceil(", "reduce"),
    ("yield joined(key)", "yield key", "reduce"),
    # the mapper's own
    ("cleaner = Cleaner()", "cleaner = Base()", "map"),
    ('LIMITS["low"]', 'LIMITS["high"][0]', "map"),
    ("    for word in apart(value)", "    for word in apart(value[1:])", "map"),
    # values
    ('"[a-z]+"', '"[a-zA-Z]+"', "map"),
    ('"[a-z]+")', '"[a-z]+", re.DOTALL)', "map"),
    ('"the", ', "", "map"),
    ("Counter(a=1)", "Counter(a=2)", "map"),
    ('"low": 1,', '"low": 1.0,', "map"),
    ("[2, 3]", "[2, 4]", "map"),
    ("[2, 3]", "(2, 3)", "map"),
    ("partial(max, 7)", "partial(max, 8)", "map"),
    ("partial(max, 7)", "partial(min, 7)", "map"),
    # functions that it calls, and what these come to
    ('removesuffix("s")', 'removesuffix("es")', "map"),
    ("maxsize=10", "maxsize=11", "map"),
    ("word[:20]", "word[:21]", "map"),
    ('word + "p"', 'word + "q"', "map"),
    ("str.upper", "str.lower", "map"),
    ("least=3", "least=4", "map"),
    ("most=30", "most=31", "map"),
    # classes
    ("right: int = 5", "right: int = 6", "map"),
    ("return (self.right, self.left)", "return (self.left, self.right)", "map"),
    ('strip("!")', 'strip("?")', "map"),
    (".lower()", ".upper()", "map"),
    ("limit = 10", "limit = 11", "map"),
    ("class Cleaner(Base):", "class Cleaner(Base, Pair):", "map"),
    # what the top level does
    ("UNUSED = 1", "UNUSED = 1\nimport csv\ncsv.field_size_limit(10**9)", "map reduce"),
    ("UNUSED = 1", "UNUSED = 1\ntools.FACTOR = 3", "map reduce"),
    ("UNUSED = 1", "UNUSED = 1\nimport random\nrandom.seed(1)", "map reduce"),
    ("UNUSED = 1", "UNUSED = 1\nre.ascii = 1", "map reduce"),
    ("UNUSED = 1", "import decimal\ndecimal.getcontext().prec = 50", "map reduce"),
    ("import math\n", "import math\nimport msgpack\n", "map reduce"),
    # ... of which a call of the job's own function may be a part, whatever it gives
    ("n + m", "n - m", "map reduce"),
    ("inner(1)", "inner(2)", "map reduce"),
    ("return function(function(*args))", "return function(*args)", "map reduce"),
    ("@twice\n", "", "map reduce"),
    # ways to something that no name shows: then it is all of the source that counts
    ("return sum(values)", "return eval('sum(values)')", "reduce"),
]


@pytest.mark.parametrize(("old", "new", "sides"), EDITS)
def test_an_edit_changes_the_sides_that_can_reach_it(old: str, new: str, sides: str) -> None:
    assert JOB.count(old) == 1
    assert changed(of_job(), digests(JOB.replace(old, new), MODULES)) == sides


MODULE_EDITS = [
    ("lib/tools.py", "FACTOR = 2", "FACTOR = 3", "map"),
    ("lib/tools.py", "len(word) *", "1 + len(word) *", "map"),
    ("lib/tools.py", "n * 3", "n * 5", "reduce"),
    ("lib/tools.py", "n * 4", "n * 5", ""),
    ("lib/tools.py", "FACTOR = 2", "FACTOR = 2\npytxmr.there = 1", "map reduce"),
    ("lib/words.py", '","', '";"', "map"),
    ("lib/words.py", "return key", "return key.upper()", "reduce"),
    ("lib/deep.py", "line.split(by)", "line.rsplit(by)", "map"),
    ("lib/deep.py", "return line\n", "return line[1:]\n", ""),
    ("lib/__init__.py", "", "import sys\nsys.setrecursionlimit(5000)", "map reduce"),
    ("lib/__init__.py", "", "def unused(): pass", ""),
]


@pytest.mark.parametrize(("path", "old", "new", "sides"), MODULE_EDITS)
def test_an_edit_of_a_module_changes_the_sides_that_can_reach_it(
    path: str, old: str, new: str, sides: str
) -> None:
    edited = MODULES | {path: MODULES[path].replace(old, new)}
    assert edited != MODULES
    assert changed(of_job(), digests(JOB, edited)) == sides


def test_modules_in_a_directory_without_a_file_of_its_own_are_known_by_their_functions() -> None:
    source = "import ns.deep.tools\ndef mapper(k, v): yield ns.deep.tools.f(k), 1\n"
    source += "def reducer(k, vs): yield ns.deep.tools.g(k), 1\n"
    tools = "def f(k): return 1\ndef g(k): return 2\n"
    for old, sides in (("return 1", "map"), ("return 2", "reduce")):
        before = digests(source, {"ns/deep/tools.py": tools})
        after = digests(source, {"ns/deep/tools.py": tools.replace(old, "return 3")})
        assert changed(before, after) == sides


@pytest.mark.parametrize(
    "top",
    [
        "class R:\n    def go(self): decimal.getcontext().prec = 50\nr = R()\nr.go()",
        "def go(): decimal.getcontext().prec = 50\ngo()",
        "def go(f): decimal.getcontext().prec = 50; return f\n@go\ndef g(): pass",
        "def go(*a): decimal.getcontext().prec = 50\nfunctools.partial(go, 1)()",
        "class R:\n    decimal.getcontext().prec = 50",
        "class R:\n  def __init_subclass__(c): decimal.getcontext().prec = 50\nclass S(R): pass",
        "class M(type):\n  def __init__(*a): decimal.getcontext().prec = 50\n"
        "class S(metaclass=M): pass",
        "for n in (1, 2):\n    decimal.getcontext().prec = 50",
        "if True:\n    decimal.getcontext().prec = 50",
        "try:\n    decimal.getcontext().prec = 50\nfinally:\n    pass",
        "with decimal.localcontext():\n    decimal.DefaultContext.prec = 50",
        "x = [decimal.setcontext(decimal.Context(prec=50)) for n in (1, 2)]",
        "def f(x=decimal.setcontext(decimal.Context(prec=50))): pass",
        "def f(x: decimal.setcontext(decimal.Context(prec=50))): pass",
        "x: int = decimal.setcontext(decimal.Context(prec=50))",
        "lib.go()",
        "import lib.more",
    ],
)
def test_whatever_the_top_level_does_to_others_counts_on_both_sides(top: str) -> None:
    head = "import decimal, functools\nimport lib\n"
    tail = "\ndef mapper(k, v): yield k, 1\ndef reducer(k, vs): yield k, 1\n"
    modules = {
        "lib/__init__.py": "import decimal\ndef go(): decimal.getcontext().prec = 50\n",
        "lib/more.py": "import decimal\ndecimal.getcontext().prec = 50\n",
    }
    edited = {path: text.replace("50", "60") for path, text in modules.items()}
    before = digests(head + top + tail, modules)
    after = digests(head + top.replace("50", "60") + tail, edited)
    assert changed(before, after) == "map reduce"


#: a mapper that comes to `hidden` by a way that no name shows, or that is hard to see
BY_THE_WAY = [
    "yield eval('hidden')(key), 1",
    "yield globals()['hid' + 'den'](key), 1",
    "import job_module; yield job_module.hidden(key), 1",
    "import sys; yield sys.modules[__name__].hidden(key), 1",
    "yield mapper.__globals__['hid' + 'den'](key), 1",
    "import pickle; yield pickle.loads(value)(key), 1",
    "from importlib import import_module; yield import_module(__name__).hidden(key), 1",
    "yield getattr(namespace, 'hid' + 'den')(key), 1",
    "yield vars(namespace)['hidden'](key), 1",
    "yield table['f'](key), 1",
    "yield Holder.hidden(key), 1",
    "yield (lambda: hidden)()(key), 1",
    "yield [hidden(k) for k in (key,)][0], 1",
    "from operator import attrgetter; yield attrgetter('hidden')(namespace)(key), 1",
    "yield namespace.hidden(key), 1",
    "m = namespace; yield m.hidden(key), 1",
    "yield namespace.Class().method(key), 1",
    "yield made(key), 1",
    "yield next(generator)(key), 1",
    "yield bound(key), 1",
    "yield Holder().all[0](key), 1",
    "def f(g=hidden): return g(key)\n    yield f(), 1",
    "class Local:\n        f = hidden\n    yield Local.f(key), 1",
    "try:\n        pass\n    finally:\n        yield hidden(key), 1",
]
HIDING = """\
import functools, types
import namespace
def hidden(key): return key + 1
table = {{"f": hidden}}
class Holder:
    hidden = staticmethod(hidden)
    all = [hidden]
    def method(self, key): return hidden(key)
bound = Holder().method
made = functools.partial(lambda f, key: f(key), hidden)
generator = iter(types.SimpleNamespace(hidden=hidden) for _ in range(9))
def mapper(key, value):
    {body}
def reducer(key, values): yield key, sum(values)
"""
NAMESPACE = """\
def hidden(key): return key + 1
class Class:
    def method(self, key): return hidden(key)
"""


@pytest.mark.parametrize("way", ["pickle.loads(v)", "loads(v)", "made(v)", "inspect.stack()"])
def test_what_finds_things_by_name_makes_all_of_the_source_count(way: str) -> None:
    source = "import functools, inspect, pickle\nfrom pickle import loads\nother = 1\n"
    source += "made = functools.partial(pickle.loads)\n"
    source += f"def mapper(k, v): yield {way}, 1\ndef reducer(k, vs): yield k, 1\n"
    assert changed(digests(source), digests(source.replace("other = 1", "other = 2"))) == "map"


@pytest.mark.parametrize(
    ("top", "within", "sides"),
    [
        ("import msgpack", "msgpack.packb(k)", "map reduce"),
        ("", "len(k)", ""),
        ("", "1\n  import msgpack\n  yield msgpack", "reduce"),
    ],
)
def test_another_version_of_what_is_imported_counts(
    monkeypatch: pytest.MonkeyPatch, top: str, within: str, sides: str
) -> None:
    versions = {"msgpack": "1"}
    for module in (reach, codedigest):
        monkeypatch.setattr(module, "installed_version", lambda top: versions.get(top, ""))
    source = f"{top}\ndef mapper(k, v): yield k, 1\ndef reducer(k, vs):\n  yield {within}, 1\n"
    before = digests(source)
    versions["msgpack"] = "2"
    assert changed(before, digests(source)) == sides


@pytest.mark.parametrize("body", BY_THE_WAY)
def test_what_a_mapper_comes_to_by_another_way_than_a_name_changes_its_digest(body: str) -> None:
    source = HIDING.format(body=body)
    modules = {"namespace.py": NAMESPACE, "job_module.py": NAMESPACE}
    edited = {path: text.replace("key + 1", "key + 2") for path, text in modules.items()}
    before = digests(source, modules)
    after = digests(source.replace("key + 1", "key + 2"), edited)
    assert "map" in changed(before, after)


def test_pickled_values_make_all_of_the_source_count() -> None:
    source = "serializer = 'pickle'\nother = 1\n"
    source += "def mapper(k, v): yield k, 1\ndef reducer(k, vs): yield k, 1\n"
    assert changed(digests(source), digests(source.replace("= 1", "= 2"))) == "map reduce"


def test_the_classes_of_declared_codecs_count_on_both_sides() -> None:
    source = """\
from dataclasses import dataclass
@dataclass
class Point:
    x: int
    def size(self): return self.x + 1
codecs = [Point]
def mapper(k, v): yield k, v
def reducer(k, vs): yield k, next(vs).size()
"""
    assert changed(digests(source), digests(source.replace("+ 1", "+ 2"))) == "map reduce"


def test_which_functions_play_the_roles_counts() -> None:
    source = "def mapper(k, v): yield k, 1\ndef other(k, v): yield k, 1\nreducer = other\n"
    code = JobCode("/somewhere/job.py", source.encode())
    named = replace(code, names={"mapper": "other"})
    seen = [
        CodeDigests(one).of_map(loading.load(one, {}), to_part=False) for one in (code, named, code)
    ]
    assert seen[0] == seen[2] != seen[1]


def test_a_fold_counts_by_what_it_is() -> None:
    source = "from pytxmr import folds\ndef mapper(k, v): yield k, 1\nreducer = folds.top(3)\n"
    again = digests(source.replace("top(3)", "top(4)"))
    assert changed(digests(source), again) == "map reduce"  # it combines


def test_a_combiner_is_the_maps() -> None:
    source = "def mapper(k, v): yield k, 1\ndef reducer(k, vs): yield k, sum(vs)\n"
    apart = source + "def combiner(k, vs): yield k, sum(vs)\n"
    shared = source + "combiner = reducer\n"
    edit = ("yield k, sum(vs)\n", "yield k, 1 + sum(vs)\n")
    assert changed(digests(apart), digests(apart.replace(*edit, 1))) == "reduce"
    assert changed(digests(shared), digests(shared.replace(*edit, 1))) == "map reduce"


# ---- steps and views

VIEWS = """\
from pytxmr import pipeline
from pytxmr import folds

def cleaned(line): return line.lower()
def longer(key, values): yield key, max(values)
def rank(value): return -value
lines = pipeline.input()
words = lines.map(cleaned).flat_map(str.split)
grouped = words.key_by(len).group(longer, sort_by=rank)
output = grouped.map(lambda pair: pair[1]).count().top(3, by=lambda pair: pair[1] + 1)
"""


@pytest.mark.parametrize(
    ("step", "old", "new", "sides"),
    [
        (1, "line.lower()", "line.upper()", "map"),
        (1, "max(values)", "min(values)", "reduce"),
        (1, "return -value", "return value", "map reduce"),
        (1, "lambda pair: pair[1])", "lambda pair: pair[0])", "reduce"),
        (2, "lambda pair: pair[1])", "lambda pair: pair[0])", ""),
        (2, "line.lower()", "line.upper()", ""),
        (3, "pair[1] + 1", "pair[1] + 2", "map reduce"),
        (2, "pair[1] + 1", "pair[1] + 2", ""),
        (3, "top(3", "top(4", "map reduce"),
    ],
)
def test_each_step_of_views_has_the_functions_of_its_operations(
    step: int, old: str, new: str, sides: str
) -> None:
    assert VIEWS.count(old) == 1
    before = digests(VIEWS, step=step)
    assert changed(before, digests(VIEWS.replace(old, new), step=step)) == sides


def test_what_is_said_of_the_shuffles_is_what_they_read() -> None:
    for shuffle, reads in EMIT_READS.items():
        fields = set(getattr(shuffle, "__dataclass_fields__", ()))
        code = shuffle.emit.__code__
        named = {
            *code.co_names,
            *(n for c in code.co_consts if hasattr(c, "co_names") for n in c.co_names),
        }
        assert fields.intersection(named) == set(reads), shuffle
        assert issubclass(shuffle, operations.Shuffle)


def test_the_steps_of_a_class_have_their_own_methods() -> None:
    source = """\
import pytxmr
class Job(pytxmr.MapReduce):
    def steps(self):
        return [pytxmr.Step(mapper=self.one, reducer=self.two), pytxmr.Step(mapper=self.three)]
    def one(self, key, value): yield key, 1
    def two(self, key, values): yield key, 2
    def three(self, key, value): yield key, 3
"""
    for number, sides in ((1, "map"), (2, "reduce"), (3, "")):
        edited = source.replace(f"yield key, {number}", f"yield key, {number + 5}")
        before = digests(source, class_name="Job", step=1)
        assert changed(before, digests(edited, class_name="Job", step=1)) == sides


# ---- in any process


def test_they_are_the_same_in_every_process(tmp_path: Path) -> None:
    jobs = [(JOB, MODULES, None, 0), (CLASS, {}, "Words", 0)]
    jobs += [
        (HIDING.format(body=body), {"namespace.py": NAMESPACE}, None, 0) for body in BY_THE_WAY
    ]
    jobs += [(VIEWS, {}, None, step) for step in (1, 2, 3)]
    (tmp_path / "print_digests.py").write_text(
        f"""\
from pytxmr.job import loading
from pytxmr.job.codedigest import CodeDigests
from pytxmr.model import JobCode
from pytxmr.runners.inline import as_in_a_worker
{inspect.getsource(digests)}
print([digests(*job) for job in {jobs!r}])
"""
    )
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    env = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.fspath(IMPORTED_FROM)}
    command = [sys.executable, tmp_path / "print_digests.py"]
    done = subprocess.run(command, env=env, capture_output=True, timeout=60, check=True)
    assert ast.literal_eval(done.stdout.decode()) == [digests(*job) for job in jobs]


def test_code_that_is_neither_shipped_nor_installed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loose_tools.py").write_text("def f(x): return x\n")
    monkeypatch.syspath_prepend(tmp_path)
    source = "from loose_tools import f\ndef mapper(k, v): yield f(k), 1\nreducer = mapper\n"
    with pytest.raises(BadJob, match="whether loose_tools has changed.*--py-files"):
        digests(source)
