"""On Spark a job puts out, to the byte, what it puts out everywhere."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from pytxmr.client import Client, JobOptions, make_specs
from pytxmr.runners import inline
from pytxmr.runners.local import LocalCluster

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
DATA = EXAMPLES / "data"
IS_THERE = bool(importlib.util.find_spec("pyspark") and shutil.which("java"))

# Where changes are checked before they are taken, both have to be there.
pytestmark = pytest.mark.skipif(
    os.environ.get("CI") != "true" and not IS_THERE,
    reason="tests on Spark need Java 17 and PySpark: pip install 'pytxmr[spark]'",
)

if IS_THERE:
    from pytxmr.runners import spark

#: Of each example: its inputs, the size of a split, and what else its command line says.
EXAMPLE_RUNS: dict[str, tuple[list[str], int, dict[str, Any]]] = {
    "grep": (["access.log"], 2048, {"params": {"pattern": "GET"}}),
    "harbour": (["ships.tsv", "calls.tsv"], 256, {}),
    "inverted_index": (["documents.tsv"], 256, {}),
    "join": (["ships.tsv", "calls.tsv"], 128, {}),
    "kmeans": (["points.csv"], 256, {"params": {"centres": "[[1, 1], [5, 5]]"}}),
    "log_join": (["access.log", "errors.log"], 512, {}),
    "near_duplicates": (["notices.txt"], 256, {}),
    "ngrams": (["documents.tsv"], 512, {"params": {"n": "2", "least": "2"}}),
    "pagerank": (["graph.tsv"], 64, {}),
    "reverse_links": (["links.tsv"], 512, {}),
    "sessions": (["access.log"], 2048, {}),
    "sort": (["unsorted.txt"], 512, {}),
    "sort_batch": (["unsorted.txt"], 512, {}),
    "term_vector": (["pages.tsv"], 512, {}),
    "tf_idf": (["documents.tsv"], 1024, {}),
    "top_words": (["documents.tsv"], 256, {}),
    "url_frequency": (["access.log"], 2048, {}),
    "wordcount": (["warandpeace.txt"], 1 << 19, {}),
    "wordcount_batch": (["documents.tsv"], 256, {}),
}
#: Of those whose module has several, or that are scripts.
CLASSES = {"kmeans": "Round", "pagerank": "Graph"}


def specs_of(job: Any, inputs: list[Any], output: Path, **options: Any):
    options.setdefault("reducers", 3)
    return make_specs(JobOptions(str(job), tuple(map(str, inputs)), str(output), **options))


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> Iterator[Any]:
    """One application for all tests: to start Java takes seconds."""
    place = tmp_path_factory.mktemp("spark")
    (spec,) = specs_of(EXAMPLES / "wordcount.py", [DATA / "documents.tsv"], place / "out")
    with spark.application(spec, str(place / "log"), "local[2]", []) as made:
        yield made


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


def example_specs(example: str, output: Path):
    names, split_bytes, options = EXAMPLE_RUNS[example]
    job = f"{EXAMPLES / example}.py" + (f":{CLASSES[example]}" if example in CLASSES else "")
    return specs_of(
        job, [DATA / name for name in names], output, split_bytes=split_bytes, **options
    )


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> Callable[[str], dict[str, bytes]]:
    """What an example leaves when it is run in this process."""
    place = tmp_path_factory.mktemp("inline")

    def left(example: str) -> dict[str, bytes]:
        output = place / example
        if not output.exists():
            inline.run_all(example_specs(example, output))
        found = left_in(output)
        assert any(data for name, data in found.items() if name.startswith("part-"))
        return found

    return left


def without_number(found: dict[str, bytes]) -> dict[str, Any]:
    """The same without the job's number: daemons run more than one."""
    manifest = json.loads(found["_SUCCESS"])
    del manifest["job"]
    return found | {"_SUCCESS": manifest}


def test_all_examples_are_run():
    assert EXAMPLE_RUNS.keys() == {path.stem for path in EXAMPLES.glob("*.py")}


@pytest.mark.parametrize("example", EXAMPLE_RUNS)
def test_an_example_leaves_on_spark_what_it_leaves_in_this_process(
    example, context, expected, tmp_path
):
    output = tmp_path / "out"
    on_spark(context, example_specs(example, output))
    assert left_in(output) == expected(example)


async def _run_on(client: Client, expected: Any, place: Path) -> None:
    for example in EXAMPLE_RUNS:
        output = place / example
        for spec in example_specs(example, output):
            await client.run(spec)
        assert without_number(left_in(output)) == without_number(expected(example)), example


@pytest_twisted.ensureDeferred
async def test_the_examples_leave_the_same_on_the_embedded_cluster(expected, tmp_path):
    from twisted.internet import reactor

    async with LocalCluster(reactor, 2) as client:
        await _run_on(client, expected, tmp_path)


@pytest_twisted.ensureDeferred
async def test_the_examples_leave_the_same_on_daemons(expected, tmp_path, cluster):
    from twisted.internet import reactor

    client = await Client.connect(reactor, cluster.endpoint, cluster.secret.read_bytes().strip())
    try:
        await _run_on(client, expected, tmp_path)
    finally:
        client.disconnect()
