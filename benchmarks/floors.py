"""What does this machine itself cost? Nothing can be faster than these steps, whoever writes the pool.

A message there and back by blocking calls and through asyncio, a fork, the start of an interpreter, a copy in memory;
and beside them what stands upon them: a call through the pool, and a worker from its spawn until it is ready.
"""

import argparse
import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import contender
import harness
import peers
from chart import Bar, Group, log_chart
from contender import Contender
from figures import Budget, Figures
from peers import Peer
from rich.console import Console

ROUND: dict[Peer, int] = {  # requests of one round
    peers.PIPE: 2000,
    peers.SOCKETPAIR: 2000,
    peers.BARE: 2000,
    peers.CODEC: 2000,
    peers.OWN: 2000,
    **dict.fromkeys(peers.STARTS, 20),
    peers.MEMCPY: 20,
}
SECONDS = 5.0  # that a round may last


def of_a_round(scale: float) -> Callable[[Peer], contender.Round]:
    """What one peer does in a round."""
    return lambda peer: {1: {"count": round(ROUND[peer] * scale), "at_a_time": 1, "seconds": SECONDS}}


def figures(measured: Sequence[Contender], loop: str) -> Figures:
    table = Figures(f"Floors, {loop} loop", ["", "p50", "p99"], own=peers.OWN.name, notes=contender.remarks(measured))
    for each in measured:
        summary = each.summary(1)
        times = [harness.duration(summary.p50), harness.duration(summary.p99)] if summary else ["", ""]
        table.add(each.name, *times)
    return table


def budgets(measured: Sequence[Contender], loop: str) -> list[Budget]:
    by_peer = {each.peer: each for each in measured}
    own = by_peer[peers.READY]
    return [
        Budget(
            f"spawn to ready, no modules, {loop}", floor.name, 1.25, contender.middle(own.p50_ratios(by_peer[floor]))
        )
        for floor in (peers.MSGSPEC, peers.IMPORTED)
    ]


def as_svg(measured: Sequence[Contender], machine: dict[str, Any]) -> str:
    groups = []
    for each in measured:
        summary = each.summary(1)
        if summary:
            groups.append(Group(each.name, "", [Bar("median", summary.p50, harness.duration(summary.p50))]))
    return log_chart("What the machine itself costs", "median time", groups, harness.machine_line(machine))


def options() -> argparse.Namespace:
    short = "short rounds and few of them: a first impression"
    return harness.parser(__doc__, "floors", short, rounds="9; with --quick 2").parse_args()


def main() -> None:
    chosen = options()
    console = Console()
    rounds = chosen.rounds or (2 if chosen.quick else 9)
    asked = of_a_round(0.1 if chosen.quick else 1.0)

    def of(machine: dict[str, Any]) -> harness.Told:
        loop = machine["loop"]
        measured = [Contender(peer, contender.command(peer, loop)) for peer in ROUND]
        with (
            harness.progress(console, contender.steps(measured, rounds, asked)) as advance,
            contender.opened(measured),
        ):
            contender.rounds(measured, rounds, asked, advance)
        floors = [{"name": each.name, "figures": _dict(each), "remark": each.remark} for each in measured]
        chart = functools.partial(as_svg, measured, machine)
        return harness.Told({"floors": floors}, [figures(measured, loop)], budgets(measured, loop), svg=chart)

    harness.on_each_loop(console, chosen, {"benchmark": "floors", "rounds": rounds}, of)


def _dict(of: Contender) -> dict[str, Any] | None:
    summary = of.summary(1)
    return asdict(summary) if summary else None


if __name__ == "__main__":
    main()
