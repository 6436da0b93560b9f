"""Calls over Perspective Broker: each ends in time, and fails as one of our errors."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.spread import pb
from twisted.spread.banana import SIZE_LIMIT
from wires import MemoryEndpoint, result_of

from pytxmr.errors import (
    AttemptFailed,
    InternalError,
    PeerBroke,
    PytxmrError,
    Stale,
    TooLarge,
    Unreachable,
)
from pytxmr.net import remote
from pytxmr.net.remote import CALL_SECONDS, Peer, answering, pack, unpack


class Other(pb.Root):
    """The other end; each method in a synchronous and an asynchronous form."""

    def __init__(self) -> None:
        self.called: list[Any] = []
        self.pending: list[Deferred[Any]] = []

    @answering
    def remote_echo(self, *values: Any) -> Any:
        self.called.append(values)
        return list(values)

    @answering
    def remote_echoDeferred(self, *values: Any) -> Any:
        self.called.append(values)
        return succeed(list(values))

    @answering
    async def remote_echoAsync(self, *values: Any) -> Any:
        self.called.append(values)
        return list(values)

    @answering
    def remote_never(self) -> Any:
        self.pending.append(Deferred())
        return self.pending[-1]

    @answering
    async def remote_neverAsync(self) -> Any:
        self.pending.append(Deferred())
        return await self.pending[-1]

    @answering
    def remote_give(self, what: str) -> Any:
        return LARGE[what]()

    @answering
    def remote_giveDeferred(self, what: str) -> Any:
        return succeed(LARGE[what]())

    @answering
    async def remote_giveAsync(self, what: str) -> Any:
        return LARGE[what]()

    @answering
    def remote_raise(self, what: str) -> Any:
        raise ERRORS[what]()

    @answering
    def remote_raiseDeferred(self, what: str) -> Any:
        return fail(ERRORS[what]())

    @answering
    async def remote_raiseAsync(self, what: str) -> Any:
        raise ERRORS[what]()

    def remote_unwrapped(self, packed: bytes) -> str:
        return "neither ok nor error"


MESSAGE_BYTES = 3 * SIZE_LIMIT
LARGE = {
    "str": lambda: "x" * MESSAGE_BYTES,
    "wide str": lambda: "ü" * (MESSAGE_BYTES // 2),
    "bytes": lambda: b"x" * MESSAGE_BYTES,
    "list": lambda: [0] * MESSAGE_BYTES,
    "in a list": lambda: [[["x" * MESSAGE_BYTES]]],
    "as a key": lambda: {"x" * MESSAGE_BYTES: 1},
    "together": lambda: [b"x" * SIZE_LIMIT, b"y" * SIZE_LIMIT, b"z" * SIZE_LIMIT],
    "int": lambda: 1 << (8 * MESSAGE_BYTES),
}
SMALL_ENOUGH = {
    "str": "x" * (SIZE_LIMIT + 1),
    "wide str": "ü" * SIZE_LIMIT,
    "bytes": b"x" * (MESSAGE_BYTES - 100),
    "list": [0] * (SIZE_LIMIT + 1),
    "int": 2**64,
    "negative int": -(2**1000),
    "plain": [None, True, 1, 1.5, "ü", b"\xff", {"a": [], "b": {1: 2}}, [[]], ""],
}
ERRORS = {
    "ours": lambda: AttemptFailed("the mapper raised", where="file, offset 7", final=True),
    "stale": lambda: Stale("too late"),
    "unexpected": lambda: ZeroDivisionError("division by zero"),
    "ours, huge": lambda: PytxmrError("x" * 2 * SIZE_LIMIT, log="y" * 2 * SIZE_LIMIT),
    "ours, huge and wide": lambda: PytxmrError("ü" * SIZE_LIMIT, log="\U0001f600" * SIZE_LIMIT),
    "ours, huge inside": lambda: PytxmrError("x", more=["y" * MESSAGE_BYTES]),
    "ours, huge, not UTF-8": lambda: PytxmrError("\udcff" * SIZE_LIMIT, log="\udcff"),
    "unexpected, huge": lambda: ValueError("x" * 2 * SIZE_LIMIT),
}
FORMS = ["", "Deferred", "Async"]


class Line:
    """A `Peer`, and what is at both ends of its connection."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.other = Other()
        self.endpoint = MemoryEndpoint(pb.PBServerFactory(self.other))
        client = pb.PBClientFactory()
        result_of(self.endpoint.connect(client))
        root = client.getRootObject()
        self.flush()
        self.peer = Peer(result_of(root), self.clock, "the peer")
        self.broker = self.endpoint.client

    def flush(self) -> None:
        self.endpoint.flush()

    def call(self, verb: str, *args: Any, **more: Any) -> Any:
        answer = self.peer.call(verb, *args, **more)
        self.flush()
        return result_of(answer)

    @property
    def waiting(self) -> int:
        return len(self.broker.waitingForAnswers)


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    monkeypatch.setattr(remote, "MESSAGE_BYTES", MESSAGE_BYTES)
    return Line()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("what", SMALL_ENOUGH)
def test_plain_values_arrive_as_they_were_sent(line, form, what):
    assert line.call(f"echo{form}", SMALL_ENOUGH[what]) == [SMALL_ENOUGH[what]]
    assert line.waiting == 0
    assert line.clock.getDelayedCalls() == []


@pytest.mark.parametrize("verb", ["never", "neverAsync"])
def test_a_call_that_is_not_answered_fails_at_its_deadline(line, verb):
    answer = line.peer.call(verb)
    line.flush()
    line.clock.advance(CALL_SECONDS - 0.1)
    assert not answer.called
    line.clock.advance(0.1)
    with pytest.raises(Unreachable, match=f"the peer did not answer {verb} in time"):
        result_of(answer)


def test_a_call_may_have_a_deadline_of_its_own(line):
    answer = line.peer.call("never", seconds=2)
    line.flush()
    line.clock.advance(2)
    with pytest.raises(Unreachable):
        result_of(answer)


def test_an_answer_after_the_deadline_is_dropped_in_silence(line):
    answer = line.peer.call("never")
    line.flush()
    line.clock.advance(CALL_SECONDS)
    with pytest.raises(Unreachable):
        result_of(answer)
    line.other.pending[0].callback("late")
    line.flush()
    assert line.waiting == 0
    assert line.call("echo", 1) == [1]


@pytest.mark.parametrize("verb", ["never", "neverAsync"])
@pytest.mark.parametrize("side", ["client", "server"])
def test_a_connection_lost_during_a_call_fails_it_at_once(line, verb, side):
    answer = line.peer.call(verb)
    line.flush()
    getattr(line.endpoint, f"{side}_transport").loseConnection()
    line.flush()
    with pytest.raises(Unreachable, match=f"lost during {verb}"):
        result_of(answer)
    assert line.clock.getDelayedCalls() == []
    for pending in line.other.pending:
        pending.callback("too late to be sent")


def test_a_call_on_a_dead_connection_fails_at_once(line):
    line.endpoint.server_transport.loseConnection()
    line.flush()
    answer = line.peer.call("echo", 1)
    with pytest.raises(Unreachable, match="the peer is not connected"):
        result_of(answer)
    assert line.clock.getDelayedCalls() == []


def test_a_call_that_is_cancelled_is_unreachable(line):
    answer = line.peer.call("never")
    line.flush()
    answer.cancel()
    with pytest.raises(Unreachable):
        result_of(answer)
    assert line.clock.getDelayedCalls() == []


@pytest.mark.parametrize("what", LARGE)
def test_an_argument_that_is_too_large_is_refused_before_it_is_sent_and_leaks_nothing(line, what):
    with pytest.raises(TooLarge):
        line.call("echo", LARGE[what]())
    assert line.waiting == 0
    assert line.other.called == []
    assert line.clock.getDelayedCalls() == []
    assert line.call("echo", 1) == [1]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("what", LARGE)
def test_an_answer_that_is_too_large_is_an_error_that_says_so(line, form, what):
    with pytest.raises(TooLarge):
        line.call(f"give{form}", what)
    assert line.waiting == 0
    assert line.call("echo", 1) == [1]


@pytest.mark.parametrize("form", FORMS)
def test_our_errors_arrive_as_themselves_with_their_details(line, form):
    with pytest.raises(AttemptFailed, match="^the mapper raised$") as caught:
        line.call(f"raise{form}", "ours")
    assert type(caught.value) is AttemptFailed
    assert caught.value.details == {"where": "file, offset 7", "final": True}
    with pytest.raises(Stale, match="^too late$"):
        line.call(f"raise{form}", "stale")


@pytest.mark.parametrize("form", FORMS)
def test_an_unexpected_exception_is_an_internal_error_and_is_logged_where_it_arose(
    line, form, logged
):
    with pytest.raises(InternalError, match="^ZeroDivisionError: division by zero$"):
        line.call(f"raise{form}", "unexpected")
    assert len([text for text in logged.flush() if "ZeroDivisionError" in text]) == 1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("what", [name for name in ERRORS if "huge" in name])
def test_an_error_with_a_text_that_is_too_large_arrives_cut(line, form, what, logged):
    with pytest.raises(PytxmrError) as caught:
        line.call(f"raise{form}", what)
    assert not isinstance(caught.value, Unreachable)
    assert line.waiting == 0
    assert line.call("echo", 1) == [1]
    logged.flush()


def test_a_verb_that_does_not_exist_is_an_internal_error(line, logged):
    with pytest.raises(InternalError, match="noSuchVerb"):
        line.call("noSuchVerb")
    assert line.waiting == 0
    logged.flush()


def test_wrong_arguments_are_an_internal_error(line, logged):
    with pytest.raises(InternalError):
        line.call("never", "an argument too many")
    logged.flush()


def test_an_answer_in_no_known_form_breaks_the_protocol(line):
    with pytest.raises(PeerBroke, match="does not decode"):
        line.call("unwrapped")


def test_a_tuple_arrives_as_a_list(line):
    assert line.call("echo", (1, (2,))) == [[1, [2]]]


@pytest.mark.parametrize("value", [{1}, 1j, object, [{"a": {frozenset()}}]], ids=str)
def test_what_is_not_plain_is_refused_before_it_is_sent_and_leaks_nothing(line, value):
    with pytest.raises(PytxmrError, match="cannot be sent: .* is not plain"):
        line.call("echo", value)
    assert line.waiting == 0
    assert line.clock.getDelayedCalls() == []


def test_a_text_that_cannot_be_sent_fails_and_leaks_nothing(line):
    with pytest.raises(PytxmrError):
        line.call("echo", "caf\udce9.txt")
    assert line.waiting == 0
    assert line.clock.getDelayedCalls() == []


def test_calls_are_answered_each_for_itself(line):
    first = line.peer.call("never")
    second = line.peer.call("echo", 2)
    line.flush()
    assert result_of(second) == [2]
    line.other.pending[0].callback("first")
    line.flush()
    assert result_of(first) == "first"


@pytest.mark.parametrize(
    "pieces",
    [
        None,
        "text",
        7,
        [],
        [b""],
        [b"\xc1"],
        ["text"],
        [b"\x92\x01"],  # a list of two, of which one is missing
        [b"\x91\x01\x01"],  # something after the list
        [b"\x01"],  # no list
        [b"\x91" * 5000],
        [b"\x91\x81\x90\x01"],  # a dict with a list for a key
        [b"\x91\xd4\x05\x00"],  # an extension that we do not know
    ],
)
def test_a_message_that_does_not_decode_breaks_the_protocol(pieces):
    with pytest.raises(PeerBroke):
        unpack(pieces)


@pytest.mark.parametrize("what", SMALL_ENOUGH)
def test_no_piece_of_a_message_is_more_than_perspective_broker_sends(what):
    pieces = pack([SMALL_ENOUGH[what]])
    assert max(map(len, pieces)) <= SIZE_LIMIT
    assert unpack(pieces) == [SMALL_ENOUGH[what]]


def test_arguments_that_do_not_decode_are_answered_with_an_error(line):
    answer = line.peer._reference.callRemote("echo", b"\xc1")
    line.flush()
    kind, plain = unpack(result_of(answer))
    assert (kind, plain["code"]) == ("error", PeerBroke.code)
    assert line.other.called == []
