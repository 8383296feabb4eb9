"""What does the pool itself cost? A command that does nothing, through asyncpool and through its alternatives.

One call after another is held against the *floors*: the same frames over the same kind of socket to one child, with
nothing that a pool adds; peers/floors.py shows whether they are honest. 100 calls at a time are held against the other
pools of processes, those of Node among them. Each has two workers and is driven by a process of its own, and they take
turns within each round.

The kernel may put the two processes of a floor on one processor, where nobody has to be woken from a halt, or on two.
So asyncpool and the floors are measured once more with everything bound to one processor.
"""

import argparse
import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from importlib import metadata
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
BOUND = [peers.BARE, peers.OWN, peers.CODEC]  # measured on one processor, too
HEADLINE = "A call that does nothing"


def of_a_round(scale: float) -> Callable[[Peer], contender.Round]:
    """What one peer does in a round; a blocking echo can only do one call after another."""

    def of(peer: Peer) -> contender.Round:
        alone = peer in (peers.PIPE, peers.SOCKETPAIR)
        return {
            at: {"count": max(at, round(count * scale)), "at_a_time": at, "seconds": SECONDS * scale}
            for at, count in CALLS.items()
            if at == 1 or not alone
        }

    return of


def chosen_peers(names: str | None) -> list[Peer]:
    """The floors and asyncpool; of the others all, or those with one of *names*, separated by commas, in theirs."""
    wanted = None if names is None else [name.strip().lower() for name in names.split(",") if name.strip()]
    return [
        peer
        for peer in peers.CALLS
        if peer.kind in ("floor", "own") or wanted is None or any(name in peer.name.lower() for name in wanted)
    ]


def measure(todo: Sequence[Peer], loop: str, rounds: int, scale: float, console: Console) -> list[Contender]:
    """Return them with their batches."""
    measured = [Contender(peer, contender.command(peer, loop)) for peer in todo]
    of = of_a_round(scale)
    with harness.progress(console, contender.steps(measured, rounds, of)) as advance, contender.opened(measured):
        contender.rounds(measured, rounds, of, advance)
    return measured


@contextlib.contextmanager
def one_processor() -> Iterator[None]:
    """Whatever is started within is bound to one."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


# --- results ---------------------------------------------------------------------------------------------------------


def own(measured: Sequence[Contender]) -> Contender:
    return next(each for each in measured if each.peer == peers.OWN)


def figures(measured: Sequence[Contender], where: str, *notes: str) -> Figures:
    """The results of one loop; *where* tells which."""
    table = Figures(
        title=f"{HEADLINE}, {peers.WORKERS} workers, {where}",
        columns=["", "1 client", "p99", "ratio", "100 clients", "p99", "ratio"],
        caption="ratio: asyncpool over this one, median [least, greatest] of the rounds",
        own=peers.OWN.name,
        notes=[*contender.remarks(measured), *notes],
    )
    for row in rows(measured):
        one, hundred = row["one"], row["hundred"]
        alone = [harness.duration(one[name]) for name in ("p50", "p99")] if one else ["", ""]
        many = [f"{hundred['per_second']:,.0f}/s", harness.duration(hundred["p99"])] if hundred else ["", ""]
        table.add(row["name"], *alone, contender.told(row["p50_ratios"]), *many, contender.told(row["rate_ratios"]))
    return table


def versions(of: Sequence[Peer]) -> str:
    """Which version of each peer was measured, where it is known."""
    found = {peer.package: _version(peer) for peer in of if peer.package}
    node = _node_version() if any(peer.kind == "node" for peer in of) else None
    return ", ".join(f"{name} {version}" for name, version in {**found, "Node": node}.items() if version)


def _version(peer: Peer) -> str | None:
    try:
        if peer.kind == "python":
            return metadata.version(peer.package)
        told = (contender.NODE / "node_modules" / peer.package / "package.json").read_text()
        return str(json.loads(told)["version"])
    except (metadata.PackageNotFoundError, OSError):
        return None


def _node_version() -> str | None:
    try:
        return subprocess.run(["node", "--version"], check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def rows(measured: Sequence[Contender]) -> list[dict[str, Any]]:
    """What table and JSON say; null where there is no figure."""
    if not measured:
        return []
    ours = own(measured)
    return [
        {
            "name": each.name,
            "kind": each.peer.kind,
            "one": _dict(each.summary(1)),
            "hundred": _dict(each.summary(100)),
            "p50_ratios": ours.p50_ratios(each) if each is not ours else [],
            "rate_ratios": ours.rate_ratios(each, 100) if each is not ours else [],
            "remark": each.remark,
        }
        for each in measured
    ]


def _dict(summary: harness.Summary | None) -> dict[str, Any] | None:
    return asdict(summary) if summary else None


def budgets(measured: Sequence[Contender], bound: Sequence[Contender], loop: str) -> list[Budget]:
    """What the design allows a call to cost; *bound*: measured on one processor."""
    ours, by_name = own(measured), {each.name: each for each in measured}

    def alone(name: str) -> float | None:
        return contender.middle(ours.p50_ratios(by_name[name])) if name in by_name else None

    def many(*names: str) -> float | None:
        """The least ratio: that to the best of them."""
        found = [contender.middle(ours.rate_ratios(by_name[name], 100)) for name in names if name in by_name]
        return min((ratio for ratio in found if ratio is not None), default=None)

    one, hundred = f"one call after another, {loop}", f"100 calls at a time, {loop}"
    article, piscina = peers.NODE[0].name, peers.NODE[1].name
    python = [peer.name for peer in peers.PYTHON]
    floor = [Budget(one, peers.CODEC.name, 1.3, alone(peers.CODEC.name))]
    for each in bound:
        if each.peer == peers.CODEC:
            ratio = contender.middle(own(bound).p50_ratios(each))
            floor.append(Budget(f"{one}, one processor", each.name, 1.3, ratio))
    return [
        *floor,
        Budget(one, "anyio.to_process", 0.45, alone("anyio.to_process")),
        Budget(one, "ProcessPoolExecutor", 0.25, alone("ProcessPoolExecutor")),
        Budget(one, article, 0.8, alone(article)),
        Budget(hundred, "the best Python pool", 5, many(*python), at_least=True),
        Budget(hundred, article, 1.5, many(article), at_least=True),
        Budget(hundred, piscina, 1, many(piscina), at_least=True),
    ]


def losses(measured: Sequence[Contender], loop: str) -> list[str]:
    """Who does better than asyncpool, the floors aside."""
    told = []
    for row in rows(measured):
        if row["kind"] == "floor":
            continue
        alone, many = (contender.middle(row[which]) for which in ("p50_ratios", "rate_ratios"))
        if alone and alone > 1:
            told.append(f"One call after another, {loop}: {row['name']} needs {1 / alone:.0%} of the time.")
        if many and many < 1:
            told.append(f"100 calls at a time, {loop}: {row['name']} makes {1 / many:.2f} times as many a second.")
    return told


def as_svg(measured: Sequence[Contender], machine: dict[str, Any]) -> str:
    """What each call takes, alone and among 100."""
    groups = []
    for each in measured:
        one, hundred = each.summary(1), each.summary(100)
        seconds = {"one at a time": one.p50} if one else {}
        seconds |= {"100 at a time": 1 / hundred.per_second} if hundred else {}
        bars = [Bar(name, value, harness.duration(value)) for name, value in seconds.items()]
        groups.append(Group(each.name, each.remark.partition(":")[0], bars))
    subtitle = "median time of a call; among 100 at a time: time divided by calls"
    return log_chart(f"{HEADLINE}, {machine['loop']} loop", subtitle, groups, harness.machine_line(machine))


def options() -> argparse.Namespace:
    short = "short rounds and few of them: a first impression"
    parser = harness.parser(__doc__, "call_overhead", short, rounds="9; with --quick 3")
    parser.add_argument("--one-cpu", action="store_true", help="all on one processor: steadier, as it leaves no choice")
    parser.add_argument("--peers", metavar="NAMES", help="only those with one of these in their name: loky,node")
    return parser.parse_args()


def main() -> None:
    chosen = options()
    console = Console()
    rounds = chosen.rounds or (3 if chosen.quick else 9)
    scale = 0.2 if chosen.quick else 1.0
    todo = chosen_peers(chosen.peers)

    def of(machine: dict[str, Any]) -> harness.Told:
        loop = machine["loop"]
        with one_processor() if chosen.one_cpu else contextlib.nullcontext():
            measured = measure(todo, loop, rounds, scale, console)
        with one_processor():
            bound = [] if chosen.one_cpu else measure(BOUND, loop, rounds, scale, console)
        tables = [figures(measured, f"{loop} loop", f"versions: {versions(todo)}")]
        tables += [figures(bound, f"all on one processor, {loop} loop")] if bound else []
        results = {"contenders": rows(measured), "bound": rows(bound)}
        judged = budgets(measured, bound, loop)
        return harness.Told(results, tables, judged, losses(measured, loop), lambda: as_svg(measured, machine))

    results = {"benchmark": "call_overhead", "one_cpu": chosen.one_cpu, "rounds": rounds}
    harness.on_each_loop(console, chosen, results, of)


if __name__ == "__main__":
    main()
