"""The package under test is the one that lies beside the tests, whatever else is installed."""

from pathlib import Path

import asyncpool
from asyncpool import Pool

ROOT = Path(__file__).parents[2]


def home() -> str:
    """Return the folder of the package in whichever process this runs."""
    return str(Path(asyncpool.__file__).parent)


async def test_application_and_workers_import_the_package_beside_the_tests() -> None:
    """What is changed here is what is tested, in the application and in its workers."""
    async with Pool(max_size=1, stderr="discard") as pool:
        assert [home(), await pool.run(home)] == [str(ROOT / "asyncpool")] * 2
