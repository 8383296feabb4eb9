"""A call: its name, and its one outcome."""

import pytest

from asyncpool.pool.call import INHERIT, Call


class Future:
    """A future without a loop."""

    def __init__(self) -> None:
        self.outcomes: list[object] = []

    def done(self) -> bool:
        return bool(self.outcomes)

    def set_result(self, result: object) -> None:
        self.outcomes.append(result)

    def set_exception(self, error: BaseException) -> None:
        self.outcomes.append(error)


class Deadline:
    """A deadline without a loop."""

    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


def make(command: str | tuple[str, str] = "pet") -> Call:
    return Call(1, Future(), command, b"", None, INHERIT, INHERIT, 0.0)


@pytest.mark.parametrize(("command", "title"), [("pet", "pet"), (("math", "gcd"), "math.gcd")])
def test_it_is_called_as_its_command_is(command, title):
    """In messages a registered command goes by its name, a function by its module and name."""
    assert title == make(command).title


def test_it_has_exactly_one_outcome():
    """Whatever comes after the first is ignored: a caller is never answered twice."""
    call = make()
    call.settle("reply")
    call.settle("another")
    call.settle(None, ValueError("late"))
    assert call.future.outcomes == ["reply"]


def test_an_error_is_an_outcome():
    """The caller raises it."""
    call, error = make(), ValueError("no")
    call.settle(None, error)
    assert [error] == call.future.outcomes


def test_a_caller_that_is_gone_gets_no_error():
    """An exception that nobody retrieves would be logged by asyncio; the end of the call is told without one."""
    call = make()
    call.abandoned = True
    call.settle(None, ValueError("nobody looks"))
    assert call.future.outcomes == [None]


def test_its_outcome_ends_its_deadline():
    """A call that is settled cannot time out; and dropping a deadline twice is harmless."""
    call = make()
    deadline = call.deadline = Deadline()
    call.settle("reply")
    assert deadline.cancelled
    call.cancel_deadline()


def test_it_takes_one_slot():
    """A call shares its worker with others, a lease does not."""
    assert not make().exclusive
