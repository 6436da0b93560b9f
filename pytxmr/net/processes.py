"""A spawned worker on the reactor: what stands in for Twisted's own process transport.

That one forks, and cannot take over a process that was spawned before Twisted was there.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import Any

from twisted.internet import fdesc
from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.process import registerReapProcessHandler, unregisterReapProcessHandler
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from pytxmr.net.spawn import Spawned

#: What a pipe holds, on Linux.
_READ_BYTES = 1 << 16


class WorkerTransport:
    """Calls ``childDataReceived`` of the protocol with what the worker answers, as from file
    descriptor 4, and at its end, after the last of that, ``processExited``. ``pid`` is None then.
    """

    def __init__(self, reactor: Any, spawned: Spawned, protocol: ProcessProtocol) -> None:
        self._reactor = reactor
        self.pid: int | None = spawned.pid
        self.cookie = spawned.cookie
        self._protocol = protocol
        self._control = _Control(reactor, spawned.control_fd)
        self._answers = _Answers(reactor, spawned.answer_fd, protocol)
        protocol.makeConnection(self)  # type: ignore[arg-type]
        registerReapProcessHandler(spawned.pid, self)

    def write(self, data: bytes) -> None:
        self._control.write(data)

    def kill(self) -> None:
        """Kill the worker's process group, now. ``processExited`` follows."""
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def reapProcess(self) -> None:
        """Called by Twisted when a child, perhaps this one, has ended."""
        assert self.pid is not None
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # the user's module has waited for children that are not its own
            pid, status = self.pid, 0
        if pid:
            unregisterReapProcessHandler(self.pid, self)
            self.processEnded(status)

    def processEnded(self, status: int) -> None:
        """The process has been waited for."""
        self.pid = None
        self._answers.doRead()
        code = os.waitstatus_to_exitcode(status)
        if code == 0:
            reason: Exception = ProcessDone(status)
        elif code < 0:
            reason = ProcessTerminated(signal=-code, status=status)
        else:
            reason = ProcessTerminated(exitCode=code, status=status)
        # Not closed at once: the reactor may hold an event of theirs yet, from this turn, which
        # would be taken for one of the next worker's, whose pipes get the same numbers.
        self._answers.stop()
        self._reactor.callLater(0, self._close)
        self._protocol.processExited(Failure(reason))

    def _close(self) -> None:
        self._control.close()
        self._answers.close()


class _Control(FileDescriptor):
    """The pipe on which a worker reads its tasks."""

    def __init__(self, reactor: Any, fd: int) -> None:
        super().__init__(reactor)
        fdesc.setNonBlocking(fd)
        self._fd = fd
        self.connected = 1

    def fileno(self) -> int:
        return self._fd

    def write(self, data: bytes) -> None:
        if self.connected and not self.dataBuffer and not self._tempDataBuffer:
            # At once: a worker waits for this. The reactor would write it at its next turn.
            written = self.writeSomeData(data)
            if isinstance(written, int) and written >= 0:
                data = data[written:]
        if data:
            super().write(data)

    def writeSomeData(self, data: bytes) -> Any:
        return fdesc.writeToFD(self._fd, data)

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        os.close(self._fd)

    def close(self) -> None:
        if self.connected:
            self.stopWriting()
            self.connectionLost(Failure(ProcessDone(0)))


@implementer(IReadDescriptor)
class _Answers:
    """The pipe on which a worker answers."""

    def __init__(self, reactor: Any, fd: int, protocol: ProcessProtocol) -> None:
        fdesc.setNonBlocking(fd)
        self._reactor = reactor
        self._fd = fd
        self._protocol = protocol
        reactor.addReader(self)

    def fileno(self) -> int:
        return self._fd

    def logPrefix(self) -> str:
        return "answers of a worker"

    def doRead(self) -> None:
        """Hand on what has been answered; what the pipe held at that time, not for ever."""
        try:
            data = os.read(self._fd, _READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        if data:
            self._protocol.childDataReceived(4, data)
        else:
            self._reactor.removeReader(self)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor lets go of it; the process's end closes it."""

    def stop(self) -> None:
        self._reactor.removeReader(self)

    def close(self) -> None:
        os.close(self._fd)
