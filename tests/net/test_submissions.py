"""What clients may ask of the jobtracker: jobs that are in order are taken, once."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from sites import joined
from wires import soon

from pytxmr.client import new_owner, submit
from pytxmr.errors import BadInput, NotFound, PeerBroke


def without(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda plain: {k: v for k, v in plain.items() if k != name}


def with_code(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda plain: plain | {"code": plain["code"] | changes}


BAD_SPECS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "nothing": lambda plain: None,
    "a list": lambda plain: [],
    "an empty dict": lambda plain: {},
    "no name": without("name"),
    "no code": without("code"),
    "no inputs": without("inputs"),
    "no output": without("output"),
    "bytes for a name": lambda plain: plain | {"name": b"x"},
    "a number for code": lambda plain: plain | {"code": 7},
    "another digest": with_code(digest="00" * 32),
    "other source": with_code(source=b"import os\n"),
    "text for source": with_code(source="def mapper"),
    "a number for a class": with_code(class_name=1),
    "text for inputs": lambda plain: plain | {"inputs": "/etc/passwd"},
    "numbers for inputs": lambda plain: plain | {"inputs": [1, 2]},
    "None for output": lambda plain: plain | {"output": None},
    "a relative output": lambda plain: plain | {"output": os.path.relpath(plain["output"])},
    "fewer reducers than none": lambda plain: plain | {"reducers": -1},
    "too many reducers": lambda plain: plain | {"reducers": 100_001},
    "half a reducer": lambda plain: plain | {"reducers": 0.5},
    "True reducers": lambda plain: plain | {"reducers": True},
    "negative splits": lambda plain: plain | {"split_bytes": -1},
    "splits of nothing": lambda plain: plain | {"split_bytes": 0},
    "no attempts": lambda plain: plain | {"max_attempts": 0},
    "text for keep": lambda plain: plain | {"keep": "yes"},
    "text for a sample": lambda plain: plain | {"key_sample": "x"},
    "a list of params": lambda plain: plain | {"params": []},
}


@pytest_twisted.ensureDeferred
async def test_a_submission_of_bad_values_is_refused_and_takes_nothing(site):
    jobtracker = await site.jobtracker()
    client = await site.client()
    good = site.spec().to_plain()
    for kind, change in BAD_SPECS.items():
        with pytest.raises(PeerBroke):
            pytest.fail(f"{kind}: {await soon(client.call('submit', change(good), OWNER))}")
    for owner in ("", "me", "A" * 32, "0" * 33, 7, None):
        with pytest.raises(PeerBroke):
            await soon(client.call("submit", good, owner))
    assert jobtracker.book.lives == {}
    assert not os.path.exists(good["output"])
    assert await soon(client.call("submit", good, new_owner())) == "Job001"


OWNER = "0123456789abcdef" * 2


@pytest_twisted.ensureDeferred
async def test_a_submission_may_be_repeated_and_is_one_job(site):
    await site.jobtracker()
    client = await site.client()
    spec, other = site.spec(), site.spec(name="other")
    answers = [submit(client, spec, OWNER) for _ in range(3)]
    assert [await soon(answer) for answer in answers] == ["Job001"] * 3
    assert await soon(submit(client, other, new_owner())) == "Job002"
    assert await soon(submit(client, spec, OWNER)) == "Job001"
    assert len(await soon(client.call("jobs"))) == 2


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("machines", [1, 2])
async def test_a_job_that_combines_has_larger_splits_where_there_is_one_tracker(
    site, monkeypatch, machines
):
    monkeypatch.setattr("pytxmr.submission.SPLIT_BYTES", 1 << 20)
    jobtracker = await site.jobtracker()
    for name in ("one", "two")[:machines]:
        await site.tasktracker(name, workers=2 // machines)
    client = await site.client()
    await joined(client, machines)
    spec = site.spec("from pytxmr import folds\nreducer = folds.sum\n" + NO_MAPS, "a\n" * (2 << 20))
    assert await soon(submit(client, spec, OWNER)) == "Job001"
    assert len(jobtracker.plan.cluster.jobs["Job001"].maps) == 2 * machines
    await soon(client.call("kill", "Job001", "enough"))


NO_MAPS = """
def mapper(key, value):
    raise KeyError
    yield
"""


@pytest_twisted.ensureDeferred
async def test_a_submission_that_was_refused_may_be_made_again(site):
    await site.jobtracker()
    client = await site.client()
    spec = site.spec()
    os.mkdir(spec.output)
    answers = [submit(client, spec, OWNER) for _ in range(2)]
    for answer in answers:
        with pytest.raises(BadInput, match="exists already"):
            await soon(answer)
    os.rmdir(spec.output)
    assert await soon(submit(client, spec, OWNER)) == "Job001"


@pytest_twisted.ensureDeferred
async def test_input_and_output_that_cannot_be_used_are_refused_before_there_is_a_job(site):
    await site.jobtracker()
    client = await site.client()
    good = site.spec().to_plain()
    with pytest.raises(BadInput):
        await soon(client.call("submit", good | {"inputs": ["/no/such/file"]}, new_owner()))
    assert not os.path.exists(good["output"])
    os.mkdir(good["output"])
    with pytest.raises(BadInput, match="exists already"):
        await soon(client.call("submit", good, new_owner()))
    os.rmdir(good["output"])
    assert await soon(client.call("submit", good, new_owner())) == "Job001"
    with pytest.raises(BadInput, match="exists already"):
        await soon(client.call("submit", good, new_owner()))


@pytest_twisted.ensureDeferred
async def test_of_what_there_is_not_clients_are_told_so(site):
    await site.jobtracker()
    client = await site.client()
    for verb, args in {
        "status": (),
        "wait": (0.1,),
        "kill": ("why",),
        "destroy": (),
        "logs": (None, False),
    }.items():
        for job in ("Job001", "../Job001", "Job٠٠١", None, 7, ["Job001"]):
            with pytest.raises(NotFound):
                await soon(client.call(verb, job, *args))
    assert await soon(client.call("jobs")) == []


@pytest_twisted.ensureDeferred
async def test_whoever_waits_for_no_number_of_seconds_is_told_so(site):
    await site.jobtracker()
    client = await site.client()
    job = await soon(submit(client, site.spec()))
    for seconds in (None, "soon", [1.0], {}, True):
        with pytest.raises(PeerBroke):
            await soon(client.call("wait", job, seconds))
    for seconds in (0, -1, -(1 << 2000), float("nan")):
        assert (await soon(client.call("wait", job, seconds)))["job"] == job


@pytest_twisted.ensureDeferred
async def test_to_ask_again_and_again_whether_a_job_has_ended_leaves_nothing(site):
    jobtracker = await site.jobtracker()
    client = await site.client()
    job = await soon(submit(client, site.spec()))
    added: list[Any] = []
    jobtracker.book.lives[job].ended.addBoth = added.append
    for _ in range(5):
        assert (await soon(client.call("wait", job, 0.0)))["phase"] == "queued"
    assert (added, jobtracker.book._waiting) == ([], {job: {}})
    del jobtracker.book.lives[job].ended.addBoth
