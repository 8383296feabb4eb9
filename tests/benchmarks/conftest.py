"""The benchmarks are scripts of this repository, not part of the package: one Python and those after it test them."""

import sys

collect_ignore_glob = ["test_*.py"] if sys.version_info < (3, 13) else []  # it would take a tenth of the time
