"""Gradient dissimilarity of all clients from a cohort, at other points, and what it costs when it is off."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference.models import Softmax

import fedjax_het as fh
from fedjax_het.models import quadratic, quadratic_federation

SIZES = (7, 0, 12, 30, 5)
FEATURES, CLASSES = 3, 3
measure = fh.analysis.gradient_dissimilarity


def data():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(sum(SIZES), FEATURES)), rng.integers(0, CLASSES, sum(SIZES))
    pool = fh.pool(x, y, num_classes=CLASSES)
    parts = np.split(rng.permutation(len(y)), np.cumsum(SIZES)[:-1])
    return pool, fh.from_index_lists(pool, None, parts, test=0.0), parts


def gradient_of(pool, rows, params):
    """One client's gradient, flat."""
    params = {name: np.asarray(value, np.float64) for name, value in params.items()}
    found = Softmax.gradient(params, np.asarray(pool.x, np.float64)[rows], np.asarray(pool.y)[rows])
    return np.concatenate([found["kernel"].ravel(), found["bias"]])


def spread_of(g, p):
    p = np.asarray(p, float) / np.sum(p)
    mean = p @ g
    return float(p @ ((g - mean) ** 2).sum(axis=1)), float((mean**2).sum())


def made(factory=None, **options):
    pool, federation, parts = data()
    solver = fh.local.sgd(0.3, batch_size=8)
    algorithm = (factory or fh.algorithms.fedavg)(fh.models.softmax(pool), solver, **options)
    round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped())
    state = fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
    return pool, federation, parts, algorithm, jax.jit(round_fn), state


@pytest.mark.parametrize("size", [2, 4])
def test_a_cohort_estimates_all_clients_without_bias(x64, size):
    """The average over every cohort that can be drawn, an empty client among those registered."""
    pool, federation, parts, algorithm, _, state = made()
    g = np.array([gradient_of(pool, part, state.server.params["head"]) for part in parts if len(part)])
    spread, norm = spread_of(g, [n for n in SIZES if n])
    cohorts = jnp.array(list(itertools.combinations(range(5), size)), jnp.int32)

    def asked(over):
        ask = lambda ids: fh.survey(measure(over=over), algorithm, state, federation, ids)  # noqa: E731
        return jax.jit(jax.vmap(ask))(cohorts)

    found = asked("clients")
    np.testing.assert_allclose(np.mean(found["G2"]), spread, rtol=1e-12)
    np.testing.assert_allclose(np.mean(found["mean_gradient_squared"]), norm, rtol=1e-10)
    assert abs(np.mean(asked("cohort")["G2"]) / spread - 1) > 0.02, "the cohort's own is too small"


def test_equal_shares_have_the_factor_of_the_docstring(x64):
    federation = quadratic_federation(np.ones((4, 1, 1)), np.array([[1.0], [2], [4], [9]]))
    problem = quadratic(fh.Pool(federation.x, federation.y, federation.spec.pool))
    algorithm = fh.algorithms.fedavg(problem, fh.local.sgd(0.1, batch_size=None))
    round_fn = fh.make_round(
        fh.sampling.fixed([0, 2]), fh.executors.vmapped(), {"all": measure(over="clients")}
    )
    state = fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
    _, log = jax.jit(round_fn)(algorithm, state, federation)
    np.testing.assert_allclose(log["measures"]["all"]["G2"], (2 * 3) / (1 * 4) * 1.5**2, rtol=1e-12)
    alone = fh.survey(measure(over="clients"), algorithm, state, federation, jnp.array([1], jnp.int32))
    assert np.isnan(alone["G2"]) and np.isnan(alone["mean_gradient_squared"])
    everyone = fh.survey(measure(over="clients"), algorithm, state, federation)
    np.testing.assert_allclose(everyone["G2"], np.var([1.0, 2, 4, 9]), rtol=1e-12)
    np.testing.assert_allclose(everyone["mean_gradient_squared"], 16, rtol=1e-12)


def test_at_a_given_model(x64):
    pool, federation, parts, algorithm, _, state = made()
    rng = np.random.default_rng(8)
    params = {"kernel": rng.normal(size=(FEATURES, CLASSES)), "bias": rng.normal(size=CLASSES)}
    point = fh.Model({"head": jax.tree.map(jnp.asarray, params)}, ())
    g = np.array([gradient_of(pool, part, params) for part in parts if len(part)])
    found = fh.survey(measure(at=point), algorithm, state, federation)
    np.testing.assert_allclose(found["G2"], spread_of(g, [n for n in SIZES if n])[0], rtol=1e-12)


def test_at_each_clients_own_cluster_and_at_one_centre(x64):
    """Everyone at the centre of its own cluster; the members of a cluster at that centre."""
    pool, federation, parts, algorithm, step, state = made(fh.algorithms.ifca, clusters=2)
    kernel = jnp.asarray(np.random.default_rng(1).normal(size=(2, FEATURES, CLASSES)))
    params = {"head": {"kernel": kernel, "bias": jnp.zeros((2, CLASSES))}}
    state = dataclasses.replace(state, server=dataclasses.replace(state.server, params=params))
    after, _ = step(algorithm, state, federation)
    chosen = np.asarray(after.clients.cluster)
    held = [k for k in range(5) if SIZES[k]]
    own = [jax.tree.map(lambda leaf, k=k: leaf[chosen[k]], params["head"]) for k in held]
    g = np.array([gradient_of(pool, parts[k], params) for k, params in zip(held, own)])
    for place in ("personal", "server"):  # it has no one model, so the default is each client's own
        found = fh.survey(measure(at=place), algorithm, state, federation)
        np.testing.assert_allclose(found["G2"], spread_of(g, [SIZES[k] for k in held])[0], rtol=1e-12)
    members = [k for k in held if chosen[k] == chosen[3]]
    centre = fh.Model(jax.tree.map(lambda leaf: leaf[chosen[3]], params), ())
    kept = [i for i, k in enumerate(held) if k in members]
    found = fh.survey(measure(at=centre), algorithm, state, federation, jnp.array(members, jnp.int32))
    np.testing.assert_allclose(found["G2"], spread_of(g[kept], [SIZES[k] for k in members])[0], rtol=1e-12)


def test_at_personal_models_of_a_method_that_has_a_global_one_too(x64):
    pool, federation, parts, algorithm, step, state = made(fh.algorithms.ditto, lam=1.0)
    state, _ = step(algorithm, state, federation)
    by_rows = fh.weighting.proportional()
    shared, own = (
        float(fh.survey(measure(at=at), algorithm, state, federation, weighting=by_rows)["G2"])
        for at in ("server", "personal")
    )
    model = algorithm.consensus(state.server)
    assert model is not None
    g = np.array([gradient_of(pool, part, model.params["head"]) for part in parts if len(part)])
    np.testing.assert_allclose(shared, spread_of(g, [n for n in SIZES if n])[0], rtol=1e-12)
    assert own < 0.9 * shared, "personal models fit their own rows better"


@pytest.mark.parametrize("over", ["cohort", "clients"])
def test_a_survey_keeps_six_digits(over):
    apart = np.array([-2.0, -1, 0, 1, 3, 5, -3, -1])[:, None] * [[1.0, -1.0]]
    points = 4096.0 + apart
    federation = quadratic_federation(np.tile(np.eye(2), (8, 1, 1)), points)
    problem = quadratic(fh.Pool(federation.x, federation.y, federation.spec.pool))
    algorithm = fh.algorithms.fedavg(problem, fh.local.sgd(0.1, batch_size=None))
    round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped())
    state = fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
    spread, norm = spread_of(points, np.ones(8))
    assert 5e5 < norm / spread < 5e6
    found = fh.survey(measure(over=over), algorithm, state, federation)
    assert found["G2"].dtype == jnp.float32
    np.testing.assert_allclose(found["G2"], spread, rtol=1e-6)


def test_a_round_without_measures_is_the_same_program():
    """Built with none, with an empty table, or with measures that are taken out again."""
    _, federation, _, algorithm, _, state = made()
    parts = fh.sampling.everyone(), fh.executors.vmapped()
    on = fh.make_round(*parts, {"spread": measure(), "noise": fh.analysis.gradient_noise()})
    off = [fh.make_round(*parts), fh.make_round(*parts, {}), dataclasses.replace(on, measures={})]
    traced = [str(jax.make_jaxpr(round_fn)(algorithm, state, federation)) for round_fn in off]
    assert traced[0] == traced[1] == traced[2]
    with_ = fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=on)
    assert len(str(jax.make_jaxpr(on)(algorithm, with_, federation))) > 1.1 * len(traced[0])


def test_bad_input():
    with pytest.raises(
        ValueError, match=r"at must be one of the names below, got 'sever': did you mean 'server'"
    ):
        measure(at="sever")
    with pytest.raises(TypeError, match="at must be a name or a Model, got int"):
        measure(at=3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="over must be one of the names below, got 'client'"):
        measure(over="client")
