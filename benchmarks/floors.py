"""What does this machine itself cost? Nothing can be faster than these steps, whoever writes the pool.

A message there and back by blocking calls and through asyncio, a fork, the start of an interpreter, a copy in memory;
and beside them what stands upon them: a call through the pool, and a worker from its spawn until it is ready.
"""

import argparse
from collections.abc import Sequence
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


def figures(measured: Sequence[Contender], loop: str) -> Figures:
    table = Figures(f"Floors, {loop} loop", ["", "p50", "p99"], own=peers.OWN.name, notes=contender.remarks(measured))
    for each in measured:
        summary = each.summary(1)
        times = [harness.duration(summary.p50), harness.duration(summary.p99)] if summary else ["", ""]
        table.add(each.name, *times)
    return table


def budgets(measured: Sequence[Contender]) -> list[Budget]:
    by_peer = {each.peer: each for each in measured}
    floor, own = (by_peer[peers.STARTS[number]] for number in (2, 3))
    return [Budget("spawn to ready, no modules", floor.name, 1.25, own.p50_ratio(floor))]


def as_svg(measured: Sequence[Contender], machine: dict[str, Any]) -> str:
    groups = []
    for each in measured:
        summary = each.summary(1)
        if summary:
            groups.append(Group(each.name, "", [Bar("median", summary.p50, harness.duration(summary.p50))]))
    return log_chart("What the machine itself costs", "median time", groups, harness.machine_line(machine))


def options() -> argparse.Namespace:
    parser = harness.parser(__doc__, "floors", "short rounds and few of them: a first impression")
    parser.add_argument("--rounds", type=int, help="rounds (default: 9; with --quick 2)")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio", help="default: asyncio")
    return parser.parse_args()


def main() -> None:
    chosen = options()
    console = Console()
    rounds = chosen.rounds or (2 if chosen.quick else 9)
    scale = 0.1 if chosen.quick else 1.0
    machine = harness.machine(chosen.loop)
    measured = [Contender(peer, contender.command(peer, chosen.loop)) for peer in ROUND]
    harness.say_machine(console, machine)
    harness.spare_the_children()
    with harness.progress(console, rounds * len(measured)) as advance, contender.opened(measured):
        contender.rounds(measured, rounds, lambda peer: {1: round(ROUND[peer] * scale)}, SECONDS, advance)
    results: dict[str, Any] = {
        "benchmark": "floors",
        "machine": machine,
        "rounds": rounds,
        "floors": [{"name": each.name, "figures": _dict(each), "remark": each.remark} for each in measured],
        "budgets": [asdict(each) for each in budgets(measured)],
    }
    harness.finish(console, chosen, results, [figures(measured, chosen.loop)], lambda: as_svg(measured, machine))


def _dict(of: Contender) -> dict[str, Any] | None:
    summary = of.summary(1)
    return asdict(summary) if summary else None


if __name__ == "__main__":
    main()
