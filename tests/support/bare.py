"""A module of commands that imports nothing else."""

import sys

import asyncpool


@asyncpool.command
def modules() -> list[str]:
    return sorted(sys.modules)


@asyncpool.command
def log_item(item: int) -> None:
    import logging

    logging.getLogger("tests.kittens").warning("item %d", item)
