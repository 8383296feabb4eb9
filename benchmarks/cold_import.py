"""A module whose import keeps a processor busy for 200 ms, as large frameworks and models do."""

import time

ONE = 1
_end = time.process_time() + 0.2
while time.process_time() < _end:
    pass
