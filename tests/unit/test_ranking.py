"""A ranking against a plain dict."""

import random

from asyncpool.pool.ranking import Ranking


def test_it_agrees_with_a_dict():
    """Whatever is put in, dropped and taken: the least comes first, and a lower rank replaces a higher one."""
    chance = random.Random(1)
    ranking, expected = Ranking(), {}
    for _ in range(5000):
        worker, rank = chance.randrange(20), float(chance.randrange(100))
        match chance.randrange(4):
            case 0 | 1:
                ranking.put(worker, rank)
                expected[worker] = min(rank, expected.get(worker, rank))
            case 2:
                ranking.drop(worker)
                expected.pop(worker, None)
            case _:
                most = rank / 10
                due = {each: rank for each, rank in expected.items() if rank <= most}
                taken = ranking.take(most)
                assert sorted(taken) == sorted(due)
                assert [due[each] for each in taken] == sorted(due.values())
                expected = {each: rank for each, rank in expected.items() if each not in due}
        assert ranking.least() == min(expected.values(), default=None)


def test_what_was_dropped_takes_no_memory():
    """A pool whose workers come and go for years does not grow."""
    ranking = Ranking()
    for worker in range(10_000):
        ranking.put(worker, float(worker + 10**6))
        ranking.drop(worker - 5)
    assert len(ranking._heap) < 50
