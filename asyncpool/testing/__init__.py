"""For tests of applications that use a pool: a pool without processes, and workers that fail when told to.

Nothing of it is imported by a pool or a worker, unless a test asks for faults.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncpool.testing.faults import Faults
    from asyncpool.testing.inline import InlinePool

__all__ = ["Faults", "InlinePool"]

if not TYPE_CHECKING:  # lazily: a real worker that is told to fail imports only what it needs
    _HOMES = {"Faults": "faults", "InlinePool": "inline"}

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = __import__(f"{__name__}.{_HOMES[name]}", fromlist=[name])
        value = globals()[name] = getattr(home, name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
