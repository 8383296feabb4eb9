"""The second guard against a worker that outlives the application: PR_SET_PDEATHSIG.

The first is the parent's lifeline pipe, which kills the whole group. It is deaf while somebody else holds the pipe's
write end: a copy of the parent that C code forked, behind the back of ``os.register_at_fork``. This one is not; but it
is bound to the *thread* that spawned the worker, so the parent asks for it only where that is its main thread.
"""

from __future__ import annotations

import os

PR_SET_PDEATHSIG = 1
SIGKILL = 9


def follow(parent: int) -> None:
    """Let the kernel kill this process when its parent dies, whose process id is *parent*; where it can, else nothing.

    Done once the worker is ready, since it costs half a millisecond. Interleaving: the parent dies before the call of
    prctl, which then ties us to whoever has adopted us. So the parent is looked at again afterwards.
    """
    if os.getppid() != parent:
        return  # a program stands between us: it is not ours to judge by its death
    try:
        from _ctypes import call_function, dlopen, dlsym  # ctypes itself takes 3 ms

        prctl = dlsym(dlopen(None, 0), "prctl")  # type: ignore[arg-type] # None: the program itself
        call_function(prctl, (PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0))
    except Exception:  # no _ctypes, no such function, an audit hook that forbids it
        return
    if os.getppid() != parent:
        os._exit(0)
