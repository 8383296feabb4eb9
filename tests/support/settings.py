"""A pool's settings without a pool."""

import inspect

from asyncpool import Pool
from asyncpool.pool import config
from asyncpool.pool.config import Config

DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(Pool).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY
}


def configure(*modules: object, **changes: object) -> Config:
    """Return the settings of ``Pool(*modules, **changes)``."""
    return config.configure(modules, **{**DEFAULTS, **changes})
