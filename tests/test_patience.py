"""A client waits for a jobtracker that is gone, until it is interrupted."""

from __future__ import annotations

import gc
import signal
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from pytxmr.cli.commands import _watch_to_end
from pytxmr.cli.reactor import Interrupted, Interrupts
from pytxmr.cli.report import Terminal
from pytxmr.client import PATIENCE_SECONDS, RETRY_SECONDS, Patient
from pytxmr.errors import JobFailed, PytxmrError, Refused, Unreachable


class Here:
    """A reactor of which only the way into its thread is needed, and that is here."""

    @staticmethod
    def callFromThread(called: Any) -> None:
        called()


class Jobtracker:
    """Answers as it is told to: with a value, an error, or, if it was not told, not yet."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.calls: list[str] = []

    def call(self, verb: str, *args: Any, seconds: float = 0.0) -> Deferred[Any]:
        self.calls.append(verb)
        value = self.answers.get(verb)
        if isinstance(value, PytxmrError):
            return fail(value)
        if value is not None:
            return succeed(value)
        return Deferred(lambda answer: answer.errback(Unreachable("the connection was lost")))

    def disconnect(self) -> None:
        pass


class Client:
    """One that is connected, and then interrupted."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.jobtracker = Jobtracker()
        self.interrupts = Interrupts(Here())
        self.told: list[str] = []
        self.connect_error: PytxmrError | None = None
        self.patient = Patient(
            self.jobtracker,  # type: ignore[arg-type]
            self.clock,
            self._connect,
            lambda error: self.told.append(str(error)),
            self.interrupts.unless,
        )
        self.outcome: list[Any] = []

    async def _connect(self) -> Any:
        if self.connect_error is not None:
            raise self.connect_error
        return self.jobtracker

    def does(self, doing: Any) -> None:
        Deferred.fromCoroutine(doing).addCallbacks(
            self.outcome.append, lambda failure: self.outcome.append(failure.value)
        )

    def interrupt(self) -> None:
        self.interrupts._received(signal.SIGINT, None)

    def goes_away(self) -> None:
        self.connect_error = Unreachable("nobody listens")
        self.jobtracker.answers = dict.fromkeys(("wait", "kill", "submit"), self.connect_error)


@pytest.fixture
def client() -> Client:
    return Client()


def watched(client: Client) -> Client:
    client.does(_watch_to_end(client.patient.ask, client.interrupts, "Job001", Terminal()))
    return client


def test_an_interrupted_watcher_kills_the_job_and_sees_to_its_end(client):
    watched(client)
    client.jobtracker.answers["kill"] = {"outcome": ""}
    client.interrupt()
    assert client.jobtracker.calls == ["wait", "kill", "wait"]
    assert client.outcome == []


def test_one_who_watches_a_job_of_a_jobtracker_that_is_gone_is_let_go_at_once(client, capsys):
    client.goes_away()
    watched(client)
    client.clock.advance(RETRY_SECONDS)
    assert client.outcome == []
    client.interrupt()
    client.clock.advance(RETRY_SECONDS)
    assert client.outcome == [130]
    assert "Job001 goes on when the jobtracker is back" in capsys.readouterr().err


def test_one_who_does_not_wait_for_the_end_of_a_killed_job_either_is_let_go(client):
    watched(client)
    client.interrupt()
    client.interrupt()
    assert [type(one) for one in client.outcome] == [Interrupted]


def test_a_submission_to_a_jobtracker_that_is_gone_can_be_given_up(client):
    client.goes_away()
    client.does(client.patient.ask("submit"))
    assert client.outcome == []
    client.interrupt()
    assert [type(one) for one in client.outcome] == [Interrupted]


def test_a_submission_that_is_given_up_is_not_made_again(client):
    client.does(client.interrupts.unless(client.patient.submit(Spec())))
    client.interrupt()
    client.clock.advance(RETRY_SECONDS)
    assert [type(one) for one in client.outcome] == [Interrupted]
    assert client.jobtracker.calls == ["submit"]


@pytest.mark.filterwarnings(
    "error::RuntimeWarning", "error::pytest.PytestUnraisableExceptionWarning"
)
def test_one_who_gives_up_between_two_questions_leaves_none_of_them_unasked(client):
    client.interrupt()
    watched(client)
    gc.collect()
    assert client.jobtracker.calls == ["kill"]


class Spec:
    def to_plain(self) -> dict[str, Any]:
        return {}


def test_patience_ends(client):
    client.goes_away()
    client.does(client.patient.submit(Spec()))
    for _ in range(int(PATIENCE_SECONDS / RETRY_SECONDS)):
        assert client.outcome == []
        client.clock.advance(RETRY_SECONDS)
    assert [type(one) for one in client.outcome] == [Unreachable]
    assert client.told == ["nobody listens"], "once"


def test_a_jobtracker_that_comes_back_with_another_secret_is_not_waited_for(client):
    client.goes_away()
    watched(client)
    client.connect_error = Refused("refused the secret")
    client.clock.advance(RETRY_SECONDS)
    (error,) = client.outcome
    assert isinstance(error, JobFailed)
    assert "refused the secret" in str(error)


def test_patience_begins_anew_once_the_jobtracker_was_back(client):
    client.goes_away()
    client.does(client.patient.ask("wait"))
    client.clock.advance(RETRY_SECONDS)
    client.connect_error, client.jobtracker.answers = None, {"wait": "here"}
    client.does(client.patient.ask("wait"))
    client.clock.advance(PATIENCE_SECONDS)
    client.goes_away()
    client.does(client.patient.ask("wait"))
    client.clock.advance(RETRY_SECONDS)
    assert client.outcome == [None, "here", None]
    assert client.told == ["nobody listens"] * 2
