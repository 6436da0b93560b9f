from collections.abc import Iterator
from typing import Any

class Sums:
    """Sums of ints by str; with ``counting``, of a 1 for each pair, whatever its value is."""

    def __init__(self, counting: bool, /) -> None: ...
    def __len__(self) -> int: ...
    @property
    def pulled(self) -> int:
        """How many pairs were pulled, ever."""
    def pull(self, stream: Iterator[Any], most: int, /) -> tuple[int, list[Any]]:
        """Take up to ``most`` pairs from an iterator.

        Returns how many were pulled, and a list of those that were, but could not be taken: they
        are the last, and nothing may be pulled after them.
        """
    def columns(self) -> tuple[list[str], list[int]]:
        """A list of the keys, in no order, and one of their sums."""
