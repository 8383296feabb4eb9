"""A web service that pets kittens: it answers 202 at once, and the petting goes on in a pool of warm processes."""

import asyncio
import contextlib
import itertools
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import kittens
import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import asyncpool

logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
logger = logging.getLogger("kittens")

TRIES = 2  # petting twice does no harm, so a worker's death is made good; but one who kills every worker is given up
REMEMBERED = 10_000  # pettings; older ones are forgotten

Command = Callable[[str, int], str]


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """What a client sends."""

    name: str
    strokes: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1


class Petting:
    """An order, and how it goes."""

    def __init__(self, id: str, command: Command, order: Order) -> None:
        self.id = id
        self.command = command
        self.order = order
        self.tries = 0
        self.result: str | None = None
        self.error: BaseException | None = None
        self.over = asyncio.Event()


class Salon:
    """Takes orders, and has them carried out in the background."""

    def __init__(self, pool: asyncpool.Pool) -> None:
        self.pool = pool
        self.pettings: dict[str, Petting] = {}
        self.calls: dict[Petting, None] = {}  # those that the pool has now, in the order in which it got them
        self.outcomes = Counter[str]()
        self._ids = itertools.count(1)

    def accept(self, command: Command, order: Order) -> Petting:
        """Begin: the pool has the call when this returns; it may have to wait there for a worker.

        Raises:
            PoolFull, PoolClosed: The pool does not take it.
        """
        petting = Petting(str(next(self._ids)), command, order)
        self._submit(petting)
        self.pettings[petting.id] = petting
        if len(self.pettings) > REMEMBERED:
            del self.pettings[next(iter(self.pettings))]
        return petting

    def _submit(self, petting: Petting) -> None:
        task = self.pool.submit(petting.command, petting.order.name, petting.order.strokes)
        petting.tries += 1
        self.calls[petting] = None
        task.add_done_callback(lambda task: self._note(petting, task))

    def _note(self, petting: Petting, task: asyncio.Task[str]) -> None:
        """Nobody waits for the task: its outcome is kept for whoever asks, and a failure is also logged."""
        del self.calls[petting]
        error = task.exception()
        if isinstance(error, asyncpool.WorkerCrashed) and petting.tries < TRIES:
            logger.warning("%s %s is done again: %s", petting.command.__name__, petting.id, error)
            try:
                self._submit(petting)
                return
            except asyncpool.PoolError as refusal:
                error = refusal
        if error is None:
            petting.result = task.result()
            self.outcomes["done"] += 1
        else:
            petting.error = error
            self.outcomes["failed"] += 1
            logger.error("%s %s: %s: %s", petting.command.__name__, petting.id, type(error).__name__, error)
        petting.over.set()

    def state(self, petting: Petting) -> str:
        if petting.over.is_set():
            return "failed" if petting.error else "done"
        calls = list(self.calls)
        waiting = calls[len(calls) - self.pool.stats().waiting :]  # the pool serves in order: the youngest still wait
        return "waiting" if petting in waiting else "running"

    def describe(self, petting: Petting) -> dict[str, Any]:
        return {
            "id": petting.id,
            "name": petting.order.name,
            "state": self.state(petting),
            "tries": petting.tries,
            "result": petting.result,
            "error": f"{type(petting.error).__name__}: {petting.error}" if petting.error else None,
        }


def taking_orders_for(command: Command) -> Callable[[Request], Any]:
    """Make the endpoint that has *command* carried out."""

    async def endpoint(request: Request) -> Response:
        salon: Salon = request.state.salon
        order = msgspec.json.decode(await request.body(), type=Order)
        petting = salon.accept(command, order)
        return JSONResponse(salon.describe(petting), 202, {"Location": f"/kittens/{petting.id}"})

    return endpoint


async def kitten(request: Request) -> Response:
    """How it goes; with ``?wait`` the answer comes when it is over, or after ten seconds."""
    salon: Salon = request.state.salon
    petting = salon.pettings.get(request.path_params["id"])
    if petting is None:
        return JSONResponse({"error": "there is no such kitten"}, 404)
    if "wait" in request.query_params:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                await petting.over.wait()
    return JSONResponse(salon.describe(petting))


async def workers(request: Request) -> Response:
    salon: Salon = request.state.salon
    return JSONResponse([{"pid": each.pid, "state": each.state, "calls": each.calls} for each in salon.pool.workers()])


async def bad_request(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)


async def try_later(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 503, {"Retry-After": "1"})


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
    """Open the salon. At the end the pool serves what it took."""
    pool = asyncpool.Pool("kittens", min_size=2, max_size=2, max_waiting=60, timeout=10, name="kittens")
    async with pool:
        salon = Salon(pool)
        yield {"salon": salon}
    logger.info("closed: %d done, %d failed", salon.outcomes["done"], salon.outcomes["failed"])


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/pet_kitten", taking_orders_for(kittens.pet_kitten), methods=["POST"]),
        Route("/bathe_kitten", taking_orders_for(kittens.bathe_kitten), methods=["POST"]),
        Route("/pet_tiger", taking_orders_for(kittens.pet_tiger), methods=["POST"]),
        Route("/kittens/{id}", kitten),
        Route("/workers", workers),
    ],
    exception_handlers={
        msgspec.DecodeError: bad_request,
        ClientDisconnect: bad_request,  # in the middle of its order: nobody reads the answer, nothing was begun
        asyncpool.PoolFull: try_later,
        asyncpool.PoolClosed: try_later,
    },
)
