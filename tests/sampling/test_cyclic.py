"""Groups that take turns: everybody once a cycle, the same groups in every cycle."""

import jax
import numpy as np
import pytest
from drawing import compiled, in_numpy

from fedjax_het import sampling


def drawn(sampler, clients, rounds, seed=0):
    return in_numpy(compiled(sampler, jax.random.key(seed), sizes=(1,) * clients, rounds=rounds)[0]).id


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("clients", "size"), [(12, 4), (11, 4), (5, 5), (7, 1), (10, 6)])
def test_a_cycle_visits_everybody_once(clients, size, shuffle):
    turns = -(-clients // size)
    ids = drawn(sampling.cyclic(size, shuffle=shuffle), clients, 3 * turns).reshape(3, turns, size)
    for cycle in ids:
        np.testing.assert_array_equal(np.sort(cycle[cycle < clients]), np.arange(clients))
        np.testing.assert_array_equal(cycle, ids[0])
    members = (ids[0] < clients).sum(axis=1)
    assert members.max() - members.min() <= 1


def test_groups_by_number():
    np.testing.assert_array_equal(
        drawn(sampling.cyclic(4, shuffle=False), 11, 3), [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    )


def test_groups_belong_to_the_run():
    one, other = (drawn(sampling.cyclic(3), 12, 4, seed) for seed in (0, 1))
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("shuffle", [True, False])
def test_part_of_the_group_whose_turn_it_is(shuffle):
    clients, groups, rounds = 11, 3, 60
    ids = drawn(sampling.cyclic(2, groups=groups, shuffle=shuffle), clients, rounds)
    assert (ids < clients).all()
    members = [set(ids[turn::groups].ravel().tolist()) for turn in range(groups)]
    assert [len(group) for group in members] == [4, 4, 3]  # all of a group come up in twenty turns
    assert set.union(*members) == set(range(clients))  # and so no client is in two
    if not shuffle:
        assert members == [{0, 1, 2, 3}, {4, 5, 6, 7}, {8, 9, 10}]
    for turn in range(groups):
        assert len({tuple(row) for row in ids[turn::groups].tolist()}) == {4: 6, 3: 3}[len(members[turn])]
