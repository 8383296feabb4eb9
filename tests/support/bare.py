"""A module of commands that imports nothing else."""

import sys

import asyncpool


@asyncpool.command
def modules() -> list[str]:
    return sorted(sys.modules)
