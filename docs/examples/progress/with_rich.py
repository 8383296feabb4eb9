"""Progress bars of rich around two maps that share a pool; with a file name, a picture of their end goes there."""

import asyncio
import sys
from collections import Counter

import kittens
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import asyncpool

LITTERS = {"black": 200, "white": 120}
COLUMNS = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()

console = Console(record=True, width=64, highlight=False)


async def pet(pool: asyncpool.Pool, litter: str, progress: Progress, pitches: Counter[str]) -> None:
    names = [f"{litter} kitten {number}" for number in range(LITTERS[litter])]
    bar = progress.add_task(f"{litter} kittens", total=len(names))
    async with pool.map(kittens.pet_kitten, names, ordered=False, chunk=5) as purrs:
        async for purr in purrs:
            pitches[purr.split(" at ")[1]] += 1
            progress.advance(bar)


async def main() -> None:
    pitches = Counter[str]()
    with Progress(*COLUMNS, console=console) as progress:
        async with asyncpool.Pool("kittens", max_size=2) as pool, asyncio.TaskGroup() as group:
            for litter in LITTERS:
                group.create_task(pet(pool, litter, progress, pitches))
    table = Table("purring at", "kittens")
    for pitch, count in sorted(pitches.items())[:3]:
        table.add_row(pitch, str(count))
    console.print(table)
    if len(sys.argv) > 1:
        console.save_svg(sys.argv[1], title="python with_rich.py")


asyncio.run(main())
