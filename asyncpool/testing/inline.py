"""InlinePool: the whole pool, with a thread in the place of each worker process."""

from __future__ import annotations

from asyncpool.pool.child import Process
from asyncpool.pool.pool import Pool
from asyncpool.pool.worker import Worker
from asyncpool.testing.faults import current
from asyncpool.testing.thread import WorkerThread


class InlineWorker(Worker):
    """A worker that is a thread."""

    def _start(self, stdio: int, stderr: int, dumps: list[int]) -> Process:
        name = f"asyncpool {self._config.name} inline worker {self.number}"
        return WorkerThread(name, stdio, stderr, dumps, current())


class InlinePool(Pool):
    """A ``Pool`` without processes, for tests: it starts in a millisecond, and a debugger sees into its commands.

    It takes the arguments of ``Pool`` and has its face, for it is one: queue, limits, timeouts, cancellation, leases,
    streams, errors and numbers are the pool's own, and each call and answer goes through the same frames and codecs.
    Only the worker at the other end is a thread of this process. What a thread cannot do:

    - It shares this process with the test: the modules, their globals, ``sys.path``, the environment and the working
      directory are this process's (``env=``, ``cwd=`` and ``executable=`` do nothing), and it has no ``pid``. What is
      printed goes where the test's own prints go (``stderr=`` is only for a worker that does not start).
    - It cannot be killed. A command that is to be killed gets an exception that no ``except Exception`` catches, at
      its next step in Python. One that waits elsewhere, in ``time.sleep`` or in C, is abandoned after 0.5 s with a
      warning on the logger ``asyncpool.testing``: the caller is answered as by a ``Pool``, but the command runs on.
    - ``os._exit``, a signal or a segfault ends this process: let ``Faults`` simulate crashes. ``sys.exit`` is a
      CommandError, as in any worker.
    - Plain commands do not run on the main thread (``signal.signal`` refuses), and share the GIL.
    - ``max_memory`` is never reached.

    Raises:
        TypeError, ValueError: As ``Pool`` does.
    """

    _hire = InlineWorker

    async def start(self) -> None:
        """Start ``min_size`` workers and return when they are ready.

        Raises:
            WorkerStartError, PoolError: As ``Pool.start`` does.
            ValueError: It has a ``program=``, which only a process can run.
        """
        if self._config.program is not None:
            raise ValueError("an InlinePool runs no program=: use a Pool for that, or give it modules")
        await super().start()
