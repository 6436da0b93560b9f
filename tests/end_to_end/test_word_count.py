"""War and Peace's words are counted alike by any number of trackers, reducers and splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from processes import BOOK, WORDCOUNT, Cluster, Site, word_counts

pytestmark = pytest.mark.daemons


class Growing(Cluster):
    """A cluster that has as many trackers as a test wants."""

    def resize(self, trackers: int) -> None:
        wanted = [f"tracker{number}" for number in range(trackers)]
        for name in wanted:
            if name not in self.trackers:
                self.start_tracker(name)
        for name in set(self.trackers).difference(wanted):
            self.trackers.pop(name).stop()
        self.joined(*wanted)


@pytest.fixture(scope="module")
def growing(tmp_path_factory) -> Iterator[Growing]:
    site = Site(tmp_path_factory.mktemp("growing"))
    try:
        made = Growing(site)
        made.start_jobtracker()
        yield made
        made.close()
        assert made.jobs_on_disk() == []
        site.assert_clean()
    finally:
        site.close()


@pytest.fixture(scope="module")
def expected() -> Counter[str]:
    return Counter(BOOK.read_text("ascii").lower().split())


@pytest.fixture(scope="module")
def parts_seen() -> dict[int, list[bytes]]:
    """The first output with each number of reducers."""
    return {}


@pytest.mark.parametrize(
    ("trackers", "reducers", "split_size"),
    [
        (1, 1, "32MiB"),
        (1, 3, "500KB"),
        (2, 7, "64KiB"),
        (3, 1, "500KB"),
        (3, 3, "1MiB"),
    ],
)
def test_word_count_is_that_of_a_counter_and_its_parts_depend_on_the_reducers_only(
    site: Site,
    growing: Growing,
    expected: Counter[str],
    parts_seen: dict[int, list[bytes]],
    trackers: int,
    reducers: int,
    split_size: str,
) -> None:
    growing.resize(trackers)
    site.env |= growing.client_env
    words = ["--reducers", reducers, "--split-size", split_size]
    done = site.pytxmr("run", WORDCOUNT, BOOK, "--output", "out", *words)
    assert done.status == 0, done.err
    parts = site.parts()
    assert len(parts) == reducers
    assert all(parts)
    assert word_counts(parts) == expected
    assert parts == parts_seen.setdefault(reducers, parts)


@pytest.mark.parametrize(("reducers", "split_size"), [(1, "64KiB"), (7, "500KB")])
def test_word_count_without_a_cluster_is_that_of_a_counter(
    site: Site,
    expected: Counter[str],
    parts_seen: dict[int, list[bytes]],
    reducers: int,
    split_size: str,
) -> None:
    done = site.run(WORDCOUNT, BOOK, "--reducers", reducers, "--split-size", split_size)
    assert done.status == 0, done.err
    parts = site.parts()
    assert word_counts(parts) == expected
    assert parts == parts_seen.setdefault(reducers, parts)
