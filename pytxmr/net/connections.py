"""What every TCP connection of the daemons has set, whichever protocol it speaks."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import ITCPTransport

#: A peer that is gone without a word (no power, no network) is found after about a minute, whether
#: or not there is something to send. The system by itself takes two hours and a quarter.
SILENT_SECONDS = 30
PROBE_SECONDS = 10
PROBES = 3


def keep_alive(transport: Any) -> None:
    """Have the system end the connection if its other end is gone; does nothing off TCP."""
    if not _is_tcp(transport):
        return
    transport.setTcpKeepAlive(True)
    handle = transport.getHandle()
    for name, value in (
        ("TCP_KEEPIDLE", SILENT_SECONDS),
        ("TCP_KEEPINTVL", PROBE_SECONDS),
        ("TCP_KEEPCNT", PROBES),
        ("TCP_USER_TIMEOUT", 1000 * (SILENT_SECONDS + PROBES * PROBE_SECONDS)),
    ):
        if hasattr(socket, name):
            handle.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def send_at_once(transport: Any) -> None:
    """Calls are small, and answered by others: Nagle's algorithm would hold each back for the 40 ms
    by which the peer delays its acknowledgement of the one before."""
    if _is_tcp(transport):
        transport.setTcpNoDelay(True)


def _is_tcp(transport: Any) -> bool:
    # A connection over a Unix socket has the same methods.
    peer = transport.getPeer()
    return isinstance(peer, IPv4Address | IPv6Address) and ITCPTransport.providedBy(transport)
