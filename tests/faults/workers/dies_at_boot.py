"""Ends before it has said a word, but not without a reason."""

import sys

sys.exit("no API key")
