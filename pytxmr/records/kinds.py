"""Values beside numbers, texts and containers: of the standard library, and of a job's own classes.

Each kind is turned into values that are carried already, under a number:

    5  date        day, counted from 1 January of year 1
    6  datetime    year, month, day, hour, minute, second, microsecond, fold, zone
    7  time        hour, minute, second, microsecond, fold, zone
    8  timedelta   days, seconds, microseconds
    9  Decimal     as text
    10 UUID        its 16 bytes
    11 complex     real, imaginary
    12 Fraction    numerator, denominator
    32 declared    name of the class, what the job's codec makes of it

A zone is None, the name of a `zoneinfo.ZoneInfo`, or a fixed offset: microseconds, name or None.

Keys may be dates, times and durations as well, and UUIDs. They have an order that is Python's, and
a canonical form that is equal for equal keys. A datetime whose zone changes its offset has none:
whether it equals another depends on the zone of that.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from operator import attrgetter
from typing import Any

from pytxmr.errors import AttemptFailed, BadJob, SpillDamaged, Uncarryable

DECLARED = 32
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Carried:
    """How values of a kind travel: ``plain`` makes of one what is carried already, or raises
    `Uncarryable`; ``restore`` is its inverse. ``name``: of a declared class.
    """

    code: int
    plain: Callable[[Any], Any]
    restore: Callable[[Any], Any]
    name: str = ""


# ---- of the standard library


def _zone(value: Any) -> Any:
    zone = value.tzinfo
    if zone is None:
        return None
    if type(zone) is timezone:
        offset = zone.utcoffset(None)
        name = zone.tzname(None)
        return [offset // _MICROSECOND, None if timezone(offset).tzname(None) == name else name]
    if type(zone).__module__ == "zoneinfo" and zone.key is not None:
        return zone.key
    raise Uncarryable(
        f"a {type(value).__name__} in a zone of type {type(zone).__qualname__} cannot be carried: "
        f"yield one in a datetime.timezone or zoneinfo.ZoneInfo instead",
        final=True,
    )


def _restored_zone(plain: Any) -> Any:
    if plain is None:
        return None
    if isinstance(plain, str):
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

        try:
            return ZoneInfo(plain)
        except ZoneInfoNotFoundError as error:
            text = f"this machine does not know the time zone {plain}; pip install tzdata"
            raise AttemptFailed(text, final=True) from error
    offset, name = plain
    difference = timedelta(microseconds=offset)
    return timezone(difference) if name is None else timezone(difference, name)


def _plain_datetime(value: datetime) -> list[Any]:
    day = (value.year, value.month, value.day)
    return [*day, *_clock(value)]


def _clock(value: datetime | time) -> list[Any]:
    parts = (value.hour, value.minute, value.second, value.microsecond)
    return [*parts, value.fold, _zone(value)]


def _restored_datetime(plain: list[Any]) -> datetime:
    year, month, day, *clock = plain
    return datetime.combine(date(year, month, day), _restored_time(clock))


def _restored_time(plain: list[Any]) -> time:
    hour, minute, second, microsecond, fold, zone = plain
    return time(hour, minute, second, microsecond, _restored_zone(zone), fold=fold)


def _decimal(plain: str) -> Any:
    from decimal import Decimal

    return Decimal(plain)


def _uuid(plain: bytes) -> Any:
    from uuid import UUID

    return UUID(bytes=plain)


def _fraction(plain: list[int]) -> Any:
    from fractions import Fraction

    return Fraction(*plain)


#: By module and name, so that none of them is imported for jobs that do not use it.
_STANDARD = {
    ("datetime", "date"): Carried(5, date.toordinal, date.fromordinal),
    ("datetime", "datetime"): Carried(6, _plain_datetime, _restored_datetime),
    ("datetime", "time"): Carried(7, _clock, _restored_time),
    ("datetime", "timedelta"): Carried(
        8, lambda v: [v.days, v.seconds, v.microseconds], lambda plain: timedelta(*plain)
    ),
    ("decimal", "Decimal"): Carried(9, str, _decimal),
    ("uuid", "UUID"): Carried(10, lambda v: v.bytes, _uuid),
    ("builtins", "complex"): Carried(11, lambda v: [v.real, v.imag], lambda p: complex(*p)),
    ("fractions", "Fraction"): Carried(12, lambda v: [v.numerator, v.denominator], _fraction),
}
_BY_CODE = {carried.code: carried for carried in _STANDARD.values()}


def standard(kind: type) -> Carried | None:
    """How values of exactly this type travel, if it is of the standard library."""
    name = (kind.__module__, kind.__qualname__)
    found = _STANDARD.get(name)
    return found if found and getattr(sys.modules.get(name[0]), name[1], None) is kind else None


# ---- declared by the job

_declared: dict[type, Carried] = {}
_named: dict[str, Carried] = {}


def declare(codecs: Any) -> None:
    """Carry values of these classes, and of none that were declared before.

    ``codecs``: a dict of class to ``(to_plain, from_plain)``, or dataclasses and namedtuples, which
    need none of their own. Raises `BadJob`.
    """
    _declared.clear()
    _named.clear()
    if isinstance(codecs, Mapping):
        given: Iterable[Any] = codecs.items()
    elif isinstance(codecs, Iterable):
        given = [(kind, _fieldwise(kind)) for kind in codecs]
    else:
        raise BadJob(f"codecs is {type(codecs).__name__}, neither a dict nor a list of classes")
    for kind, codec in given:
        match kind, codec:
            case type(), (to_plain, from_plain) if callable(to_plain) and callable(from_plain):
                _declare(kind, to_plain, from_plain)
            case _:
                raise BadJob(
                    f"codecs: {kind!r:.100} is not a class with a pair of functions (to_plain, "
                    f"from_plain)"
                )


def declared() -> list[tuple[type, Carried]]:
    """The classes that `declare` was told of, in its order."""
    return list(_declared.items())


def _declare(kind: type, to_plain: Callable[[Any], Any], from_plain: Callable[[Any], Any]) -> None:
    name = kind.__qualname__
    if name in _named:
        raise BadJob(f"codecs: two classes have the name {name}")
    if kind in (bool, int, float, str, bytes, tuple, list, dict, set, frozenset, type(None)):
        raise BadJob(f"codecs: {name} is carried as it is")
    _declared[kind] = _named[name] = Carried(DECLARED, to_plain, from_plain, name)


def _fieldwise(kind: Any) -> Any:
    if isinstance(kind, type) and is_dataclass(kind):
        for field in fields(kind):
            if not field.init or field.kw_only:
                how = "not made with" if not field.init else "made by keyword with"
                raise BadJob(
                    f"codecs: {kind.__qualname__} is {how} {field.name}: say "
                    f"{{{kind.__qualname__}: (to_plain, from_plain)}}"
                )
        names = [field.name for field in fields(kind)]
        return (
            lambda value: tuple([getattr(value, name) for name in names]),
            lambda plain: kind(*plain),
        )
    if isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_make"):
        return tuple, kind._make
    return None


# ---- both


def carried(kind: type) -> Carried | None:
    """How values of exactly this type travel; None if they do not."""
    return _declared.get(kind) or standard(kind)


def restored(code: int, name: str, plain: list[Any]) -> list[Any]:
    """The values that `Carried.plain` made those of. Of a class that this process does not know, as
    a tracker that shows a spill, it is what the job's codec made of them.
    """
    if code == DECLARED:
        if name not in _named:
            return plain
        try:
            return list(map(_named[name].restore, plain))
        except Exception as error:
            text = f"the codec of {name} raised {type(error).__name__}: {error}"
            raise AttemptFailed(text) from error
    if code not in _BY_CODE:
        raise SpillDamaged(f"unknown extension type {code}")
    try:
        return list(map(_BY_CODE[code].restore, plain))
    except (ArithmeticError, AttributeError) as error:
        raise SpillDamaged(f"values of extension type {code} do not decode: {error}") from error


# ---- keys

#: Beside the ranks of `order`.
_RANKS = {"date": 5, "datetime": 6, "aware": 7, "time": 8, "timedelta": 9, "UUID": 10}


def _key_kind(key: Any) -> str | None:
    """What kind of key it is, the name of its type mostly; None if it cannot be one."""
    kind = type(key)
    if kind is datetime:
        return {type(None): "datetime", timezone: "aware"}.get(type(key.tzinfo))
    if kind is time:
        return "time" if key.tzinfo is None else None
    if kind is date or kind is timedelta:
        return kind.__name__
    return "UUID" if kind.__name__ == "UUID" and standard(kind) else None


#: UUIDs are sorted by their numbers: they compare by a method that is written in Python.
BY_NUMBER = "UUID"
number_of = attrgetter("int")
_zone_of = attrgetter("tzinfo")


def order_of_column(keys: list[Any]) -> str | None:
    """A token for the keys, of one type, if they compare as they are, or by `number_of`."""
    kind = type(keys[0])
    if kind.__name__ not in _RANKS:
        return None
    zoned = kind is datetime or kind is time
    if zoned and len(set(map(type, map(_zone_of, keys)))) > 1:
        return None
    return _key_kind(keys[0])


def sort_key(key: Any) -> tuple[Any, ...]:
    """See `order.sort_key`."""
    kind = _key_kind(key) or ""
    return (_RANKS[kind], number_of(key) if kind == BY_NUMBER else key)


def descending(key: Any) -> tuple[Any, ...]:
    """See `order.descending`."""
    kind = _key_kind(key)
    if kind is None:
        raise TypeError(f"a {type(key).__qualname__} cannot be a key: {key_problem(key)}")
    return (-_RANKS[kind], -_number(kind, key))


def _number(kind: str, key: Any) -> int:
    """A number by which keys of this kind compare as they do themselves."""
    if kind == "UUID":
        return int(key)
    if kind == "date":
        return int(key.toordinal())
    if kind == "time":
        key = timedelta(0, key.second, key.microsecond, 0, key.minute, key.hour)
    elif kind != "timedelta":
        key -= _EPOCH if kind == "aware" else _EPOCH.replace(tzinfo=None)
    return int(key // _MICROSECOND)


def canonical(key: Any) -> bytes:
    """Equal for keys that are equal."""
    kind = type(key)
    if kind is datetime and key.tzinfo is not None:
        return b"%d" % ((key - _EPOCH) // _MICROSECOND)
    if kind is datetime or kind is time:
        return key.isoformat().encode()  # type: ignore[no-any-return]
    if kind is timedelta:
        return b"%d" % (key // _MICROSECOND)
    return str(key).encode()


def key_problem(key: Any) -> str | None:
    """Why it cannot be a key; None if it can."""
    if _key_kind(key) is not None:
        return None
    if type(key) is datetime:
        return "its zone has no fixed offset; yield value.astimezone(datetime.timezone.utc) instead"
    return (
        "keys are None, bool, int, float, str, bytes, dates, times without a zone, durations, "
        "UUIDs and tuples of these"
    )
