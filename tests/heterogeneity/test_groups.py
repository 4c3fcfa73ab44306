"""Who shares a draw: sizes, membership, seeds, refusals."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given as sampled
from hypothesis import settings
from hypothesis import strategies as st

from fedjax_het.heterogeneity.groups import given, groups, one_of


def test_every_client_on_its_own():
    group = groups(3, None, seed=0, name="some", time=0)
    assert group.member.tolist() == [0, 1, 2] and group.count == 3
    assert group.truth == {} and group.noun == "client"


@settings(max_examples=25, derandomize=True, deadline=None)
@sampled(clients=st.integers(1, 40), share=st.floats(0, 1), seed=st.integers(0, 9))
def test_clusters_are_of_equal_sizes(clients, share, seed):
    clusters = max(1, int(share * clients))
    group = groups(clients, clusters, seed=seed, name="some", time=0)
    sizes = np.bincount(group.member, minlength=clusters)
    assert group.count == clusters == len(sizes)
    assert sizes.sum() == clients and np.ptp(sizes) <= 1 and np.all(np.diff(sizes) <= 0)
    assert group.member.dtype == np.int32 and group.truth["cluster"] is group.member


def test_membership_depends_on_seed_name_and_time():
    def member(**other):
        return groups(40, 4, **({"seed": 0, "name": "one", "time": 0} | other)).member

    np.testing.assert_array_equal(member(), member())
    for other in ({"seed": 1}, {"name": "two"}, {"time": 1}):
        assert not np.array_equal(member(), member(**other))


def test_membership_may_be_given():
    group = groups(4, [2, 0, 0, 1], seed=0, name="some", time=0)
    assert group.count == 3 and group.latent
    assert group.each(np.array([10, 20, 30])).tolist() == [30, 10, 10, 20]
    assert group.argument(np.array([[1.0], [2], [3]])).shape == (1, 4, 1)
    for array in (np.array([2, 0, 0, 1]), jnp.array([2, 0, 0, 1])):
        again = groups(4, array, seed=0, name="some", time=0).member
        np.testing.assert_array_equal(again, group.member)


@pytest.mark.parametrize(
    ("clusters", "error", "message"),
    [
        (0, ValueError, "clusters must be >= 1, got 0: say how many"),
        (2.0, TypeError, "clusters must be a whole number, got 2.0: say how many"),
        (True, TypeError, "clusters must be a whole number, got True"),
        (5, ValueError, "clusters must be <= 4, got 5: a cluster has one client at least"),
        ([0, 1], ValueError, "clusters must name the cluster of each of the 4 clients, got 2 numbers"),
        ([0, 1, -1, 0], ValueError, "clusters must be >= 0, got -1: number the clusters"),
        ("abcd", TypeError, "clusters must be a whole number, got 'abcd'"),
    ],
)
def test_refusals(clusters, error, message):
    with pytest.raises(error, match=message):
        groups(4, clusters, seed=0, name="some", time=0)


def test_numbers_that_are_given():
    group = groups(4, 2, seed=0, name="some", time=0)
    np.testing.assert_array_equal(given("gains", [1, 2], group, remedy="pass two"), [1.0, 2.0])
    for values, message in (
        ([1, 2, 3, 4], r"gains must have shape \(2,\), one entry a cluster, got shape \(4,\): pass two"),
        (1.0, r"gains must have shape \(2,\), one entry a cluster, got 1.0: pass two"),
        ([1, np.nan], "gains must be finite, got .*: pass two"),
        ([1, -1], "gains must be >= 0, got .*: pass two"),
    ):
        with pytest.raises(ValueError, match=message):
            given("gains", values, group, least=0, remedy="pass two")
    with pytest.raises(TypeError, match="gains must be a number, got 'no': pass two"):
        given("gains", "no", group, remedy="pass two")


def test_one_of_several():
    assert one_of("pass one", a=None, b=0.0) == "b"
    with pytest.raises(ValueError, match="a, b or c must be given, one of them, got none: pass one"):
        one_of("pass one", a=None, b=None, c=None)
    with pytest.raises(ValueError, match="a, b or c must be given, one of them, got a and c: pass one"):
        one_of("pass one", a=1, b=None, c=2)
