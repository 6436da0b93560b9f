"""Combiners, a job's own or folds, over groups that are in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pytxmr.errors import AttemptFailed, PytxmrError
from pytxmr.records.columns import Groups, groups_of
from pytxmr.records.folds import Fold

Combiner = Callable[[Any, Iterator[Any]], Iterable[tuple[Any, Any]]]


def is_pair(thing: Any) -> bool:
    """Is it what a mapper, combiner or reducer may yield? A str of two characters is not."""
    return isinstance(thing, (tuple, list)) and len(thing) == 2


def combined(groups: Groups, combiner: Combiner | None) -> Groups:
    """The groups with several values combined; of a fold, the groups are of partials."""
    if combiner is None or groups.counts is None:
        return groups
    if isinstance(combiner, Fold):
        return Groups(groups.keys, None, combiner.merged(groups))
    kept = combine_groups(groups, combiner)
    return groups_of(list(kept), list(kept.values()))


def combine_groups(
    groups: Iterable[tuple[Any, list[Any]]], combiner: Combiner
) -> dict[Any, list[Any]]:
    """Run the combiner over every key that has several values; the keys' order is kept.

    Raises `AttemptFailed` if the combiner raises, or yields anything but pairs with the key that
    it was given: another key would stand at a wrong place in the order, or in a wrong partition.
    """
    kept: dict[Any, list[Any]] = {}
    key: Any = None
    try:
        for key, values in groups:
            if len(values) > 1:
                fewer = []
                for pair in combiner(key, iter(values)):
                    if type(pair) is not tuple or len(pair) != 2 or pair[0] is not key:
                        _check_combined(key, pair)
                    fewer.append(pair[1])
                values = fewer
            if values:
                kept[key] = values
    except PytxmrError:
        raise
    except BaseException as error:
        link = error.__traceback__
        if isinstance(error, TypeError) and link is not None and link.tb_next is None:
            raise AttemptFailed(
                f"the combiner returned no pairs ({error}); does it lack a yield?",
                where=f"key {key!r:.400}",
                final=True,
            ) from error
        message = f"the combiner raised {type(error).__name__}: {error}"
        raise AttemptFailed(message, where=f"key {key!r:.400}") from error
    return kept


def _check_combined(key: Any, pair: Any) -> None:
    if not is_pair(pair):
        problem = f"the combiner yielded {pair!r:.200}: not a pair (key, value)"
    elif pair[0] is not key and pair[0] != key:
        problem = f"the combiner yielded the key {pair[0]!r:.200}: not the one it was given"
    else:
        return
    raise AttemptFailed(problem, where=f"key {key!r:.400}", final=True)
