"""Names that are nearly those of a role or hook, so that they are meant, and would not be called.

What a job leaves out has a default, so a slip of the pen would show only in a wrong output. To be
asked about what one calls a helper is a nuisance, though; so only these count as slips: a letter
left out or put in within a name, two neighbours swapped, capitals or underscores. A letter in the
place of another is one in a long word only: ``reduser`` is, ``render`` is no slip of ``reader``.
Nor is anything at a name's end: ``reduced`` is a word.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterable, Mapping
from os.path import commonprefix
from typing import Any

#: What mrjob calls our hooks.
_OF_MRJOB = {
    "mapper_init": "map_init",
    "mapper_final": "map_final",
    "reducer_init": "reduce_init",
    "reducer_final": "reduce_final",
}
_OF_COMBINERS = ("combiner_init", "combiner_final", "combine_init", "combine_final")
#: A shorter name is too near to others.
_SHORTEST = 5
#: In a word of this length another letter makes no other word.
_LONG_WORD = 7
#: Of a longer name two letters in a row may be left out.
_LONG = 9


def nearest(name: str, known: Any) -> str:
    """``; did you mean X?`` for the closest known name, or nothing."""
    import difflib  # for those alone who have misspelt something

    close = difflib.get_close_matches(name, [n for n in known if not n.startswith("_")], n=1)
    return f"; did you mean {close[0]}?" if close else ""


def nearest_option(error: TypeError) -> str:
    """What was meant where a method of pytxmr was called with an option that it has not, or
    `pipeline.input`. Other functions may be the job's own, of the same name."""
    match = re.match(r"([\w.]+)\(\) got an unexpected keyword argument '(\w+)'", str(error))
    if match is None:
        return ""
    for name, module in [*sys.modules.items()]:
        ours = name.startswith("pytxmr.") if "." in match[1] else name == "pytxmr.job.pipeline"
        found: Any = module if ours else None
        for part in match[1].split("."):
            found = getattr(found, part, None)
        code = getattr(found, "__code__", None)
        if code is not None:
            options = code.co_argcount + code.co_kwonlyargcount
            return nearest(match[2], code.co_varnames[:options])
    return ""


def misspelt(defined: Iterable[str], missing: Collection[str], synonyms: dict[str, str]) -> str:
    """``defines X(); did you mean Y?``, for the first of the defined names that is meant for one of
    the missing, or for what there is not; empty if none is.

    ``synonyms``: what is certainly meant by a name, if it is missing.
    """
    for name in defined:
        if name.startswith("_"):
            continue
        if name in _OF_COMBINERS:
            return (
                f"defines {name}(), but a combiner has no hooks. If it is none, call it _{name}()"
            )
        meant = (synonyms | _OF_MRJOB).get(name)
        if meant not in missing:
            meant = next((known for known in missing if _is_slip(name, known)), None)
        if meant is not None:
            return f"defines {name}(); did you mean {meant}()? If not, call it _{name}()"
    return ""


def _is_slip(name: str, known: str) -> bool:
    if len(known) < _SHORTEST:
        return False
    if _plain(name) == _plain(known):
        return True
    before = len(commonprefix([name, known]))
    after = len(commonprefix([name[before:][::-1], known[before:][::-1]]))
    if not before or not after:
        return False
    written, right = name[before : len(name) - after], known[before : len(known) - after]
    if len(written) == len(right) == 2:
        return written == right[::-1]
    if len(written) == len(right) == 1:
        return len(known) >= _LONG_WORD and "_" not in known
    left_out = 2 if len(known) >= _LONG and "_" not in known else 1
    return (not written and len(right) <= left_out) or (not right and len(written) == 1)


def misspelt_attribute(
    defined: Mapping[str, Any],
    known: Mapping[str, type[Any] | tuple[type[Any], ...]],
    source: bytes,
) -> str:
    """As `misspelt`, of values that are no functions: one that is a letter off a known name, of the
    type that is wanted there, and used nowhere in the source."""
    for name, value in defined.items():
        if name.startswith("_") or name in known or callable(value):
            continue
        meant = next(
            (
                right
                for right, types in known.items()
                if right not in defined and isinstance(value, types) and _is_near(name, right)
            ),
            None,
        )
        if meant and len(re.findall(rb"\b%s\b" % name.encode(), source)) == 1:
            return f"defines {name}; did you mean {meant}? If not, call it _{name}"
    return ""


def _is_near(name: str, known: str) -> bool:
    """Is it one letter, put in, left out or another, or two that are swapped?"""
    before = len(commonprefix([name, known]))
    written, right = name[before:], known[before:]
    after = len(commonprefix([written[::-1], right[::-1]]))
    written, right = written[: len(written) - after], right[: len(right) - after]
    return max(len(written), len(right)) == 1 or (len(right) == 2 and written == right[::-1])


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
