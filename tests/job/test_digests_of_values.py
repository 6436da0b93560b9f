"""Values count in a digest by what they are."""

from __future__ import annotations

import re

import pytest
from digesting import changed, digests


def test_a_value_that_cannot_be_taken_apart_makes_all_of_the_source_count() -> None:
    source = "import threading\nlock = threading.Lock()\nother = 1\n"
    source += "def mapper(k, v):\n  with lock: yield k, 1\ndef reducer(k, vs): yield k, 1\n"
    assert changed(digests(source), digests(source.replace("= 1", "= 2"))) == "map"


#: what a mapper uses, an edit of it
VALUES = [
    ("Point = collections.namedtuple('Point', 'x y')", "'x y'", "'x z'"),
    ("class Point(typing.NamedTuple):\n    x: int = 1", "= 1", "= 2"),
    ("class Color(enum.Enum):\n    RED = 1", "= 1", "= 2"),
    ("Color = enum.Enum('Color', 'RED')", "'RED'", "'BLUE'"),
    ("Color = enum.IntFlag('Color', ['RED'])", "'RED'", "'BLUE'"),
    ("@dataclass(frozen=True, slots=True)\nclass P:\n    x: int = 1", "= 1", "= 2"),
    ("@dataclass\nclass P:\n    x: list = field(default_factory=list)", "=list", "=set"),
    ("P = dataclasses.make_dataclass('P', [('x', int, 1)])", "int, 1", "int, 2"),
    ("class A(abc.ABC):\n    @abc.abstractmethod\n    def f(self): return 1", "n 1", "n 2"),
    ("class A(typing.Generic[T]):\n    def f(self): return 1", "n 1", "n 2"),
    ("class A(dict):\n    def f(self): return 1\na = A(b=1)", "b=1", "b=2"),
    ("class A(list):\n    pass\na = A([1])", "[1]", "[2]"),
    ("class A(set):\n    pass\na = A([1])", "[1]", "[2]"),
    ("class A(str):\n    pass\na = A('b')", "'b'", "'c'"),
    (
        "class A:\n    __slots__ = 'x', '__y'\n    def __init__(self): self.__y = 1\na = A()",
        "= 1",
        "= 2",
    ),
    ("class A:\n    @functools.cached_property\n    def f(self): return 1", "n 1", "n 2"),
    ("class A:\n    @classmethod\n    def f(cls): return 1", "n 1", "n 2"),
    ("class A:\n    @property\n    def f(cls): return 1", "n 1", "n 2"),
    ("class A:\n    f = functools.partialmethod(print, 1)", "print, 1", "print, 2"),
    ("class A:\n    class B:\n        c = 1", "c = 1", "c = 2"),
    ("class M(type):\n    x = 1\nclass A(metaclass=M): pass", "x = 1", "x = 2"),
    ("@contextlib.contextmanager\ndef opened(): yield 1", "d 1", "d 2"),
    ("a = decimal.Decimal('1')", "'1'", "'2'"),
    ("a = fractions.Fraction(1, 3)", "1, 3", "2, 3"),
    ("a = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)", "2020", "2021"),
    ("a = datetime.timedelta(1)", "(1)", "(2)"),
    ("a = uuid.UUID(int=1)", "int=1", "int=2"),
    ("a = collections.defaultdict(lambda: 1)", "a: 1", "a: 2"),
    ("a = collections.deque([1])", "[1]", "[2]"),
    ("a = collections.OrderedDict(b=1)", "b=1", "b=2"),
    ("a = types.MappingProxyType({1: 1})", "1: 1", "1: 2"),
    ("a = operator.itemgetter(1)", "(1)", "(2)"),
    ("a = operator.attrgetter('a')", "'a'", "'b'"),
    ("a = array.array('i', [1])", "[1]", "[2]"),
    ("a = logging.getLogger('a')", "'a'", "'b'"),
    ("a = random.Random(1)", "(1)", "(2)"),
    ("a = pathlib.PurePath('a')", "'a'", "'b'"),
    ("a = string.Template('a')", "'a'", "'b'"),
    ("a = itertools.count(1)", "(1)", "(2)"),
    ("a = [float('nan'), -0.0]", "-0.0", "0.0"),
    ("a = {(1, 'a'), (2, 'b'), frozenset('ab')}", "2, 'b'", "2, 'c'"),
    ("a = 'ab'.join", "'ab'", "'ac'"),
    ("a = [1]\na.append(a)", "[1]", "[2]"),
    ("a = str | int", "int", "bytes"),
    ("a = list[int]", "int", "bytes"),
    ("a = b'x'", "b'x'", "'x'"),
    ("a = (1, [2, {3: {4}}])", "{4}", "{5}"),
    ("a = slice(1, 2)", "1, 2", "1, 3"),
    ("a = ('ab', 'c')", "'ab', 'c'", "'a', 'bc'"),
    ("a = ([1], 2)", "[1], 2", "[1, 2],"),
    ("def a(*, b=(1, 2)): pass", "1, 2", "1, 3"),
    ("def a():\n    return [x for x in range(9) if x != 1]", "!= 1", "!= 2"),
    ("def a():\n    try: pass\n    except ValueError: pass", "ValueError", "TypeError"),
    ("async def a(): return 1", "n 1", "n 2"),
    ("class A:\n    pass\na = A()\na.b = 1", "b = 1", "b = 2"),
    ("a = np.array([1, 2])", "1, 2", "1, 3"),
    ("a = np.add", "np.add", "np.subtract"),
]
VALUE_JOB = """\
import abc, array, collections, contextlib, dataclasses, datetime, decimal, enum, fractions
import functools, itertools, logging, operator, pathlib, random, string, struct, types, typing, uuid
from dataclasses import dataclass, field
{numpy}
T = typing.TypeVar("T")
{value}
def mapper(key, value): yield {name}, 1
def reducer(key, values): yield key, 0
"""


@pytest.mark.parametrize(("value", "old", "new"), VALUES)
def test_values_of_any_kind_count_by_what_they_are(value: str, old: str, new: str) -> None:
    if "np." in value:
        pytest.importorskip("numpy")
    assert value.count(old) == 1
    name = re.findall(r"^(?:async def |def |class )?(\w+)", value, re.MULTILINE)[-1]
    numpy = "import numpy as np" if "np." in value else ""
    source = VALUE_JOB.format(value=value, name=name, numpy=numpy)
    before = digests(source)
    assert digests(source) == before
    assert "map" in changed(before, digests(source.replace(value, value.replace(old, new))))
    # It was taken apart: what else there is in the source does not count.
    assert changed(before, digests(source.replace("key, 0", "key, 1"))) == "reduce"
