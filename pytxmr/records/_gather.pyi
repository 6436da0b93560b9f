from collections.abc import Iterator
from typing import Any

class Table:
    """By key the sums of ints (``kind`` is "sums"), how many values there are ("counts"), or lists
    of them ("lists"). Raises `ValueError` for another kind."""

    def __init__(self, kind: str, /) -> None: ...
    def __len__(self) -> int: ...
    @property
    def pulled(self) -> int:
        """How many pairs were pulled, ever."""
    def pull(self, stream: Iterator[Any], most: int, /) -> tuple[int, list[Any]]:
        """Take up to ``most`` pairs from an iterator.

        Returns how many were pulled, and a list of those that were, but are not for the table:
        they are the last, and nothing may be pulled after them.
        """
    def values(self, keys: list[Any], /) -> list[Any]:
        """A list of the sums or lists of some keys. Raises `KeyError` for what is none."""
    def columns(self) -> tuple[list[Any], list[Any]]:
        """A list of the keys, in the order in which they came, and one of their sums or lists."""
