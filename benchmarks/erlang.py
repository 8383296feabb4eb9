"""What queueing theory says of c servers, Poisson arrivals and exponential service times (M/M/c, Erlang C)."""


def chance_of_waiting(servers: int, utilisation: float) -> float:
    """The share of the calls that find all servers busy, by the recursion of Erlang B, which never overflows."""
    load = servers * utilisation
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = load * blocked / (number + load * blocked)
    return blocked / (1 - utilisation * (1 - blocked))


def mean_wait(servers: int, utilisation: float) -> float:
    """The mean time from arrival to service, over all calls, in mean service times."""
    return chance_of_waiting(servers, utilisation) / (servers * (1 - utilisation))
