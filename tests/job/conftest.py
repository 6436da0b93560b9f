"""What a job that was loaded leaves in the process goes with its test."""

from __future__ import annotations

import sys

import pytest

from pytxmr.job import context


@pytest.fixture(autouse=True)
def nothing_left_behind():
    params, modules = dict(context.params), set(sys.modules)
    yield
    context.begin_job(params)
    for name in set(sys.modules) - modules:
        if name.startswith("pytxmr_job_"):
            del sys.modules[name]
