"""Variances of stochastic gradients: by rows, by rank one, of batches, and as a measure."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference.models import Softmax, TanhNetwork

import fedjax_het as fh
from fedjax_het.analysis import variances

SIZES = (7, 0, 1, 40, 5)
FEATURES, CLASSES = 3, 3


def federation_of(task="classification"):
    rng = np.random.default_rng(6)
    x = rng.normal(size=(sum(SIZES), FEATURES))
    if task == "classification":
        pool = fh.pool(x, rng.integers(0, CLASSES, len(x)), num_classes=CLASSES)
    else:
        pool = fh.pool(x, rng.normal(size=(len(x), 2)), task="regression")
    parts = np.split(rng.permutation(len(x)), np.cumsum(SIZES)[:-1])
    return pool, fh.from_index_lists(pool, None, parts, test=0.0), parts


def point(problem, seed=2):
    params = problem.init(jax.random.key(0)).params
    leaves, structure = jax.tree.flatten(params)
    rng = np.random.default_rng(seed)
    moved = [leaf + jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype) for leaf in leaves]
    return fh.Model(jax.tree.unflatten(structure, moved), ())


def asked(problem, federation, model, **options):
    algorithm = fh.algorithms.fedavg(problem, fh.local.sgd(0.1, batch_size=4))
    round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped())
    state = fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
    return fh.survey(fh.analysis.gradient_noise(at=model, **options), algorithm, state, federation)


def by_hand(gradient, pool, parts):
    """sigma_{k,1}^2 of every client, row by row; NaN for an empty one."""
    x, y = np.asarray(pool.x, np.float64), np.asarray(pool.y)
    found = []
    for part in parts:
        rows = np.array([gradient(x[[i]], y[[i]]) for i in part])
        found.append(((rows - rows.mean(axis=0)) ** 2).sum(axis=1).mean() if len(part) else np.nan)
    return np.array(found)


def flat(tree):
    return np.concatenate([np.ravel(tree[name]) for name in sorted(tree)])


@pytest.mark.parametrize("double, tolerance", [(True, 1e-10), (False, 1e-4)])
def test_softmax_by_rank_one_and_the_measure(double, tolerance):
    with jax.enable_x64(double):
        pool, federation, parts = federation_of()
        problem = fh.models.softmax(pool, l2=0.3)
        model = point(problem)
        head = {name: np.asarray(leaf, np.float64) for name, leaf in model.params["head"].items()}
        expected = by_hand(lambda x, y: flat(Softmax.gradient(head, x, y)), pool, parts)
        assert variances.is_rank_one(problem, model)
        found = asked(problem, federation, model)
        np.testing.assert_allclose(found["variance"], expected, rtol=tolerance, atol=tolerance)
        p = np.array(SIZES) / sum(SIZES)
        np.testing.assert_allclose(found["largest"], np.nanmax(expected), rtol=tolerance)
        np.testing.assert_allclose(found["mean"], np.nansum(p * expected), rtol=tolerance)
        np.testing.assert_allclose(found["of_mean"], np.nansum(p**2 * expected), rtol=tolerance)


def test_the_squared_loss_and_a_model_without_bias(x64):
    pool, federation, parts = federation_of("regression")
    x, y = np.asarray(pool.x), np.asarray(pool.y)
    for bias in (True, False):
        problem = fh.models.linear(pool, bias=bias)
        model = point(problem)
        head = {name: np.asarray(leaf) for name, leaf in model.params["head"].items()}

        def gradient(x, y, head=head, bias=bias):
            residual = x @ head["kernel"] + (head["bias"] if bias else 0) - y
            parts = [np.ravel(x.T @ residual), residual.sum(axis=0) * bias]
            return np.concatenate(parts)

        expected = by_hand(gradient, pool, parts)
        found = asked(problem, federation, model)["variance"]
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
        assert len(x) == len(y)


def test_any_model_by_rows_whatever_is_held_at_a_time(x64):
    pool, federation, parts = federation_of()
    problem = fh.models.mlp(pool, hidden=(4,), activation="tanh")
    model = point(problem)
    assert not variances.is_rank_one(problem, model)
    theirs = {
        "in_kernel": model.params["dense_0"]["kernel"],
        "in_bias": model.params["dense_0"]["bias"],
        "out_kernel": model.params["head"]["kernel"],
        "out_bias": model.params["head"]["bias"],
    }
    theirs = {name: np.asarray(leaf, np.float64) for name, leaf in theirs.items()}
    expected = by_hand(lambda x, y: flat(TanhNetwork.gradient(theirs, x, y)), pool, parts)
    for at_a_time in (3, 64):
        found = asked(problem, federation, model, at_a_time=at_a_time)["variance"]
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_by_rows_agrees_with_rank_one(x64):
    pool, federation, _ = federation_of()
    problem = fh.models.softmax(pool, l2=0.1)
    model, everyone = point(problem), jnp.arange(len(SIZES), dtype=jnp.int32)
    located = federation.locate("train", jnp.int32(0), everyone)

    def both(located):
        data = federation.data("train", located)
        key = jax.random.key(0)
        return (
            variances.by_rows(problem, model, data, key),
            variances.by_rank_one(problem, model, data, key),
        )

    rows, rank_one = jax.jit(jax.vmap(both))(located)
    np.testing.assert_allclose(rows, rank_one, rtol=1e-12, atol=1e-14)
    assert float(rows[1]) == float(rows[2]) == 0, "no noise without rows, or with one"


@pytest.mark.parametrize("replacement", [True, False])
def test_batches_by_enumeration(x64, replacement):
    g = np.random.default_rng(0).normal(size=(5, 2))
    single = ((g - g.mean(axis=0)) ** 2).sum(axis=1).mean()
    for size in (1, 2, 3):
        pick = (
            itertools.product(range(5), repeat=size) if replacement else itertools.combinations(range(5), size)
        )
        means = np.array([g[list(batch)].mean(axis=0) for batch in pick])
        exact = ((means - g.mean(axis=0)) ** 2).sum(axis=1).mean()
        found = variances.of_batches(single, 5, size, replacement=replacement)
        np.testing.assert_allclose(found, exact, rtol=1e-12)


def test_a_batch_of_everything_has_no_noise(x64):
    pool, federation, _ = federation_of()
    problem = fh.models.softmax(pool)
    found = asked(problem, federation, point(problem), batch_size=7)["variance"]
    assert float(found[0]) == float(found[2]) == float(found[4]) == 0 < float(found[3])
    found = asked(problem, federation, point(problem), batch_size=7, replacement=True)["variance"]
    assert float(found[0]) > 0


def test_in_a_round_absent_clients_are_nan_and_the_batch_compiles_nothing():
    pool, federation, _ = federation_of()
    algorithm = fh.algorithms.fedavg(fh.models.softmax(pool), fh.local.sgd(0.1, batch_size=4))
    traces = []

    def run(round_fn, algorithm, state, federation):
        traces.append(1)
        return round_fn(algorithm, state, federation)[1]["measures"]["noise"]

    run = jax.jit(run)
    found = []
    for batch_size in (1, 2):
        noise = {"noise": fh.analysis.gradient_noise(batch_size, replacement=True)}
        round_fn = fh.make_round(fh.sampling.fixed([0, 1, 3]), fh.executors.vmapped(), noise)
        state = fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
        found.append(run(round_fn, algorithm, state, federation))
    assert len(traces) == 1
    np.testing.assert_array_equal(np.isnan(found[0]["variance"]), [False, True, False])
    for name in ("largest", "mean", "of_mean"):
        np.testing.assert_allclose(found[0][name], 2 * found[1][name], rtol=1e-5)


def test_bad_input():
    with pytest.raises(ValueError, match="batch_size must be >= 1"):
        fh.analysis.gradient_noise(0)
    with pytest.raises(ValueError, match="at_a_time must be >= 1"):
        fh.analysis.gradient_noise(at_a_time=0)
    pool, federation, _ = federation_of()
    problem = fh.models.mlp(pool, hidden=(2,))
    located = jax.tree.map(lambda leaf: leaf[0], federation.locate("train", jnp.int32(0), jnp.arange(2)))
    with pytest.raises(TypeError, match=r"problem must be linear with a kernel .* use by_rows"):
        variances.by_rank_one(problem, point(problem), federation.data("train", located), jax.random.key(0))
