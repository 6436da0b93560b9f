"""Where daemons may listen, and what they say when they cannot."""

from __future__ import annotations

import os

import pytest
import pytest_twisted
from twisted.internet.protocol import Factory, Protocol
from wires import soon

from pytxmr.errors import BadConfiguration
from pytxmr.net.listening import check_listen, described, is_loopback, listen

OFF_LOOPBACK = [
    "tcp:9000",
    "9000",
    "tcp:0",
    "tcp:9000:interface=",
    "tcp:9000:interface=0.0.0.0",
    "tcp:9000:interface=192.0.2.1",
    "tcp:9000:interface=127.0.0.1.example.org",
    "tcp:9000:interface=\\:\\:",
    "tcp:9000:interface=\\:\\:ffff\\:192.0.2.1",
    "tcp6:9000",
    "tcp6:9000:interface=\\:\\:",
    "tcp:9000:0.0.0.0",
    "tcp:9000:interface=127.0.0.1:interface=0.0.0.0",
    "tcp:9000:interface=0.0.0.0:interface=127.0.0.1",
    "tcp:9000:interface=127.0.0.1:inter\\face=0.0.0.0",
    "tcp:9000:backlog=50",
    "systemd:domain=INET:index=0",
]
ON_LOOPBACK = [
    "tcp:9000:interface=127.0.0.1",
    "tcp:interface=127.0.0.1:port=9000",
    "tcp:9000:interface=127.1.2.3",
    "tcp:9000:interface=localhost",
    "tcp:9000:interface=\\:\\:1",
    "tcp6:9000:interface=\\:\\:1",
    "tcp:9000:interface=\\:\\:ffff\\:127.0.0.1",
    "tcp:9000:backlog=50:interface=127.0.0.1",
    "unix:/run/pytxmr",
    "unix:/run/a\\:b:mode=600",
]


@pytest.mark.parametrize("description", OFF_LOOPBACK)
def test_listening_off_loopback_is_refused_unless_insecure(description):
    with pytest.raises(BadConfiguration) as caught:
        check_listen(description, insecure=False)
    assert description in str(caught.value)
    assert "--insecure" in str(caught.value)
    check_listen(description, insecure=True)


@pytest.mark.parametrize("description", ON_LOOPBACK)
def test_listening_on_loopback_or_a_unix_socket_is_allowed(description):
    check_listen(description, insecure=False)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.255.0.1", "::1", "::ffff:127.0.0.1", "localhost"]
)
def test_these_are_loopback(host):
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "0.0.0.0", "::", "192.0.2.1", "128.0.0.1", "example.org", "127.0.0.1.nip.io", "1"]
)
def test_these_are_not_loopback(host):
    assert not is_loopback(host)


@pytest.fixture
def factory() -> Factory:
    made = Factory.forProtocol(Protocol)
    made.noisy = False
    return made


@pytest_twisted.ensureDeferred
async def test_a_port_in_use_is_named(reactor, factory):
    port = await soon(listen(reactor, "tcp:0:interface=127.0.0.1", factory))
    description = f"tcp:{port.getHost().port}:interface=127.0.0.1"
    try:
        assert described(port) == f"tcp:127.0.0.1:{port.getHost().port}"
        with pytest.raises(BadConfiguration) as caught:
            await soon(listen(reactor, description, factory))
        assert description in str(caught.value)
        assert "already in use" in str(caught.value)
    finally:
        await soon(port.stopListening())


@pytest_twisted.ensureDeferred
async def test_a_unix_socket_in_use_is_named_and_one_left_behind_is_replaced(
    reactor, factory, tmp_path
):
    path = str(tmp_path / "a socket")
    port = await soon(listen(reactor, f"unix:{path}", factory))
    try:
        assert described(port) == f"unix:{path}"
        with pytest.raises(BadConfiguration) as caught:
            await soon(listen(reactor, f"unix:{path}", factory))
        assert path in str(caught.value)
    finally:
        await soon(port.stopListening())
    assert not os.path.exists(path)


@pytest.mark.parametrize(
    "description",
    [
        "",
        "nonsense",
        "no-such-kind:9000",
        "tcp",
        "tcp:port",
        "tcp:99999:interface=127.0.0.1",
        "tcp:-1:interface=127.0.0.1",
        "tcp:9000:colour=blue",
        "tcp:9000:interface=127.0.0.1:interface",
        "unix:/no/such/directory/socket",
        "tcp:0:interface=192.0.2.1",
        "systemd:domain=INET:index=0",
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_no_endpoint_is_bad_configuration_that_names_it(
    reactor, factory, description
):
    with pytest.raises(BadConfiguration) as caught:
        await soon(listen(reactor, description, factory))
    assert description in str(caught.value)


def test_nothing_is_described_as_nothing():
    assert described(None) == ""
