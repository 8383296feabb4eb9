"""Values through real processes: by annotation, by registration, and by pickle where the pool allows it."""

import re
import subprocess
import sys
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path

import numpy
import pytest
import pytest_asyncio

from asyncpool import ArgumentError, PayloadError, Pool, ResultError
from tests.support import models, values
from tests.support.models import Bird, Fish
from tests.support.values import Cat, Money

ROOT = Path(__file__).parents[2]


@pytest_asyncio.fixture
async def plain() -> AsyncIterator[Pool]:
    """A pool whose workers import none of the libraries."""
    async with Pool(values, max_size=1, stderr="discard") as pool:
        yield pool


async def test_classes_arrive_by_annotation() -> None:
    """Models, attrs classes and arrays, as arguments and as results; numbers of numpy serve as Python's."""
    async with Pool(models, max_size=1, stderr="discard") as pool:
        assert await pool.run(models.grown, Fish(fins=2, friends={"a"})) == Fish(fins=3, friends={"a"})
        assert await pool.run(models.flown, Bird(2)) == Bird(4)
        assert (await pool.run(models.doubled, numpy.array([1.5]))).tolist() == [3.0]
        assert await pool.run(models.half, numpy.float32(3)) == 1.5
        assert await pool.run("grown", {"fins": 2}) == {"fins": 3, "friends": []}
        assert await pool.options(returns=Fish).run("grown", {"fins": 2}) == Fish(fins=3)
        with pytest.raises(ArgumentError, match=r"(?s)argument 'fish'.*greater than or equal to 0"):
            await pool.run("grown", {"fins": -1})
        with pytest.raises(ArgumentError, match="argument 'array': Expected an array of `float64`, got one of `int64`"):
            await pool.run(models.doubled, numpy.array([1]))


async def test_dataclasses_and_bytes_arrive_by_annotation(plain: Pool) -> None:
    """Each of the three kinds of bytes is what its parameter says."""
    assert await plain.run(values.older, Cat("Tom", 3)) == Cat("Tom", 4)
    arrived = await plain.run(values.bytes_of, bytearray(b"a"), b"b", b"c")
    assert arrived == [b"a", b"b!", b"c", "bytes", "bytearray", "memoryview"]


async def test_a_worker_imports_numpy_for_its_values_only(plain: Pool) -> None:
    """Not before, though the application has it; and pydantic not at all."""
    for value in (1, "a", [None], Money(3)):
        await plain.run(values.echo, value)
    assert await plain.run(values.imported, "numpy", "pydantic", "attr", "pickle") == []
    array = await plain.run(values.echo, numpy.arange(3))
    array[0] = 7
    assert array.tolist() == [7, 1, 2]
    assert "numpy" in await plain.run(values.imported, "numpy", "pydantic", "attr")


def test_an_application_without_numpy_does_not_import_it_for_a_worker() -> None:
    """It is told to import it; the pool serves on. Nothing is imported because of what a worker sends."""
    code = """
import asyncio, sys
from asyncpool import Pool, ResultError

async def main():
    async with Pool("tests.support.values", max_size=1, stderr="discard") as pool:
        try:
            await pool.run("zeros", 3)
        except ResultError as error:
            print(error)
        print("numpy" in sys.modules)
        import numpy
        print((await pool.run("zeros", 3)).tolist())

asyncio.run(main())
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.match(
        r"zeros returned .*numpy is not imported in this process: import it.*\nFalse\n\[0.0, 0.0, 0.0\]\n", run.stdout
    )


async def test_registered_types_travel_both_ways(plain: Pool) -> None:
    """Annotated or not, in containers, by function and by name."""
    assert await plain.run(values.double, Money(3)) == Money(6)
    assert await plain.run("double", Money(3)) == Money(6)
    assert await plain.run(values.echo, [Money(1), {"a": Money(2)}]) == [Money(1), {"a": Money(2)}]
    assert await plain.run(values.kind_of, Money(1)) == "Money"


async def test_a_type_that_only_the_worker_has_registered_is_named_by_its_code(plain: Pool) -> None:
    """The caller reads what to do; the worker serves on."""
    with pytest.raises(ResultError, match=r"secret returned .*code 99.*register_type\(\.\.\., code=99\)"):
        await plain.run("secret")
    assert await plain.run(values.echo, 1) == 1


async def test_without_pickle_other_objects_do_not_travel(plain: Pool) -> None:
    """Neither there nor back."""
    with pytest.raises(PayloadError, match=r"argument number 1: a 'fractions.Fraction' cannot travel"):
        await plain.run(values.echo, Fraction(1, 3))
    with pytest.raises(ResultError, match=r"a 'fractions.Fraction' cannot travel"):
        await plain.run(values.third)


async def test_with_pickle_other_objects_travel_both_ways() -> None:
    """As themselves, by function and by name, also as keyword arguments; each pool decides for itself."""
    async with Pool(values, allow_pickle=True, max_size=1, stderr="discard") as pool:
        assert await pool.run(values.third) == Fraction(1, 3)
        assert await pool.run("echo", value=[Fraction(1, 2), Money(3)]) == [Fraction(1, 2), Money(3)]
        assert await pool.options(returns=Fraction).run("third") == Fraction(1, 3)
        with pytest.raises(PayloadError, match="not even pickled"):
            await pool.run(values.echo, lambda: None)
        async with Pool(values, max_size=1, stderr="discard") as strict:
            with pytest.raises(PayloadError, match="cannot travel"):
                await strict.run(values.echo, Fraction(1, 3))
