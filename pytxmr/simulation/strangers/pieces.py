"""Messages of Perspective Broker, in Banana, put together by hand."""

from __future__ import annotations

from twisted.spread.banana import int2b128


def number(value: int) -> bytes:
    digits: list[bytes] = []
    int2b128(value, digits.append)
    return b"".join(digits)


def list_of(items: int) -> bytes:
    """The beginning of one, in Banana."""
    return number(items) + b"\x80"


def text(data: bytes) -> bytes:
    return number(len(data)) + b"\x82" + data


def integer(value: int) -> bytes:
    return number(value) + b"\x85"


def message(argument: bytes) -> bytes:
    """A call of the first object that there is, with one argument."""
    parts = [text(b"message"), integer(7), text(b"root"), text(b"login"), integer(1)]
    arguments = list_of(2) + text(b"tuple") + argument
    return list_of(7) + b"".join(parts) + arguments + list_of(1) + text(b"dictionary")
