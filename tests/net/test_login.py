"""Logging in: who has the secret gets in, who has not is told so, and no wait is without end."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.cred.credentials import Anonymous, UsernamePassword
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.spread import pb
from wires import MemoryEndpoint, Mute, Scripted, result_of, serve, soon, until

from pytxmr.errors import Refused, Unreachable
from pytxmr.net.login import LOGIN_SECONDS, LoginFactory, log_in
from pytxmr.net.remote import Peer, answering

SECRET = b"5e" * 32


class Avatar(pb.Avatar):
    def __init__(self, role: str, peer: Peer) -> None:
        self.role = role
        self.peer = peer

    @answering
    def perspective_role(self) -> str:
        return self.role


class Mind(pb.Referenceable):
    @answering
    def remote_ping(self) -> str:
        return "pong"


@pytest.fixture
def clock() -> Clock:
    return Clock()


def login_factory(clock: Any) -> Any:
    """A server that keeps the avatars that it made."""
    avatars: list[Avatar] = []

    def maker(role: str) -> Any:
        def make(peer: Peer) -> Avatar:
            avatars.append(Avatar(role, peer))
            return avatars[-1]

        return make

    makers: Any = {role.encode(): maker(role) for role in ("tasktracker", "client")}
    factory: Any = LoginFactory(SECRET, makers, clock)
    factory.avatars = avatars
    return factory


@pytest.fixture
def factory(clock) -> Any:
    return login_factory(clock)


@pytest.fixture
def endpoint(factory) -> MemoryEndpoint:
    return MemoryEndpoint(factory)


def start(
    endpoint: Any, clock: Any, role: str = "client", secret: bytes = SECRET, **more: Any
) -> Any:
    return Deferred.fromCoroutine(
        log_in(endpoint, role, secret, Mind(), clock, "the server", **more)
    )


@pytest.mark.parametrize("role", ["tasktracker", "client"])
def test_the_right_secret_gets_the_avatar_of_the_role(endpoint, clock, role):
    login = start(endpoint, clock, role)
    endpoint.flush()
    peer = result_of(login)
    answer = peer.call("role")
    endpoint.flush()
    assert result_of(answer) == role
    assert clock.getDelayedCalls() == []


def test_the_server_can_call_whoever_logged_in(endpoint, factory, clock):
    login = start(endpoint, clock)
    endpoint.flush()
    result_of(login)
    (avatar,) = factory.avatars
    answer = avatar.peer.call("ping")
    endpoint.flush()
    assert result_of(answer) == "pong"


@pytest.mark.parametrize(
    ("role", "secret"),
    [
        ("client", b"5f" * 32),
        ("client", b""),
        ("root", SECRET),
        ("", SECRET),
        ("client ", SECRET),
        ("tästtracker", SECRET),
    ],
)
def test_a_wrong_secret_or_an_unknown_role_is_refused_at_once(
    endpoint, factory, clock, role, secret
):
    login = start(endpoint, clock, role, secret)
    endpoint.flush()
    with pytest.raises(Refused, match="the server refused the secret"):
        result_of(login)
    assert factory.avatars == []
    assert clock.getDelayedCalls() == []
    assert endpoint.server_transport.disconnected


def test_the_secret_is_not_sent(clock):
    said: list[bytes] = []
    factory = login_factory(clock)
    build = factory.buildProtocol

    def overhear(address: Any) -> Any:
        broker = build(address)
        receive = broker.dataReceived
        broker.dataReceived = lambda data: (said.append(data), receive(data))[1]
        return broker

    factory.buildProtocol = overhear
    endpoint = MemoryEndpoint(factory)
    login = start(endpoint, clock)
    endpoint.flush()
    result_of(login)
    assert b"client" in b"".join(said)
    assert SECRET not in b"".join(said)


def test_an_anonymous_login_is_refused_and_dropped_in_time(endpoint, factory, clock, logged):
    client = pb.PBClientFactory()
    result_of(endpoint.connect(client))
    login = client.login(Anonymous(), Mind())
    endpoint.flush()
    with pytest.raises(pb.RemoteError):
        result_of(login)
    assert factory.avatars == []
    clock.advance(LOGIN_SECONDS)
    endpoint.flush()
    assert endpoint.client_transport.disconnected
    logged.flush()


def test_a_login_without_a_reference_to_call_back_is_refused(endpoint, factory, clock):
    client = pb.PBClientFactory()
    result_of(endpoint.connect(client))
    login = client.login(UsernamePassword(b"client", SECRET), None)
    endpoint.flush()
    with pytest.raises(pb.RemoteError):
        result_of(login)
    assert factory.avatars == []
    clock.advance(LOGIN_SECONDS)
    endpoint.flush()
    assert endpoint.client_transport.disconnected


# ---- servers that do not behave


def test_a_mute_server_is_unreachable_after_the_deadline_and_not_before(clock):
    endpoint = MemoryEndpoint(Factory.forProtocol(Mute))
    login = start(endpoint, clock)
    endpoint.flush()
    clock.advance(LOGIN_SECONDS - 0.1)
    assert not login.called
    clock.advance(0.1)
    with pytest.raises(Unreachable):
        result_of(login)
    endpoint.flush()
    assert endpoint.server.lost
    assert clock.getDelayedCalls() == []


def test_a_connection_that_is_never_made_is_unreachable_after_the_deadline(clock):
    class Nowhere:
        def connect(self, factory: Any) -> Deferred[Any]:
            return Deferred()

    login = start(Nowhere(), clock)
    clock.advance(LOGIN_SECONDS)
    with pytest.raises(Unreachable, match="cannot connect to the server"):
        result_of(login)
    assert clock.getDelayedCalls() == []


def test_a_server_that_closes_at_once_is_unreachable_at_once(clock):
    class Closing(Protocol):
        def connectionMade(self) -> None:
            self.transport.loseConnection()

    endpoint = MemoryEndpoint(Factory.forProtocol(Closing))
    login = start(endpoint, clock)
    endpoint.flush()
    with pytest.raises(Unreachable, match="is it a jobtracker"):
        result_of(login)
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize("moment", range(6))
def test_a_connection_lost_at_any_moment_of_the_login_does_not_hang_it(clock, moment):
    endpoint = MemoryEndpoint(login_factory(clock))
    lost: list[int] = []
    login = start(endpoint, clock, on_lost=lambda: lost.append(1))
    for _ in range(moment):
        endpoint.pump.pump()
    endpoint.server_transport.loseConnection()
    endpoint.flush()
    assert login.called
    try:
        result_of(login)
    except Unreachable:
        assert lost == []
    else:
        assert lost == [1]
    assert clock.getDelayedCalls() == []


@pytest_twisted.ensureDeferred
async def test_a_refused_connection_is_unreachable_and_says_why(reactor):
    port = await soon(serve(Factory.forProtocol(Mute)))
    number = port.getHost().port
    await soon(port.stopListening())
    endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{number}")
    with pytest.raises(Unreachable, match="cannot connect to the server: Connection refused"):
        await soon(start(endpoint, reactor))


@pytest_twisted.ensureDeferred
async def test_a_missing_unix_socket_is_unreachable_and_says_why(reactor, tmp_path):
    endpoint = clientFromString(reactor, f"unix:{tmp_path / 'none'}")
    with pytest.raises(Unreachable, match="No such file or directory"):
        await soon(start(endpoint, reactor))


@pytest_twisted.ensureDeferred
async def test_a_server_of_another_protocol_is_unreachable(reactor, logged):
    class MailServer(Protocol):
        def connectionMade(self) -> None:
            self.transport.write(b"220-mail.example.org ESMTP\r\n" * 9)

    port = await soon(serve(Factory.forProtocol(MailServer)))
    try:
        endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{port.getHost().port}")
        with pytest.raises(Unreachable):
            await soon(start(endpoint, reactor))
    finally:
        await soon(port.stopListening())
    logged.flush()


# ---- clients that do not behave


def test_a_client_that_says_nothing_is_dropped_after_the_deadline_and_not_before(endpoint, clock):
    result_of(endpoint.connect(Factory.forProtocol(Mute)))
    endpoint.flush()
    clock.advance(LOGIN_SECONDS - 0.1)
    endpoint.flush()
    assert not endpoint.client.lost
    clock.advance(0.1)
    endpoint.flush()
    assert endpoint.client.lost


def test_one_that_is_logged_in_is_not_dropped(endpoint, clock):
    login = start(endpoint, clock)
    endpoint.flush()
    peer = result_of(login)
    clock.advance(LOGIN_SECONDS * 100)
    answer = peer.call("role")
    endpoint.flush()
    assert result_of(answer) == "client"


GARBAGE = {
    "no-message": b"GET / HTTP/1.1\r\nHost: jobtracker\r\n" + b"Accept: everything\r\n" * 9,
    "huge-list": b"\x7f" * 4 + b"\x80",
    "huge-string": b"\x7f" * 4 + b"\x82",
    "unknown-type": b"\x00\xff",
    "no-dialect": b"\x03\x82abc",
}


@pytest.mark.parametrize("kind", GARBAGE)
@pytest_twisted.ensureDeferred
async def test_garbage_ends_the_connection_and_the_server_goes_on(reactor, logged, kind):
    port = await soon(serve(login_factory(reactor)))
    endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{port.getHost().port}")
    try:
        stranger = await soon(endpoint.connect(Factory.forProtocol(Scripted)))
        stranger.transport.write(GARBAGE[kind])
        await soon(stranger.lost, LOGIN_SECONDS / 2)
        logged.flush()
        peer = await soon(start(endpoint, reactor))
        assert await soon(peer.call("role")) == "client"
        peer.disconnect()
    finally:
        await soon(port.stopListening())


# ---- afterwards


@pytest.mark.parametrize("side", ["client", "server"])
def test_whoever_ends_the_connection_on_lost_is_called_once(endpoint, factory, clock, side):
    lost: list[str] = []
    login = start(endpoint, clock, on_lost=lambda: lost.append("lost"))
    endpoint.flush()
    peer = result_of(login)
    (avatar,) = factory.avatars
    (peer if side == "client" else avatar.peer).disconnect()
    endpoint.flush()
    assert lost == ["lost"]
    for one in (peer, avatar.peer):
        one.disconnect()
        with pytest.raises(Unreachable, match="not connected"):
            result_of(one.call("role"))


@pytest_twisted.ensureDeferred
async def test_a_login_that_is_given_up_closes_its_connection(reactor):
    mute: list[Any] = []

    def build() -> Mute:
        mute.append(Mute())
        return mute[-1]

    port = await soon(serve(Factory.forProtocol(build)))
    try:
        endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{port.getHost().port}")
        login = start(endpoint, reactor)
        await soon(until(lambda: mute and mute[0].transport))
        login.addErrback(lambda failure: None)
        login.cancel()
        await soon(until(lambda: mute[0].lost))
    finally:
        await soon(port.stopListening())


@pytest_twisted.ensureDeferred
async def test_no_end_of_a_connection_waits_to_fill_its_packets(reactor):
    factory = login_factory(reactor)
    port = await serve(factory)
    try:
        where = clientFromString(reactor, f"tcp:127.0.0.1:{port.getHost().port}")
        peer = await soon(log_in(where, "client", SECRET, Mind(), reactor, "the server"))
        (avatar,) = factory.avatars
        for end in (peer, avatar.peer):
            assert end._reference.broker.transport.getTcpNoDelay()
        peer.disconnect()
        await soon(until(lambda: not avatar.peer._reference.broker.transport.connected))
    finally:
        await port.stopListening()
