"""Keys and values as bytes, a column at a time.

A column (the keys of a block, or its values) is packed whole, so that nothing is done in Python
for a record. Its first byte says how:

    0  plain    one msgpack array of None, bool, int of 64 bits, float, str, bytes
    1  tuples   all are tuples of one length: a msgpack array of packed columns, one a position
    2  any      one msgpack array in which extension types stand for what msgpack lacks:
                1 tuple, 2 large int, 3 set, 4 frozenset, and those of `kinds`
    3  kind     all are of one of `kinds`: a msgpack array of the kind's number, the name of the
                class, if it is one of the job's, and the packed column of what they are made into
    4  pickled  values of a job that says ``serializer = "pickle"``, as one pickled list
    5  lists    all are lists, or sets, or frozensets: a msgpack array of which of them, the length
                of each, and the packed column of what is in them, one after the other

What goes in comes out, types included: tuples stay tuples, ``1``, ``1.0`` and ``True`` stay apart.
"""

from __future__ import annotations

import math
from dataclasses import is_dataclass
from itertools import accumulate, chain
from operator import itemgetter
from typing import Any

import msgpack

from pytxmr import bigint
from pytxmr.errors import AttemptFailed, PytxmrError, SpillDamaged, Uncarryable
from pytxmr.records import kinds

_PLAIN, _TUPLES, _ANY = b"\x00", b"\x01", b"\x02"
_KIND, _PICKLED, _LISTS = b"\x03", b"\x04", b"\x05"
_SCALARS = frozenset({type(None), bool, int, float, str, bytes})
_CARRYABLE = _SCALARS | {tuple, list, dict, set, frozenset}
_TUPLE, _INT, _SET, _FROZENSET = 1, 2, 3, 4
#: What a column of `_LISTS` may be one of, by the number that it has there.
_COLLECTIONS = (list, set, frozenset)

#: How deep containers may lie in each other; Python's and msgpack's own limits are not far above.
MOST_NESTED = 100

#: The one NaN of keys: being one object makes it equal to itself in dicts and tuples.
NAN = math.nan


#: Whether this process works for a job whose values are pickled: only then any are opened.
_pickles = [False]


def use_pickle(is_wanted: bool) -> None:
    """Let values that msgpack has nothing for be pickled, or no longer."""
    _pickles[0] = is_wanted


def pickles() -> bool:
    """Is that so at present?"""
    return _pickles[0]


def pack_values(values: list[Any]) -> bytes:
    """`pack_column` for what is no key: it may be pickled."""
    if not _pickles[0] or set(map(type, values)) <= _SCALARS:
        return pack_column(values)
    return _PICKLED + _pickle(values)


def _pickle(values: Any) -> bytes:
    import pickle  # few jobs need it

    try:
        return pickle.dumps(values, 5)
    except Exception as error:  # whatever the user's own methods raise, too
        text = f"a value cannot be pickled: {type(error).__name__}: {error}"
        raise Uncarryable(text, final=True) from error


def _unpickle(data: bytes | memoryview) -> list[Any]:
    if not _pickles[0]:
        raise PytxmrError("the values are pickled: only the job's own workers open them")
    import pickle

    try:
        return pickle.loads(data)  # type: ignore[no-any-return]
    except Exception as error:
        # What was packed has come whole, which checksums say: it is the job that cannot restore it.
        text = f"a pickled value cannot be restored: {type(error).__name__}: {error}"
        raise AttemptFailed(text) from error


def pack_column(values: list[Any], depth: int = 0) -> bytes:
    """Pack values that `check_value` accepts. Raises `Uncarryable` naming the type otherwise."""
    types = set(map(type, values))
    if types <= _SCALARS:
        try:
            return _PLAIN + msgpack.packb(values)
        except (OverflowError, UnicodeEncodeError):
            pass  # an int over 64 bits, or a lone surrogate from input that is not UTF-8
    elif types == {tuple} and depth < 3:
        widths = set(map(len, values))
        if len(widths) == 1 and widths != {0}:
            # Not by `zip(*values)`, which makes an iterator for every tuple.
            columns = [
                pack_column(list(map(itemgetter(at), values)), depth + 1) for at in range(*widths)
            ]
            return _TUPLES + msgpack.packb(columns)
    elif len(types) == 1 and (kind := type(values[0])) in _COLLECTIONS and depth < 3:
        column = pack_column(list(chain.from_iterable(values)), depth + 1)
        which = _COLLECTIONS.index(kind)
        return _LISTS + msgpack.packb([which, list(map(len, values)), column])
    elif len(types) == 1 and (carried := kinds.carried(*types)) is not None:
        column = pack_column(list(map(carried.plain, values)))
        return _KIND + msgpack.packb([carried.code, carried.name, column])
    if not types <= _SCALARS:
        for value in values:
            if type(value) not in _SCALARS:
                check_value(value)
    return _ANY + _pack_any(values)


def unpack_column(data: bytes | memoryview) -> list[Any]:
    """The inverse of `pack_column`. Raises `SpillDamaged` for what it did not write."""
    tag, body = bytes(data[:1]), data[1:]
    try:
        if tag == _PLAIN:
            return msgpack.unpackb(body)  # type: ignore[no-any-return]
        if tag == _TUPLES:
            columns = [unpack_column(column) for column in msgpack.unpackb(body)]
            return list(zip(*columns, strict=True))
        if tag == _ANY:
            return _unpack_any(body)  # type: ignore[no-any-return]
        if tag == _KIND:
            code, name, column = msgpack.unpackb(body)
            return kinds.restored(code, name, unpack_column(column))
        if tag == _PICKLED:
            return _unpickle(body)
        if tag == _LISTS:
            which, lengths, column = msgpack.unpackb(body)
            return _cut(unpack_column(column), lengths, _COLLECTIONS[which])
    except (ValueError, TypeError, IndexError) as error:
        raise SpillDamaged(f"a column of a block does not decode: {error}") from error
    raise SpillDamaged(f"a column of a block has the unknown tag {tag!r}")


def _cut(members: list[Any], lengths: list[int], kind: type) -> list[Any]:
    """Collections of these lengths, of the members one after the other."""
    ends = list(accumulate(lengths))
    if min(lengths, default=0) < 0 or (ends[-1] if ends else 0) != len(members):
        raise SpillDamaged("the collections of a column are not as long as it says")
    parts = map(members.__getitem__, map(slice, chain((0,), ends), ends))
    return list(parts if kind is list else map(kind, parts))


def check_value(value: Any, depth: int = 0) -> None:
    """Raise `Uncarryable` if ``value``, or anything inside it, cannot travel."""
    kind = type(value)
    if kind in _SCALARS:
        return
    if _pickles[0]:
        _pickle(value)
        return
    if kind not in _CARRYABLE:
        _plain_form(value)
        return
    _check_depth(depth, kind)
    if kind is dict:
        for key in value:
            if type(key) not in _SCALARS:
                check_value(key, depth + 1)
        value = value.values()
    for part in value:
        if type(part) not in _SCALARS:
            check_value(part, depth + 1)


def check_key(key: Any, depth: int = 0) -> None:
    """Raise `Uncarryable` if ``key`` cannot be a key: only scalars and tuples of them can."""
    kind = type(key)
    if kind is tuple:
        _check_depth(depth, kind)
        for part in key:
            check_key(part, depth + 1)
    elif kind not in _SCALARS and (problem := kinds.key_problem(key)) is not None:
        raise Uncarryable(f"{_describe(kind)} cannot be a key: {problem}", final=True)


def _check_depth(depth: int, kind: type) -> None:
    if depth >= MOST_NESTED:
        raise Uncarryable(
            f"{_describe(kind)} nested more than {MOST_NESTED} deep, or that contains itself, "
            f"cannot be carried",
            final=True,
        )


def one_nan(keys: list[Any]) -> list[Any]:
    """The keys with every NaN, also inside tuples, replaced by `NAN`."""
    return [_with_one_nan(key) for key in keys]


def _with_one_nan(key: Any) -> Any:
    if type(key) is float:
        return NAN if key != key else key
    if type(key) is tuple:
        return tuple(map(_with_one_nan, key))
    return key


def _describe(kind: type) -> str:
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"a {module}{kind.__qualname__}"


def _advice(kind: type) -> str:
    if issubclass(kind, bytearray | memoryview):
        return "yield bytes(value) instead"
    for base in (dict, list, tuple, set, str, bytes, bool, int, float):
        if issubclass(kind, base):
            return f"yield {base.__name__}(value) instead"
    if is_dataclass(kind):
        return f"say codecs = [{kind.__qualname__}] in the job"
    return "yield numbers, str, bytes, tuples, lists, dicts or sets instead"


def _plain_form(value: Any) -> tuple[int, Any]:
    kind = type(value)
    carried = kinds.carried(kind)
    if carried is None:
        raise Uncarryable(f"{_describe(kind)} cannot be carried: {_advice(kind)}", final=True)
    plain = carried.plain(value)
    return carried.code, [carried.name, plain] if carried.name else plain


def _pack_any(values: Any) -> bytes:
    packer = msgpack.Packer(strict_types=True, default=_extend, unicode_errors="surrogatepass")
    try:
        return packer.pack(values)  # type: ignore[no-any-return]
    except ValueError as error:  # msgpack's own limits of size
        raise Uncarryable(f"a value cannot be carried: {error}", final=True) from error


def _extend(value: Any) -> msgpack.ExtType:
    kind = type(value)
    if kind is tuple:
        return msgpack.ExtType(_TUPLE, _pack_any(list(value)))
    if kind is int:
        return bigint.packed(_INT, value)
    if kind is set or kind is frozenset:
        return msgpack.ExtType(_SET if kind is set else _FROZENSET, _pack_any(list(value)))
    code, plain = _plain_form(value)
    return msgpack.ExtType(code, _pack_any(plain))


def _unpack_any(data: bytes | memoryview) -> Any:
    return msgpack.unpackb(
        data, ext_hook=_restore, unicode_errors="surrogatepass", strict_map_key=False
    )


def _restore(code: int, data: bytes) -> Any:
    if code == _TUPLE:
        return tuple(_unpack_any(data))
    if code == _INT:
        return bigint.unpacked(data)
    if code == _SET:
        return set(_unpack_any(data))
    if code == _FROZENSET:
        return frozenset(_unpack_any(data))
    name, plain = "", _unpack_any(data)
    if code == kinds.DECLARED:
        name, plain = plain
    return kinds.restored(code, name, [plain])[0]
