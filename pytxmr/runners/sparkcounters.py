"""What attempts on Spark have counted, which reaches the driver through an accumulator of Spark's.

Spark updates an accumulator for each task that succeeds, before it hands out any result. Of tasks
that give results that is once each; of those that shuffle it is as often as they run: again when
what they gave is lost, and too late to be used. So here nothing is added where Spark updates. What
an attempt has counted is kept under its name, and the results name the attempts that count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark import Accumulator, SparkContext

#: What attempts have counted, each under its name; the user's counters are named ``job: ...``.
Counted = dict[str, dict[str, int]]


def counting(context: SparkContext) -> Accumulator[Counted]:
    """What the tasks of one job may add to."""
    from pyspark.accumulators import AccumulatorParam

    # Within a function, so that it is shipped by its code: see `sparkparcel.task`.
    class ByAttempt(AccumulatorParam[Counted]):
        def zero(self, value: Counted) -> Counted:
            return {}

        def addInPlace(self, value1: Counted, value2: Counted) -> Counted:
            value1.update(value2)
            return value1

    return context.accumulator({}, ByAttempt())


def count(counters: Accumulator[Counted], attempt: str, done: dict[str, Any]) -> None:
    """Tell what an attempt has counted, if it succeeds: take that from what it has to tell."""
    counted = {f"job: {name}": n for name, n in done.pop("user_counters").items()}
    counters.add({attempt: counted | done.pop("counters")})
