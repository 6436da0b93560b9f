"""A directory with processes for each test, and one cluster for all that can share it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from processes import Cluster, Gate, Site

if TYPE_CHECKING:
    from sparkjobs import Features


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_reaches_children() -> None:
    # A shell starts what it puts in the background with SIGINT ignored, and children inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def in_this_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Features]:
    """Features, in a directory that is the current one of all the file's tests."""
    import sparkjobs  # few files need what it imports

    with sparkjobs.in_directory(tmp_path_factory.mktemp("features")) as made:
        yield made


@pytest.fixture
def site(tmp_path) -> Iterator[Site]:
    """Afterwards no process and no temporary file may be left."""
    made = Site(tmp_path)
    try:
        yield made
        made.assert_clean()
    finally:
        made.close()


@pytest.fixture
def gate(tmp_path) -> Iterator[Gate]:
    made = Gate(tmp_path / "gate")
    yield made
    made.close()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    """A jobtracker with two tasktrackers, ``early`` started before it and ``late`` after it."""
    site = Site(tmp_path_factory.mktemp("cluster"))
    try:
        made = Cluster(site)
        made.start_tracker("early").saw(r"not registered")
        made.start_jobtracker()
        made.start_tracker("late", workers=2)
        made.joined("early", "late")
        yield made
        made.close()
        assert made.jobs_on_disk() == []
        site.assert_clean()
    finally:
        site.close()
