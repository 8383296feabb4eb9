"""Which worker served a key last."""

from asyncpool.pool.affinity import MOST_KEYS, Affinity


def test_the_last_worker_counts():
    """Whoever serves a key is its worker from then on."""
    affinity = Affinity()
    assert affinity.get("Tom") is None
    affinity.note("Tom", 1)
    affinity.note("Tom", 2)
    affinity.note(("Tom", 1), 3)
    assert (affinity.get("Tom"), affinity.get(("Tom", 1))) == (2, 3)


def test_the_keys_that_were_used_last_are_remembered():
    """Memory is bounded: the key goes that was not served for longest."""
    affinity = Affinity()
    for key in range(MOST_KEYS):
        affinity.note(key, 1)
    affinity.note(0, 1)
    affinity.note("new", 1)
    assert len(affinity) == MOST_KEYS
    assert (affinity.get(0), affinity.get(1), affinity.get("new")) == (1, None, 1)


def test_a_worker_is_forgotten_with_all_its_keys():
    """And nobody else is; the order stays."""
    affinity = Affinity()
    for key in range(MOST_KEYS):
        affinity.note(key, key % 2)
    affinity.forget(1)
    assert len(affinity) == MOST_KEYS // 2
    assert {affinity.get(key) for key in range(0, MOST_KEYS, 2)} == {0}
    for key in range(MOST_KEYS // 2 + 1):
        affinity.note(("new", key), 7)
    assert (affinity.get(0), affinity.get(2)) == (None, 0)
