"""Trackers by hand and by the clock: who is alive, what they are told, what they may say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sites import SECRET
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.spread import pb
from wires import MemoryEndpoint, result_of

from pytxmr import joblife
from pytxmr.errors import BadConfiguration, NotFound, PeerBroke, PytxmrError, Stale, Unreachable
from pytxmr.joblife import JobLife
from pytxmr.jobtracker import JobTracker, JobTrackerConfig
from pytxmr.model import FileRange, InputSplit
from pytxmr.net.login import log_in
from pytxmr.net.remote import Peer, answering
from pytxmr.submission import Submission


class Mind(pb.Referenceable):
    @answering
    def remote_ping(self) -> str:
        return "pong"


#: What a tracker says of itself.
CARD: dict[str, Any] = {"name": "one", "workers": 2, "host": "127.0.0.1", "port": 8993}
CARD |= {"was": None, "jobs": []}


class ByHand:
    """A jobtracker on a reactor in memory, to which trackers are connected in memory."""

    def __init__(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        config = JobTrackerConfig("tcp:0:interface=127.0.0.1", SECRET, lease_seconds=10.0)
        self.jobtracker = JobTracker(self.reactor, config)
        result_of(Deferred.fromCoroutine(self.jobtracker.open()))
        self.jobtracker.startService()
        self._ends: list[MemoryEndpoint] = []

    def turn(self, seconds: float = 0.0) -> None:
        self.reactor.advance(seconds)
        for end in self._ends:
            end.flush()
        self.reactor.advance(0)
        for end in self._ends:
            end.flush()

    def log_in(
        self, role: str = "tasktracker", mind: pb.Referenceable | None = None
    ) -> tuple[Peer, MemoryEndpoint]:
        end = MemoryEndpoint(self.reactor.tcpServers[0][1])
        self._ends.append(end)
        login = Deferred.fromCoroutine(
            log_in(end, role, SECRET, mind or Mind(), self.reactor, "the jobtracker")
        )
        self.turn()
        return result_of(login), end

    def call(self, peer: Peer, verb: str, *args: Any) -> Any:
        answer = peer.call(verb, *args)
        self.turn()
        return result_of(answer)

    def add_job(self, spec: Any, maps: int, files: int = 1) -> JobLife:
        """Queue a job without a look at its input; each map is to read so many files."""
        jobtracker = self.jobtracker
        splits = [InputSplit((FileRange("/input", n, n + 1),) * files) for n in range(maps)]
        submission = Submission(1, replace(spec, reducers=1), splits, "", b"key", 0.0)
        life = jobtracker.book.begin(submission)
        jobtracker.plan.feed(submission.event())
        self.turn()
        return life

    def register(self, peer: Peer, **card: Any) -> dict[str, Any]:
        """Register; returns who one is then."""
        return self.call(peer, "register", CARD | card)["who"]

    @property
    def trackers(self) -> list[str]:
        return [one["tracker"] for one in self.jobtracker.roster.trackers()]

    def close(self) -> None:
        result_of(Deferred.fromCoroutine(self.jobtracker.stopService()))


class Asked(Mind):
    """A tracker that takes what it is asked to do, and remembers it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[Any]]] = []
        self.error: PytxmrError | None = None

    def taken(self) -> list[tuple[str, list[Any]]]:
        """What was asked since, each with the attempts that it is about."""
        found, self.calls = self.calls, []
        return found

    def _take(self, verb: str, tasks: list[dict[str, Any]]) -> None:
        self.calls.append((verb, [task["attempt"] for task in tasks]))
        if self.error is not None:
            raise self.error

    @answering
    def remote_initJob(self, who: Any, job: Any, setup: Any) -> None:
        pass

    @answering
    def remote_executeMap(self, who: Any, job: Any, tasks: Any) -> None:
        self._take("executeMap", tasks)

    @answering
    def remote_shuffle(self, who: Any, job: Any, wanted: Any) -> None:
        self._take("shuffle", wanted)

    @answering
    def remote_reduce(self, who: Any, job: Any, tasks: Any) -> None:
        self._take("reduce", tasks)

    @answering
    def remote_killAttempt(self, who: Any, job: Any, attempt: Any) -> None:
        self.calls.append(("killAttempt", [attempt]))

    @answering
    def remote_destroyJob(self, who: Any, job: Any, keep: Any) -> None:
        self._take("destroyJob", [])


def fact(kind: str, attempt: str, **more: Any) -> dict[str, Any]:
    return {"fact": kind, "job": "Job001", "attempt": attempt, "counters": {}, "digest": ""} | more


FINAL = {"code": "attempt-failed", "message": "bad record", "details": {"final": True}}


@pytest.fixture
def by_hand() -> Any:
    made = ByHand()
    yield made
    made.close()


def test_a_lease_is_renewed_by_heartbeats_and_ends_without(by_hand):
    peer, end = by_hand.log_in()
    who = by_hand.register(peer)
    assert by_hand.trackers == [who["tracker"]]
    for _ in range(10):
        by_hand.turn(9.0)
        assert by_hand.call(peer, "heartbeat", who, []) is None
    assert by_hand.trackers == [who["tracker"]]
    for _ in range(9):
        by_hand.turn(1.0)
    assert by_hand.trackers == [who["tracker"]]
    by_hand.turn(1.0)
    by_hand.turn(1.0)
    assert by_hand.trackers == []
    assert end.client_transport.disconnected


def test_one_that_connects_again_in_time_is_the_incarnation_that_it_was(by_hand):
    peer, end = by_hand.log_in()
    who = by_hand.register(peer)
    by_hand.turn(1.0)
    again, _ = by_hand.log_in()
    assert by_hand.register(again, was=who) == who
    assert end.client_transport.disconnected
    by_hand.turn(1.0)
    by_hand.turn(1.0)
    assert by_hand.trackers == [who["tracker"]]
    assert by_hand.call(again, "heartbeat", who, []) is None


def test_one_that_was_lost_is_another_incarnation(by_hand):
    peer, _ = by_hand.log_in()
    who = by_hand.register(peer)
    peer.disconnect()
    for _ in range(3):
        by_hand.turn(1.0)
    assert by_hand.trackers == []
    again, _ = by_hand.log_in()
    after = by_hand.register(again, was=who)
    assert after != who
    for stale in (who, who | {"epoch": 0}, {"tracker": "one.99"}, {}):
        third, _ = by_hand.log_in()
        with pytest.raises(BadConfiguration):
            by_hand.register(third, was=stale)
    assert by_hand.trackers == [after["tracker"]]


def test_a_jobtracker_that_has_stopped_looks_at_no_clock(by_hand):
    (one, _), (two, _) = by_hand.log_in(), by_hand.log_in()
    by_hand.register(one)
    by_hand.register(two, name="two")
    one.disconnect()
    by_hand.turn()
    assert len(by_hand.reactor.getDelayedCalls()) == 2, "the next tick, and that of the one lost"
    by_hand.close()
    by_hand.turn()
    assert by_hand.reactor.getDelayedCalls() == []


def test_who_is_not_a_live_incarnation_is_stale(by_hand):
    peer, _ = by_hand.log_in()
    who = by_hand.register(peer)
    for stale in (
        who | {"epoch": who["epoch"] + 1},
        who | {"epoch": None},
        who | {"tracker": "one.99"},
        who | {"tracker": "../one.1"},
        who | {"more": 1},
        {"tracker": who["tracker"]},
    ):
        for verb, args in {"heartbeat": ([],), "report": ([],), "unregister": ()}.items():
            with pytest.raises(Stale):
                by_hand.call(peer, verb, stale, *args)
    for nonsense in (None, [], {}, {"tracker": 1}, "one.1"):
        with pytest.raises(PeerBroke):
            by_hand.call(peer, "heartbeat", nonsense, [])
    assert by_hand.call(peer, "heartbeat", who, []) is None


def test_one_tracker_does_not_speak_for_another(by_hand):
    (one, _), (two, _) = by_hand.log_in(), by_hand.log_in()
    who = by_hand.register(one)
    by_hand.register(two, name="two")
    for verb, args in {"heartbeat": ([],), "report": ([],), "unregister": ()}.items():
        with pytest.raises(Stale):
            by_hand.call(two, verb, who, *args)
    by_hand.turn()
    assert by_hand.trackers == ["one.1", "two.2"]
    assert by_hand.call(one, "heartbeat", who, []) is None


class Mute(pb.Referenceable):
    """A tracker whose connection is open, and which does not answer: stopped, or without power."""

    @answering
    def remote_ping(self) -> Deferred[str]:
        return Deferred()


def test_a_name_is_refused_while_who_has_it_answers(by_hand):
    first, _ = by_hand.log_in()
    who = by_hand.register(first)
    by_hand.turn(7.0)
    second, _ = by_hand.log_in()
    with pytest.raises(BadConfiguration) as refused:
        by_hand.register(second, host="10.0.0.2")
    assert refused.value.message == (
        "the name one is taken: one.1 at 127.0.0.1:8993, which has been connected for 7 seconds, "
        "answers to it; choose another --name"
    )
    by_hand.turn()
    assert by_hand.trackers == [who["tracker"]]
    assert by_hand.call(first, "heartbeat", who, []) is None
    assert by_hand.register(second, name="two") == {"epoch": 1, "tracker": "two.2"}


def test_the_next_incarnation_replaces_at_once_the_one_whose_connection_has_ended(by_hand):
    first, _ = by_hand.log_in()
    before = by_hand.register(first)
    first.disconnect()
    second, _ = by_hand.log_in()
    after = by_hand.register(second)
    assert by_hand.trackers == [after["tracker"]]
    assert before["tracker"] != after["tracker"]
    with pytest.raises(Stale):
        by_hand.call(second, "heartbeat", before, [])


def test_the_next_incarnation_replaces_one_that_loses_its_connection_as_it_is_asked(by_hand):
    first, _ = by_hand.log_in(mind=Mute())
    by_hand.register(first)
    second, _ = by_hand.log_in()
    answer = second.call("register", CARD)
    by_hand.turn()
    assert not answer.called
    first.disconnect()
    by_hand.turn()
    assert result_of(answer)["who"]["tracker"] == "one.2"
    by_hand.turn()
    assert by_hand.trackers == ["one.2"]


def test_one_that_does_not_answer_keeps_its_name_for_no_longer_than_its_lease(by_hand):
    first, first_end = by_hand.log_in(mind=Mute())
    who = by_hand.register(first)
    second, _ = by_hand.log_in()
    answer = second.call("register", CARD)
    by_hand.turn()
    by_hand.turn(9.0)
    assert by_hand.call(first, "heartbeat", who, []) is None  # which alone is no answer
    assert not answer.called
    by_hand.turn(1.0)
    by_hand.turn()
    assert result_of(answer)["who"]["tracker"] == "one.2"
    assert by_hand.trackers == ["one.2"]
    assert first_end.client_transport.disconnected


def test_of_several_that_wait_for_a_name_the_first_gets_it(by_hand):
    first, _ = by_hand.log_in(mind=Mute())
    by_hand.register(first)
    answers = [by_hand.log_in()[0].call("register", CARD) for _ in range(2)]
    by_hand.turn()
    first.disconnect()
    by_hand.turn()
    assert result_of(answers[0])["who"]["tracker"] == "one.2"
    with pytest.raises(BadConfiguration):
        result_of(answers[1])
    assert by_hand.trackers == ["one.2"]


def test_one_that_does_not_wait_for_its_name_is_not_registered(by_hand):
    first, _ = by_hand.log_in(mind=Mute())
    by_hand.register(first)
    second, _ = by_hand.log_in()
    answer = second.call("register", CARD)
    by_hand.turn()
    second.disconnect()
    by_hand.turn()
    with pytest.raises(Unreachable):
        result_of(answer)
    first.disconnect()
    for _ in range(2):
        by_hand.turn(1.0)
    assert by_hand.trackers == by_hand.jobtracker.roster.connected == []


def test_a_registration_may_be_repeated(by_hand):
    peer, _ = by_hand.log_in()
    who = by_hand.register(peer)
    again = by_hand.register(peer)
    assert again != who
    by_hand.turn()
    assert by_hand.trackers == [again["tracker"]]


def test_one_that_unregisters_is_gone_at_once(by_hand):
    peer, end = by_hand.log_in()
    who = by_hand.register(peer)
    answer = peer.call("unregister", who)
    by_hand.turn()
    assert by_hand.trackers == []
    assert end.client_transport.disconnected
    assert answer.called
    answer.addErrback(lambda failure: failure.trap(Unreachable))


@pytest.mark.parametrize(
    "card",
    [
        {"name": ""},
        {"name": "../one"},
        {"name": "one\n"},
        {"name": "x" * 101},
        {"name": "öne"},
        {"name": 1},
        {"name": None},
        {"workers": 0},
        {"workers": -1},
        {"workers": 5000},
        {"workers": "2"},
        {"workers": True},
        {"host": None},
        {"port": "8993"},
        {"port": -1},
        {"port": 65536},
        {"host": ""},
        {"host": "here\0"},
        {"host": "there and here"},
        {"jobs": None},
        {"jobs": ["../Job001"]},
        {"jobs": [["Job001"]]},
    ],
    ids=str,
)
def test_a_card_that_is_not_a_tracker_s_is_refused(by_hand, card):
    peer, _ = by_hand.log_in()
    with pytest.raises((PeerBroke, NotFound)):
        by_hand.register(peer, **card)
    by_hand.turn()
    assert by_hand.trackers == []


def test_a_client_is_no_tracker_and_a_tracker_no_client(by_hand, logged):
    client, _ = by_hand.log_in("client")
    with pytest.raises(PytxmrError):
        by_hand.register(client)
    tracker, _ = by_hand.log_in()
    for verb in ("submit", "jobs", "kill"):
        with pytest.raises(PytxmrError):
            by_hand.call(tracker, verb)
    logged.flush()


MAP001 = {"job": "Job001", "attempt": "Map001.0", "counters": {}, "digest": ""}
SUCCEEDED = MAP001 | {"fact": "map-succeeded", "partition_bytes": []}
REDUCED = MAP001 | {"fact": "reduce-succeeded", "attempt": "Reduce001.0", "size_bytes": 0}


@pytest.mark.parametrize(
    "fact",
    [
        None,
        {},
        {"job": "Job001"},
        {"job": "Job001", "attempt": "Map001.0", "fact": "nonsense"},
        {"job": "../Job", "attempt": "Map001.0", "fact": "fetched", "partitions": [0]},
        {"job": "Job001", "attempt": "Map001", "fact": "fetched", "partitions": [0]},
        {"job": "Job001", "attempt": "Map001.0", "fact": "fetched"},
        MAP001 | {"fact": "fetched", "partitions": [[0]]},
        SUCCEEDED | {"counters": {"words": "many"}},
        SUCCEEDED | {"counters": {1: 1}},
        SUCCEEDED | {"partition_bytes": ["many"]},
        REDUCED | {"counters": {"words": None}},
        REDUCED | {"outputs": "errors"},
        REDUCED | {"outputs": [7]},
        REDUCED | {"outputs": [["errors", 1]]},
        REDUCED | {"outputs": [["errors", -1, ""]]},
        REDUCED | {"outputs": [["../errors", 1, ""]]},
        SUCCEEDED | {"outputs": [["errors", 1, b""]]},
    ],
)
def test_a_report_that_is_none_is_refused(by_hand, fact):
    peer, _ = by_hand.log_in()
    who = by_hand.register(peer)
    with pytest.raises((PeerBroke, NotFound)):
        by_hand.call(peer, "report", who, [fact])
    with pytest.raises(PeerBroke):
        by_hand.call(peer, "report", who, fact)


@pytest.mark.parametrize("said", [b"bytes", 7, None, "words"])
def test_whatever_an_attempt_says_of_itself_its_tracker_is_heard(by_hand, said):
    peer, _ = by_hand.log_in()
    who = by_hand.register(peer)
    assert by_hand.call(peer, "heartbeat", who, [["Job001", "Map001.0", 0, said]]) is None


@pytest.mark.parametrize(
    "progress",
    [
        None,
        "Job001",
        [None],
        [["Job001", "Map001.0", 0.5]],
        [["Job001", "Map001.0", "half", ""]],
        [[["Job001"], "Map001.0", 0.5, ""]],
        [["Job001", {}, 0.5, ""]],
        [["Job001", "Map001", 0.5, ""]],
    ],
    ids=str,
)
def test_a_heartbeat_that_is_none_is_refused(by_hand, progress):
    peer, _ = by_hand.log_in()
    who = by_hand.register(peer)
    with pytest.raises((PeerBroke, NotFound)):
        by_hand.call(peer, "heartbeat", who, progress)


def test_facts_of_unknown_jobs_change_nothing(by_hand):
    peer, _ = by_hand.log_in()
    who = by_hand.register(peer)
    fact = {"job": "Job001", "attempt": "Map001.0", "fact": "fetched", "partitions": [0]}
    assert by_hand.call(peer, "report", who, [fact]) is None
    assert by_hand.trackers == [who["tracker"]]


def test_what_a_report_gives_a_tracker_to_do_is_asked_for_in_one_call_a_verb(by_hand, site):
    asked = Asked()
    peer, _ = by_hand.log_in(mind=asked)
    who = by_hand.register(peer)
    by_hand.add_job(site.spec(), maps=5)
    assert asked.taken() == [("executeMap", ["Map001.0", "Map002.0"])]
    done = [fact("map-succeeded", f"Map00{n}.0", partition_bytes=[1]) for n in (1, 2)]
    by_hand.call(peer, "report", who, done)
    assert asked.taken() == [
        ("executeMap", ["Map003.0", "Map004.0"]),
        ("shuffle", ["Map001.0", "Map002.0"]),
    ]
    done = [fact("map-succeeded", f"Map00{n}.0", partition_bytes=[1]) for n in (3, 4)]
    by_hand.call(peer, "report", who, done)
    done = [fact("map-succeeded", "Map005.0", partition_bytes=[1])]
    done += [fact("fetched", f"Map00{n}.0", partitions=[0]) for n in range(1, 6)]
    asked.taken()
    by_hand.call(peer, "report", who, done)
    assert asked.taken() == [("reduce", ["Reduce000.0"]), ("shuffle", ["Map005.0"])]
    by_hand.call(peer, "report", who, [fact("attempt-failed", "Reduce000.0", error=FINAL)])
    assert asked.taken() == [("destroyJob", [])]


def test_a_call_does_not_name_more_than_a_message_can_hold(by_hand, site, monkeypatch):
    monkeypatch.setattr(joblife, "MOST_NAMED", 5)
    asked = Asked()
    peer, _ = by_hand.log_in(mind=asked)
    who = by_hand.register(peer, workers=4)
    by_hand.add_job(site.spec(), maps=4, files=2)
    assert asked.taken() == [
        ("executeMap", ["Map001.0", "Map002.0"]),
        ("executeMap", ["Map003.0", "Map004.0"]),
    ]
    done = [fact("map-succeeded", f"Map00{n}.0", partition_bytes=[1]) for n in range(1, 5)]
    by_hand.call(peer, "report", who, done)
    assert asked.taken() == [
        ("shuffle", ["Map001.0", "Map002.0"]),
        ("shuffle", ["Map003.0", "Map004.0"]),
    ]
    done = [fact("fetched", f"Map00{n}.0", partitions=[0]) for n in range(1, 5)]
    by_hand.call(peer, "report", who, done)
    assert asked.taken() == [("reduce", ["Reduce000.0"])]
    by_hand.call(peer, "report", who, [fact("attempt-failed", "Reduce000.0", error=FINAL)])


def test_what_no_longer_counts_when_a_report_is_through_is_not_asked_for(by_hand, site):
    asked = Asked()
    peer, _ = by_hand.log_in(mind=asked)
    who = by_hand.register(peer)
    by_hand.add_job(site.spec(), maps=5)
    asked.taken()
    facts = [
        fact("map-succeeded", "Map001.0", partition_bytes=[1]),
        fact("attempt-failed", "Map002.0", error=FINAL),
    ]
    by_hand.call(peer, "report", who, facts)
    assert asked.taken() == [("destroyJob", [])]


def test_an_attempt_that_its_heartbeats_show_to_be_slow_is_run_elsewhere_and_killed(by_hand, site):
    minds = Asked(), Asked()
    peers = [by_hand.log_in(mind=mind)[0] for mind in minds]
    by_hand.add_job(site.spec(), maps=2)
    slow, quick = (
        by_hand.register(peer, name=name, workers=1)
        for peer, name in zip(peers, ("slow", "quick"), strict=True)
    )
    by_hand.turn()
    assert [mind.taken() for mind in minds] == [
        [("executeMap", ["Map001.0"])],
        [("executeMap", ["Map002.0"])],
    ]
    by_hand.call(
        peers[1], "report", quick, [fact("map-succeeded", "Map002.0", partition_bytes=[1])]
    )
    minds[1].taken()
    by_hand.call(peers[0], "heartbeat", slow, [["Job001", "Map001.0", 0.01, ""]])
    by_hand.turn(3.0)
    assert minds[1].taken() == [("executeMap", ["Map001.1"])]
    by_hand.call(
        peers[1], "report", quick, [fact("map-succeeded", "Map001.1", partition_bytes=[1])]
    )
    assert ("killAttempt", ["Map001.0"]) in minds[0].taken()
    fetched = [fact("fetched", name, partitions=[0]) for name in ("Map001.1", "Map002.0")]
    by_hand.call(peers[1], "report", quick, fetched)
    assert minds[1].taken()[-1] == ("reduce", ["Reduce000.0"])
    failed = fact("attempt-failed", "Reduce000.0", error=FINAL)
    by_hand.call(peers[1], "report", quick, [failed])


def test_if_a_call_to_start_attempts_fails_each_has_ended_badly(by_hand, site):
    asked = Asked()
    asked.error = NotFound("Job001 was not initialised here")
    peer, _ = by_hand.log_in(mind=asked)
    by_hand.register(peer)
    life = by_hand.add_job(site.spec(), maps=2)
    assert asked.taken() == [("executeMap", ["Map001.0", "Map002.0"])]
    for pause in (0.2, 0.4, 0.8):
        by_hand.turn(pause + 0.01)
    assert life.state.maps[0].failures == 4
    assert life.state.maps[1].failures >= 3
    assert life.state.error is not None
    assert "was not initialised here" in life.state.error.message


def test_an_attempt_that_failed_is_tried_again_after_its_pause_and_not_at_the_next_tick(
    by_hand, site
):
    asked = Asked()
    peer, _ = by_hand.log_in(mind=asked)
    who = by_hand.register(peer)
    by_hand.add_job(site.spec(), maps=1)
    assert asked.taken() == [("executeMap", ["Map001.0"])]
    error = {"code": "attempt-failed", "message": "no luck", "details": {}}
    by_hand.call(peer, "report", who, [fact("attempt-failed", "Map001.0", error=error)])
    assert asked.taken() == []
    by_hand.turn(0.21)
    assert asked.taken() == [("executeMap", ["Map001.1"])]
    by_hand.call(peer, "report", who, [fact("attempt-failed", "Map001.1", error=FINAL)])


class Printed(Mind):
    """A tracker with one line that an attempt has printed."""

    @answering
    def remote_initJob(self, who: Any, job: Any, setup: Any) -> None:
        pass

    remote_executeMap = remote_destroyJob = remote_initJob

    @answering
    def remote_followLogs(self, who: Any, job: Any, task: Any, seen: Any, is_over: Any) -> Any:
        return [] if seen else [("Map001.0", "the last line\n", 14)]


@pytest.mark.parametrize("comes_back", [True, False])
def test_what_a_tracker_that_is_away_has_printed_last_is_waited_for_as_long_as_it_is_believed_in(
    by_hand, site, comes_back
):
    peer, _ = by_hand.log_in(mind=Printed())
    who = by_hand.register(peer)
    by_hand.add_job(site.spec(), maps=1)
    client, _ = by_hand.log_in("client")
    peer.disconnect()
    by_hand.turn()
    assert by_hand.call(client, "followLogs", "Job001", None, {}, False) == []
    answer = client.call("followLogs", "Job001", None, {}, True)
    by_hand.turn(0.5)
    assert not answer.called
    if comes_back:
        again, _ = by_hand.log_in(mind=Printed())
        assert by_hand.register(again, was=who) == who
        by_hand.turn(0.1)
        assert result_of(answer) == [[who["tracker"], "Map001.0", "the last line\n", 14]]
    else:
        for _ in range(3):
            by_hand.turn(0.5)
        assert by_hand.trackers == []
        assert result_of(answer) == []
    by_hand.call(client, "kill", "Job001", "")
