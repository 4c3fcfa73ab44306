"""Buckets of sizes, and sizes cut off: exact at every edge, and blind to all else."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference.weightings import bucket
from weighting.weighed import call, weigh

from fedjax_het.weighting import buckets, capped, clip_counts

both = pytest.mark.parametrize("x64", [True, False], ids=["x64", "float32"])


@both
@pytest.mark.parametrize("base", [2, 3, 7, 10, 1000, Fraction(3, 2), Fraction(11, 10)], ids=str)
def test_every_size_to_a_million_is_in_its_bucket(base, x64):
    powers, power = [], Fraction(base)
    while power <= 10**6:
        powers.append(-(-power.numerator // power.denominator))  # the least whole number not below it
        power *= base
    sizes = np.arange(1, 10**6 + 1)
    expected = np.searchsorted(np.array(powers), sizes, side="right")
    with jax.enable_x64(x64):
        got = buckets(float(base)).revealed(jnp.asarray(sizes, jnp.result_type(float)))
        assert got.dtype == jnp.int32
        np.testing.assert_array_equal(got, expected)
    some = np.unique(np.concatenate([np.arange(1, 50), [p + d for p in powers for d in (-1, 0)]]))
    assert [expected[n - 1] for n in some if n > 0] == [bucket(int(n), base) for n in some if n > 0]


def test_a_logarithm_would_round_powers_down():
    """What the comparisons are for: floor(log n / log b) in float32 is off at powers of many bases."""
    wrong = 0
    for base in range(2, 30):
        powers = base ** np.arange(1, int(np.log(1e6) / np.log(base)) + 1)
        naive = np.floor(np.log(powers.astype(np.float32)) / np.log(np.float32(base)))
        wrong += (naive != np.arange(1, len(powers) + 1)).any()
        got = buckets(base).revealed(jnp.asarray(powers, jnp.float32))
        np.testing.assert_array_equal(got, np.arange(1, len(powers) + 1))
    assert wrong > 0


def test_powers_that_floating_point_misses_are_whole_numbers():
    root = 2**0.5  # its square is 2.0000000000000004
    np.testing.assert_array_equal(buckets(root).revealed(jnp.asarray([1.0, 2, 3, 4, 8])), [0, 2, 3, 4, 6])


@both
def test_weights_are_geometric_middles(x64):
    with jax.enable_x64(x64):
        got = weigh(buckets(2), (1, 2, 3, 4, 100, 0))
    middle = np.array([2**0.5, 2**1.5, 2**1.5, 2**2.5, 2**6.5, 0])
    np.testing.assert_allclose(got, middle / middle.sum(), rtol=1e-12 if x64 else 1e-5)


def test_a_weight_is_off_by_at_most_the_root_of_the_base():
    rows = np.ceil(np.random.default_rng(0).lognormal(4, 2, 50))
    for base in (2.0, 10.0):
        ratio = weigh(buckets(base), rows) / (rows / rows.sum())
        assert ratio.max() / ratio.min() <= base * (1 + 1e-5)


def test_nothing_but_the_bucket_is_revealed():
    rows, others = (1, 2, 9, 16, 1000), (1, 3, 15, 31, 513)
    np.testing.assert_array_equal(weigh(buckets(), rows), weigh(buckets(), others))
    assert not np.array_equal(weigh(buckets(), rows), weigh(buckets(), (1, 4, 9, 16, 1000)))


def test_edges_say_where_buckets_begin():
    weighting = buckets(edges=[10, 100, 1000])
    np.testing.assert_array_equal(
        weighting.revealed(jnp.asarray([1.0, 9, 10, 99, 100, 999, 1000, 1e6])), np.arange(8) // 2
    )
    middle = np.array([10**0.5, 10**1.5, 10**2.5, 1000])
    np.testing.assert_allclose(weigh(weighting, (5, 50, 500, 5000)), middle / middle.sum(), rtol=1e-5)
    uneven = buckets(edges=[1, 4, 400])
    middle = np.array([2, 40, 400.0])
    np.testing.assert_allclose(weigh(uneven, (3, 4, 401)), middle / middle.sum(), rtol=1e-5)


def test_the_largest_sizes_have_a_bucket():
    got = buckets(2).revealed(jnp.asarray([2.0**30, 2.0**31]))
    np.testing.assert_array_equal(got, [30, 30])  # 2^31 rows are more than an int32 counts
    assert weigh(buckets(1000), (1, 2.0**31)).sum() == pytest.approx(1)


def test_another_base_compiles_nothing_and_bases_stack():
    weigh(buckets(2), (3, 5, 90))
    before = call._cache_size()
    for weighting in (buckets(2.5), buckets(10), buckets(edges=[5, 50])):
        weigh(weighting, (3, 5, 90))
    assert call._cache_size() == before
    many = jax.tree.map(lambda *leaves: jnp.stack(leaves), buckets(2), buckets(10))
    got = jax.vmap(lambda weighting: weighting.revealed(jnp.asarray([3.0, 5, 90])))(many)
    np.testing.assert_array_equal(got, [[1, 2, 6], [0, 0, 1]])


@pytest.mark.parametrize("base", [1, 0.5, -2, 0, np.inf, 2.0**31])
def test_bases_that_make_no_buckets_are_refused(base):
    with pytest.raises(ValueError, match="base must be"):
        buckets(base)


@pytest.mark.parametrize("edges", [[], [10, 10], [100, 10], [0, 10], [-1], [[1, 2], [3, 4]], 10])
def test_edges_that_do_not_ascend_are_refused(edges):
    with pytest.raises(ValueError, match="edges must be"):
        buckets(edges=edges)


@pytest.mark.parametrize("options", [{"base": "two"}, {"base": [2, 10]}, {"edges": "ab"}, {"base": None}])
def test_what_is_no_number_is_refused(options):
    with pytest.raises(TypeError, match=r"(base|edges) must be"):
        buckets(**options)


def test_clipped_counts():
    np.testing.assert_allclose(
        weigh(clip_counts(50), (100, 60, 25, 0)), np.array([50, 50, 25, 0]) / 125, rtol=1e-6
    )
    np.testing.assert_array_equal(
        weigh(clip_counts(1e6), (100, 60, 25)), weigh(clip_counts(100), (100, 60, 25))
    )
    twice = weigh(clip_counts(50), (100, 50), multiplicity=(2, 1))
    np.testing.assert_allclose(twice, (2 / 3, 1 / 3), rtol=1e-6)


def test_clipped_counts_do_not_bound_the_share():
    assert weigh(clip_counts(50), (100, 1, 1)).max() > 0.96
    assert weigh(capped(0.5, base=clip_counts(50)), (100, 1, 1)).max() <= 0.5 + 1e-6


@pytest.mark.parametrize(
    ("most", "error"), [(0, ValueError), (-5, ValueError), (np.inf, ValueError), ("x", TypeError)]
)
def test_counts_that_clip_nothing_sensible_are_refused(most, error):
    with pytest.raises(error, match="most must be"):
        clip_counts(most)
