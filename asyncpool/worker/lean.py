"""What a worker does without; imported before anything else."""

import sys

# msgspec takes three names from typing_extensions wherever that is installed. Since Python 3.11 `typing` has the same
# three, and the other costs each start of a worker 12 ms. Who needs it for more imports it as ever.
if "msgspec" not in sys.modules and "typing_extensions" not in sys.modules:
    sys.modules["typing_extensions"] = None  # type: ignore[assignment] # for `import`: it is not there
    try:
        import msgspec  # noqa: F401 # once it is there, it does not look again
    finally:
        del sys.modules["typing_extensions"]
