"""The kitten service at work: started, asked, hurt, flooded and stopped, each time checking what it promises.

``make demo`` runs it; ``make demo ARGS=--quick`` measures less at its end.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import kittens
from rich.console import Console
from rich.markup import escape

HERE = Path(__file__).parent
sys.path.insert(1, str(HERE.parents[2] / "benchmarks"))

import cold_vs_pooled  # noqa: E402 (it lies in another folder)

GRACE = 15.0  # seconds in which the service must be gone after SIGTERM

console = Console(highlight=False)


class BrokenPromise(Exception):
    """Something that the demo shows did not come true."""


def step(title: str) -> None:
    console.print(f"\n[bold]{title}[/]")


def say(text: str) -> None:
    console.print(f"  {text}", soft_wrap=True)


def check(holds: bool, promise: str) -> None:
    """Say that a promise was kept, or stop the demo."""
    if not holds:
        raise BrokenPromise(promise)
    console.print(f"  [green]✓[/] {escape(promise)}", soft_wrap=True)


# --- the service as a process ----------------------------------------------------------------------------------------


class Service:
    """The service, a client for it, and what it logs."""

    def __init__(self, process: asyncio.subprocess.Process, client: httpx2.AsyncClient) -> None:
        self.process = process
        self.client = client
        self.log: list[str] = []
        self.accepted = 0  # orders that were answered with 202

    async def order(self, command: str, name: str, strokes: int = 1) -> httpx2.Response:
        response = await self.client.post(f"/{command}", json={"name": name, "strokes": strokes})
        self.accepted += response.status_code == 202
        return response

    async def outcome(self, accepted: httpx2.Response) -> dict[str, Any]:
        """Follow a 202 to what became of it."""
        answer: dict[str, Any] = (await self.client.get(accepted.headers["Location"], params={"wait": ""})).json()
        return answer

    async def workers(self) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = (await self.client.get("/workers")).json()
        return answer

    async def show_log(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.log.append(line.decode().rstrip())
            console.print(f"  [dim]service | {escape(self.log[-1])}[/]", soft_wrap=True)

    async def stop(self) -> None:
        """Ask it to end; kill it if it does not, or when nobody wants to wait any more. Its workers go with it."""
        try:
            if self.process.returncode is None:
                self.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(GRACE):
                await self.process.wait()
        except BaseException:
            self.process.kill()
            raise


@contextlib.asynccontextmanager
async def running_service() -> AsyncIterator[Service]:
    """Start the service; leave nothing of it, however this ends."""
    # The socket listens before the service starts: a request that comes too early waits in it. So there is no port
    # that somebody else might take meanwhile, and nothing to poll.
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # uvicorn cannot know that its --fd is TCP
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "uvicorn", "service:app", "--app-dir", str(HERE)),
            *("--fd", str(listening.fileno()), "--no-access-log"),
            pass_fds=[listening.fileno()],
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches the demo alone, which then stops the service
        )
    say(f"{url} is served by `python -m uvicorn service:app`, process {process.pid}")
    async with httpx2.AsyncClient(base_url=url, timeout=30, trust_env=False) as client:
        service = Service(process, client)
        log = asyncio.create_task(service.show_log())
        try:
            yield service
        finally:
            await service.stop()
            await log


# --- the story -------------------------------------------------------------------------------------------------------


async def pet_one(service: Service) -> None:
    step("One kitten")
    start = time.perf_counter()
    accepted = await service.order("pet_kitten", "Tom", strokes=20)
    say(f"POST /pet_kitten: {accepted.status_code} after {_ms_since(start)}, {accepted.text}")
    outcome = await service.outcome(accepted)
    say(f"GET {accepted.headers['Location']}: {outcome['state']} after {_ms_since(start)}, {outcome['result']}")
    check(accepted.status_code == 202, "the request was answered while the work went on")
    check(outcome["result"] == kittens.pet_kitten("Tom", 20), "the result is what the function returns right here")


def _ms_since(start: float) -> str:
    return f"{1000 * (time.perf_counter() - start):.0f} ms"


async def go_wrong(service: Service) -> None:
    step("What goes wrong")
    refused = await service.client.post("/pet_kitten", content=b"meow")
    check(refused.status_code == 400, f"bad JSON: 400, {refused.json()['error']}")
    unknown = await service.client.get("/kittens/nobody")
    check(unknown.status_code == 404, f"unknown id: 404, {unknown.json()['error']}")
    bath = await service.outcome(await service.order("bathe_kitten", "Grumpy"))
    check(bath["state"] == "failed", f"a command that raises: {bath['error']}")
    tiger = await service.outcome(await service.order("pet_tiger", "Shere Khan"))
    check(tiger["state"] == "failed", f"a command that takes its process along, given up after {tiger['tries']} tries")


async def kill_a_worker(service: Service, crowd: int = 40) -> None:
    step(f"{crowd} kittens, and a worker is killed while they are petted")
    names = [f"Kitten {number}" for number in range(1, crowd + 1)]
    accepted = await asyncio.gather(*(service.order("pet_kitten", name, strokes=6) for name in names))
    await service.outcome(accepted[0])  # from the first result on some worker is busy, until the last
    busy = [worker["pid"] for worker in await service.workers() if worker["state"] == "busy"]
    say(f"All {crowd} are accepted. Busy are the workers {busy}: kill -9 {busy[0]}")
    os.kill(busy[0], signal.SIGKILL)
    outcomes = await asyncio.gather(*(service.outcome(response) for response in accepted))
    again = [outcome["name"] for outcome in outcomes if outcome["tries"] == 2]
    say("Petting twice does no harm, so the service does again what the killed worker had in hand.")
    say(f"Petted twice: {', '.join(again) or 'nobody; the worker had not begun, and the pool moved its kitten'}")
    right = [f"{outcome['result']}".startswith(f"{name} purrs") for name, outcome in zip(names, outcomes, strict=True)]
    check(all(right), f"all {crowd} purr, each under its own name: nothing is lost, nothing mixed up")
    check(len(again) <= 1, "no other kitten noticed")
    pids = [worker["pid"] for worker in await service.workers()]
    check(len(pids) == 2 and busy[0] not in pids, f"there are two workers again: {pids}")


async def flood(service: Service, crowd: int = 150) -> None:
    step(f"{crowd} kittens at once: more than the service wants to have waiting")
    answers = await asyncio.gather(*(service.order("pet_kitten", "Flood", strokes=4) for _ in range(crowd)))
    refused = [answer for answer in answers if answer.status_code == 503]
    say(
        f"{crowd - len(refused)} were accepted, {len(refused)} refused: {refused[0].json()['error'] if refused else ''}"
    )
    check(bool(refused), "who comes when the queue is full is told so at once: 503")
    check(all("Retry-After" in answer.headers for answer in refused), "and when to come again: Retry-After")


async def stop(service: Service) -> None:
    step("SIGTERM while kittens still wait")
    start = time.perf_counter()
    await service.stop()
    seconds = time.perf_counter() - start
    check(service.process.returncode in (0, -signal.SIGTERM), f"the service ended by itself after {seconds:.1f} s")


def check_books(service: Service) -> None:
    """Every 202 must have become a done or a failed; the service's last word says how many there were."""
    last_word = next(line for line in reversed(service.log) if "closed:" in line)
    promised = f"closed: {service.accepted - 2} done, 2 failed"
    check(
        promised in last_word, f"each of the {service.accepted} accepted requests has its outcome; 2 failed, as shown"
    )


async def tell() -> None:
    story = asyncio.current_task()
    assert story is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, story.cancel)
    step("Starting the kitten service")
    async with running_service() as service:
        workers = await service.workers()
        check(len(workers) == 2, f"it is ready, with warm workers {[worker['pid'] for worker in workers]}")
        await pet_one(service)
        await go_wrong(service)
        await kill_a_worker(service)
        await flood(service)
        await stop(service)
    check_books(service)


def compare(*, quick: bool) -> None:
    step("Was it worth it? A process per request against the pool")
    cases = cold_vs_pooled.cases(scale=0.02 if quick else 0.4)[: 2 if quick else 3]
    cold_vs_pooled.measure_showing_progress(cases, rounds=1 if quick else 2, loop="asyncio", console=console)
    console.print("", cold_vs_pooled.table(cases))


def main() -> int:
    try:
        asyncio.run(tell())
        compare(quick="--quick" in sys.argv[1:])
    except BrokenPromise as broken:
        console.print(f"  [red]✗ not kept: {escape(str(broken))}[/]")
        return 1
    except httpx2.TransportError as error:
        console.print(f"  [red]✗ the service does not answer: {escape(repr(error))}[/]")
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("\nstopped; nothing is left running")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
