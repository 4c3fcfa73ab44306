"""Derivatives through three rounds equal finite differences: reverse, forward, and one over the other."""

import dataclasses
import functools

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
RATE, NUMBER = 0.2, 0.6
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


def solver(rate, shuffle=False):
    return fh.local.scanned(fh.local.sgd(rate, batch_size=4, epochs=2, shuffle=shuffle), MOST)


def shared_model(problem, server, clients, pool):
    return mean_loss(problem, server.params, pool)


def all_centres(problem, server, clients, pool):
    return jnp.sum(jax.vmap(lambda params: mean_loss(problem, params, pool))(server.params))


def all_members(problem, server, clients, pool):
    own = jax.vmap(lambda params: mean_loss(problem, tree.combine(params, server.params), pool))
    return jnp.sum(own(clients.params))


def mean_loss(problem, params, pool):
    return jnp.mean(problem.losses(problem.apply(params, (), pool.x)[0], pool.y))


# name -> (factory, what is static, the number of its own that is differentiated, model, what is scored)
FACTORIES = {
    "fedavg": (fh.algorithms.fedavg, {}, None, softmax, shared_model),
    "fedprox": (fh.algorithms.fedprox, {}, "mu", softmax, shared_model),
    "scaffold I": (fh.algorithms.scaffold, {"option": "I"}, "server_learning_rate", softmax, shared_model),
    "scaffold II": (fh.algorithms.scaffold, {"option": "II"}, "server_learning_rate", softmax, shared_model),
    "ifca": (fh.algorithms.ifca, {"clusters": 2}, None, softmax, all_centres),
    "fedper": (
        fh.algorithms.fedper,
        {},
        None,
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


def final_loss(name, how="vmapped", shuffle=False):
    """(rate, weights, the method's own number) -> the loss after three rounds, five clients a round."""
    factory, static, own, model, score = FACTORIES[name]
    pool, federation = data()
    problem = model(pool)
    sampler = fh.sampling.scripted([[0, 1, 2, 3, 4], [1, 2, 3, 4, 5], [0, 2, 3, 4, 5]])

    def build(rate, weights, number):
        round_fn = fh.make_round(
            sampler, executor(how), weighting=fh.weighting.given(weights), differentiable=True
        )
        numbers = {} if own is None else {own: number}
        return round_fn, factory(problem, solver(rate, shuffle), **static, **numbers)

    round_fn, algorithm = build(RATE, WEIGHTS, NUMBER)
    start = initial_state(algorithm, federation, key=jax.random.key(1), round_fn=round_fn)
    if name == "ifca":  # the centres must differ, or a tie decides
        kernel = 0.7 * jax.random.normal(jax.random.key(4), (2, FEATURES, CLASSES))
        params = {"head": {**start.server.params["head"], "kernel": kernel}}
        start = dataclasses.replace(start, server=dataclasses.replace(start.server, params=params))

    def loss(rate, weights, number=NUMBER):
        round_fn, algorithm = build(rate, weights, number)
        state, _ = fh.make_block(round_fn, ROUNDS)(algorithm, start, federation)
        return score(problem, state.server, state.clients, pool)

    return loss


def differences(value, step=1e-5):
    """Central differences of (rate, weights, number) -> value, in each of them: a list of slopes."""
    point = np.concatenate([[RATE], WEIGHTS, [NUMBER]])

    def at(moved):
        return float(value(float(moved[0]), jnp.asarray(moved[1:-1]), float(moved[-1])))

    return [(at(point + move) - at(point - move)) / (2 * step) for move in np.eye(len(point)) * step]


def close(got, expected, tolerance=1e-6):
    got, expected = np.asarray(got), np.asarray(expected)
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


compiled, gradients = {}, {}


def gradient(name, how="vmapped"):
    """d loss / d (rate, weights, number); `compiled` keeps the program, which returns the loss too."""
    if (name, how) not in gradients:
        slope = jax.value_and_grad(final_loss(name, how), argnums=(0, 1, 2))
        compiled[name, how] = jax.jit(slope)
        _, found = compiled[name, how](RATE, jnp.asarray(WEIGHTS), NUMBER)
        gradients[name, how] = jax.tree.map(np.asarray, found)
    return gradients[name, how]


@pytest.mark.parametrize("name", list(FACTORIES))
def test_gradient_equals_finite_differences(name):
    by_rate, by_weights, by_number = gradient(name)
    rate, *weights, number = differences(lambda *point: compiled[name, "vmapped"](*point)[0])
    assert abs(rate) > 1e-3 and np.abs(weights).max() > 1e-5
    close(by_rate, rate)
    assert by_weights[4] == 0, "an empty client's weight matters to nobody"
    close(by_weights, weights)
    assert (FACTORIES[name][2] is None) == (by_number == 0)
    close(by_number, number)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("fedavg", "looped"),
        ("scaffold I", "chunked"),
        ("ifca", "chunked"),
        ("fedper", "chunked"),
        ("fedprox", "sharded"),
        ("scaffold II", "sharded"),
    ],
)
def test_gradient_is_the_same_under_every_executor(name, how):
    for got, expected in zip(gradient(name, how), gradient(name)):
        close(got, expected, 1e-10)


def test_gradient_through_shuffled_batches():
    slope = jax.jit(jax.value_and_grad(final_loss("fedavg", shuffle=True)))
    _, got = slope(RATE, jnp.asarray(WEIGHTS))
    ahead, behind = (slope(RATE + move, jnp.asarray(WEIGHTS))[0] for move in (1e-5, -1e-5))
    close(got, (ahead - behind) / 2e-5)
    assert abs(got - gradient("fedavg")[0]) > 1e-6, "another order, another slope"


def test_batch_of_gradients():
    rates = jnp.array([0.1, RATE, 0.3])
    slope = jax.grad(final_loss("fedavg"))
    batch = jax.jit(jax.vmap(slope, in_axes=(0, None)))(rates, jnp.asarray(WEIGHTS))
    close(batch[1], gradient("fedavg")[0], 1e-10)
    assert len({float(value) for value in batch}) == 3


def test_forward_mode_equals_reverse_mode():
    forward = jax.jit(jax.jacfwd(final_loss("fedavg"), argnums=(0, 1)))(RATE, jnp.asarray(WEIGHTS))
    for got, expected in zip(forward, gradient("fedavg")):
        close(got, expected, 1e-10)


def test_hessian_times_vector_by_forward_over_reverse():
    direction = jnp.asarray(np.random.default_rng(0).normal(size=len(WEIGHTS)))
    slope = jax.grad(final_loss("fedavg"), argnums=1)

    @functools.partial(jax.jit)
    def product(weights):
        return jax.jvp(lambda w: slope(RATE, w), (weights,), (direction,))

    here, curved = product(jnp.asarray(WEIGHTS))
    close(here, gradient("fedavg")[1], 1e-10)
    step = 1e-5
    ahead, _ = product(jnp.asarray(WEIGHTS) + step * direction)
    behind, _ = product(jnp.asarray(WEIGHTS) - step * direction)
    close(curved, (np.asarray(ahead) - np.asarray(behind)) / (2 * step))
