"""pydantic's models: validated where they arrive, and never imported where nobody defines one."""

import datetime
import decimal
import ipaddress
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
import pydantic
import pytest

from asyncpool.protocol import models, payload
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


class Own(pydantic.AnyUrl):
    """A URL with a class of the application's."""


class Server(pydantic.BaseModel):
    home: pydantic.HttpUrl
    own: Own
    database: pydantic.PostgresDsn
    address: ipaddress.IPv4Address
    network: ipaddress.IPv6Network | None
    any_address: pydantic.IPvAnyAddress
    password: pydantic.SecretStr
    key: pydantic.SecretBytes
    born: pydantic.Secret[datetime.date]
    size: pydantic.ByteSize
    steps: int = 2**80


class StrictServer(Server):
    model_config = pydantic.ConfigDict(strict=True)


class Servers(pydantic.BaseModel):
    by_address: dict[ipaddress.IPv4Address, list[Server]]
    mirrors: set[pydantic.HttpUrl]
    pair: tuple[ipaddress.IPv4Interface, int]


CIRCLE: list = []
CIRCLE.append(CIRCLE)


class Circular(pydantic.BaseModel):
    number: int = 0
    circle: list = pydantic.Field(default=CIRCLE, exclude=True)


def server(kind: type = Server) -> Server:
    return kind(
        home=pydantic.HttpUrl("https://tom:purr@müller.example/a%20b?c=d#e"),
        own=Own("cats://home"),
        database=pydantic.PostgresDsn("postgres://tom:purr@one:1,two:2/cats"),
        address=ipaddress.IPv4Address("10.0.0.1"),
        network=ipaddress.IPv6Network("fe80::/64"),
        any_address=ipaddress.IPv6Address("::1"),
        password=pydantic.SecretStr("purr"),
        key=pydantic.SecretBytes(b"purr"),
        born=pydantic.Secret[datetime.date](datetime.date(2020, 1, 2)),
        size=pydantic.ByteSize(3),
    )


def servers() -> Servers:
    return Servers(
        by_address={ipaddress.IPv4Address("10.0.0.1"): [server(), server()]},
        mirrors={pydantic.HttpUrl("http://a.example"), pydantic.HttpUrl("http://b.example")},
        pair=(ipaddress.IPv4Interface("10.0.0.1/8"), 1),
    )


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
    server(),
    servers(),
    Box[Servers](content=servers()),
    pydantic.RootModel[pydantic.HttpUrl](pydantic.HttpUrl("http://a.example")),
]


@pytest.mark.parametrize("model", [*MODELS, Renamed.model_validate({"in": 3})], ids=range(len(MODELS) + 1))
def test_a_model_arrives_by_annotation(model):
    """With aliases, computed fields, nested models, dates, sets and large integers; also where it is strict."""
    kind = type(model)
    for value, annotation in ((model, kind), ([model], list[kind]), ({"a": model}, dict[str, kind | None])):
        assert payload.decoder(annotation).decode(payload.encode(value)) == value


class Written(pydantic.BaseModel):
    """Is written under names by which it is not read."""

    model_config = pydantic.ConfigDict(
        alias_generator=pydantic.AliasGenerator(
            validation_alias=lambda name: f"in_{name}", serialization_alias=lambda name: f"out_{name}"
        )
    )
    x: int = 0
    home: "Written | None" = None


class Camel(pydantic.BaseModel):
    user_id: int = pydantic.Field(default=0, serialization_alias="userId")
    inner: Written = Written()


def test_a_model_that_is_written_under_other_names_than_it_is_read_arrives():
    """Nothing falls back to its default without a word, also in a model within one whose own names agree."""
    written = Written(in_x=5, in_home=Written(in_x=6))
    for model in (written, Camel(user_id=7, inner=written), Box[Written](content=written)):
        assert payload.decoder(type(model)).decode(payload.encode(model)) == model


def test_a_strict_model_of_addresses_and_secrets_arrives():
    """What pydantic takes from text only in JSON."""
    model = server(StrictServer)
    assert payload.decoder(StrictServer).decode(payload.encode(model)) == model


def test_a_secret_travels_unmasked():
    """It is of no use at the other end otherwise."""
    arrived = payload.decode(payload.encode(server()))
    assert (arrived["password"], arrived["key"], arrived["born"]) == ("purr", b"purr", "2020-01-02")


def test_most_models_are_dumped_and_no_more():
    """Only those of whose fields a dump may hold objects are looked through, also where a default contains itself."""
    assert [models._leaves_rests(each) for each in (Home, Numbers, Box[Home], Renamed, Circular)] == [False] * 5
    assert [models._leaves_rests(each) for each in (Server, Servers, Box[Servers])] == [True] * 3


def test_what_pydantic_cannot_make_again_does_not_travel():
    """An address that nothing declares, or alone, is refused as before."""
    for value in (Box[object](content=ipaddress.IPv4Address("10.0.0.1")), pydantic.HttpUrl("http://a.example")):
        with pytest.raises(TypeError, match="cannot travel"):
            payload.encode(value)


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
