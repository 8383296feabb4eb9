"""pydantic's models: validated where they arrive, and never imported where nobody defines one."""

import datetime
import decimal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
import pydantic
import pytest

from asyncpool.protocol import payload
from asyncpool.protocol.edge import Mismatch, Signature

ROOT = Path(__file__).parents[2]
T = TypeVar("T")


class Home(pydantic.BaseModel):
    number: uuid.UUID
    rooms: set[int]


class Cat(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    age: int = pydantic.Field(alias="years", ge=0)
    home: Home
    born: datetime.datetime
    weight: decimal.Decimal
    photo: bytes
    bed: Path
    steps: int = 2**80
    pair: tuple[int, str] = (1, "a")

    @pydantic.computed_field
    @property
    def human_age(self) -> int:
        return self.age * 7


class Strict(Cat):
    model_config = pydantic.ConfigDict(strict=True)


class Numbers(pydantic.RootModel[list[int]]):
    pass


class Box(pydantic.BaseModel, Generic[T]):
    content: T


class Renamed(pydantic.BaseModel):
    age: int = pydantic.Field(validation_alias="in", serialization_alias="age")
    photo: bytes = b"\xff"


def cat(kind: type = Cat, photo: bytes = b"meow") -> Cat:
    return kind(
        years=3,
        home=Home(number=uuid.UUID(int=7), rooms={8, 1}),
        born=datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC).replace(tzinfo=None),
        weight=decimal.Decimal("1.10"),
        photo=photo,
        bed=Path("/bed"),
    )


MODELS = [
    cat(),
    cat(photo=b"\xff\x00"),
    cat(Strict),
    Numbers([1, 2]),
    Box[int](content=3),
    Box[Home](content=cat().home),
]


@pytest.mark.parametrize("model", [*MODELS, Renamed.model_validate({"in": 3})], ids=range(len(MODELS) + 1))
def test_a_model_arrives_by_annotation(model):
    """With aliases, computed fields, nested models, dates, sets and large integers; also where it is strict."""
    kind = type(model)
    for value, annotation in ((model, kind), ([model], list[kind]), ({"a": model}, dict[str, kind | None])):
        assert payload.decoder(annotation).decode(payload.encode(value)) == value


def test_without_annotation_a_model_is_a_dict():
    """As a dataclass is."""
    arrived = payload.decode(payload.encode(cat()))
    assert arrived["years"] == 3
    assert arrived["home"]["number"] == str(uuid.UUID(int=7))
    assert "human_age" not in arrived


@pytest.mark.parametrize("kind", [Cat, Strict])
def test_what_does_not_fit_a_model_is_refused(kind):
    """pydantic says what, in an error that names the argument."""

    def pet(cat: kind) -> None: ...

    wrong = {**payload.decode(payload.encode(cat())), "years": -1}
    with pytest.raises(Mismatch, match="argument 'cat'") as caught:
        Signature(pet, strict=True).decode(msgspec.Raw(payload.encode([wrong])), msgspec.Raw(b"\x80"))
    assert "greater than or equal to 0" in str(caught.value)


def test_a_strict_model_is_not_coerced():
    """A string stays no number; only what MessagePack has no word for is read from its JSON form."""
    wrong = {**payload.decode(payload.encode(cat())), "years": "3"}
    assert payload.decoder(Cat).decode(payload.encode(wrong)).age == 3
    with pytest.raises(ValueError, match="valid integer"):
        payload.decoder(Strict).decode(payload.encode(wrong))


def test_a_strict_model_with_bytes_that_are_no_text_is_refused():
    """Its JSON form has no word for them: rather an error than other bytes."""
    with pytest.raises(ValueError, match="validation error"):
        payload.decoder(Strict).decode(payload.encode(cat(Strict, photo=b"\xff")))


def test_pydantic_is_not_imported_for_its_own_sake():
    """Neither to encode nor to decode nor to refuse."""
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from asyncpool.protocol import payload
payload.decoder(list[int]).decode(payload.encode([1]))
try:
    payload.encode(object())
except TypeError:
    pass
print([name for name in sys.modules if name.startswith("pydantic")])
"""
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env={}).stdout
    assert out == "[]\n"
