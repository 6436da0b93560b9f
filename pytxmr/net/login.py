"""Who may talk: Perspective Broker connections that log in with the cluster's secret.

The user name says the role, ``tasktracker`` or ``client``; the password is the secret, proved by
Perspective Broker's challenge and response, so it is not sent. Whoever has not logged in after
`LOGIN_SECONDS` is cut off, and before that if more than `MOST_STRANGERS` come.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernameHashedPassword, UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import TimeoutError, maybeDeferred
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.spread import pb
from zope.interface import implementer

from pytxmr.errors import Refused, Unreachable
from pytxmr.net.broker import SECURITY, Broker
from pytxmr.net.remote import Peer

LOGIN_SECONDS = 10.0
#: Connections that have not logged in; one more, and the oldest has to go. To turn the newest away
#: instead would let whoever opens so many, and says nothing, keep everybody out.
MOST_STRANGERS = 200
#: Connections in all; those above are closed at once.
MOST_CONNECTIONS = 4000
ROLES = (b"tasktracker", b"client")

#: Given the peer's own reference (its mind) and the clock, the avatar that serves a role.
AvatarMaker = Callable[[Peer], pb.Avatar]

_log = Logger()


class LoginRefused(UnauthorizedLogin, pb.Error):
    """What the peer is told; as a `pb.Error`, it does not put a traceback into the log."""


@implementer(ICredentialsChecker)
class SecretChecker:
    """Accepts the known roles with the right secret."""

    credentialInterfaces = (IUsernameHashedPassword,)

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def requestAvatarId(self, credentials: Any) -> Any:
        username = credentials.username
        role = username if isinstance(username, bytes) else str(username).encode()
        checked = maybeDeferred(credentials.checkPassword, self._secret)
        checked.addCallback(self._avatar_id, role)
        return checked

    @staticmethod
    def _avatar_id(matches: bool, role: bytes) -> bytes:
        if matches and role in ROLES:
            return role
        _log.warn("a login as {role} was refused: wrong secret", role=role[:40])
        raise LoginRefused("wrong secret")


@implementer(IRealm)
class Realm:
    """Gives each login its avatar, by role."""

    def __init__(self, avatars: dict[bytes, AvatarMaker], clock: IReactorTime) -> None:
        self._avatars = avatars
        self._clock = clock

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> tuple[Any, ...]:
        if pb.IPerspective not in interfaces or not isinstance(mind, pb.RemoteReference):
            raise LoginRefused("a login must bring a reference to call back")
        mind.broker.logged_in()
        avatar = self._avatars[avatarId](Peer(mind, self._clock, avatarId.decode()))
        return pb.IPerspective, avatar, lambda: None


class _ServerBroker(Broker):
    """A broker that hangs up on whoever does not log in."""

    def connectionMade(self) -> None:
        self._deadline = self.factory.clock.callLater(LOGIN_SECONDS, self.transport.abortConnection)
        self.factory.came(self)
        super().connectionMade()

    def logged_in(self) -> None:
        super().logged_in()
        self._welcome()

    def _welcome(self) -> None:
        self.factory.strangers.pop(self, None)
        if self._deadline.active():
            self._deadline.cancel()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self._welcome()
        self.factory.connections -= 1
        super().connectionLost(reason)


class LoginFactory(pb.PBServerFactory):
    """Serves `Realm` to whoever knows the secret."""

    protocol = _ServerBroker

    def __init__(self, secret: bytes, avatars: dict[bytes, AvatarMaker], clock: Any) -> None:
        super().__init__(Portal(Realm(avatars, clock), [SecretChecker(secret)]), security=SECURITY)
        self.clock = clock
        self.noisy = False
        self.connections = 0
        #: The connections that have not logged in, oldest first.
        self.strangers: dict[Any, None] = {}

    def buildProtocol(self, addr: Any) -> Any:
        if self.connections >= MOST_CONNECTIONS:
            return None
        return super().buildProtocol(addr)

    def came(self, broker: Broker) -> None:
        """A connection was made; it may push out the stranger that has waited longest."""
        self.connections += 1
        self.strangers[broker] = None
        if len(self.strangers) > MOST_STRANGERS:
            oldest = next(iter(self.strangers))
            del self.strangers[oldest]
            oldest.transport.abortConnection()


class _ClientFactory(pb.PBClientFactory):
    protocol = Broker
    noisy = False

    def __init__(self, clock: IReactorTime) -> None:
        super().__init__(security=SECURITY)
        self.clock = clock


async def log_in(
    endpoint: IStreamClientEndpoint,
    role: str,
    secret: bytes,
    mind: pb.Referenceable,
    clock: IReactorTime,
    name: str,
    on_lost: Callable[[], None] | None = None,
    seconds: float = LOGIN_SECONDS,
) -> Peer:
    """Connect and log in as ``role``. Raises `Refused` or, within twice ``seconds``, `Unreachable`.

    ``on_lost`` is called when the connection ends, however it ends. ``name`` is for messages.
    """
    factory = _ClientFactory(clock)
    try:
        broker: Any = await endpoint.connect(factory).addTimeout(seconds, clock)
    except Exception as error:
        raise Unreachable(f"cannot connect to {name}: {_cause(error)}") from error
    login = factory.login(UsernamePassword(role.encode(), secret), mind)
    # An endpoint's factory is not told that the connection is lost, and would wait for ever.
    broker.notifyOnDisconnect(login.cancel)
    login.addTimeout(seconds, clock)
    try:
        avatar = await login
    except Exception as error:
        broker.transport.abortConnection()
        if _remote_type(error).endswith(b".LoginRefused"):
            raise Refused(
                f"{name} refused the secret: is it the secret file of that cluster?"
            ) from error
        how = "ended the connection before the login"
        if isinstance(error, TimeoutError):
            how = f"did not answer the login in {seconds:.0f} seconds"
        raise Unreachable(f"{name} {how}: is it a jobtracker?") from error
    broker.logged_in()
    if on_lost is not None:
        broker.notifyOnDisconnect(on_lost)
    return Peer(avatar, clock, name)


def _cause(error: Exception) -> str:
    """Why a connection could not be made; of a system call, as the system says it."""
    if isinstance(error, ConnectError) and isinstance(error.osError, int):
        return os.strerror(error.osError)
    return str(error) or type(error).__name__


def _remote_type(error: Exception) -> bytes:
    kind = getattr(error, "remoteType", b"")
    return kind if isinstance(kind, bytes) else str(kind).encode()
