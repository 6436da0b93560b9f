"""Jobs on Spark, in an application that a file of tests shares, and what they leave."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import features
import pytest
from processes import EXAMPLES

from pytxmr.client import JobOptions, make_specs
from pytxmr.model import MAPS_REUSED, REDUCES_REUSED
from pytxmr.runners import inline, spark
from pytxmr.steps import remove_stored

#: To start Java, and Spark in it, takes seconds.
SPARK_SECONDS = 150.0
#: Spark's tasks run the worker's code: what only that heeds, and what `test_spark` looks at by
#: itself, is left out.
ON_SPARK = (
    *features.OF_EXAMPLES,
    "class, its attributes, and hooks",
    "partitioner",
    "fold, and compressed spills",
    "identity, in ranges of keys",
    "batch of records",
    "outputs by name of a job without a reducer",
    "counters and status",
    "pickle",
    "modules, side file and archive",
    "results that are kept",
    "kept results of another run",
    "compressed input and output",
    "empty input",
    "parquet",
    "steps of a class",
    "views",
)


def need_spark() -> None:
    """Skip a file of tests where there is no Spark. Where changes are checked before they are
    taken, there has to be."""
    if os.environ.get("CI") != "true" and not (find_spec("pyspark") and shutil.which("java")):
        pytest.skip(
            "tests on Spark need Java 17 and PySpark: pip install 'pytxmr[spark]'",
            allow_module_level=True,
        )


def specs_of(job: Any, inputs: list[Any], output: Path, **options: Any):
    options.setdefault("reducers", 3)
    return make_specs(JobOptions(str(job), tuple(map(str, inputs)), str(output), **options))


def on_spark(context: Any, specs: Any, told: Any = lambda status: None) -> dict[str, Any]:
    return inline.run_all(
        specs, told, lambda spec, told, number: spark.run(context, spec, told, number)
    )


def left_in(output: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in sorted(output.rglob("*"))
        if path.is_file()
    }


class Features:
    """Features in a directory with their inputs, and what each leaves when run in this process."""

    def left(self, name: str) -> dict[str, bytes]:
        output = Path("inline") / name
        if not output.exists():
            specs = features.specs_of(name, "inline", str(EXAMPLES))
            inline.run_all(specs)
            _remove_stored(specs)
        found = left_in(output)
        assert any(data for file, data in found.items() if file.startswith("part-")) or (
            name == "empty input"
        )
        return found

    def assert_left_on_spark(self, name: str, context: Any) -> None:
        there = self.left(name)
        specs = features.specs_of(name, "spark", str(EXAMPLES))
        on_spark(context, specs)
        _remove_stored(specs)
        left = left_in(Path("spark") / name)
        if left != there:  # but for what is reused of the run in this process, if it is kept
            assert {MAPS_REUSED, REDUCES_REUSED} & json.loads(left["_SUCCESS"])["counters"].keys()
            assert _without_reused(left) == _without_reused(there)


@contextmanager
def in_directory(directory: Path) -> Iterator[Features]:
    """Features, with that as the current directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        features.write_inputs(Path())
        yield Features()


def _remove_stored(specs: Any) -> None:
    if len(specs) > 1:
        remove_stored(specs)


def _without_reused(found: dict[str, bytes]) -> dict[str, Any]:
    """The same without the counters of what was done before."""
    manifest = json.loads(found["_SUCCESS"])
    for name in (MAPS_REUSED, REDUCES_REUSED):
        manifest["counters"].pop(name, None)
    return found | {"_SUCCESS": manifest}
