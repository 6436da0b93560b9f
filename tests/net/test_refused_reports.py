"""What a tracker reports and the jobtracker will never take: it must not be repeated for ever."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from sites import ended, joined
from wires import soon

from pytxmr import avatars
from pytxmr.client import submit
from pytxmr.errors import PeerBroke


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Has the jobtracker refuse what it is told of Map002; the facts that it has refused."""
    seen: list[str] = []
    as_event = avatars._as_event

    def choosy(tracker: str, fact: Any) -> Any:
        if fact["attempt"].startswith("Map002") and fact["fact"] == "map-succeeded":
            seen.append(fact["attempt"])
            raise PeerBroke("that is no fact")
        return as_event(tracker, fact)

    monkeypatch.setattr(avatars, "_as_event", choosy)
    return seen


@pytest_twisted.ensureDeferred
async def test_an_attempt_whose_result_is_refused_fails_and_its_tracker_goes_on(
    site, refused, logged
):
    await site.jobtracker()
    client = await site.client()
    tracker = await site.tasktracker()
    await joined(client, 1)
    peer = tracker._peer
    await soon(submit(client, site.spec(text="a\n" * 6, split_bytes=4, reducers=1)))
    status = await ended(client, "Job001")
    assert status["outcome"] == "failed"
    assert "its result cannot be reported: that is no fact" in status["error"]["message"]
    assert 1 <= len(refused) <= 2, "with others at first, and then by itself"
    assert tracker._peer is peer, "the connection was not at fault"
    await soon(submit(client, site.spec(name="next")))
    assert (await ended(client, "Job002"))["outcome"] == "succeeded"
    assert any("cannot be told" in line for line in logged.flush())
