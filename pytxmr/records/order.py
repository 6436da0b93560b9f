"""The natural order of keys, as Python has it where it has one.

Keys of one type compare as Python compares them: numbers as numbers, str by code point, bytes by
byte, tuples item by item. Keys of different types sort by type first: None, numbers, str, bytes,
tuples, then those of `kinds`. NaN is one key, after all other numbers.

`order_of` finds out for a whole block whether the built-in comparison is enough (it nearly always
is); only otherwise does a sort pay for `sort_key`, a Python call per key.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter, ne
from typing import Any

from pytxmr.records import kinds as more

_NUMBERS = frozenset({int, float, bool})
_RANK = {type(None): 0, bool: 1, int: 1, float: 1, str: 2, bytes: 3, tuple: 4}

#: What kind of keys a block holds; blocks of one kind compare by the built-in order.
Kind = Any


def order_of(keys: list[Any], depth: int = 0) -> Kind:
    """A token for the keys' kind if built-in comparison orders them, or None if it does not."""
    types = set(map(type, keys))
    if types <= _NUMBERS:
        return None if float in types and any(map(ne, keys, keys)) else "number"
    if len(types) != 1:
        return None
    (only,) = types
    if only is str or only is bytes:
        return only.__name__
    if only is tuple and depth < 3:
        widths = set(map(len, keys))
        if len(widths) == 1:
            columns = (list(map(itemgetter(at), keys)) for at in range(*widths))
            kinds = tuple(order_of(column, depth + 1) for column in columns)
            return None if None in kinds else kinds
        return None
    return more.order_of_column(keys)


def sort_key(key: Any) -> tuple[Any, ...]:
    """A tuple that orders any keys among each other, and agrees with the built-in order."""
    rank = _RANK.get(type(key))
    if rank is None:
        return more.sort_key(key)
    if rank == 1:
        return (1, 1, 0) if key != key else (1, 0, key)
    if rank == 4:
        return (4, tuple(map(sort_key, key)))
    return (rank,) if rank == 0 else (rank, key)


def descending(key: Any) -> tuple[Any, ...]:
    """A key that comes before another's where ``key`` comes behind the other. Raises `TypeError`
    for what cannot be a key."""
    rank = _RANK.get(type(key))
    if rank is None:
        return more.descending(key)
    if rank == 1:
        return (-1, -1, 0) if key != key else (-1, 0, -key)
    if rank == 4:
        # What a longer one has in this place is a tuple that begins with no number above 0.
        return (-4, *map(descending, key), (1,))
    if rank == 0:
        return (0,)
    # As bytes, str have the same order.
    octets = key if rank == 3 else key.encode("utf-8", "surrogatepass")
    return (-rank, octets.translate(_COMPLEMENT).replace(b"\xff", b"\xff\x00") + b"\xff\xff")


_COMPLEMENT = bytes(range(255, -1, -1))


def key_function(kinds: set[Kind]) -> Callable[[Any], Any] | None:
    """The ``key=`` with which blocks of these kinds sort together; None for the built-in order."""
    if len(kinds) > 1 or None in kinds:
        return sort_key
    (only,) = kinds
    return _key_of(only)


def _key_of(kind: Kind) -> Callable[[Any], Any] | None:
    if kind == more.BY_NUMBER:
        return more.number_of
    if type(kind) is not tuple:
        return None
    parts = {at: part for at, part in enumerate(map(_key_of, kind)) if part is not None}
    if not parts:
        return None

    def with_numbers(key: tuple[Any, ...]) -> list[Any]:
        members = list(key)
        for at, part in parts.items():
            members[at] = part(key[at])
        return members

    return with_numbers
