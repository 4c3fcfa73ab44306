"""Cosines, projections and cuts: against all cuts there are, and against what is proved of projections."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import clustered

from fedjax_het import keys
from fedjax_het.similarity import LINKAGES, complete_cut, cosines, cut, distortion, flatten, project

MOST = 10
cutting = {name: jax.jit(function) for name, function in LINKAGES.items()}


def graph(rng, most=MOST):
    """A similarity of `most` clients and 2 to `most` members of it."""
    members = np.zeros(most, bool)
    members[rng.permutation(most)[: rng.integers(2, most + 1)]] = True
    return clustered.cosines(rng.normal(size=(most, rng.integers(2, 6)))), members


def apply(name, similarity, members):
    part, cross = cutting[name](jnp.asarray(similarity, jnp.float32), jnp.asarray(members))
    part = np.asarray(part)
    assert not part[~members].any() and 0 < 2 * part.sum() <= members.sum()
    rest = np.flatnonzero(members & ~part)
    assert clustered.across(similarity, np.flatnonzero(part), rest) == pytest.approx(float(cross), abs=1e-6)
    return np.flatnonzero(part), float(cross)


def test_a_cut_is_the_best_of_all_cuts():
    rng = np.random.default_rng(0)
    for _ in range(200):
        similarity, members = graph(rng)
        ids = np.flatnonzero(members)
        part, cross = apply("single", similarity, members)
        best, least = clustered.best_cut(similarity[np.ix_(ids, ids)])
        assert cross == pytest.approx(least, abs=1e-6)
        assert set(part) in (set(ids[best]), set(ids) - set(ids[best])), "without ties there is one best cut"


def test_complete_linkage_is_another_cut_which_is_often_worse():
    rng, worse = np.random.default_rng(1), 0
    for _ in range(100):
        similarity, members = graph(rng)
        ids = np.flatnonzero(members)
        part, cross = apply("complete", similarity, members)
        expected, _ = clustered.complete_linkage(similarity[np.ix_(ids, ids)])
        assert set(part) in (set(ids[expected]), set(ids) - set(ids[expected]))
        least = apply("single", similarity, members)[1]
        assert cross > least - 1e-6
        worse += cross > least + 1e-6
    assert 20 < worse < 95, "as said of the authors' code: about every second cut"


@pytest.mark.parametrize("name", LINKAGES)
def test_equal_similarities_are_cut_somewhere_and_the_value_is_right(name):
    rng = np.random.default_rng(2)
    everyone = np.ones(MOST, bool)
    for _ in range(20):
        similarity = np.round(clustered.cosines(rng.normal(size=(MOST, 3))) * 2) / 2
        least = clustered.best_cut(similarity)[1]
        cross = apply(name, similarity, everyone)[1]
        assert cross == least if name == "single" else cross >= least
    part, cross = apply(name, np.ones((MOST, MOST)), everyone)
    assert cross == 1 and len(part) >= 1


@pytest.mark.parametrize("name", LINKAGES)
def test_nobody_and_one_cannot_be_cut(name):
    similarity = jnp.ones((4, 4))
    for members in ([0, 0, 0, 0], [0, 0, 1, 0]):
        part, cross = cutting[name](similarity, jnp.asarray(members, bool))
        assert not np.asarray(part).any() and float(cross) == -np.inf
    part, cross = cutting[name](similarity, jnp.asarray([0, 1, 0, 1], bool))
    assert np.asarray(part).tolist() == [False, False, False, True] and float(cross) == 1


def test_cuts_are_renumbered_with_the_clients_and_map_over_clusters():
    rng = np.random.default_rng(3)
    similarity, _ = graph(rng)
    order = rng.permutation(MOST)
    members = np.stack([np.arange(MOST) < 7, np.arange(MOST) > 2])
    for find in (cut, complete_cut):
        parts, cross = jax.vmap(find, (None, 0))(jnp.asarray(similarity), jnp.asarray(members))
        turned = jnp.asarray(similarity[np.ix_(order, order)])
        again, same = jax.vmap(find, (None, 0))(turned, jnp.asarray(members[:, order]))
        np.testing.assert_allclose(cross, same, atol=1e-6)
        for mine, theirs, all_of in zip(np.asarray(parts), np.asarray(again), members):
            back = np.zeros(MOST, bool)
            back[order] = theirs
            assert (back == mine).all() or (back == (all_of & ~mine)).all()


@pytest.mark.parametrize("size", [30, 2048, 5000])
def test_cosines_are_products_of_full_precision(size):
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(7, size)) * 10.0 ** rng.integers(-6, 6, (7, 1))
    rows[3] = 0
    got = np.asarray(cosines(jnp.asarray(rows, jnp.float32)), np.float64)
    kept = np.array([0, 1, 2, 4, 5, 6])
    np.testing.assert_allclose(got[np.ix_(kept, kept)], clustered.cosines(rows[kept]), atol=2e-6)
    assert not got[3].any() and not got[:, 3].any() and np.abs(got).max() <= 1
    np.testing.assert_allclose(np.diag(got)[kept], 1, atol=1e-6)
    text = str(jax.make_jaxpr(cosines)(jnp.zeros((5, size))))
    assert text.count("HIGHEST") >= text.count("dot_general") > 0


def test_leaves_are_laid_out_in_their_order():
    tree = {"b": jnp.arange(3, dtype=jnp.bfloat16), "a": jnp.full((2, 2), 7.0)}
    np.testing.assert_array_equal(flatten(tree), [7, 7, 7, 7, 0, 1, 2])
    assert flatten(tree).dtype == jnp.float32 and flatten(()).shape == (0,)


SIZE, D = 16, 150


@pytest.fixture(scope="module")
def seeds():
    return jax.vmap(lambda i: keys.seed(jax.random.fold_in(jax.random.key(5), i)))(jnp.arange(4000))


def test_projections_keep_inner_products_in_the_mean_with_the_variance_told(seeds):
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(2, D))
    y = x + 0.5 * y
    products = jax.jit(
        jax.vmap(lambda seed: jnp.dot(project(jnp.asarray(x), SIZE, seed), project(jnp.asarray(y), SIZE, seed)))
    )(seeds)
    products = np.asarray(products, np.float64)
    bound = ((x @ x) * (y @ y) + (x @ y) ** 2) / SIZE
    assert abs(products.mean() - x @ y) < 5 * np.sqrt(bound / len(products))
    assert 0.7 * bound < products.var() < 1.1 * bound


def test_no_two_places_meet_more_often_than_by_chance(seeds):
    """Entries a block apart would always meet if blocks were added as they lie."""
    ends = jnp.eye(D)[jnp.asarray([3, 3 + SIZE, 4, D - 1])]
    short = jax.jit(jax.vmap(lambda seed: jax.vmap(lambda row: project(row, SIZE, seed))(ends)))(seeds)
    short = np.asarray(short)
    np.testing.assert_array_equal(np.abs(short).sum(axis=2), 1)
    for i, j in itertools.combinations(range(4), 2):
        products = np.sum(short[:, i] * short[:, j], axis=1)
        met = np.abs(products).mean()
        assert abs(products.mean()) < 5 / np.sqrt(SIZE * len(products))
        assert met < 1 / SIZE + 5 / np.sqrt(SIZE * len(products))
    assert np.abs(np.sum(short[:, 0] * short[:, 2], axis=1)).max() == 0, "of one block, they never meet"


def test_a_projection_is_linear_keyed_and_leaves_short_vectors_alone(seeds):
    rng = np.random.default_rng(7)
    x, y = jnp.asarray(rng.normal(size=(2, D)), jnp.float32)
    np.testing.assert_allclose(
        project(x + 2 * y, SIZE, seeds[0]),
        project(x, SIZE, seeds[0]) + 2 * project(y, SIZE, seeds[0]),
        atol=1e-4,
    )
    assert not np.allclose(project(x, SIZE, seeds[0]), project(x, SIZE, seeds[1]))
    assert project(x, D, seeds[0]) is x
    assert project(x, D - 1, seeds[0]).shape == (D - 1,)


def test_distortion_is_the_largest_change_of_a_cosine(seeds):
    rng = np.random.default_rng(8)
    rows = rng.normal(size=(12, 3000))
    for size in (64, 1024):
        short = jax.vmap(lambda row, size=size: project(row, size, seeds[2]))(jnp.asarray(rows, jnp.float32))
        got = float(distortion(jnp.asarray(rows, jnp.float32), short))
        exact = np.abs(clustered.cosines(rows) - clustered.cosines(np.asarray(short, np.float64))).max()
        assert got == pytest.approx(exact, abs=1e-5)
        assert 0 < got < 5 * np.sqrt(2 / size)
