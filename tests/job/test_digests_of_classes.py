"""Of a job's class each side has the methods that it comes to."""

from __future__ import annotations

import pytest
from digesting import CLASS, changed, digests


@pytest.mark.parametrize(
    ("old", "new", "sides"),
    [
        ("sum(values) *", "max(values) *", "reduce"),
        ("return word[:self.size]", "return self.cutter(word)", "map"),
        ("return word[:self.size]", "return self.Cutter()(word)", "map"),
        ("scale = 2", "scale = 3", "reduce"),
        ("return 1\n", "return 2\n", ""),
        ("word[:self.size]", "word[-self.size:]", "map"),
        ("size = 3", "size = 4", "map"),
        ('{"a", "b"}', '{"a", "c"}', "map reduce"),  # __init__ is of both
        ("text.lower()", "text.upper()", "map"),
        ("return self.offset", "return -self.offset", "map"),
        ('yield "seen"', 'yield "saw"', "map"),
        ("self.seen = 0", "self.seen = 1", "map"),
        ("def cut(self, word):", "def cut(me, word):\n        self = me", "map"),
        ("yield key, self.total(values)", "yield key, len(vars(self))", "reduce"),
    ],
)
def test_of_a_class_each_side_has_the_methods_that_it_calls(old: str, new: str, sides: str) -> None:
    assert CLASS.count(old) == 1
    before = digests(CLASS, class_name="Words")
    assert changed(before, digests(CLASS.replace(old, new), class_name="Words")) == sides


IMPORTED = """\
import functools, operator
def twice(method):
    def called(self, values): return method(self, values)
    return called
def helped(job, values): return job.total(values)
"""
TOTAL = "return self.total(value)"


@pytest.mark.parametrize(
    ("way", "members"),
    [
        ("getattr(self, 'tot' + 'al')(value)", ""),
        ("helped(self, value)", ""),
        ("type(self).total(self, value)", ""),
        ("self.__class__.total(self, value)", ""),
        ("Words.total(self, value)", ""),
        ("super().total(value)", ""),
        ("(lambda: self)().total(value)", ""),
        ("[each.total(value) for each in (self,)][0]", ""),
        ("self.kept(value)", "kept = lambda self, value: self.total(value)"),
        ("1", f"def __iter__(self, value): {TOTAL}"),
        ("self.by_name('total')(value)", "def by_name(self, n): return self.__getattribute__(n)"),
        ("self.cached(value)", f"@functools.lru_cache\n    def cached(self, value): {TOTAL}"),
        ("self.part(value)", "part = functools.partialmethod(lambda s, v: s.total(v))"),
        (
            "self.described(value)",
            "class D:\n        def __get__(self, job, cls): return lambda v: job.total(v)\n"
            "    described = D()",
        ),
        (
            "self.dispatched(value)",
            f"@functools.singledispatchmethod\n    def dispatched(self, value): {TOTAL}",
        ),
        ("self.decorated(value)", f"@twice\n    def decorated(self, value): {TOTAL}"),
        ("self.early(value)", "early = property(operator.attrgetter('total'))"),
        ("self.early(value)", "early = property(lambda self: self.total)"),
        ("self.of_class(value)", "of_class = classmethod(lambda cls, v: cls.total(cls, v))"),
        (
            "self.of_class(value)",
            "@classmethod\n    def of_class(cls, v): return cls.total(cls, v)",
        ),
        ("self.lazy(value)", "@functools.cached_property\n    def lazy(self): return self.total"),
        ("self.inner(value)", "def inner(self, v): return (lambda: self.total(v))()"),
        ("self.inner(value)", "def inner(self, v):\n        me = self; return me.total(v)"),
        (
            "self.own(value)",
            "def __getattr__(self, name):\n        if name != 'own': raise AttributeError\n"
            "        return self.total",
        ),
    ],
)
def test_a_method_that_the_map_comes_to_in_a_roundabout_way_is_of_its_side(
    way: str, members: str
) -> None:
    source = IMPORTED + CLASS.replace("self.cut(word), self.one", way.replace("value", "[word]"))
    source = source.replace("    size = 3\n", f"    size = 3\n    {members}\n")
    if "super" in way:
        inherited = (
            "        return text.lower()\n\n    def total(self, values): return sum(values) * 1"
        )
        source = source.replace("        return text.lower()", inherited)
    before = digests(source, class_name="Words")
    edited = digests(source.replace("sum(values) *", "max(values) *"), class_name="Words")
    assert changed(before, edited) == "map reduce"
