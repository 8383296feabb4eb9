"""The applications of the guide to web services, as they are pasted, answer real requests."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import httpx2
import pytest

from asyncpool import (
    AcquireTimeout,
    ArgumentError,
    CommandError,
    CommandTimeout,
    PayloadError,
    PoolClosed,
    PoolFull,
    ProtocolError,
    ResultError,
    UnknownCommand,
    WorkerCrashed,
    WorkerStartError,
)
from tests.support.pages import blocks, chapters, file_name
from tests.support.scripts import LIMIT, ROOT
from tests.support.waiting import eventually_now

PAGE = "how-to/web-services.md"
SHARED = blocks(PAGE)[:2]  # kittens.py and answers.py stand before the first chapter
STREAMS, THREADS, METRICS = "Streams, and clients that go away", "From a sync endpoint, or another thread", "Metrics"
SEVERAL = "Several server processes"
AIOHTTP = "import socket, app; app.web.run_app(app.app, sock=socket.socket(fileno={}), print=None)"
OK = 'asyncpool_calls_total{outcome="ok"}'
WAITING = 20  # max_waiting of the guide's pools
# Says of each pool that is started where it is, and how large it may be.
TOLD = """\
import os
from several import app, pool

start = pool.start


async def start_and_tell():
    await start()
    print(os.getpid(), pool.workers()[0].pid, pool._config.limits.max_size, flush=True)


pool.start = start_and_tell
"""


class Server:
    """A server on a port of its own."""

    def __init__(self, folder: Path, program: list[str], environment: dict[str, str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:  # a request that comes too early waits in it
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.port: int = listening.getsockname()[1]
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", *(part.format(listening.fileno()) for part in program)],
                cwd=folder,
                pass_fds=[listening.fileno()],
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=LIMIT, trust_env=False)

    def pet(self, **order: object) -> httpx2.Response:
        """Send an order."""
        return self.client.post("/pet", json=order)

    def ask(self, path: str, order: object = None) -> HTTPConnection:
        """Send a request, with an order or without, and wait for nothing."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)
        headers = {"Content-Type": "application/json"}
        connection.request(*(("GET", path) if order is None else ("POST", path, json.dumps(order), headers)))
        return connection

    def numbers(self) -> dict[str, float]:
        """Return the metrics."""
        lines = self.client.get("/metrics").text.splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}

    def begun(self) -> float:
        """Return the number of calls that were handed to a worker."""
        return self.numbers()["asyncpool_wait_seconds_count"]

    def end(self) -> tuple[str, str]:
        """Stop it as a process manager does; returns what it has said."""
        self.client.close()
        self.process.terminate()
        try:
            return self.process.communicate(timeout=LIMIT)
        finally:
            self.process.kill()


@contextlib.contextmanager
def served(folder: Path, titles: list[str], program: list[str], **environment: str) -> Iterator[Server]:
    """Write the modules that all share, and those of some chapters, and serve them."""
    for language, text in [*SHARED, *(each for title in titles for each in blocks(PAGE, title))]:
        if language == "python":
            (folder / file_name(text)).write_text(text)
    server = Server(folder, program, environment)
    try:
        yield server
    finally:
        server.end()


def uvicorn(app: str) -> list[str]:
    return ["-m", "uvicorn", app, "--log-level", "warning", "--timeout-graceful-shutdown", "5", "--fd", "{}"]


@pytest.mark.parametrize(
    ("title", "program", "misfit"),
    [
        ("FastAPI", uvicorn("app:app"), 422),
        ("Litestar", uvicorn("app:app"), 400),
        ("aiohttp", ["-c", AIOHTTP], 422),
    ],
    ids=["FastAPI", "Litestar", "aiohttp"],
)
def test_an_application_answers(tmp_path: Path, title: str, program: list[str], misfit: int) -> None:
    """Results, and errors by the status that the guide says; the one that is logged is the command's own."""
    with served(tmp_path, [title], program) as server:
        assert "Tom purrs!!" in server.pet(name="Tom", strokes=2).text
        failed = server.pet(name="Grumpy")
        assert (failed.status_code, failed.json()) == (500, {"error": "ValueError"})
        late = server.pet(name="Tom", strokes=1000)
        assert (late.status_code, late.json()) == (504, {"error": "CommandTimeout"})
        wrong = server.pet(name="Tom", strokes=0)
        assert (wrong.status_code, "Expected `int` >= 1" in wrong.text) == (misfit, True)
        assert server.pet(name="Tom").status_code == 200
        _, logged = server.end()
    assert logged.count("a command failed") == 1
    assert logged.rstrip().endswith("ValueError: Grumpy does not want to be petted")


def test_what_is_added_to_the_application_works(tmp_path: Path) -> None:
    """A thread's call; streams whose clients go, which stops the commands; a full pool; and the numbers of it all."""
    (tmp_path / "all.py").write_text("import streams, threads, metrics\nfrom app import app\n")
    with served(tmp_path, ["FastAPI", STREAMS, THREADS, METRICS], uvicorn("all:app")) as server:
        assert server.client.get("/pet/Tom").json() == "Tom purrs!"
        gone = server.ask("/pet", {"name": "Nobody", "strokes": 20})
        assert eventually_now(lambda: server.begun() == 2, LIMIT)
        gone.close()
        assert eventually_now(lambda: server.numbers().get(OK) == 2, LIMIT)  # nobody stops what is no stream
        streams = [server.ask(f"/purrs/{name}") for name in ("Tom", "Fluffy")]
        answers = [stream.getresponse() for stream in streams]
        assert [_event(each) for each in answers] == ["data: Tom purrs", "data: Fluffy purrs"]
        waiting = [server.ask("/pet/Minka") for _ in range(WAITING)]
        assert eventually_now(lambda: server.numbers()["asyncpool_calls_waiting"] == WAITING, LIMIT)
        for path in ("/pet/Late", "/purrs/Late"):
            refused = server.client.get(path)
            assert (refused.status_code, refused.json()) == (503, {"error": "PoolFull"})
            assert refused.headers["Retry-After"] == "1"
        for stream, response in zip(streams, answers, strict=True):
            response.close()
            stream.close()
        assert {each.getresponse().status for each in waiting} == {200}
        numbers = server.numbers()
        for each in waiting:
            each.close()
        outcomes = {name: count for name, count in numbers.items() if name.startswith("asyncpool_calls_total")}
        assert outcomes == {
            OK: 2 + WAITING,
            'asyncpool_calls_total{outcome="rejected"}': 2,
            'asyncpool_calls_total{outcome="cancelled"}': 2,
        }
        assert not [name for name in numbers if name.startswith("asyncpool_exits_total")]  # both workers stay warm
        assert (
            numbers['asyncpool_run_seconds_bucket{le="+Inf"}'] == numbers["asyncpool_run_seconds_count"] == WAITING + 4
        )
        assert server.end() == ("", "")


def test_each_server_process_has_a_pool_of_its_own(tmp_path: Path) -> None:
    """Of half the size, where there are two; uvicorn heeds the variable, too."""
    (tmp_path / "told.py").write_text(TOLD)
    with served(tmp_path, [SEVERAL], uvicorn("told:app"), WEB_CONCURRENCY="2") as server:
        assert server.process.stdout is not None
        told = [server.process.stdout.readline().split() for _ in range(2)]
        servers, workers, sizes = zip(*told, strict=True)
        assert (len({*servers, *workers}), sizes) == (4, ("4", "4"))
        assert server.pet(name="Tom").json() == "Tom purrs!"


def test_every_error_has_its_status() -> None:
    """Errors whose call never began may be tried again, and a command's own are not told in words."""
    names: dict[str, Any] = {"__name__": "answers"}
    exec(SHARED[1][1], names)
    statuses = {
        503: [PoolFull, AcquireTimeout, PoolClosed, WorkerStartError],
        504: [CommandTimeout],
        422: [ArgumentError, PayloadError],
        500: [CommandError, ResultError, UnknownCommand, WorkerCrashed, ProtocolError],
    }
    for status, kinds in statuses.items():
        for kind in kinds:
            said = "told" if status == 422 else kind.__name__
            again = {"Retry-After": "1"} if status == 503 else {}
            assert names["answer"](kind("told")) == (status, {"error": said}, again)
    assert names["answer"](PoolClosed("stopped", started=True)) == (503, {"error": "PoolClosed"}, {})


def test_each_example_is_run() -> None:
    """The chapters that have code are those above."""
    known = {"FastAPI", "Litestar", "aiohttp", STREAMS, THREADS, METRICS, SEVERAL}
    assert {title for title in chapters(PAGE) if blocks(PAGE, title)} == known


def _event(response: HTTPResponse) -> str:
    """Return the first event that says something."""
    return next(line for line in (response.readline().decode().strip() for _ in range(10)) if line.startswith("data"))
