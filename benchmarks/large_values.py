"""What do large values cost? 64 MiB there and back, through asyncpool and through its alternatives.

The *floor* is what two processes can do at all: the same bytes over the same kind of socket, blocking, into memory that
is used again and again. *New memory* is the same floor when either side receives into memory that it has just got, as
who hands the value over must while what it had is in use. Each is driven by a process of its own, and they take turns
within each round.

The last two columns tell how late an event loop is while eight calls carry such arrays: a ticker wants to wake every
10 ms.
"""

import argparse
import functools
from collections.abc import Callable, Sequence
from typing import Any

import contender
import harness
import peers
from chart import Bar, Group, log_chart
from contender import Contender
from figures import Budget, Figures
from peers import Peer
from rich.console import Console

KINDS = ("bytes", "array")
SECONDS = 30.0  # that a batch may last
BESIDE = 8  # arrays under way beside the ticker
LATE = 0.050  # seconds that a tick may be late


def of_a_round(size: int) -> Callable[[Peer], contender.Round]:
    """What one peer does in a round: one value of each kind, and a ticker where there is a loop to tick."""

    def of(peer: Peer) -> contender.Round:
        one = {"size": size, "count": 1, "at_a_time": 1, "seconds": SECONDS}
        asked: dict[str, dict[str, Any]] = {kind: {"kind": kind, **one} for kind in KINDS}
        if peer.kind != "floor":
            asked["late"] = {**one, "kind": "array", "count": BESIDE, "at_a_time": BESIDE, "ticking": True}
        return asked

    return of


def measure(todo: Sequence[Peer], loop: str, size: int, rounds: int, console: Console) -> list[Contender]:
    """Return them with their batches."""
    measured = [Contender(peer, contender.command(peer, loop, "same")) for peer in todo]
    of = of_a_round(size)
    with harness.progress(console, contender.steps(measured, rounds, of)) as advance, contender.opened(measured):
        contender.rounds(measured, rounds, of, advance)
    return measured


# --- results ---------------------------------------------------------------------------------------------------------


def rows(measured: Sequence[Contender]) -> list[dict[str, Any]]:
    """What table and JSON say; null, or no ratios, where there is no figure."""
    ours = measured[0]
    found = []
    for each in measured:
        row: dict[str, Any] = {"name": each.name, "kind": each.peer.kind, "remark": each.remark}
        for kind in KINDS:
            summary = each.summary(kind)
            row[kind] = summary.p50 if summary else None
            row[f"{kind}_ratios"] = ours.p50_ratios(each, kind) if each is not ours else []
        late = [tick for batch in each.batches.get("late", []) for tick in batch.latencies] if each.measured else []
        row["late_p50"] = harness.percentile(late, 50) if late else None
        row["late_most"] = max(late, default=None)
        found.append(row)
    return found


def figures(measured: Sequence[Contender], size: int, loop: str) -> Figures:
    """The results of one loop."""
    table = Figures(
        f"{size >> 20} MiB there and back, {loop} loop",
        ["", "bytes", "ratio", "array", "ratio", "late", "most"],
        own=peers.OWN.name,
        caption="ratio: asyncpool over this one, median [least, greatest] of the rounds",
        notes=[
            f"late, most: median and most of ticks every 10 ms, beside {BESIDE} arrays at a time",
            *contender.remarks(measured),
        ],
    )
    for row in rows(measured):
        cells = []
        for kind in KINDS:
            cells += [_duration(row[kind]), contender.told(row[f"{kind}_ratios"], digits=3)]
        table.add(row["name"], *cells, _duration(row["late_p50"]), _duration(row["late_most"]))
    return table


def _duration(seconds: float | None) -> str:
    return "" if seconds is None else harness.duration(seconds)


def budgets(measured: Sequence[Contender], size: int, loop: str) -> list[Budget]:
    """What may be used of the time of the best Python pool and of the floor with old memory, and how late a tick is."""
    told = rows(measured)
    ratios = {kind: {row["name"]: contender.middle(row[f"{kind}_ratios"]) for row in told} for kind in KINDS}
    python = [peer.name for peer in peers.PYTHON]

    def best(kind: str) -> float | None:
        """The greatest ratio: that to the best of them."""
        return max((ratio for name in python if (ratio := ratios[kind].get(name)) is not None), default=None)

    arrays, most = f"{size >> 20} MiB array there and back, {loop}", told[0]["late_most"]
    return [
        Budget(arrays, "the best Python pool", 0.12, best("array")),
        Budget(arrays, peers.OLD_MEMORY.name, 2.0, ratios["array"].get(peers.OLD_MEMORY.name)),
        Budget(f"{size >> 20} MiB bytes there and back, {loop}", "the best Python pool", 0.3, best("bytes")),
        Budget(f"a tick beside {BESIDE} arrays, {loop}", "50 ms late", 1, most / LATE if most is not None else None),
    ]


def losses(measured: Sequence[Contender], loop: str) -> list[str]:
    """Who does better than asyncpool, the floors aside."""
    told = rows(measured)
    ours, told_of = told[0], []
    for row in told[1:]:
        for kind in KINDS:
            middle = contender.middle(row[f"{kind}_ratios"])
            if middle and middle > 1 and row["kind"] != "floor":
                told_of.append(f"{kind.capitalize()}, {loop}: {row['name']} needs {1 / middle:.0%} of the time.")
        if None not in (row["late_p50"], ours["late_p50"]) and row["late_p50"] < ours["late_p50"]:
            late = f"{_duration(row['late_p50'])} (most {_duration(row['late_most'])})"
            here = f"{_duration(ours['late_p50'])} (most {_duration(ours['late_most'])})"
            told_of.append(f"A ticker beside arrays, {loop}: {late} late with {row['name']}, {here} with asyncpool.")
    return told_of


def as_svg(measured: Sequence[Contender], machine: dict[str, Any], size: int) -> str:
    groups = []
    for row in rows(measured):
        bars = [Bar(kind, row[kind], _duration(row[kind])) for kind in KINDS if row[kind]]
        groups.append(Group(row["name"], row["remark"].partition(":")[0], bars))
    headline = f"{size >> 20} MiB there and back, {machine['loop']} loop"
    return log_chart(headline, "median time", groups, harness.machine_line(machine))


def options() -> argparse.Namespace:
    parser = harness.parser(__doc__, "large_values", "few rounds: a first impression", rounds="5; with --quick 1")
    parser.add_argument("--mib", type=int, default=64, help="size of a value (default: 64)")
    return parser.parse_args()


def main() -> None:
    chosen = options()
    console = Console()
    rounds, size = chosen.rounds or (1 if chosen.quick else 5), chosen.mib * 2**20

    def of(machine: dict[str, Any]) -> harness.Told:
        loop = machine["loop"]
        measured = measure(peers.LARGE, loop, size, rounds, console)
        tables, judged = [figures(measured, size, loop)], budgets(measured, size, loop)
        chart = functools.partial(as_svg, measured, machine, size)
        return harness.Told({"contenders": rows(measured)}, tables, judged, losses(measured, loop), chart)

    results = {"benchmark": "large_values", "rounds": rounds, "mib": chosen.mib}
    harness.on_each_loop(console, chosen, results, of)


if __name__ == "__main__":
    main()
