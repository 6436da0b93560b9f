"""Values of the standard library and of a job's own classes come as they went, or are refused."""

from __future__ import annotations

import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from itertools import permutations
from uuid import UUID
from zoneinfo import ZoneInfo

import msgpack
import pytest
from carried import read_spill, steady, write_spill
from hypothesis import given
from hypothesis import strategies as st

from pytxmr.errors import AttemptFailed, BadJob, PytxmrError, SpillDamaged, Uncarryable
from pytxmr.records import kinds
from pytxmr.records.codec import (
    check_key,
    check_value,
    pack_column,
    pack_values,
    unpack_column,
    use_pickle,
)
from pytxmr.records.order import descending, key_function, order_of, sort_key
from pytxmr.records.partition import partition_keys, stable_partition
from pytxmr.records.writers import text

EAST = timezone(timedelta(hours=2))
NAMED = timezone(timedelta(hours=-3, microseconds=5), "here")
BERLIN = ZoneInfo("Europe/Berlin")


class Strange(tzinfo):
    def utcoffset(self, when: datetime | None) -> timedelta:
        return timedelta(0)


@dataclass
class Point:
    x: int
    y: object


@dataclass(frozen=True)
class Late:
    x: int
    y: int = field(init=False, default=3)


@dataclass(kw_only=True)
class Spelt:
    x: int


Pair = namedtuple("Pair", "left right")


class Odd:
    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Odd) and self.number == other.number

    __hash__ = None  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def nothing_declared() -> Iterator[None]:
    yield
    kinds.declare(())
    use_pickle(False)


zones = st.sampled_from([None, UTC, EAST, NAMED, BERLIN])
durations = st.timedeltas()
fixed = st.datetimes(timezones=st.sampled_from([None, UTC, EAST, NAMED]))
plain_keys = st.one_of(
    st.dates(), st.datetimes(), fixed, st.times(), durations, st.uuids(), st.integers(), st.text()
)
anything = st.one_of(
    plain_keys,
    st.datetimes(timezones=zones),
    st.times(timezones=zones),
    st.decimals(),
    st.fractions(),
    st.complex_numbers(),
)


def exact(value: object) -> object:
    """Equal for what is the same: also zone, fold, sign of zero and number of digits."""
    if isinstance(value, list | tuple):
        return type(value), [exact(one) for one in value]
    zone = getattr(value, "tzinfo", None)
    return type(value), repr(value), getattr(value, "fold", 0), type(zone), str(zone)


@steady(max_examples=200)
@given(st.lists(st.one_of(anything, st.tuples(anything, st.lists(anything))), max_size=4))
def test_what_the_standard_library_has_comes_as_it_went(column):
    check_value(column)
    assert exact(unpack_column(pack_column(column))) == exact(column)


@pytest.mark.parametrize(
    "value",
    [
        datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=BERLIN),
        datetime.max,
        date.min,
        timedelta.min,
        time(1, 2, 3, 4, NAMED, fold=1),
        Decimal("1.500"),
        Decimal("-0"),
        Decimal("sNaN123"),
        Fraction(2**100, 3),
        complex(-0.0, float("inf")),
        UUID(int=7),
    ],
)
def test_the_last_detail_comes_along(value):
    assert exact(unpack_column(pack_column([{"in": [value]}]))[0]["in"]) == exact([value])


def test_a_zone_that_has_no_name_elsewhere_is_refused():
    for bad in (datetime(2024, 1, 1, tzinfo=Strange()), time(1, tzinfo=Strange())):
        with pytest.raises(Uncarryable, match=r"a zone of type Strange cannot be carried: yield"):
            check_value([bad])
        with pytest.raises(Uncarryable, match="Strange"):
            pack_column([bad])


def test_a_zone_that_is_not_known_here_is_told_and_not_tried_again():
    data = pack_column([datetime(2024, 1, 1, tzinfo=BERLIN)])
    with pytest.raises(AttemptFailed, match="does not know the time zone Europe/Nowher") as caught:
        unpack_column(data.replace(b"Europe/Berlin", b"Europe/Nowher"))
    assert caught.value.details["final"]


@steady(max_examples=150)
@given(st.lists(plain_keys, min_size=1, max_size=5))
def test_keys_have_one_order_whichever_way_it_is_found(keys):
    for key in keys:
        check_key(key)
    by_rank = sorted(keys, key=sort_key)
    kind = order_of(keys)
    assert sorted(keys, key=key_function({kind})) == by_rank
    pairs = [(key, key) for key in keys]
    if order_of(pairs) is not None:
        assert sorted(pairs) == [(key, key) for key in by_rank]


@steady(max_examples=150)
@given(st.lists(plain_keys | st.tuples(plain_keys, plain_keys), max_size=5))
def test_descending_keys_have_the_order_turned_round(keys):
    turned = sorted(keys, key=lambda key: sort_key(descending(key)))
    assert list(map(sort_key, turned)) == sorted(map(sort_key, keys), reverse=True)
    for key in keys:
        check_key(descending(key))


def test_what_cannot_be_a_key_cannot_be_turned_round():
    for wrong in ([], {}, datetime(2024, 1, 1, tzinfo=ZoneInfo("Europe/Berlin"))):
        with pytest.raises(TypeError, match="cannot be a key"):
            descending(wrong)


def test_keys_of_one_kind_are_ordered_by_built_in_comparison():
    for keys in (
        [date(2024, 1, 1)],
        [datetime(2024, 1, 1)],
        [datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=EAST)],
        [time(1)],
        [timedelta(1)],
        [UUID(int=1)],
    ):
        assert order_of(keys) is not None
    assert order_of([datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC)]) is None


def test_kinds_of_keys_come_one_after_the_other():
    ordered = [
        None, 1, "a", b"a", (1,), date(2024, 1, 1), datetime(1999, 1, 1),
        datetime(1970, 1, 1, tzinfo=EAST), time(0), timedelta(0), UUID(int=0),
    ]  # fmt: skip
    for some in permutations(ordered, 2):
        assert sorted(some, key=sort_key) == sorted(some, key=ordered.index)


def test_keys_that_are_equal_go_to_one_partition():
    noon = datetime(2024, 1, 1, 12, tzinfo=UTC)
    for same in (
        [noon, noon.astimezone(EAST), noon.astimezone(NAMED)],
        [datetime(2024, 1, 1), datetime(2024, 1, 1, fold=1)],
        [time(1), time(1, fold=1)],
    ):
        assert len(set(same)) == 1
        assert len({stable_partition(key, 1 << 30) for key in same}) == 1
    days = [date.fromordinal(730_000 + number) for number in range(1000)]
    counts = [partition_keys(days, 4).count(number) for number in range(4)]
    assert min(counts) > 150


def test_a_key_goes_to_the_same_partition_in_every_process():
    code = (
        "from datetime import *; from uuid import UUID; "
        "from pytxmr.records.partition import stable_partition as p; "
        "print([p(k, 1000) for k in (date(2024, 1, 1), datetime(2024, 1, 1, 5, 6), "
        "datetime(2024, 1, 1, tzinfo=timezone.utc), time(7), timedelta(1), UUID(int=9))])"
    )
    done = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
        for _ in range(2)
    ]
    assert done[0] == done[1] == b"[680, 847, 493, 309, 734, 277]\n"


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (datetime(2024, 1, 1, tzinfo=BERLIN), "yield value.astimezone"),
        (time(1, tzinfo=UTC), "times without a zone"),
        (Decimal(1), "keys are None, bool, int"),
        (Fraction(1), "keys are"),
        (1j, "keys are"),
    ],
)
def test_what_has_no_order_or_more_than_one_is_no_key(key, said):
    for one in (key, (1, key)):
        with pytest.raises(Uncarryable, match="cannot be a key") as caught:
            check_key(one)
        assert said in caught.value.message


def test_spills_group_by_such_keys(tmp_path):
    groups = [(date(2024, 1, 1), [Decimal("1.0")]), (date(2024, 1, 2), [1j, UUID(int=1)])]
    assert read_spill(write_spill(tmp_path / "spill", [groups])) == [groups]


def test_output_shows_them_as_python_writes_them():
    assert text(date(2024, 1, 2)) == "2024-01-02"
    assert text(datetime(2024, 1, 2, 3, tzinfo=UTC)) == "2024-01-02 03:00:00+00:00"
    assert text(Decimal("1.50")) == "1.50"
    assert text([date(2024, 1, 2)]) == '["2024-01-02"]'


@pytest.mark.parametrize("code", [5, 6, 7, 8, 9, 10, 11, 12, 31])
def test_what_was_not_written_here_is_damaged(code):
    for inside in (None, "x", -1, [], ["x"] * 9, 2**70):
        body = msgpack.packb([msgpack.ExtType(code, msgpack.packb(inside, default=str))])
        try:
            unpack_column(b"\x02" + body)
        except SpillDamaged:
            pass


# ---- a job's own classes


def test_declared_classes_come_as_they_went_wherever_they_are():
    kinds.declare([Point, Pair])
    column = [Point(1, [Pair(2, Point(3, None))]), {"a": (Point(4, date(2024, 1, 1)),)}]
    check_value(column)
    assert unpack_column(pack_column(column)) == column
    assert type(unpack_column(pack_column([Pair(1, 2)]))[0]) is Pair


def test_a_class_may_have_functions_of_its_own():
    kinds.declare({Odd: (lambda odd: odd.number, Odd), Late: (lambda late: late.x, Late)})
    assert unpack_column(pack_column([Odd(2), Late(5)])) == [Odd(2), Late(5)]


def test_who_does_not_know_the_class_sees_what_was_made_of_it():
    kinds.declare([Point])
    data = pack_column([Point(1, 2)])
    kinds.declare(())
    assert unpack_column(data) == [(1, 2)]
    with pytest.raises(Uncarryable, match=r"Point cannot be carried: say codecs = \[Point\]"):
        pack_column([Point(1, 2)])


@pytest.mark.parametrize(
    ("codecs", "said"),
    [
        (7, "codecs is int, neither a dict nor a list of classes"),
        ([Odd], "is not a class with a pair of functions"),
        (["Point"], "'Point' is not a class"),
        ({Odd: str}, "is not a class with a pair of functions"),
        ({Odd: (str, 1)}, "is not a class with a pair of functions"),
        ({"Odd": (str, str)}, "'Odd' is not a class"),
        ({str: (str, str)}, "str is carried as it is"),
        ([Late], "Late is not made with y"),
        ([Spelt], "Spelt is made by keyword with x"),
        ([Point, dataclass(type("Point", (), {}))], "two classes have the name Point"),
    ],
)
def test_codecs_that_cannot_be_are_refused(codecs, said):
    with pytest.raises(BadJob) as caught:
        kinds.declare(codecs)
    assert said in caught.value.message


def test_what_a_codec_makes_must_be_carried_itself():
    kinds.declare({Odd: (lambda odd: {1: object()}, Odd)})
    with pytest.raises(Uncarryable, match="a object cannot be carried"):
        pack_column([Odd(1)])


def test_an_error_of_the_users_codec_is_no_damage():
    def refuse(plain: object) -> Odd:
        raise ValueError("not odd")

    kinds.declare({Odd: (lambda odd: odd.number, refuse)})
    data = pack_column([Odd(1)])
    with pytest.raises(AttemptFailed, match="the codec of Odd raised ValueError: not odd"):
        unpack_column(data)


# ---- pickle


def test_pickled_values_come_as_they_went_and_plain_ones_are_not_pickled():
    use_pickle(True)
    column = [Odd(1), {Odd: (Point(1, 2), range(3))}, Pair(1, 2)]
    check_value(column)
    assert unpack_column(pack_values(column)) == column
    assert pack_values([1, "a", None]) == pack_column([1, "a", None])


def test_keys_are_never_pickled():
    use_pickle(True)
    with pytest.raises(Uncarryable):
        check_key(Odd(1))
    assert pack_column([(1, date(2024, 1, 1))])[:1] == b"\x01"


def test_pickles_are_opened_by_the_jobs_own_workers_alone():
    use_pickle(True)
    data = pack_values([Odd(1)])
    use_pickle(False)
    with pytest.raises(PytxmrError, match="only the job's own workers open them"):
        unpack_column(data)
    with pytest.raises(Uncarryable):
        pack_values([Odd(1)])


def test_what_cannot_be_pickled_is_refused_as_it_is_yielded():
    use_pickle(True)
    for call in (lambda: check_value(lambda: 1), lambda: pack_values([1, lambda: 1])):
        with pytest.raises(Uncarryable, match="a value cannot be pickled") as caught:
            call()
        assert caught.value.details["final"]


class Unhappy:
    def __reduce__(self):
        return int, ("x",)


def test_what_cannot_be_restored_is_the_jobs_own_failure():
    use_pickle(True)
    with pytest.raises(AttemptFailed, match="cannot be restored: ValueError"):
        unpack_column(pack_values([Unhappy()]))
