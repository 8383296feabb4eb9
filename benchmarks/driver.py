"""Opens one peer and makes batches of calls, as they are asked for on stdin; answers on stdout, a line of JSON each.

Each contender has such a process of its own: none has the threads and processes of another around it, and one that
hangs can be killed. Usage: driver.py MODULE:FUNCTION LOOP [COMMAND]
"""

import functools
import importlib
import json
import os
import sys
from typing import Any

# Not more than that: a pool that spawns its workers runs this file's head in each of them.


def take_stdout() -> int:
    """Return a descriptor for the answers; what a peer prints goes to stderr."""
    answers = os.dup(1)
    os.dup2(2, 1)
    return answers


def say(answers: int, **what: Any) -> None:
    with open(answers, "w", closefd=False) as file:
        file.write(json.dumps(what) + "\n")


async def serve(opened: Any, first: object, answers: int) -> None:
    import anyio.to_thread
    import harness

    async with opened() as request:
        say(answers, ready=plain(await request(first)))
        while line := await anyio.to_thread.run_sync(sys.stdin.readline):
            asked = json.loads(line)
            batch = await (_batch_of_values if "kind" in asked else harness.batch)(request, **asked)
            say(answers, latencies=batch.latencies, elapsed=batch.elapsed)


async def _batch_of_values(request: Any, **asked: Any) -> Any:
    import values  # and with it numpy, which the others do without

    return await values.batch(request, **asked)


def plain(answer: object) -> int | None:
    return answer if isinstance(answer, int) else None


def main() -> None:
    answers = take_stdout()
    module, _, function = sys.argv[1].partition(":")
    try:
        peer = importlib.import_module(f"peers.{module}")
        opened, first = getattr(peer, function), 7
        for command in sys.argv[3:]:
            import cold_worker

            opened, first = functools.partial(opened, getattr(cold_worker, command)), b"7"
        serving = functools.partial(serve, opened, first, answers)
        if getattr(peer, "BACKEND", "") == "trio":
            import trio

            trio.run(serving)
        else:
            import harness

            harness.run(serving, sys.argv[2])
    except ModuleNotFoundError as error:
        say(answers, missing=str(error))
        sys.exit(1)
    except BaseException as error:
        say(answers, failed=" ".join(f"{type(error).__name__}: {error}".split()))
        raise


if __name__ == "__main__":
    main()
