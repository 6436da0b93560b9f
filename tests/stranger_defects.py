"""Defects in what guards against strangers; see `test_seeded_defects`."""

from __future__ import annotations

import re
from typing import Any

import pytest
from defects import defect, nothing
from twisted.internet.defer import Deferred

from pytxmr import jobbook, roster, store
from pytxmr.errors import NotFound, TooLarge
from pytxmr.net import broker, kvserver, login, remote


@defect
def a_stranger_may_send_without_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(broker, "LOGIN_BYTES", 1 << 40)


@defect
def a_login_has_no_deadline(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(login, "LOGIN_SECONDS", 1e6)


@defect
def any_secret_is_right(patch: pytest.MonkeyPatch) -> None:
    same = login.SecretChecker._avatar_id
    patch.setattr(login.SecretChecker, "_avatar_id", lambda self, matches, role: same(True, role))


@defect
def strangers_are_not_made_to_go_for_others(patch: pytest.MonkeyPatch) -> None:
    def came(self: Any, there: Any) -> None:
        self.connections += 1
        self.strangers[there] = None

    patch.setattr(login.LoginFactory, "came", came)


@defect
def lists_may_be_nested_without_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(broker, "MOST_NESTED", 1 << 40)


@defect
def lists_may_be_long_without_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(broker, "MOST_ITEMS", 1 << 1000)


@defect
def whoever_does_not_read_is_not_cut_off(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(broker, "STALL_SECONDS", 1e6)


@defect
def jobs_ids_are_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(jobbook, "checked_job_id", lambda job: job)


@defect
def what_there_is_not_is_not_answered(patch: pytest.MonkeyPatch) -> None:
    answer = remote._error_answer

    def silent(failure: Any, name: str) -> Any:
        return Deferred() if failure.check(NotFound) else answer(failure, name)

    patch.setattr(remote, "_error_answer", silent)


@defect
def what_is_too_large_is_not_answered(patch: pytest.MonkeyPatch) -> None:
    answer = remote._error_answer

    def silent(failure: Any, name: str) -> Any:
        return Deferred() if failure.check(TooLarge) else answer(failure, name)

    patch.setattr(remote, "_error_answer", silent)


@defect
def messages_may_be_of_any_size(patch: pytest.MonkeyPatch) -> None:
    pack = remote.pack

    def packed(values: Any) -> Any:
        with pytest.MonkeyPatch.context() as within:
            within.setattr(remote, "MESSAGE_BYTES", 1 << 40)
            return pack(values)

    patch.setattr(remote, "pack", packed)


@defect
def whoever_speaks_for_a_tracker_is_believed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(roster.Roster, "check_who", lambda self, who, peer: str(who))


@defect
def an_address_that_is_none_is_taken(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(roster, "_HOST", re.compile(".*", re.DOTALL))


@defect
def a_store_waits_for_requests_without_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(kvserver, "STRANGER_SECONDS", 1e6)


@defect
def a_store_waits_for_readers_without_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(kvserver, "STALL_SECONDS", 1e6)


@defect
def a_store_takes_lines_of_any_length(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(kvserver.KeyValueProtocol, "MAX_LENGTH", 1 << 40)


@defect
def a_store_lets_everybody_in(patch: pytest.MonkeyPatch) -> None:
    def takes(self: Any, connection: Any) -> bool:
        self._connections.add(connection)
        self.strangers[connection] = None
        return True

    patch.setattr(kvserver.KeyValueFactory, "takes", takes)


@defect
def signatures_and_tokens_are_not_checked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(kvserver, "same", lambda expected, given: True)


@defect
def other_machines_are_trusted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(kvserver, "is_loopback", lambda host: True)


@defect
def spills_that_are_not_known_are_looked_for(patch: pytest.MonkeyPatch) -> None:
    def open_attempt(self: Any, job: str, attempt: Any) -> Any:
        return open_spill(self.spill_path(job, attempt))

    def open_spill(path: str) -> Any:
        return store.os.open(path, store.os.O_RDONLY), []

    patch.setattr(store.KeyValueStore, "open_attempt", open_attempt)


@defect
def what_a_stranger_has_opened_counts_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(kvserver.KeyValueFactory, "left", nothing)
