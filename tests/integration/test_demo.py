"""The kitten service over real HTTP, and the demo as a whole."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from starlette.testclient import TestClient

from tests.support.scripts import ROOT

KITTENS = ROOT / "docs" / "examples" / "kittens"
LONG = 1000  # strokes; more than any test waits for


@dataclass
class Service:
    """The running service: its process, a client, and where it logs."""

    process: subprocess.Popen[bytes]
    client: httpx2.Client
    log: Path

    def order(self, command: str, **order: object) -> httpx2.Response:
        return self.client.post(f"/{command}", json=order)

    def outcome(self, accepted: httpx2.Response) -> dict[str, object]:
        answer: dict[str, object] = self.client.get(accepted.headers["Location"], params={"wait": ""}).json()
        return answer

    def state(self, accepted: httpx2.Response) -> str:
        return str(self.client.get(accepted.headers["Location"]).json()["state"])

    def kill(self) -> None:
        """End it without waiting for the kittens; its workers must go with it, the leak check sees to that."""
        self.process.kill()


@pytest.fixture(params=["asyncio", "uvloop"])
def service(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """The service on a free port; a request that comes before it is ready waits in the listening socket."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    log = tmp_path / "log"
    with socket.create_server(("127.0.0.1", 0)) as listening, log.open("wb") as log_file:
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # uvicorn cannot know that its --fd is TCP
        uvicorn = [sys.executable, "-m", "uvicorn", "service:app", "--app-dir", str(KITTENS)]
        process = subprocess.Popen(
            [*uvicorn, "--fd", str(listening.fileno()), "--loop", request.param],
            pass_fds=[listening.fileno()],
            stderr=log_file,
            stdout=log_file,
        )
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    with process, httpx2.Client(base_url=url, timeout=20, trust_env=False) as client:
        try:
            yield Service(process, client, log)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
            process.kill()


def test_an_order_is_answered_202_and_done_in_the_background(service: Service) -> None:
    """POST answers 202 with the place to ask, and there the result turns up."""
    accepted = service.order("pet_kitten", name="Tom", strokes=2)
    assert accepted.status_code == 202
    assert accepted.headers["Location"] == f"/kittens/{accepted.json()['id']}"
    outcome = service.outcome(accepted)
    assert outcome["state"] == "done"
    assert str(outcome["result"]).startswith("Tom purrs at ")


def test_a_failure_in_the_background_is_told_and_logged(service: Service) -> None:
    """A command that raises, and one that takes its process along, are failed with their reason, also in the log."""
    bath = service.outcome(service.order("bathe_kitten", name="Grumpy"))
    tiger = service.outcome(service.order("pet_tiger", name="Shere Khan"))
    assert (bath["state"], bath["error"]) == ("failed", "ValueError: Grumpy does not want to be bathed")
    assert (tiger["state"], tiger["tries"]) == ("failed", 2)
    assert "exited with code 1" in str(tiger["error"])
    log = service.log.read_text()
    assert "ERROR: bathe_kitten 1: ValueError: Grumpy does not want to be bathed" in log
    assert "ERROR: pet_tiger 2: WorkerCrashed: " in log
    assert service.outcome(service.order("pet_kitten", name="Tom"))["state"] == "done"


@pytest.mark.parametrize(
    "body", [b"", b"meow", b"[]", b"{}", b'{"name": 1}', b'{"name": "Tom", "strokes": 0}', b"\xff"]
)
def test_a_bad_body_is_answered_400(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no order is refused with the reason, before the pool hears of it."""
    with in_process(monkeypatch) as client:
        refused = client.post("/pet_kitten", content=body)
        assert refused.status_code == 400
        assert refused.json()["error"]


def test_an_unknown_kitten_is_answered_404(service: Service) -> None:
    """Nobody is told about a kitten that never came."""
    assert service.client.get("/kittens/1").status_code == 404


def test_a_full_queue_is_answered_503_and_the_rest_is_told_apart(service: Service) -> None:
    """Two run, sixty wait, and the next one is refused with a word about when to come again."""
    accepted = [service.order("pet_kitten", name="Tom", strokes=LONG) for _ in range(62)]
    assert {order.status_code for order in accepted} == {202}
    refused = service.order("pet_kitten", name="Late", strokes=LONG)
    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) > 0
    assert "60 calls already wait" in refused.json()["error"]
    assert [service.state(order) for order in accepted] == ["running"] * 2 + ["waiting"] * 60
    service.kill()


def test_a_closed_pool_is_answered_503(monkeypatch: pytest.MonkeyPatch) -> None:
    """An order that meets the end of the pool is refused, not begun."""
    with in_process(monkeypatch) as client:
        assert client.portal is not None
        client.portal.call(client.app_state["salon"].pool.aclose)
        refused = client.post("/pet_kitten", json={"name": "Late"})
        assert refused.status_code == 503
        assert "Retry-After" in refused.headers


def test_the_end_serves_what_was_accepted(service: Service) -> None:
    """SIGTERM lets all accepted orders come to their end; the last word in the log counts them."""
    for number in range(20):
        assert service.order("pet_kitten", name=f"Kitten {number}", strokes=3).status_code == 202
    service.process.terminate()
    assert service.process.wait(15) in (0, -signal.SIGTERM)
    assert "closed: 20 done, 0 failed" in service.log.read_text()


@contextlib.contextmanager
def in_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """The service in this process, for what cannot be brought about from outside."""
    monkeypatch.syspath_prepend(str(KITTENS))
    import service

    try:
        with TestClient(service.app) as client:
            yield client
    finally:
        for name in ("service", "kittens"):  # other tests may have modules of these names
            sys.modules.pop(name, None)


# --- the demo --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def demo(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    process = subprocess.Popen(
        [sys.executable, "-u", str(KITTENS / "demo.py"), "--quick"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # A shell's background job inherits that Ctrl-C is ignored; a demo is started in the foreground.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 # no thread is about
    )
    with process:
        try:
            yield process
        finally:
            process.terminate()


@pytest.mark.timeout(120)
def test_the_demo_keeps_all_that_it_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo comes to its end with exit code 0 and the table, and nothing of it is left."""
    start = time.monotonic()
    with demo(monkeypatch) as process:
        out, _ = process.communicate(timeout=110)
    assert process.returncode == 0, out
    assert "each of the" in out
    assert "pooled" in out
    print(f"the demo took {time.monotonic() - start:.1f} s")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_stopped_leaves_nothing(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle ends the service and its workers too; so does SIGTERM."""
    with demo(monkeypatch) as process:
        _read_until(process, "it is ready")
        process.send_signal(number)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 130, out
    assert "Traceback" not in out


def test_a_demo_whose_service_dies_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken promise ends the demo with an exit code and a plain word, and leaves nothing."""
    with demo(monkeypatch) as process:
        line = _read_until(process, "service:app")
        subprocess.run(["kill", "-9", line.split()[-1]], check=True)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 1, out
    assert "the service does not answer" in out


def _read_until(process: subprocess.Popen[str], words: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return line
    raise AssertionError(f"the demo ended without saying {words!r}")
