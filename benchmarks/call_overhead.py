"""What does the pool itself cost? A command that does nothing, through asyncpool and through its alternatives.

One call after another is held against the *floors*: the same frames over the same kind of socket to one child, with
nothing that a pool adds; peers/floors.py shows whether they are honest. 100 calls at a time are held against the other
pools of processes, those of Node among them. Each has two workers and is driven by a process of its own, and they take
turns within each round.
"""

import argparse
import os
import subprocess
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

CALLS = {1: 2000, 100: 5000}  # calls at a time: calls of one round
SECONDS = 3.0  # that a round may last, for a contender that is slow
HEADLINE = "A call that does nothing"


def calls_of_a_round(scale: float) -> Callable[[Peer], dict[int, int]]:
    """What one peer does in a round; a blocking echo can only do one call after another."""

    def calls(peer: Peer) -> dict[int, int]:
        alone = peer in (peers.PIPE, peers.SOCKETPAIR)
        return {at: max(at, round(count * scale)) for at, count in CALLS.items() if at == 1 or not alone}

    return calls


def chosen_peers(names: str | None) -> list[Peer]:
    """The floors and asyncpool; of the others all, or those with one of *names*, separated by commas, in theirs."""
    wanted = None if names is None else [name.strip().lower() for name in names.split(",") if name.strip()]
    return [
        peer
        for peer in peers.CALLS
        if peer.kind in ("floor", "own") or wanted is None or any(name in peer.name.lower() for name in wanted)
    ]


def measure(todo: Sequence[Contender], rounds: int, scale: float, advance: Callable[[], None]) -> None:
    """Fill in the contenders."""
    harness.spare_the_children()
    with contender.opened(todo):
        contender.rounds(todo, rounds, calls_of_a_round(scale), SECONDS * scale, advance)


# --- results ---------------------------------------------------------------------------------------------------------


def own(measured: Sequence[Contender]) -> Contender:
    return next(each for each in measured if each.peer == peers.OWN)


def figures(measured: Sequence[Contender], loop: str) -> Figures:
    """The results of one loop."""
    table = Figures(
        title=f"{HEADLINE}, {peers.WORKERS} workers, {loop} loop",
        columns=["", "1 client", "p99", "ratio", "100 clients", "ratio"],
        caption="ratio: asyncpool over this one, median of the rounds",
        own=peers.OWN.name,
        notes=contender.remarks(measured),
    )
    for row in rows(measured):
        one, hundred = row["one"], row["hundred"]
        times = [harness.duration(one[name]) for name in ("p50", "p99")] if one else ["", ""]
        rate = f"{hundred['per_second']:,.0f}/s" if hundred else ""
        table.add(row["name"], *times, _ratio(row["p50_ratio"]), rate, _ratio(row["rate_ratio"]))
    return table


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} x" if value >= 0.1 else f"{value:.1g} x"


def rows(measured: Sequence[Contender]) -> list[dict[str, Any]]:
    """What table and JSON say; null where there is no figure."""
    ours = own(measured)
    return [
        {
            "name": each.name,
            "kind": each.peer.kind,
            "one": _dict(each.summary(1)),
            "hundred": _dict(each.summary(100)),
            "p50_ratio": ours.p50_ratio(each) if each is not ours else None,
            "rate_ratio": ours.rate_ratio(each, 100) if each is not ours else None,
            "remark": each.remark,
        }
        for each in measured
    ]


def _dict(summary: harness.Summary | None) -> dict[str, Any] | None:
    return asdict(summary) if summary else None


def budgets(measured: Sequence[Contender], loop: str) -> list[Budget]:
    """What the design allows a call to cost."""
    ours, by_name = own(measured), {each.name: each for each in measured}

    def alone(name: str) -> float | None:
        return ours.p50_ratio(by_name[name]) if name in by_name else None

    def many(*names: str) -> float | None:
        """The least ratio: that to the best of them."""
        ratios = [ours.rate_ratio(by_name[name], 100) for name in names if name in by_name]
        return min((ratio for ratio in ratios if ratio is not None), default=None)

    one, hundred = f"one call after another, {loop}", f"100 calls at a time, {loop}"
    article, piscina = peers.NODE[0].name, peers.NODE[1].name
    return [
        Budget(one, peers.CODEC.name, 1.3, alone(peers.CODEC.name)),
        Budget(one, "anyio.to_process", 0.45, alone("anyio.to_process")),
        Budget(one, "ProcessPoolExecutor", 0.25, alone("ProcessPoolExecutor")),
        Budget(one, article, 0.8, alone(article)),
        Budget(hundred, "the best Python pool", 5, many(*(peer.name for peer in peers.PYTHON)), at_least=True),
        Budget(hundred, article, 1.5, many(article), at_least=True),
        Budget(hundred, piscina, 1, many(piscina), at_least=True),
    ]


def losses(measured: Sequence[Contender], loop: str) -> list[str]:
    """Who does better than asyncpool, the floors aside."""
    told = []
    for row in rows(measured):
        if row["kind"] == "floor":
            continue
        if row["p50_ratio"] and row["p50_ratio"] > 1:
            told.append(f"One call after another, {loop}: {row['name']} needs {1 / row['p50_ratio']:.0%} of the time.")
        if row["rate_ratio"] and row["rate_ratio"] < 1:
            told.append(
                f"100 calls at a time, {loop}: {row['name']} makes {1 / row['rate_ratio']:.2f} times as many a second."
            )
    return told


def as_svg(measured: Sequence[Contender], machine: dict[str, Any]) -> str:
    """What each call takes, alone and among 100."""
    groups = []
    for each in measured:
        one, hundred = each.summary(1), each.summary(100)
        if one is None or hundred is None:
            continue
        seconds = {"one at a time": one.p50, "100 at a time": 1 / hundred.per_second}
        bars = [Bar(name, value, harness.duration(value)) for name, value in seconds.items()]
        groups.append(Group(each.name, "", bars))
    subtitle = "median time of a call; among 100 at a time: time divided by calls"
    return log_chart(f"{HEADLINE}, {machine['loop']} loop", subtitle, groups, harness.machine_line(machine))


def options() -> argparse.Namespace:
    parser = harness.parser(__doc__, "call_overhead", "short rounds and few of them: a first impression")
    parser.add_argument("--rounds", type=int, help="rounds (default: 9; with --quick 3)")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), help="default: one after the other")
    parser.add_argument("--one-cpu", action="store_true", help="all on one processor: steadier, as it leaves no choice")
    parser.add_argument("--peers", metavar="NAMES", help="only those with one of these in their name: loky,node")
    return parser.parse_args()


def node_version() -> str | None:
    """Which Node drives its pools; None where there is none."""
    try:
        return subprocess.run(["node", "--version"], check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def main() -> None:
    chosen = options()
    console = Console()
    if chosen.one_cpu:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # the children inherit it
    rounds = chosen.rounds or (3 if chosen.quick else 9)
    scale = 0.2 if chosen.quick else 1.0
    results: dict[str, Any] = {"benchmark": "call_overhead", "one_cpu": chosen.one_cpu, "rounds": rounds, "loops": []}
    tables, met, lost, charted = [], [], [], []
    for loop in [chosen.loop] if chosen.loop else ["asyncio", "uvloop"]:
        machine = {**harness.machine(loop), "node": node_version()}
        measured = [Contender(peer, contender.command(peer, loop)) for peer in chosen_peers(chosen.peers)]
        harness.say_machine(console, machine)
        steps = rounds * sum(len(calls_of_a_round(scale)(each.peer)) for each in measured)
        with harness.progress(console, steps) as advance:
            measure(measured, rounds, scale, advance)
        results["loops"].append({"machine": machine, "contenders": rows(measured)})
        tables.append(figures(measured, loop))
        met += budgets(measured, loop)
        lost += losses(measured, loop)
        charted.append((measured, machine))
    results.update(machine=charted[0][1], budgets=[asdict(each) for each in met], losses=lost)
    harness.finish(console, chosen, results, tables, lambda: as_svg(*charted[0]))


if __name__ == "__main__":
    main()
