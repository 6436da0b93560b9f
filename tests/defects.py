"""Defects: each takes one guard out of the product; see `test_seeded_defects`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed

from pytxmr import jobbook, joblife, jobwork, roster, segments, state, store, tasktracker
from pytxmr.errors import PytxmrError
from pytxmr.net import fetch, kvserver
from pytxmr.plan import cluster, deadly, eventlog, jobstate, snapshot, tasks
from pytxmr.plan import events as ev
from pytxmr.records import codec, mapcalls, quarantine, spill
from pytxmr.storage import output

Patch = Callable[[pytest.MonkeyPatch], None]
DEFECTS: dict[str, Patch] = {}


def defect(patch: Patch) -> Patch:
    DEFECTS[patch.__name__.replace("_", " ")] = patch
    return patch


def nothing(*_: Any, **__: Any) -> None:
    """In place of what does something."""


@defect
def completed_maps_do_not_run_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(jobstate.JobState, "_map_again", nothing)


def late_success(counts: Callable[[Any, Any], bool]) -> Callable[..., Any]:
    """A job that adds the counters of a success that came too late, if ``counts`` says so."""
    succeeded = jobstate.JobState._map_succeeded

    def map_succeeded(self: Any, event: Any, now: float) -> Any:
        task = self.tasks.of(event.attempt)
        if self.active and event.attempt not in task.running and counts(task, event.attempt):
            for name, count in event.counters.items():
                self.tasks.counters[name] = self.tasks.counters.get(name, 0) + count
        return succeeded(self, event, now)

    return map_succeeded


@defect
def a_duplicate_report_is_counted_twice(patch: pytest.MonkeyPatch) -> None:
    counts = late_success(lambda task, attempt: task.winner == attempt)
    patch.setattr(jobstate.JobState, "_map_succeeded", counts)


@defect
def the_counters_of_an_outrun_attempt_count(patch: pytest.MonkeyPatch) -> None:
    counts = late_success(lambda task, attempt: task.winner not in (None, attempt))
    patch.setattr(jobstate.JobState, "_map_succeeded", counts)


@defect
def the_counters_of_a_map_that_ran_again_are_added(patch: pytest.MonkeyPatch) -> None:
    again = tasks.Tasks.map_again

    def map_again(self: Any, task: Any) -> None:
        task.counters = {}
        again(self, task)

    patch.setattr(tasks.Tasks, "map_again", map_again)


@defect
def the_incarnation_that_a_tracker_was_is_taken_back_however_long_it_was_gone(
    patch: pytest.MonkeyPatch,
) -> None:
    """As if the new incarnation were the old one: nothing that it held is given up."""
    lost = cluster.ClusterState._lost

    def joined(self: Any, tracker: str, reason: str, now: float) -> Any:
        found = [] if "incarnation" in reason else lost(self, tracker, reason, now)
        self.trackers.pop(tracker, None)
        return found

    patch.setattr(cluster.ClusterState, "_lost", joined)


@defect
def a_stale_incarnation_is_taken_back(patch: pytest.MonkeyPatch) -> None:
    def returning(self: Any, card: dict[str, Any], name: str) -> str | None:
        return card["was"]["tracker"] if card["was"] else None

    patch.setattr(roster.Roster, "_returning", returning)


@defect
def a_lease_is_renewed_by_a_connection(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(cluster.ClusterState, "_shorten", nothing)
    patch.setattr(cluster.ClusterState, "_expire", lambda self, now: [])


@defect
def checksums_are_not_checked(patch: pytest.MonkeyPatch) -> None:
    class Agreeing(int):
        def __ne__(self, other: object) -> bool:
            return False

    digest = spill.xxh3_64_intdigest
    patch.setattr(spill, "xxh3_64_intdigest", lambda data: Agreeing(digest(data)))
    patch.setattr(spill.BlockChecker, "feed", nothing)
    patch.setattr(spill.BlockChecker, "finish", nothing)


@defect
def a_segment_that_is_cut_short_is_taken(patch: pytest.MonkeyPatch) -> None:
    """The server sends what there is, the fetcher keeps it, the merge reads as far as it goes."""
    from pytxmr.records import merge

    def blocks(fd: int, offset: int, length: int) -> Any:
        try:
            yield from spill.read_blocks(fd, offset, length)
        except spill.SpillDamaged:
            return

    patch.setattr(merge, "read_blocks", blocks)


@defect
def an_answer_does_not_say_which_request_it_answers(patch: pytest.MonkeyPatch) -> None:
    def head(request: bytes, lengths: Any) -> bytes:
        return ("= " + " ".join(map(str, lengths)) + " 0").encode()

    patch.setattr(kvserver, "answer_head", head)
    patch.setattr(fetch, "answer_head", head)


@defect
def segments_of_an_attempt_that_does_not_count_are_taken(patch: pytest.MonkeyPatch) -> None:
    def of_partition(self: Any, partition: int, maps: list[Any]) -> Any:
        return [its[partition] for _, its in sorted(self._arrived.items()) if partition in its]

    patch.setattr(segments.Segments, "of_partition", of_partition)


@defect
def success_is_there_before_the_parts(patch: pytest.MonkeyPatch) -> None:
    directory = output.OutputDirectory
    commit, place, remove = directory.commit, directory._place, output.shutil.rmtree

    def committed(self: Any, *args: Any) -> None:
        parts: list[tuple[str, Any]] = []

        def listed(self: Any, name: str, part: Any) -> dict[str, Any]:
            parts.append((name, part))
            return {"name": name, "bytes": part.size_bytes, "sha256": part.digest}

        def removed(path: str, ignore_errors: bool = False) -> None:
            for name, part in parts:
                place(self, name, part)
            remove(path, ignore_errors)

        with pytest.MonkeyPatch.context() as within:
            within.setattr(directory, "_place", listed)
            within.setattr(output.shutil, "rmtree", removed)
            commit(self, *args)

    patch.setattr(directory, "commit", committed)


@defect
def reduces_that_are_done_are_lost_with_their_tracker(patch: pytest.MonkeyPatch) -> None:
    lost = jobstate.JobState._tracker_lost

    def tracker_lost(self: Any, tracker: str, now: float) -> Any:
        for task in self.reduces if self.active else ():
            if task.winner is not None and self._shuffle.home[task.id.index] == tracker:
                task.winner = None
                self.reduces_done -= 1
                self._shuffle.done.discard(task.id.index)
        return lost(self, tracker, now)

    patch.setattr(jobstate.JobState, "_tracker_lost", tracker_lost)


@defect
def attempts_that_were_outrun_go_on(patch: pytest.MonkeyPatch) -> None:
    win = tasks.Tasks.win

    def won(self: Any, task: Any, attempt: Any, counters: Any, now: float) -> Any:
        running = {other: where for other, where in task.running.items() if other != attempt}
        for other in running:
            del task.running[other]
        found = win(self, task, attempt, counters, now)
        task.running.update(running)
        return found

    patch.setattr(tasks.Tasks, "win", won)


@defect
def a_success_that_is_reported_again_commits_again(patch: pytest.MonkeyPatch) -> None:
    succeeded = jobstate.JobState._reduce_succeeded

    def reduce_succeeded(self: Any, event: Any, now: float) -> Any:
        again = self.phase is jobstate.Phase.COMMITTING
        return self.own_orders() if again else succeeded(self, event, now)

    patch.setattr(jobstate.JobState, "_reduce_succeeded", reduce_succeeded)


@defect
def a_job_that_is_killed_counts_as_one_that_has_succeeded(patch: pytest.MonkeyPatch) -> None:
    def killed(self: Any) -> Any:
        return self._end(jobstate.Outcome.SUCCEEDED)

    patch.setattr(jobstate.JobState, "_killed", killed)


@defect
def an_attempt_that_has_ended_counts_as_running(patch: pytest.MonkeyPatch) -> None:
    stop = tasks.Tasks.stop

    def stopped(self: Any, task: Any, attempt: Any) -> None:
        self.running_on[task.running[attempt]] += task.winner is None
        stop(self, task, attempt)

    patch.setattr(tasks.Tasks, "stop", stopped)


@defect
def a_job_is_not_destroyed_at_trackers(patch: pytest.MonkeyPatch) -> None:
    def destroy(self: Any, order: Any) -> Any:
        self._feed(ev.JobDestroyed(self.job))
        return succeed(None)

    patch.setattr(joblife.JobLife, "_destroy_job", destroy)


@defect
def a_tracker_that_is_back_is_not_told_which_jobs_are_over(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(jobbook.JobBook, "over", lambda self, jobs: {})


@defect
def a_failed_job_leaves_its_output(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(output.OutputDirectory, "discard", nothing)


@defect
def a_report_that_is_not_answered_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    def send(self: Any) -> None:
        if self._peer is not None and self._outbox:
            batch, self._outbox = self._outbox, []
            self._peer.call("report", self.who, batch).addErrback(nothing)

    patch.setattr(tasktracker.TaskTracker, "_send_reports", send)


@defect
def a_tracker_that_is_back_is_not_told_again_what_to_do(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(jobstate.JobState, "_standing_orders", lambda self, tracker, now: [])


@defect
def an_attempt_is_started_as_often_as_it_is_asked_for(patch: pytest.MonkeyPatch) -> None:
    class Forgetful(set[str]):
        def add(self, name: str) -> None:
            """It is not remembered."""

    made = jobwork.JobWork.__init__

    def forgetful(self: Any, *args: Any, **more: Any) -> None:
        made(self, *args, **more)
        self._started = Forgetful()

    patch.setattr(jobwork.JobWork, "__init__", forgetful)


@defect
def a_fetch_that_fails_is_not_reported(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(segments.Segments, "_failed", nothing)


@defect
def damage_counts_against_the_reduce_that_finds_it(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(jobstate.JobState, "_damaged_maps", lambda self, *about: [])


@defect
def an_attempt_of_a_lost_tracker_still_counts_as_running(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(jobstate.JobState, "_tracker_lost", lambda self, tracker, now: [])


def late_log(patch: pytest.MonkeyPatch, lost: Callable[[Any], bool]) -> None:
    """The log is one transaction behind with those of which ``lost(event)`` is true for one."""
    append = state.StateStore.append
    behind: dict[int, Any] = {}

    def appended(self: Any, history: Any) -> None:
        history = list(history)
        last = behind.pop(id(self), None)
        if last is not None:
            append(self, last)
        if any(lost(event) for _, event, _ in history):
            behind[id(self)] = history
        else:
            append(self, history)

    patch.setattr(state.StateStore, "append", appended)


@defect
def attempts_are_started_before_that_is_logged(patch: pytest.MonkeyPatch) -> None:
    late_log(patch, lambda event: isinstance(event, ev.Launched))


@defect
def a_commit_begins_before_the_log_has_what_it_follows_from(patch: pytest.MonkeyPatch) -> None:
    late_log(patch, lambda event: isinstance(event, ev.ReduceSucceeded))


@defect
def reports_are_acknowledged_before_they_are_logged(patch: pytest.MonkeyPatch) -> None:
    late_log(patch, lambda event: isinstance(event, ev.MapSucceeded | ev.SegmentsFetched))


@defect
def a_commit_is_not_made_again_by_the_next_life(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(jobstate.JobState, "own_orders", once(jobstate.JobState.own_orders))


def once(orders: Callable[[Any], list[Any]]) -> Callable[[Any], list[Any]]:
    """What the plan itself asks for, and nobody else."""
    import sys

    def asked(self: Any) -> list[Any]:
        found = orders(self)
        return found if sys._getframe(1).f_code.co_filename == jobstate.__file__ else []

    return asked


@defect
def a_tracker_is_forgotten_with_the_life_that_it_registered_in(patch: pytest.MonkeyPatch) -> None:
    """What it holds is then known to a plan that does not know it."""
    patch.setattr(cluster.ClusterState, "restore_tracker", nothing)


@defect
def a_submission_that_is_repeated_is_another_job(patch: pytest.MonkeyPatch) -> None:
    again = jobbook.JobBook.submit

    def submit(self: Any, plain: Any, owner: Any, later: Any = ()) -> Any:
        self._jobs_of.clear()
        return again(self, plain, owner, later)

    patch.setattr(jobbook.JobBook, "submit", submit)


@defect
def a_connection_has_no_keepalive(patch: pytest.MonkeyPatch) -> None:
    """And a call no deadline: a half-open connection is never noticed."""
    from pytxmr.simulation.network import End

    patch.setattr(End, "setTcpKeepAlive", nothing)
    patch.setattr(Deferred, "addTimeout", lambda self, *args, **more: self)


@defect
def a_map_that_puts_out_something_else_is_not_noticed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(jobstate.JobState, "_use_only", lambda self, task, attempt, now: [])


@defect
def what_a_mapper_counts_before_it_raises_counts(patch: pytest.MonkeyPatch) -> None:
    begin = quarantine.Quarantine.begin

    def begun(self: Any) -> None:
        self._counters = self._code.save_counters()
        begin(self)

    patch.setattr(quarantine.Quarantine, "begin", begun)


@defect
def the_bad_records_of_different_maps_are_not_added_up(patch: pytest.MonkeyPatch) -> None:
    made = jobstate.JobState.__init__

    def generous(self: Any, *args: Any) -> None:
        made(self, *args)
        self._skip_bad_records = 1 << 30

    patch.setattr(jobstate.JobState, "__init__", generous)


@defect
def a_killed_job_leaves_its_output(patch: pytest.MonkeyPatch) -> None:
    destroy = joblife.JobLife._destroy_job

    def destroyed(self: Any, order: Any) -> Any:
        if self.state.outcome is jobstate.Outcome.KILLED:
            self.output.discard = nothing
        return destroy(self, order)

    patch.setattr(joblife.JobLife, "_destroy_job", destroyed)


@defect
def what_is_to_be_kept_is_removed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(jobstate.JobState, "keeps", False)


@defect
def what_was_kept_is_not_destroyed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(store.KeyValueStore, "drop_job", nothing)


@defect
def what_cannot_be_logged_is_taken_for_logged(patch: pytest.MonkeyPatch) -> None:
    append = state.StateStore.append

    def appended(self: Any, history: Any) -> None:
        with suppress(PytxmrError):
            append(self, history)

    patch.setattr(state.StateStore, "append", appended)


@defect
def what_is_reserved_cannot_be_reserved_again(patch: pytest.MonkeyPatch) -> None:
    reserve = state.StateStore.reserve

    def reserved(self: Any, owner: str, path: str) -> None:
        if owner in self.reserved():
            raise PytxmrError("the jobtracker cannot write its state: it is there")
        reserve(self, owner, path)

    patch.setattr(state.StateStore, "reserve", reserved)


def snapshot_without(patch: pytest.MonkeyPatch, name: str, value: Any) -> None:
    """A job that is restored from a snapshot has forgotten that of all its tasks."""

    def restored(data: bytes) -> Any:
        job = snapshot.from_snapshot(data)
        for task in job.tasks:
            setattr(task, name, value)
        return job

    patch.setattr(eventlog, "from_snapshot", restored)


@defect
def a_snapshot_forgets_how_often_tasks_have_failed(patch: pytest.MonkeyPatch) -> None:
    snapshot_without(patch, "failures", 0)


@defect
def a_snapshot_forgets_how_often_outputs_were_lost(patch: pytest.MonkeyPatch) -> None:
    snapshot_without(patch, "lost_outputs", 0)


@defect
def a_snapshot_forgets_what_maps_have_put_out(patch: pytest.MonkeyPatch) -> None:
    snapshot_without(patch, "digest", "")


@defect
def input_that_is_not_utf_8_is_altered(patch: pytest.MonkeyPatch) -> None:
    split = mapcalls.split_text

    def split_text(offset: int, data: bytes) -> Any:
        places, lines = split(offset, data)
        return places, [line.encode("utf-8", "replace").decode() for line in lines]

    patch.setattr(mapcalls, "split_text", split_text)


@defect
def what_cannot_be_carried_is_tried_again(patch: pytest.MonkeyPatch) -> None:
    not_final(patch, "cannot be carried")


@defect
def what_is_no_pair_is_tried_again(patch: pytest.MonkeyPatch) -> None:
    not_final(patch, "not a pair")


def not_final(patch: pytest.MonkeyPatch, what: str) -> None:
    ended = jobstate.JobState._attempt_ended_badly

    def ended_badly(self: Any, event: Any, now: float) -> Any:
        if what in event.error.message:
            event.error.details["final"] = False
        return ended(self, event, now)

    patch.setattr(jobstate.JobState, "_attempt_ended_badly", ended_badly)


@defect
def what_cannot_be_carried_travels_as_text(patch: pytest.MonkeyPatch) -> None:
    def text(value: Any, depth: int = 0) -> None:
        """Anything goes."""

    def extended(value: Any) -> Any:
        return str(value) if isinstance(value, range) else extend(value)

    extend = codec._extend
    patch.setattr(codec, "check_value", text)
    patch.setattr(codec, "_extend", extended)


# ---- what comes rarely


@defect
def a_source_may_trickle_without_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fetch, "SLOWEST_BYTES", 1e-9)


@defect
def a_transaction_counts_before_it_is_synced(patch: pytest.MonkeyPatch) -> None:
    made = state.StateStore.__init__

    def unsynced(self: Any, directory: str) -> None:
        made(self, directory)
        self._db.execute("PRAGMA synchronous=NORMAL")

    patch.setattr(state.StateStore, "__init__", unsynced)


@defect
def a_probe_counts_as_an_attempt_that_failed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tasks.Task, "probes", lambda self, attempt: False)


@defect
def a_search_blames_the_first_record(patch: pytest.MonkeyPatch) -> None:
    ended = deadly.Search.ended

    def first(self: Any, error: Any) -> Any:
        return ended(self, error) and deadly.Culprits(1, 1)

    patch.setattr(deadly.Search, "ended", first)
