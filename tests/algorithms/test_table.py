"""The table of methods: which there are, and what each of them sends."""

import jax
import jax.numpy as jnp
import pytest
from probes import batchnorm

import fedjax_het as fh
from fedjax_het.algorithms import ALGORITHMS, make

CLASSES, FEATURES, WIDTH = 3, 4, 5
PARAMETERS = CLASSES * (FEATURES + 1)
BODY, HEAD = WIDTH * (FEATURES + 1), CLASSES * (WIDTH + 1)
NETWORK = BODY + HEAD
WITHOUT_NORM = 6 * (FEATURES + 1) + CLASSES * (6 + 1)
"""Of the probe's network of six units."""

GLOBAL = {
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
"""Floats down and up, per client and round, of every global method; the model is softmax regression."""

FAMILIES = {
    "personal": {
        "finetune": (NETWORK, NETWORK),
        "fedper": (BODY, BODY),
        "lgfedavg": (HEAD, HEAD),
        "fedrep": (BODY, BODY),
        "fedbn": (WITHOUT_NORM, WITHOUT_NORM),  # nor its running statistics
        "pfedme": (NETWORK, NETWORK),
        "ditto": (NETWORK, NETWORK),  # v_k stays
        "l2gd": (NETWORK, NETWORK),  # in a round of averaging
        "apfl": (NETWORK, NETWORK),  # v_k and alpha_k stay
        "perfedavg": (NETWORK, NETWORK),
    },
    "clustered": {
        "cfl": (NETWORK, NETWORK),  # the server knows who is where
        "cosine_cfl": (NETWORK, NETWORK),
        "ifca": (2 * NETWORK, NETWORK),  # and the number of a cluster, which is no float
        "fedem": (3 * NETWORK, 3 * NETWORK),  # pi_k stays
    },
    "multi-task": {
        "fedmtl": (BODY, BODY),  # a task a client
        "meanreg": (NETWORK, NETWORK),
        "mocha": (PARAMETERS + 1, PARAMETERS),  # w_k and Sigma_kk
    },
    "baseline": {"local_only": (0, 0)},
}
"""The same of all others: the model is a network of one hidden layer, or what the method needs."""

BESIDES = {"ifca": 4}
"""Bytes up that are no floats."""


NUMBERS = {name: cost for family in FAMILIES.values() for name, cost in family.items()} | GLOBAL


def test_the_methods_are_those_of_the_papers():
    assert set(ALGORITHMS) == set(NUMBERS)
    for family, members in {"global": GLOBAL, **FAMILIES}.items():
        assert {name for name, entry in ALGORITHMS.items() if entry.family == family} == set(members)
    assert set(ALGORITHMS) <= set(fh.algorithms.__all__)


def model(name, federation):
    """Softmax regression for a global method and where a linear one is needed; else a network."""
    entry, pool = ALGORITHMS[name], fh.Pool(federation.x, federation.y, federation.spec.pool)
    if entry.needs == "normalisation":
        return batchnorm.local(federation)
    if entry.family == "global" or entry.needs == "linear":
        return fh.models.softmax(pool)
    return fh.models.mlp(pool, hidden=(WIDTH,))


@pytest.mark.parametrize("x64", [False, True], ids=["float32", "x64"])
@pytest.mark.parametrize("name", NUMBERS)
def test_traffic_is_what_the_paper_counts(name, x64):
    with jax.enable_x64(x64):
        x = jnp.ones((6, FEATURES), jnp.result_type(float))
        pool = fh.pool(x, jnp.arange(6) % CLASSES, num_classes=CLASSES)
        federation = fh.from_index_lists(pool, None, [[0, 1, 2], [3, 4, 5]], test=0.0)
        algorithm = make(name, model(name, federation), fh.local.sgd(0.1, batch_size=2))
        server, _ = jax.eval_shape(lambda key: algorithm.init(key, federation), jax.random.key(0))
        cost = algorithm.traffic(server)
        size = jnp.result_type(float).itemsize
        down, up = NUMBERS[name]
        assert (cost.down, cost.up) == (size * down, size * up + BESIDES.get(name, 0))


@pytest.mark.parametrize("name", [name for name, entry in ALGORITHMS.items() if entry.needs])
def test_what_a_method_needs_is_what_it_refuses_to_be_without(name):
    pool = fh.pool(jnp.ones((6, FEATURES)), jnp.arange(6) % CLASSES, num_classes=CLASSES)
    words = {"normalisation": "problem must have normalisation", "linear": "problem must be linear"}
    with pytest.raises(ValueError, match=words[ALGORITHMS[name].needs]):
        make(name, fh.models.mlp(pool, hidden=(WIDTH,)), fh.local.sgd(0.1, batch_size=2))
