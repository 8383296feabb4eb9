"""SIGTERM means: finish the current call, then exit with code 0. An idle worker exits at once.

Law 1: the signal interrupts nothing: not the running command, nor a frame of which a byte was read.
Law 2: whoever leaves has read nothing of the next frame. To the parent that proves that the call in it never started.

The handler only takes a note, since an exception raised from it could fall between the return of ``os.read`` and the
assignment of what was read: then a frame would be lost, and law 2 broken. Nor can a flag alone do: the signal may come
after the flag was looked at and before ``read`` has begun, which then sleeps until the next frame. So the worker waits
in ``poll``, on the wire and on a pipe into which the interpreter writes from within the C signal handler:

    signal before poll      the byte lies in the pipe: poll returns at once
    signal during poll      poll returns by the pipe
    signal after poll       the wire was ready: the frame is read whole, its call served; the next poll returns at once
    both are ready          the pipe counts: the frame stays unread in the kernel, and the parent moves its call

The poll pays for itself: whoever sleeps in ``read`` on a Unix socket is woken, for nothing, also when the other side
takes what was written to it (1.35 switches of context a call, and 0.96 with the poll).
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # `signal` takes a millisecond for its enums
import _thread
import os
import select
import sys
from collections.abc import Callable
from time import monotonic, sleep

from asyncpool.protocol.received import spares
from asyncpool.worker.channel import Channel
from asyncpool.worker.linger import Linger

SIGTERM: int = _signal.SIGTERM
SPARES_KEPT = 0.025  # seconds without a large value; half of what the parent waits before it weighs a worker again
SOON = 1.0  # seconds in which an interpreter ends: the parent gives as many to a worker that it asks to


class Leave:
    """Waits for the next frame or for SIGTERM. Make it on the main thread.

    A module or a command that sets a handler of its own for SIGTERM has its way.

    Args:
        wire: Descriptor that frames come from.
        linger: It may linger before it sleeps.
    """

    def __init__(self, wire: int, *, linger: bool = False) -> None:
        self._asked = False
        self._hung_up = False
        self.on_asked: Callable[[], object] | None = None  # an event loop's way to hear of it
        self._wire = wire
        self._reads, self._writes = os.pipe()
        os.set_blocking(self._reads, False)
        os.set_blocking(self._writes, False)
        self._poll = select.poll()
        self._poll.register(wire, select.POLLIN)
        self._poll.register(self._reads, select.POLLIN)
        self._linger = Linger(self._poll, allowed=linger)
        self._heed()
        if _signal.getsignal(SIGTERM) == _signal.SIG_DFL:  # else the application was started to ignore it
            _signal.signal(SIGTERM, self._ask)
            _signal.siginterrupt(SIGTERM, False)  # calls of C code are not cut short with EINTR
        self._masks: dict[int, set[int]] = {}  # of threads that fork just now
        os.register_at_fork(before=self._hold, after_in_parent=self._release, after_in_child=self._let_go)

    def wait(self) -> bool:
        """Return True when the next frame, or the end of input, is there to be read; False: leave, reading nothing."""
        if "signal" in sys.modules:  # else nobody has taken the descriptor away, as an event loop in a command does
            self._heed()
        began = monotonic()
        ready = self._linger.look(began)
        while not self._asked:
            ready = ready or self._poll.poll(1000 * SPARES_KEPT if spares.kept else None)
            if not ready:
                spares.forget_all()
                continue
            if len(ready) == 1 and ready[0][0] == self._wire:
                self._linger.came(began)
                return True
            self.drain()
            ready = []
        _signal.signal(SIGTERM, _signal.SIG_IGN)  # while the interpreter ends it would undo the handler: no code 0 then
        return False

    def _heed(self) -> None:
        _signal.set_wakeup_fd(self._writes, warn_on_full_buffer=False)

    @property
    def descriptor(self) -> int:
        """What becomes readable when SIGTERM has come."""
        return self._reads

    @property
    def asked(self) -> bool:
        """True once SIGTERM has come."""
        return self._asked

    def drain(self) -> None:
        """Empty the pipe; the note of the signal that wrote to it is taken by now, since Python code has run."""
        try:
            os.read(self._reads, 4096)
        except BlockingIOError:
            pass

    def hang_up(self, channel: Channel, *, at_once: bool) -> None:
        """Let the parent, where it did not ask for it, know that nothing more is read: its calls go elsewhere.

        *at_once* is for a worker that has lifespans to leave: the parent gives it time for that. Any other gets a
        moment from the hang-up on, and mostly needs no more than one to end. But a thread that the interpreter waits
        for, or something at exit, may hold it up for ever, and the parent would take it for idle: then it hangs up
        after all.
        """
        if not self._asked or self._hung_up:
            return
        self._hung_up = True
        if not at_once:
            try:
                _thread.start_new_thread(_close_later, (channel,))  # `threading` would wait for it at the end
                return
            except RuntimeError:  # there are too many
                pass
        channel.close()

    def _ask(self, _number: int, _frame: object) -> None:
        self._asked = True
        if self.on_asked is not None:
            self.on_asked()

    # A child that is forked by a command (multiprocessing, os.fork) shall die by SIGTERM as it would elsewhere, and
    # must wake no worker. One that comes before ``_let_go`` has run waits, or the inherited handler would swallow it.

    def _hold(self) -> None:
        self._masks[_thread.get_ident()] = _signal.pthread_sigmask(_signal.SIG_BLOCK, [SIGTERM])

    def _release(self) -> None:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, self._masks.pop(_thread.get_ident()))

    def _let_go(self) -> None:
        if _signal.getsignal(SIGTERM) == self._ask:
            _signal.signal(SIGTERM, _signal.SIG_DFL)
        _signal.set_wakeup_fd(-1)
        for descriptor in {self._reads, self._writes} - {-1}:  # once: a child may fork in its turn
            try:
                os.close(descriptor)
            except OSError:
                pass  # the command has closed it
        self._reads = self._writes = -1
        self._release()


def _close_later(channel: Channel) -> None:
    sleep(SOON)
    channel.close()
