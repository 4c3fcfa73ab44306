"""The table of methods: which there are, and what each of them sends."""

import jax
import jax.numpy as jnp
import pytest

import fedjax_het as fh
from fedjax_het.algorithms import ALGORITHMS, make

CLASSES, FEATURES = 3, 4
PARAMETERS = CLASSES * (FEATURES + 1)

NUMBERS = {
    "fedavg": (PARAMETERS, PARAMETERS),
    "fedprox": (PARAMETERS, PARAMETERS),
    "scaffold": (2 * PARAMETERS, 2 * PARAMETERS),  # the control variate goes with the model, both ways
    "fednova": (PARAMETERS, PARAMETERS + 1),  # |a|_1
    "feddyn": (PARAMETERS, PARAMETERS),  # h stays at the server
    "fedavgm": (PARAMETERS, PARAMETERS),  # so do the moments
    "fedadagrad": (PARAMETERS, PARAMETERS),
    "fedadam": (PARAMETERS, PARAMETERS),
    "fedyogi": (PARAMETERS, PARAMETERS),
    "qfedavg": (PARAMETERS, PARAMETERS + 1),  # h_k
    "qfedsgd": (PARAMETERS, PARAMETERS + 1),
    "afl": (PARAMETERS, PARAMETERS + 1),  # the loss
    "agnostic": (
        PARAMETERS + CLASSES,
        PARAMETERS + 2 * CLASSES + 1,
    ),  # lambda; losses, counts, beta
    "term": (PARAMETERS, PARAMETERS + 1),  # the loss
}
"""Floats down and up, per client and round, of every global method."""


def test_the_global_methods_are_those_of_the_papers():
    assert {name for name, entry in ALGORITHMS.items() if entry.family == "global"} == set(NUMBERS)
    assert set(ALGORITHMS) <= set(fh.algorithms.__all__)


@pytest.mark.parametrize("x64", [False, True], ids=["float32", "x64"])
@pytest.mark.parametrize("name", NUMBERS)
def test_traffic_is_what_the_paper_counts(name, x64):
    with jax.enable_x64(x64):
        x = jnp.ones((6, FEATURES), jnp.result_type(float))
        pool = fh.pool(x, jnp.arange(6) % CLASSES, num_classes=CLASSES)
        federation = fh.from_index_lists(pool, None, [[0, 1, 2], [3, 4, 5]], test=0.0)
        algorithm = make(name, fh.models.softmax(pool), fh.local.sgd(0.1, batch_size=2))
        server, _ = algorithm.init(jax.random.key(0), federation)
        cost = algorithm.traffic(server)
        size = jnp.result_type(float).itemsize
        assert (cost.down, cost.up) == (size * NUMBERS[name][0], size * NUMBERS[name][1])
