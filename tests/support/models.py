"""Commands whose annotations are classes of pydantic, attrs and numpy: only workers that need them import this."""

import attrs
import numpy
import pydantic
from numpy.typing import NDArray

import asyncpool


class Fish(pydantic.BaseModel):
    fins: int = pydantic.Field(ge=0)
    friends: set[str] = set()


@attrs.define
class Bird:
    wings: int


@asyncpool.command
def grown(fish: Fish) -> Fish:
    return fish.model_copy(update={"fins": fish.fins + 1})


@asyncpool.command
def flown(bird: Bird) -> Bird:
    return Bird(bird.wings + 2)


@asyncpool.command
def doubled(array: NDArray[numpy.float64]) -> NDArray[numpy.float64]:
    array *= 2
    return array


@asyncpool.command
def half(number: float) -> float:
    return number / 2
