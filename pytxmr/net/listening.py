"""Where daemons listen: endpoint descriptions checked, ports in use explained."""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory

from pytxmr.errors import BadConfiguration


def is_loopback(host: str) -> bool:
    """Is this a numeric address (or ``localhost``) that only this machine can reach?"""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def check_listen(description: str, insecure: bool) -> None:
    """Refuse an endpoint off loopback, unless ``insecure``. Raises `BadConfiguration`."""
    kind, *fields = _fields(description)
    if kind == "unix" or insecure:
        return
    interfaces = [field.partition("=")[2] for field in fields if field.startswith("interface=")]
    if kind not in ("tcp", "tcp6") or not interfaces or not all(map(is_loopback, interfaces)):
        raise BadConfiguration(
            f"{description} would listen off loopback without TLS: add interface=127.0.0.1, or "
            f"give --insecure if the network is trusted"
        )


def _fields(description: str) -> list[str]:
    """The fields of an endpoint description, in which a backslash quotes what follows it."""
    fields = re.findall(r"(?:^|:)((?:[^\\:]|\\.|\\$)*)", description, re.DOTALL)
    return [re.sub(r"\\(.)", r"\1", field, flags=re.DOTALL) for field in fields]


def described(port: IListeningPort | None) -> str:
    """The endpoint description by which a client reaches what listens; empty if nothing does."""
    address: Any = port.getHost() if port is not None else None
    if address is None:
        return ""
    if isinstance(address, UNIXAddress):
        return f"unix:{os.fsdecode(address.name or b'')}"
    host = address.host.replace(":", "\\:")
    return f"tcp:{host}:{address.port}"


async def listen(reactor: Any, description: str, factory: IProtocolFactory) -> IListeningPort:
    """Listen on an endpoint. Raises `BadConfiguration`, for a port in use among others."""
    try:
        port: IListeningPort = await serverFromString(reactor, description).listen(factory)
    except CannotListenError as error:
        cause = getattr(error.socketError, "strerror", None) or error.socketError
        raise BadConfiguration(f"cannot listen on {description}: {cause}") from error
    except OSError as error:
        raise BadConfiguration(f"cannot listen on {description}: {error.strerror}") from error
    except (ValueError, TypeError, LookupError, OverflowError, ImportError) as error:
        raise BadConfiguration(f"{description} is no endpoint: {error}") from error
    return port
