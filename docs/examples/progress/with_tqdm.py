"""A progress bar of tqdm around a map."""

import asyncio

import kittens
from tqdm.asyncio import tqdm

import asyncpool

NAMES = [f"Kitten {number}" for number in range(200)]


async def main() -> None:
    async with (
        asyncpool.Pool("kittens", max_size=2) as pool,
        pool.map(kittens.pet_kitten, NAMES, ordered=False, chunk=5) as purrs,
    ):
        loud = [purr async for purr in tqdm(purrs, total=len(NAMES), unit="kitten") if purr.endswith("29 Hz")]
    print(f"{len(loud)} purr at 29 Hz")


asyncio.run(main())
