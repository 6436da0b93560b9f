"""The simulation finds what it is there to find: with a guard taken out, some seed fails.

Each defect of `defects` and `stranger_defects` takes one guard out of the product. It has to be
found within `MOST_SEEDS` seeds, counted from 0.
"""

from __future__ import annotations

import pytest
import stranger_defects  # noqa: F401, whose own are among them then
from defects import DEFECTS
from test_simulation import SEEDS

from pytxmr.simulation.runs import scratch

MOST_SEEDS = 1000

#: A seed that shows each. It is tried first; if it does not, since schedules have changed, all are,
#: from 0 on, and whoever reads that the test has become slow writes the new one down.
SHOWN_BY = {
    "success is there before the parts": 8,
    "a job is not destroyed at trackers": 33,
    "what was kept is not destroyed": 33,
    "an attempt is started as often as it is asked for": 3,
    "a duplicate report is counted twice": 4,
    "what is to be kept is removed": 4,
    "what a mapper counts before it raises counts": 8,
    "a failed job leaves its output": 33,
    "the bad records of different maps are not added up": 9,
    "a tracker that is back is not told again what to do": 12,
    "reports are acknowledged before they are logged": 10,
    "a tracker is forgotten with the life that it registered in": 10,
    "a tracker that is back is not told which jobs are over": 14,
    "a killed job leaves its output": 33,
    "a stale incarnation is taken back": 47,
    "an attempt of a lost tracker still counts as running": 47,
    "the incarnation that a tracker was is taken back however long it was gone": 17,
    "a connection has no keepalive": 36,
    "completed maps do not run again": 18,
    "the counters of a map that ran again are added": 18,
    "the counters of an outrun attempt count": 41,
    "a lease is renewed by a connection": 18,
    "a fetch that fails is not reported": 18,
    "a snapshot forgets how often tasks have failed": 36,
    "a snapshot forgets what maps have put out": 36,
    "a report that is not answered is forgotten": 53,
    "a submission that is repeated is another job": 52,
    "attempts are started before that is logged": 53,
    "a snapshot forgets how often outputs were lost": 53,
    "a segment that is cut short is taken": 61,
    "a map that puts out something else is not noticed": 61,
    "checksums are not checked": 53,
    "segments of an attempt that does not count are taken": 102,
    "what is reserved cannot be reserved again": 119,
    "an answer does not say which request it answers": 507,
    "a commit is not made again by the next life": 134,
    "damage counts against the reduce that finds it": 252,
    "what cannot be logged is taken for logged": 263,
    "a commit begins before the log has what it follows from": 164,
    "input that is not utf 8 is altered": 50,
    "what a stranger has opened counts for ever": 2,
    "a store waits for readers without end": 3,
    "signatures and tokens are not checked": 38,
    "what there is not is not answered": 8,
    "whoever speaks for a tracker is believed": 11,
    "what cannot be carried travels as text": 18,
    "a store waits for requests without end": 20,
    "an address that is none is taken": 20,
    "what cannot be carried is tried again": 22,
    "what is no pair is tried again": 28,
    "a login has no deadline": 40,
    "strangers are not made to go for others": 40,
    "messages may be of any size": 74,
    "whoever does not read is not cut off": 75,
    "a store lets everybody in": 80,
    "jobs ids are not looked at": 89,
    "a store takes lines of any length": 95,
    "spills that are not known are looked for": 28,
    "a stranger may send without end": 131,
    "lists may be long without end": 232,
    "other machines are trusted": 276,
    "any secret is right": 279,
    "what is too large is not answered": 553,
    "lists may be nested without end": 653,
    "attempts that were outrun go on": 8,
    "an attempt that has ended counts as running": 47,
    "a success that is reported again commits again": 30,
    "a job that is killed counts as one that has succeeded": 33,
    "reduces that are done are lost with their tracker": 70,
    "a probe counts as an attempt that failed": 77,
    "a search blames the first record": 145,
    "a source may trickle without end": 245,
    "a transaction counts before it is synced": 89,
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", DEFECTS)
def test_a_guard_that_is_missing_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    DEFECTS[name](monkeypatch)
    first = SHOWN_BY.get(name, 0)
    assert first < MOST_SEEDS
    with scratch() as runs:
        for seed in (first, *range(MOST_SEEDS)):
            violations = runs.run(seed).violations
            if violations:
                assert "ended as failed: TypeError" not in violations[0], "the defect itself fails"
                return
    pytest.fail(f"{MOST_SEEDS} seeds do not show that {name}")


def test_without_a_defect_these_seeds_show_nothing() -> None:
    """Of the others `test_simulation` shows it."""
    with scratch() as runs:
        for seed in sorted({seed for seed in SHOWN_BY.values() if seed >= SEEDS}):
            assert runs.run(seed).violations == [], seed
