"""Where two processes share the files of tests, those that take long come first.

The process that gets one of them last would run it alone.
"""

from __future__ import annotations

from collections import Counter

import pytest

#: Half a minute or so each, whatever the number of their tests; the longest first.
LONGEST = (
    "test_simulation.py",
    "test_kills.py",
    "test_docs.py",
    "test_steps.py",
    "test_every_feature.py",
    "test_seeded_defects.py",
    "test_kills_without_reducer.py",
    "test_spark_standalone.py",
    "test_spark.py",
    "test_cluster.py",
    "test_learning_pages.py",
    "test_spark_processes.py",
    "test_limits.py",
    "test_stragglers.py",
    "test_networks.py",
    "test_inline.py",
)


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config.option, "loadscopereorder"):
        # xdist would put the files with the most tests first.
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not hasattr(config, "workerinput"):
        return
    tests = Counter(item.path for item in items)

    def place(item: pytest.Item) -> tuple[int, int]:
        name = item.path.name
        rank = LONGEST.index(name) if name in LONGEST else len(LONGEST)
        return rank, -tests[item.path]

    items.sort(key=place)
