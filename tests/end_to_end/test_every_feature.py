"""Every example, and each thing that a job may do, puts out on daemons what it does in one process;
the examples on the embedded cluster as well. That it is right is for `test_examples` and the pages'
tests.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from features import FEATURES, OF_EXAMPLES
from processes import EXAMPLES, Cluster, Site

# `make test` installs all extras; elsewhere there is nothing to compare without them.
for library in ("numpy", "pyarrow", "lz4"):
    pytest.importorskip(library)

#: Some 100 jobs, which take a tenth of it where nothing else runs.
FEATURES_RUN_SECONDS = 200
pytestmark = pytest.mark.timeout(FEATURES_RUN_SECONDS + 40)
PLACES = ("inline", "embedded", "daemons")
#: They run several jobs, one after the other; here it is one of these.
PROGRAMS = {"kmeans": "a round of kmeans", "pagerank": "the first round of pagerank"}


@pytest.fixture(scope="module")
def outputs(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where everything has been run, on each of them."""
    site = Site(tmp_path_factory.mktemp("features"), cluster.client_env)
    try:
        program = Path(__file__).with_name("features.py")
        process = site.start(sys.executable, program, site.directory, EXAMPLES)
        assert process.ended(FEATURES_RUN_SECONDS) == 0, process.err
        yield site.directory
        site.assert_clean()
    finally:
        site.close()


def found(directory: Path) -> dict[str, bytes]:
    """The parts, and what was set aside; `_SUCCESS` tells times."""
    files = [path for path in directory.rglob("*") if path.is_file() and path.name != "_SUCCESS"]
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


@pytest.mark.daemons
@pytest.mark.parametrize("name", FEATURES)
def test_a_feature_gives_the_same_on_daemons_as_in_one_process(outputs: Path, name: str) -> None:
    inline = found(outputs / "inline" / name)
    assert any(inline.values()) or name == "empty input"
    assert found(outputs / "daemons" / name) == inline
    counters = json.loads((outputs / "counters.json").read_text())
    assert counters["daemons"][name] == counters["inline"][name]


@pytest.mark.daemons
@pytest.mark.parametrize("name", OF_EXAMPLES)
def test_an_example_leaves_the_same_on_every_cluster(outputs: Path, name: str) -> None:
    inline, embedded = found(outputs / "inline" / name), found(outputs / "embedded" / name)
    assert embedded == inline
    done = [json.loads((outputs / place / name / "_SUCCESS").read_text()) for place in PLACES]
    # Daemons run more than one job.
    assert done[0] | {"job": ""} == done[1] | {"job": ""} == done[2] | {"job": ""}


def test_every_example_is_one_of_the_features() -> None:
    examples = {path.stem for path in EXAMPLES.glob("*.py")}
    assert {PROGRAMS.get(name, name.replace("_", " ")) for name in examples} <= FEATURES.keys()


def test_every_option_that_a_job_may_have_is_used_by_a_feature() -> None:
    source = (Path(__file__).parent / "features.py").read_text("utf-8")
    used = {word.arg for word in ast.walk(ast.parse(source)) if isinstance(word, ast.keyword)}
    from pytxmr.client import JobOptions

    elsewhere = {
        "job", "inputs", "output", "keep", "speculate", "task_timeout",
        "from_", "only", "steps", "keep_steps",
    }  # fmt: skip
    assert set(JobOptions.__dataclass_fields__) - elsewhere <= used
