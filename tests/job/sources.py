"""Sources of jobs, in both forms, and how they are loaded."""

from __future__ import annotations

from textwrap import dedent

import pytest

from pytxmr.errors import BadJob
from pytxmr.job.loading import load
from pytxmr.model import JobCode

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
WITHOUT = MODULE.partition("def reducer")[0]
CLASS_WITHOUT = CLASS.partition("    def reduce")[0]


def code(source, class_name=None, names=None, filename="jobs/words.py"):
    return JobCode(filename, dedent(source).encode(), class_name, names or {})


def refused(*arguments, params=None, **options):
    """Load a job that must be refused; returns the error."""
    with pytest.raises(BadJob) as caught:
        load(code(*arguments, **options), params or {})
    return caught.value
