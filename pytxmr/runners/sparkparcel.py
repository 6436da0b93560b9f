"""What executors on other machines are sent, so that they need Python and nothing else.

A zip, which Spark unpacks where they run: pytxmr itself, and the few libraries that its map and
reduce attempts import. These have parts in C, for this platform and this Python. So what executors
have themselves comes before them, which is what they need if their platform is another.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import zipfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pytxmr.model import JobSpec

if TYPE_CHECKING:
    from pyspark import Accumulator, SparkContext

    from pytxmr.runners.sparkcounters import Counted

#: What Spark calls it where it is unpacked.
_NAME = "pytxmr-parcel"
_CODE, _LIBRARIES = "code", "libraries"
_NEEDED = ("msgpack", "xxhash")
#: By what a job may say of compression.
_LIBRARY_OF = {"lz4": "lz4", "zstd": "zstandard"}
#: Where pytxmr is imported from here.
_HERE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

#: What a task is made of: of ``(plain, index, records)`` it makes what Spark gets.
Task = Callable[[int, Any], Iterator[Any]]


def write_parcel(path: str, spec: JobSpec) -> None:
    """Write the zip for a job."""
    wanted = [*_NEEDED, *(_LIBRARY_OF[one] for one in {spec.codec, spec.compress} & {*_LIBRARY_OF})]
    if "fsspec" in sys.modules:  # the job names a URL
        wanted.append("fsspec")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as parcel:
        _add(parcel, _CODE, os.path.join(_HERE, "pytxmr"), "pytxmr")
        for name in wanted:
            found = importlib.util.find_spec(name)
            for directory in (found and found.submodule_search_locations) or ():
                _add(parcel, _LIBRARIES, directory, name)


def _add(parcel: zipfile.ZipFile, part: str, directory: str, name: str) -> None:
    for here, inner, files in os.walk(directory):
        inner[:] = sorted(set(inner) - {"__pycache__"})
        for file in sorted(files):
            path = os.path.join(here, file)
            parcel.write(path, os.path.join(part, name, os.path.relpath(path, directory)))


def send(context: SparkContext, path: str) -> None:
    """Let executors have the zip."""
    context.addArchive(f"{path}#{_NAME}")


def task(name: str, plain: dict[str, Any], counters: Accumulator[Counted], is_sent: bool) -> Task:
    """The function that `sparktasks` calls by that name, for Spark to ship. Where it comes it first
    makes pytxmr importable, from the parcel if there ``is_sent`` one, else from where it is here.
    """
    here = "" if is_sent else _HERE
    names = (_NAME, _CODE, _LIBRARIES)

    # Within a function, so that it is shipped by its code and not by a name in this module, which
    # can be imported only after it has begun.
    def run(index: int, records: Any) -> Iterator[Any]:
        import os
        import sys

        from pyspark import SparkFiles

        parcel = SparkFiles.get(names[0])
        where = here or os.path.join(parcel, names[1])
        if where not in sys.path:
            sys.path.insert(1, where)
            if not here:
                sys.path.append(os.path.join(parcel, names[2]))
        from pytxmr.runners import sparktasks

        if plain["hadoop"]:
            plain["hadoop"]["jars"] = SparkFiles.getRootDirectory()
        function: Any = getattr(sparktasks, name)
        return function(plain, counters, index, records)  # type: ignore[no-any-return]

    return run
