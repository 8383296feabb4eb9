"""Tables of the reference that are no examples: what they say is so."""

import inspect
import io
import re
from typing import Annotated

import msgspec
import numpy
import pydantic
import pytest
from starlette.datastructures import UploadFile

from asyncpool import Pool
from asyncpool.protocol import payload
from tests.support.pages import DOCS

ROW = re.compile(r"^\| (`.*?) \| (.*?) \|", re.MULTILINE)


def test_the_map_of_the_pool_has_each_argument_and_its_default() -> None:
    """In backticks as Python has it; otherwise in words."""
    section = (DOCS / "reference" / "pool.md").read_text().partition("\n## Options of a call")[0]
    told = {}
    for names, defaults in ROW.findall(section):
        told |= dict(zip(re.findall(r"`(\w+)`", names), defaults.split(", "), strict=True))
    real = {each.name: each.default for each in inspect.signature(Pool).parameters.values() if each.name != "modules"}
    assert told.keys() == real.keys()
    for name, default in told.items():
        assert real[name] is None if default[0] != "`" else eval(default.strip("`")) == real[name], name


def test_bounds_are_those_of_msgspec() -> None:
    """pydantic's are for its own models."""
    sent = payload.encode(-1)
    with pytest.raises(msgspec.ValidationError):
        payload.decoder(Annotated[int, msgspec.Meta(gt=0)]).decode(sent)
    assert payload.decoder(Annotated[int, pydantic.Field(gt=0)]).decode(sent) == -1


def test_an_upload_and_a_column_go_as_the_table_says() -> None:
    """The upload itself does not travel, what it holds does; arrays do in a dict."""
    upload = UploadFile(io.BytesIO(b"picture"))
    with pytest.raises(TypeError, match="UploadFile' cannot travel"):
        payload.encode(upload)
    columns = {"weight": numpy.array([1.5, 2.5]), "born": numpy.array(["2026-05-01"], dtype="datetime64[us]")}
    arrived = payload.decode(payload.encode(columns))
    assert [(name, column.dtype, column.tolist()) for name, column in arrived.items()] == [
        (name, column.dtype, column.tolist()) for name, column in columns.items()
    ]
