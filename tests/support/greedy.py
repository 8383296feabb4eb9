"""Commands with a large argument, which end in every way."""

import os
import signal
import time
from collections.abc import Generator
from typing import Any


def returns(data: Any) -> int:
    return len(data)


def says_text(data: Any) -> str:
    result: str = len(data)  # type: ignore[assignment] # that is the point
    return result


def fails(data: Any) -> None:
    raise ValueError(len(data))


def dies(data: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hangs(data: Any) -> None:
    time.sleep(60)


def sends(data: Any) -> Generator[int, None, None]:
    yield len(data)
