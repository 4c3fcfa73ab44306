"""Derivatives through three rounds equal finite differences: reverse, forward, and one over the other."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

import fedjax_het as fh
from fedjax_het import tree
from fedjax_het.engine.state import initial_state
from fedjax_het.models import mlp, softmax

SIZES = (7, 1, 12, 5, 0, 8)
FEATURES, CLASSES = 3, 3
ROUNDS, MOST = 3, 6  # at most 12 rows in batches of 4, two epochs
RATE = 0.2
WEIGHTS = np.array([0.3, 0.9, 0.5, 1.4, 0.7, 1.1])


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def data():
    rng = np.random.default_rng(8)
    x = rng.normal(size=(sum(SIZES), FEATURES))
    y = rng.integers(0, CLASSES, sum(SIZES))
    pool = fh.pool(x, y, num_classes=CLASSES)
    parts = np.split(np.arange(len(y)), np.cumsum(SIZES)[:-1])
    return pool, fh.from_index_lists(pool, None, parts, test=0.0)


def solver(rate):
    return fh.local.scanned(fh.local.sgd(rate, batch_size=4, epochs=2), MOST)


def shared_model(problem, server, clients, pool):
    return mean_loss(problem, server.params, pool)


def all_centres(problem, server, clients, pool):
    return jnp.sum(jax.vmap(lambda params: mean_loss(problem, params, pool))(server.params))


def all_members(problem, server, clients, pool):
    own = jax.vmap(lambda params: mean_loss(problem, tree.combine(params, server.params), pool))
    return jnp.sum(own(clients.params))


def mean_loss(problem, params, pool):
    return jnp.mean(problem.losses(problem.apply(params, (), pool.x)[0], pool.y))


FACTORIES = {
    "fedavg": (fh.algorithms.fedavg, {}, softmax, shared_model),
    "fedprox": (fh.algorithms.fedprox, {"mu": 0.6}, softmax, shared_model),
    "scaffold I": (fh.algorithms.scaffold, {"option": "I"}, softmax, shared_model),
    "scaffold II": (fh.algorithms.scaffold, {"option": "II"}, softmax, shared_model),
    "ifca": (fh.algorithms.ifca, {"clusters": 2}, softmax, all_centres),
    "fedper": (
        fh.algorithms.fedper,
        {},
        lambda pool: mlp(pool, hidden=(4,), activation="tanh"),
        all_members,
    ),
}


def executor(name):
    if name == "chunked":
        return fh.executors.chunked(4)
    if name == "sharded":
        mesh = jax.make_mesh((4,), ("clients",), axis_types=(AxisType.Auto,))
        return fh.executors.sharded(mesh, fh.executors.vmapped())
    return {"vmapped": fh.executors.vmapped, "looped": fh.executors.looped}[name]()


def final_loss(name, how="vmapped", sampler=None):
    """(rate, weights, extra numbers) -> the loss after three rounds, five clients a round."""
    factory, numbers, model, score = FACTORIES[name]
    pool, federation = data()
    problem = model(pool)
    sampler = fh.sampling.scripted([[0, 1, 2, 3, 4], [1, 2, 3, 4, 5], [0, 2, 3, 4, 5]])
    start = 0.7 * jax.random.normal(jax.random.key(4), (2, FEATURES, CLASSES))

    def loss(rate, weights, extra=None):
        round_fn = fh.make_round(
            sampler, executor(how), weighting=fh.weighting.given(weights), differentiable=True
        )
        algorithm = factory(problem, solver(rate), **{**numbers, **(extra or {})})
        state = initial_state(algorithm, federation, key=jax.random.key(1), round_fn=round_fn)
        if name == "ifca":  # the centres must differ, or a tie decides
            params = {"head": {**state.server.params["head"], "kernel": start}}
            state = dataclasses.replace(state, server=dataclasses.replace(state.server, params=params))
        state, _ = fh.make_block(round_fn, ROUNDS)(algorithm, state, federation)
        return score(problem, state.server, state.clients, pool)

    return loss


def differences(loss, rate, weights, step=1e-5):
    """Central differences in the rate and in every weight, all in one batch."""
    moves = np.concatenate([np.eye(1 + len(weights)), -np.eye(1 + len(weights))]) * step
    inputs = np.concatenate([[rate], weights])[None] + moves
    values = np.asarray(jax.jit(jax.vmap(loss))(jnp.asarray(inputs[:, 0]), jnp.asarray(inputs[:, 1:])))
    up, down = np.split(values, 2)
    slopes = (up - down) / (2 * step)
    return slopes[0], slopes[1:]


def close(got, expected, tolerance=1e-6):
    got, expected = np.asarray(got), np.asarray(expected)
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


gradients = {}


def gradient(name, how="vmapped"):
    if (name, how) not in gradients:
        found = jax.jit(jax.grad(final_loss(name, how), argnums=(0, 1)))(RATE, jnp.asarray(WEIGHTS))
        gradients[name, how] = jax.tree.map(np.asarray, found)
    return gradients[name, how]


@pytest.mark.parametrize("name", list(FACTORIES))
def test_gradient_equals_finite_differences(name):
    by_rate, by_weights = gradient(name)
    expected_rate, expected_weights = differences(final_loss(name), RATE, WEIGHTS)
    assert abs(expected_rate) > 1e-3 and np.abs(expected_weights).max() > 1e-5
    close(by_rate, expected_rate)
    close(by_weights, expected_weights)
    assert by_weights[4] == 0, "an empty client's weight matters to nobody"


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("fedavg", "looped"),
        ("scaffold II", "looped"),
        ("fedprox", "chunked"),
        ("scaffold I", "chunked"),
        ("ifca", "chunked"),
        ("fedper", "chunked"),
        ("fedavg", "sharded"),
        ("scaffold II", "sharded"),
        ("ifca", "sharded"),
    ],
)
def test_gradient_is_the_same_under_every_executor(name, how):
    for got, expected in zip(gradient(name, how), gradient(name)):
        close(got, expected, 1e-10)


def test_gradient_with_respect_to_the_methods_own_number():
    loss = final_loss("fedprox")

    def of_mu(mu):
        return loss(RATE, jnp.asarray(WEIGHTS), {"mu": mu})

    got = jax.jit(jax.grad(of_mu))(0.6)
    values = jax.jit(jax.vmap(of_mu))(jnp.array([0.6 + 1e-5, 0.6 - 1e-5]))
    close(got, (values[0] - values[1]) / 2e-5)


def test_batch_of_gradients():
    rates = jnp.array([0.1, RATE, 0.3])
    slope = jax.grad(final_loss("scaffold II"))
    batch = jax.jit(jax.vmap(slope, in_axes=(0, None)))(rates, jnp.asarray(WEIGHTS))
    close(batch[1], gradient("scaffold II")[0], 1e-10)
    assert len({float(value) for value in batch}) == 3


def test_forward_mode_equals_reverse_mode():
    loss = final_loss("fedavg")
    forward = jax.jit(jax.jacfwd(loss, argnums=(0, 1)))(RATE, jnp.asarray(WEIGHTS))
    for got, expected in zip(forward, gradient("fedavg")):
        close(got, expected, 1e-10)


def test_hessian_times_vector_by_forward_over_reverse():
    loss = final_loss("fedavg")
    direction = jnp.asarray(np.random.default_rng(0).normal(size=len(WEIGHTS)))
    slope = jax.grad(loss, argnums=1)

    @jax.jit
    def product(weights):
        return jax.jvp(lambda w: slope(RATE, w), (weights,), (direction,))

    here, curved = product(jnp.asarray(WEIGHTS))
    close(here, gradient("fedavg")[1], 1e-10)
    step = 1e-5
    ahead, _ = product(jnp.asarray(WEIGHTS) + step * direction)
    behind, _ = product(jnp.asarray(WEIGHTS) - step * direction)
    close(curved, (np.asarray(ahead) - np.asarray(behind)) / (2 * step))
