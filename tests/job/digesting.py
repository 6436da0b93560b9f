"""The digests of a job's two sides, by its source."""

from __future__ import annotations

from pytxmr.job import loading
from pytxmr.job.codedigest import CodeDigests
from pytxmr.model import JobCode
from pytxmr.runners.inline import as_in_a_worker


def digests(
    source: str, modules: dict[str, str] | None = None, class_name: str | None = None, step: int = 0
) -> tuple[str, str]:
    """Of a job's map side and of its reduce side."""
    shipped = {
        path: (f"/somewhere/{path}", text.encode()) for path, text in (modules or {}).items()
    }
    code = JobCode("/somewhere/job.py", source.encode(), class_name, {}, shipped)
    with as_in_a_worker():
        functions = loading.load(code, {}, step or None)
        found = CodeDigests(code, step or None)
        return found.of_map(functions, to_part=False), found.of_reduce(functions)


def changed(before: tuple[str, str], after: tuple[str, str]) -> str:
    """Which sides are not as they were."""
    return " ".join(
        side for side, a, b in zip(("map", "reduce"), before, after, strict=True) if a != b
    )


#: A job in the form of a class.
CLASS = """\
import operator
import pytxmr

class Cutter:
    def __call__(self, word): return word[:3]

class Shared(pytxmr.MapReduce):
    def __init__(self):
        self.stop = {"a", "b"}
        self.offset = 1

    def cleaned(self, text):
        return text.lower()

class Words(Shared):
    params = {"n": 1}
    size = 3
    cutter = operator.itemgetter(slice(3))
    Cutter = Cutter
    scale = 2

    def map(self, key, value):
        for word in self.cleaned(value).split():
            if word not in self.stop:
                yield self.cut(word), self.one

    def cut(self, word):
        return word[:self.size]

    def map_init(self):
        self.seen = 0

    @property
    def one(self):
        return self.offset

    def map_final(self):
        yield "seen", self.seen

    def reduce(self, key, values):
        yield key, self.total(values)

    def total(self, values):
        return sum(values) * self.scale

    def unused(self):
        return 1
"""
