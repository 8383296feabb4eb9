"""How often a test tries what is a matter of luck.

Luck is the same on each Python: on the newest ones all tries are made, on the others some. ``TRIES=all`` in the
environment makes them all on any Python.
"""

import os
import sys

ALL = sys.version_info >= (3, 13) or os.environ.get("TRIES") == "all"


def often(tries: int, otherwise: int | None = None) -> int:
    """Return *tries* where all are made, else *otherwise*, by default a quarter."""
    return tries if ALL else tries // 4 if otherwise is None else otherwise
