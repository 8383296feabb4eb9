"""What could be broken in each promise: small wrong changes of the package, and the tests that must notice.

A mutant's old text is as short as it can be while it stands exactly once in its file, so that it outlives changes
around it and fails loudly when the line itself is changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


class NotApplicable(Exception):
    """The text that a mutant changes does not stand exactly once in its file."""


@dataclass(frozen=True)
class Mutant:
    """One wrong change.

    Attributes:
        name: For the command line and the table.
        promise: Number of the promise in docs/reference/reliability.md that it breaks.
        breaks: What goes wrong with it, in one sentence.
        file: Path below ``asyncpool/``.
        old: Text that stands there exactly once.
        new: What stands there instead.
        tests: Node ids below ``tests/``; at least one of them must fail.
    """

    name: str
    promise: int
    breaks: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def applied(self, text: str) -> str:
        """Return the file's text with the change.

        Raises:
            NotApplicable: The old text is not there, or more than once.
        """
        count = text.count(self.old)
        if count != 1:
            raise NotApplicable(
                f"mutant {self.name}: {self.old!r} stands {count} times in asyncpool/{self.file}; "
                "the code has moved on: choose another text in tests/mutants/catalogue.py"
            )
        return text.replace(self.old, self.new)

    def apply(self, root: Path) -> None:
        """Change the copy of the repository that lies at *root*."""
        path = root / "asyncpool" / self.file
        path.write_text(self.applied(path.read_text()))


MUTANTS = (
    # --- 1: one outcome each -----------------------------------------------------------------------------------------
    Mutant(
        "last-words-lost",
        1,
        "a result that lies in the kernel's buffer when its worker dies is thrown away",
        "pool/connection.py",
        "words -= self._take_in(count)",
        "pass",
        ("faults/test_crashes.py::test_an_answer_counts_though_its_worker_died_with_the_call_half_read",),
    ),
    Mutant(
        "answers-swapped",
        1,
        "a result goes to the oldest call of its worker, whatever id it has",
        "pool/worker.py",
        "self.calls.pop(message.id, None)\n            if call",
        "self.calls.pop(next(iter(self.calls), 0), None)\n            if call",
        ("integration/test_async_commands.py::test_each_call_gets_its_own_answer_in_whatever_order_they_come",),
    ),
    Mutant(
        "failures-swapped",
        1,
        "a failure, or one of several results at a time, goes to the oldest call of its worker",
        "pool/worker.py",
        "self.calls.pop(message.id, None)\n                if call",
        "self.calls.pop(next(iter(self.calls), 0), None)\n                if call",
        ("integration/test_async_commands.py::test_whatever_a_command_raises_ends_the_call_and_not_the_worker",),
    ),
    Mutant(
        "second-reply-ignored",
        1,
        "a worker that answers a call twice is trusted with the next one",
        "pool/worker.py",
        'wrong = f"a reply to call {message.id}, which it does not have"',
        "continue",
        ("faults/test_faults.py::test_two_replies_are_one_answer_and_the_end_of_that_worker",),
    ),
    Mutant(
        "length-not-checked",
        1,
        "memory is allocated for whatever length a worker claims",
        "protocol/wire.py",
        "<= total <= self.limit:",
        "<= total:",
        ("unit/test_wire.py::test_buffers_count_toward_the_limit",),
    ),
    Mutant(
        "large-call-sent",
        1,
        "a call above max_message is sent, and costs its worker",
        "pool/maker.py",
        "if size > self._config.max_message:",
        "if False:",
        ("integration/test_run.py::test_max_message_is_checked_in_both_directions",),
    ),
    Mutant(
        "error-without-args",
        1,
        "an error arrives with its text instead of its args",
        "protocol/failure.py",
        "tuple(given) if isinstance(given, list) else (info.message,)",
        "(info.message,)",
        ("unit/test_failure.py::test_args_arrive",),
    ),
    Mutant(
        "error-without-cause",
        1,
        "an error arrives without what it was raised from",
        "protocol/failure.py",
        "_CAUSE.__set__(error, context)",
        "pass",
        ("unit/test_failure.py::test_the_cause_is_an_error_that_can_be_asked",),
    ),
    Mutant(
        "array-overwritten",
        1,
        "the next large array is received into one that its owner still looks at",
        "protocol/received.py",
        "except BufferError:\n            return False",
        "except BufferError:\n            pass",
        (
            "unit/test_received.py::test_no_value_changes_because_another_one_comes",
            "integration/test_large_values.py::test_results_that_are_kept_stay_what_they_were",
        ),
    ),
    Mutant(
        "array-given-to-two-threads",
        1,
        "a thread takes memory that another has taken and filled meanwhile",
        "protocol/received.py",
        " and self._forget(each) and each.is_free():",
        " and self._forget(each):",
        ("unit/test_received.py::test_no_two_threads_get_the_same_buffer",),
    ),
    Mutant(
        "array-without-a-view",
        1,
        "an array keeps no view of its memory, so that it counts as gone while it is there",
        "protocol/arrays.py",
        "numpy.frombuffer(data.getbuffer(), dtype).reshape(shape, order=order)",
        "numpy.ndarray(shape, dtype, data.getbuffer(), order=order)",
        (
            "unit/test_received.py::test_what_has_a_view_is_in_use",
            "integration/test_large_values.py::test_results_that_are_kept_stay_what_they_were",
        ),
    ),
    # --- 2: one worker's death ---------------------------------------------------------------------------------------
    Mutant(
        "crash-breaks-pool",
        2,
        "when one worker has crashed all others are killed",
        "pool/supervisor.py",
        "del self.workers[worker.number]",
        'del self.workers[worker.number]\n        self._kill_all() if worker.cause == "crashed" else None',
        ("faults/test_faults.py::test_what_a_worker_does_wrong_in_a_call_is_that_calls_affair",),
    ),
    Mutant(
        "dead-not-replaced",
        2,
        "workers that died are not replaced before somebody waits",
        "pool/policy.py",
        "limits.min_size - crew.live",
        "(0 if crew.processes else limits.min_size)",
        ("unit/test_policy.py::test_min_size_is_filled",),
    ),
    Mutant(
        "end-of-stream-ignored",
        2,
        "a worker that has closed its end is waited for as long as its process lives",
        "pool/worker.py",
        'self._end("crashed", None)\n        grace = ',
        "return\n        grace = ",
        ("faults/test_crashes.py::test_every_kind_of_death_fails_its_call_at_once",),
    ),
    # --- 3: never run twice ------------------------------------------------------------------------------------------
    Mutant(
        "moved-without-proof",
        3,
        "whatever a dead worker had last is run again, though it may have begun",
        "pool/worker.py",
        "or not (self._connection.unread or self._connection.unsent)",
        "",
        ("faults/test_crashes.py::test_a_call_that_began_is_never_run_again",),
    ),
    Mutant(
        "never-moved",
        3,
        "a call that never started fails with its worker",
        "pool/worker.py",
        "call = self._last\n",
        "call = None\n",
        ("faults/test_crashes.py::test_a_worker_that_dies_before_it_reads_the_frame_loses_no_call",),
    ),
    Mutant(
        "killed-without-proof",
        3,
        "a call that never started fails with its worker where the pool itself has killed that",
        "pool/worker.py",
        "(moved := self._unstarted())",
        "(moved := None)",
        ("faults/test_faults.py::test_a_second_reply_does_no_harm_to_the_next_call",),
    ),
    Mutant(
        "later-frame-proves",
        3,
        "a frame after the call that was not read counts as proof that the call was not",
        "pool/worker.py",
        "self._last = None  # law 4",
        "pass",
        ("faults/test_crashes.py::test_a_frame_sent_after_the_call_destroys_the_proof",),
    ),
    Mutant(
        "no-proof-behind-escaped",
        3,
        "a call that never started fails with its worker where an escaped child holds the connection",
        "pool/connection.py",
        "self.unread = self.unread or _queued(",
        "self.unread = self.unread or 0 * _queued(",
        ("faults/test_crashes.py::test_an_unread_call_is_moved_though_an_escaped_child_holds_the_connection",),
    ),
    Mutant(
        "moved-for-ever",
        3,
        "a call that kills each worker before it is read is moved without end",
        "pool/call.py",
        "MOST_MOVES = 2",
        "MOST_MOVES = 10**9",
        ("faults/test_crashes.py::test_a_call_is_moved_twice_at_most",),
    ),
    Mutant(
        "moved-to-the-end",
        3,
        "a call that is moved waits behind those that came later",
        "pool/scheduler.py",
        "self.waiting.move_to_end(ticket, last=False)",
        "self.waiting.move_to_end(ticket)",
        ("unit/test_scheduler.py::test_a_moved_ticket_goes_to_the_head",),
    ),
    Mutant(
        "one-retry-too-many",
        3,
        "n retries are n + 2 runs",
        "pool/ledger.py",
        "if call.crashes > self._retries(",
        "if call.crashes > 1 + self._retries(",
        ("faults/test_retries.py::test_a_call_runs_at_most_once_more_than_its_retries",),
    ),
    Mutant(
        "timeouts-retried",
        3,
        "what was stopped for its time or broke the protocol is run again too",
        "pool/supervisor.py",
        "if isinstance(error, WorkerCrashed) and",
        "if isinstance(error, Exception) and",
        (
            "faults/test_retries.py::test_what_ran_too_long_is_not_run_again",
            "faults/test_retries.py::test_a_broken_protocol_is_not_retried",
        ),
    ),
    Mutant(
        "seen-stream-retried",
        3,
        "a stream is run again though its caller has seen updates",
        "pool/ledger.py",
        " or (call.updates is not None and call.updates.delivered)",
        "",
        ("integration/test_streams.py::test_a_crash_is_retried_only_until_the_first_update_was_delivered",),
    ),
    Mutant(
        "crash-says-not-started",
        3,
        "WorkerCrashed says that nothing ran where something may have",
        "pool/worker.py",
        '{call.title}", started=True)',
        '{call.title}")',
        ("faults/test_crashes.py::test_every_kind_of_death_fails_its_call_at_once",),
    ),
    # --- 4: stopped --------------------------------------------------------------------------------------------------
    Mutant(
        "cancelled-call-runs",
        4,
        "a call that is cancelled while it waits runs all the same",
        "pool/caller.py",
        "if withdraw(call):",
        "if False:",
        ("integration/test_cancellation.py::test_a_queued_call_that_is_cancelled_never_runs",),
    ),
    Mutant(
        "cancelled-call-dispatched",
        4,
        "a call whose caller is cancelled in the very step of its turn is sent",
        "pool/supervisor.py",
        "if isinstance(ticket, Call) and not ticket.future.cancelled():",
        "if isinstance(ticket, Call):",
        ("integration/test_interleavings.py::test_a_waiting_call_that_is_cancelled_as_its_turn_comes_never_runs",),
    ),
    Mutant(
        "command-not-stopped",
        4,
        "the command of a cancelled call runs on",
        "pool/caller.py",
        'call.worker.stop_call(call, "cancelled", reason)',
        "pass",
        ("integration/test_cancellation.py::test_when_the_cancelled_caller_learns_of_it_the_worker_is_gone",),
    ),
    Mutant(
        "caller-leaves-early",
        4,
        "a cancelled caller leaves while its command still runs",
        "pool/caller.py",
        "anyio.move_on_after(grace + 1, ",
        "anyio.move_on_after(0, ",
        ("integration/test_cancellation.py::test_when_the_cancelled_caller_learns_of_it_the_worker_is_gone",),
    ),
    Mutant(
        "never-asked",
        4,
        "a cooperative command is killed without being asked to stop",
        "pool/worker.py",
        "if grace is None or self.state",
        "if True or self.state",
        ("integration/test_cooperative.py::test_a_cooperative_command_hears_that_it_shall_stop",),
    ),
    Mutant(
        "asked-for-ever",
        4,
        "a command that was asked to stop and does not is left alone",
        "pool/worker.py",
        "Deadline(self._loop, grace, lambda: self._end_late",
        "Deadline(self._loop, 3600.0, lambda: self._end_late",
        ("integration/test_cooperative.py::test_a_command_that_says_it_heeds_but_does_not_is_killed",),
    ),
    Mutant(
        "finish-ignored",
        4,
        'a command with on_cancel="finish" is stopped',
        "pool/ledger.py",
        '== "finish"',
        '== "never"',
        ("integration/test_cooperative.py::test_with_finish_the_caller_leaves_at_once_and_the_command_goes_on",),
    ),
    Mutant(
        "leased-call-runs-on",
        4,
        "a lease that is released with a call running gives a busy worker back",
        "pool/leases.py",
        "if lease.give_back():",
        "if lease.give_back() and False:",
        ("integration/test_lease.py::test_a_lease_that_is_released_with_a_call_running_takes_its_worker_along",),
    ),
    # --- 5: in order -------------------------------------------------------------------------------------------------
    Mutant(
        "last-come-first-served",
        5,
        "a worker that comes free serves the call that came last",
        "pool/scheduler.py",
        "self.waiting.popitem(last=False)",
        "self.waiting.popitem()",
        ("integration/test_sizing.py::test_calls_are_served_in_the_order_in_which_they_came",),
    ),
    Mutant(
        "sent-ahead",
        5,
        "a call is sent to a worker that is busy",
        "pool/scheduler.py",
        "self.affinity.note(ticket.key, worker)\n        self.busy[worker] = record",
        "self.affinity.note(ticket.key, worker)\n        self.available[worker] = record",
        ("unit/test_scheduler.py::test_waiting_tickets_are_served_in_order",),
    ),
    Mutant(
        "sent-ahead-by-one",
        5,
        "a worker of several slots gets one call more than it has slots",
        "pool/scheduler.py",
        "or last or len(record.tickets) >= record.slots",
        "or last or len(record.tickets) > record.slots",
        ("unit/test_scheduler.py::test_all_slots_of_a_worker_are_used",),
    ),
    Mutant(
        "queue-without-bound",
        5,
        "one call more than max_waiting may wait",
        "pool/scheduler.py",
        "- room >= self.limits.max_waiting",
        "- room > self.limits.max_waiting",
        ("unit/test_scheduler.py::test_full_counts_what_exceeds_the_workers",),
    ),
    Mutant(
        "credit-ignored",
        5,
        "a command sends updates without end, whether they are taken or not",
        "worker/session.py",
        "if not running.take(size):",
        "if running.take(len(body)) and False:",
        ("integration/test_streams.py::test_a_slow_consumer_stops_the_command",),
    ),
    Mutant(
        "credit-not-checked",
        5,
        "a worker that sends updates without credit fills the parent's memory",
        "pool/stream.py",
        "if begun is None or self._credit <= 0",
        "if begun is None",
        ("unit/test_stream.py::test_more_than_the_credit_is_refused",),
    ),
    # --- 6: sizes ----------------------------------------------------------------------------------------------------
    Mutant(
        "one-worker-too-many",
        6,
        "one worker more than max_size takes calls",
        "pool/policy.py",
        "limits.max_size - (crew.live - crew.worn),",
        "limits.max_size + 1 - (crew.live - crew.worn),",
        ("unit/test_policy.py::test_max_size_is_never_exceeded",),
    ),
    Mutant(
        "one-process-too-many",
        6,
        "more processes exist than max_size and surge allow",
        "pool/policy.py",
        "limits.max_size + limits.surge - crew.processes",
        "limits.max_size + limits.surge + 1 - crew.processes",
        ("unit/test_policy.py::test_dying_workers_take_room",),
    ),
    Mutant(
        "dying-not-counted",
        6,
        "a process that is not yet reaped is no longer counted",
        "pool/roster.py",
        "return self.live + len(self.retiring)",
        "return self.live",
        ("unit/test_scheduler.py::test_processes_are_counted_until_they_are_reaped",),
    ),
    Mutant(
        "never-shrinks",
        6,
        "a worker that nobody needs is kept for ever",
        "pool/scheduler.py",
        "if limit is not None and self.taking > self.limits.min_size",
        "if False",
        ("unit/test_scheduler.py::test_idle_workers_above_min_size_are_retired",),
    ),
    Mutant(
        "coldest-first",
        6,
        "the coldest worker serves first, so that none grows cold enough to go",
        "pool/scheduler.py",
        "worker = next(reversed(self.available))\n            record =",
        "worker = next(iter(self.available))\n            record =",
        ("integration/test_sizing.py::test_idle_workers_are_used_last_in_first_out",),
    ),
    Mutant(
        "used-too-long",
        6,
        "a worker is handed more than max_calls",
        "pool/succession.py",
        "return record.calls >= most",
        "return record.calls > most",
        ("unit/test_scheduler.py::test_a_worker_of_many_slots_is_handed_max_calls_and_no_more",),
    ),
    Mutant(
        "not-recycled",
        6,
        "a worker that was handed max_calls is kept",
        "pool/succession.py",
        'return "max_calls"',
        "return None",
        ("unit/test_scheduler.py::test_a_worker_is_handed_max_calls_and_no_more",),
    ),
    # --- 7: aclose ---------------------------------------------------------------------------------------------------
    Mutant(
        "grace-without-end",
        7,
        "aclose waits longer for running calls than its grace",
        "pool/pool.py",
        "self._loop.call_later(min(grace, LONGEST_GRACE)",
        "self._loop.call_later(min(grace + 20.0, LONGEST_GRACE)",
        ("integration/test_close.py::test_calls_that_are_left_after_the_grace_get_pool_closed",),
    ),
    Mutant(
        "no-grace",
        7,
        "aclose stops at once what was accepted",
        "pool/pool.py",
        "self._loop.call_later(min(grace, LONGEST_GRACE)",
        "self._loop.call_later(min(0.0, LONGEST_GRACE)",
        ("integration/test_close.py::test_accepted_calls_are_served_during_the_grace",),
    ),
    Mutant(
        "closing-takes-calls",
        7,
        "a pool that is closing still takes calls",
        "pool/pool.py",
        "self._life = Life.CLOSING",
        "pass",
        ("integration/test_close.py::test_accepted_calls_are_served_during_the_grace",),
    ),
    Mutant(
        "closed-says-not-started",
        7,
        "PoolClosed says that nothing ran where something did",
        "pool/supervisor.py",
        'ran; it was stopped", started=True)',
        'ran; it was stopped")',
        ("integration/test_close.py::test_calls_that_are_left_after_the_grace_get_pool_closed",),
    ),
    Mutant(
        "descriptor-left",
        7,
        "each worker leaves a descriptor behind",
        "pool/child.py",
        "os.close(self._pidfd)",
        "pass",
        ("integration/test_close.py::test_when_aclose_returns_nothing_is_left",),
    ),
    Mutant(
        "grandchildren-left",
        7,
        "only the worker is killed, and not its group",
        "pool/lifeline.py",
        "fcntl.F_SETOWN, -group)",
        "fcntl.F_SETOWN, group)",
        ("integration/test_close.py::test_the_workers_own_children_go_with_them",),
    ),
    # --- 8: orphans --------------------------------------------------------------------------------------------------
    Mutant(
        "lifeline-cut",
        8,
        "the kernel does not kill the group when the application dies",
        "pool/lifeline.py",
        "os.O_ASYNC | os.O_NONBLOCK",
        "os.O_NONBLOCK",
        ("faults/test_orphans.py::test_foreign_workers_die_with_a_killed_parent",),
    ),
    Mutant(
        "second-guard-off",
        8,
        "a worker does not ask the kernel to die with its parent",
        "worker/orphan.py",
        "(PR_SET_PDEATHSIG, SIGKILL, ",
        "(PR_SET_PDEATHSIG, 0, ",
        ("faults/test_orphans.py::test_workers_and_grandchildren_die_with_a_killed_parent",),
    ),
    Mutant(
        "fork-holds-lifeline",
        8,
        "a child that the application forked keeps its workers alive",
        "pool/lifeline.py",
        "os.register_at_fork(after_in_child=_let_go)",
        "",
        ("faults/test_orphans.py::test_workers_and_grandchildren_die_with_a_killed_parent",),
    ),
    # --- 9: prints ---------------------------------------------------------------------------------------------------
    Mutant(
        "stdout-is-the-wire",
        9,
        "what a command prints goes between the frames",
        "worker/stdio.py",
        "os.dup2(2, 1)",
        "pass",
        ("integration/test_stdio.py::test_nothing_that_a_command_prints_harms_a_result",),
    ),
    Mutant(
        "stdin-is-the-wire",
        9,
        "a command that reads its stdin takes frames away",
        "worker/stdio.py",
        "os.dup2(nothing, 0)",
        "pass",
        ("integration/test_stdio.py::test_standard_input_is_empty",),
    ),
    Mutant(
        "print-kept-back",
        9,
        "half a line that a command has printed is lost when its worker dies in a later call",
        "worker/session.py",
        "stdio.flush()\n        if",
        "if",
        ("integration/test_stdio.py::test_half_a_line_is_in_the_crash_report_of_a_later_call",),
    ),
    Mutant(
        "stderr-without-bound",
        9,
        "what nobody reads is kept without bound",
        "pool/outlet.py",
        "BACKLOG - len(self._backlog)",
        "10**12",
        ("unit/test_outlet.py::test_a_stderr_that_nobody_reads_blocks_nothing",),
    ),
    Mutant(
        "tail-without-bound",
        9,
        "all that a worker ever wrote to its stderr is kept",
        "pool/stderr.py",
        "del self._kept[:-KEPT]",
        "pass",
        ("unit/test_stderr.py::test_the_end_is_kept",),
    ),
    Mutant(
        "log-blocks-command",
        9,
        "a command that logs waits for a parent that does not read",
        "worker/logs.py",
        "while self.waiting and (room := bool(self._poll.poll(0))):",
        "while self.waiting:",
        ("integration/test_logs.py::test_a_blocked_application_blocks_no_command",),
    ),
    # --- 10: starts --------------------------------------------------------------------------------------------------
    Mutant(
        "no-back-off",
        10,
        "a worker that cannot start is tried again at once, without end",
        "pool/scheduler.py",
        "self._retry_at = now + pause(",
        "self._retry_at = now + 0 * pause(",
        ("unit/test_scheduler.py::test_after_a_failed_start_there_is_a_pause",),
    ),
    Mutant(
        "circuit-never-opens",
        10,
        "calls wait for ever for workers that cannot start",
        "pool/scheduler.py",
        "return self.failures >= CIRCUIT_OPENS_AT and",
        "return False and",
        ("unit/test_scheduler.py::test_after_three_failed_starts_calls_fail_at_once",),
    ),
    Mutant(
        "live-workers-forgotten",
        10,
        "calls fail for want of a start though a worker is live",
        "pool/scheduler.py",
        "CIRCUIT_OPENS_AT and self._failed_alone and self.taking == 0",
        "CIRCUIT_OPENS_AT",
        ("unit/test_scheduler.py::test_failed_starts_do_not_touch_calls_while_a_worker_is_live",),
    ),
    Mutant(
        "start-says-nothing",
        10,
        "callers are not told why no worker can start",
        "pool/supervisor.py",
        "self._start_error = failure",
        "pass",
        ("faults/test_crashes.py::test_workers_that_cannot_start_are_told_retried_and_healed",),
    ),
    # --- 11: no pickle, no import ------------------------------------------------------------------------------------
    Mutant(
        "pickle-loaded",
        11,
        "a pickle that nobody allowed is loaded",
        "protocol/payload.py",
        'raise ValueError("a pickled value, and',
        'str("a pickled value, and',
        ("unit/test_pickle.py::test_a_pickle_that_nobody_allowed_is_refused_unread",),
    ),
    Mutant(
        "error-imports",
        11,
        "a worker's error makes the parent import its module",
        "protocol/dual.py",
        "sys.modules.get(module)",
        "__import__('importlib').import_module(module)",
        ("unit/test_failure.py::test_a_class_that_this_process_has_not_imported_is_not_imported",),
    ),
    Mutant(
        "error-runs-code",
        11,
        "rebuilding an error runs code of its class",
        "protocol/dual.py",
        "if found is None or not _eligible(found) or",
        "if found is None or",
        ("unit/test_failure.py::test_some_exceptions_are_a_plain_command_error",),
    ),
    Mutant(
        "name-reaches-all",
        11,
        "a name that came from a request can reach any function",
        "worker/registry.py",
        "if isinstance(reference, str):",
        "if isinstance(reference, str):\n"
        '                reference = tuple(reference.replace(":", ".").rpartition(".")[::2])\n'
        "            if False:",
        ("unit/test_registry.py::test_a_name_never_reaches_what_is_not_a_command",),
    ),
    # --- 12: a blocked loop ------------------------------------------------------------------------------------------
    Mutant(
        "acts-at-once",
        12,
        "a deadline acts in the pass in which it fires, before what has come is read",
        "pool/policy.py",
        "if fired == 0 or (late > LATE and fired < MOST_LATE) or (heard",
        "if fired and (heard",
        ("integration/test_timeouts.py::test_a_blocked_loop_in_the_middle_of_a_frame_costs_no_worker",),
    ),
    Mutant(
        "lateness-ignored",
        12,
        "a deadline of a loop that is late acts as soon as one that is not",
        "pool/policy.py",
        "(late > LATE and fired < MOST_LATE)",
        "False",
        ("unit/test_deadline.py::test_a_loop_that_blocks_again_and_again_does_not_put_it_off_for_ever",),
    ),
    Mutant(
        "late-timer-kills",
        12,
        "the deadline of a call that was answered acts all the same, on whoever has the worker then",
        "pool/call.py",
        "        self.deadline.cancel()\n",
        "",
        ("unit/test_call.py::test_its_outcome_ends_its_deadline",),
    ),
)
