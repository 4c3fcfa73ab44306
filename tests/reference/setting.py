"""The setting of the comparisons with NumPy loops: ragged clients, an empty one, short batches, five of nine a
round, in double and in single precision."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import fedjax_het as fh
from fedjax_het.engine.state import initial_state
from fedjax_het.models import mlp, softmax
from reference.batches import recorded

SIZES = (7, 1, 12, 5, 0, 20, 3, 9, 4)
COHORTS = [[0, 1, 2, 4, 8], [1, 3, 5, 6, 7], [0, 2, 3, 4, 5]]
FEATURES, CLASSES, WIDTH = 4, 3, 5
RATE, BATCH, EPOCHS = 0.15, 4, 2


def rows():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(sum(SIZES), FEATURES)).astype(np.float32).astype(np.float64)
    y = rng.integers(0, CLASSES, sum(SIZES))
    y[np.arange(len(y)) % 5 == 0] = CLASSES - 1
    return x, y, np.split(rng.permutation(len(y)), np.cumsum(SIZES)[:-1])


def softmax_start(seed=0):
    rng = np.random.default_rng(seed)
    return {"kernel": rng.normal(size=(FEATURES, CLASSES)), "bias": rng.normal(size=CLASSES)}


def to_numpy(params):
    return {name: np.asarray(value, np.float64) for name, value in params.items()}


def flat_network(params):
    return to_numpy(
        {
            "in_kernel": params["dense_0"]["kernel"],
            "in_bias": params["dense_0"]["bias"],
            "out_kernel": params["head"]["kernel"],
            "out_bias": params["head"]["bias"],
        }
    )


def in_jax(params):
    return jax.tree.map(lambda value: jnp.asarray(value, jnp.result_type(float)), params)


def three_rounds(algorithm, federation, key, change=lambda state: state):
    round_fn = fh.make_round(fh.sampling.scripted(COHORTS), fh.executors.vmapped())
    state = change(initial_state(algorithm, federation, key=key, round_fn=round_fn))
    return jax.jit(fh.make_block(round_fn, 3))(algorithm, state, federation)


def server_start(start):
    """Replace the server's softmax params."""

    def change(state):
        return dataclasses.replace(
            state, server=dataclasses.replace(state.server, params={"head": in_jax(start)})
        )

    return change


class Setting:
    """The data, the recorded batches and the tolerance of one precision."""

    def __init__(self, x64):
        self.tolerance = 1e-9 if x64 else 1e-4
        self.x, self.y, self.held = rows()
        self.key = jax.random.key(11)
        pool = fh.pool(self.x, self.y, num_classes=CLASSES)
        self.federation = fh.from_index_lists(pool, None, self.held, test=0.0)
        self.problem, self.network = softmax(pool), mlp(pool, hidden=(WIDTH,), activation="tanh")
        self.batches = recorded(self.solver().plan, self.federation, self.key, len(COHORTS))

    def solver(self, momentum=None):
        return fh.local.sgd(RATE, batch_size=BATCH, epochs=EPOCHS, momentum=momentum)

    def reference(self, method, model, start, **numbers):
        return method(model, start, self.x, self.y, self.held, self.batches, COHORTS, rate=RATE, **numbers)

    def same(self, got, expected):
        """Compare two dicts of arrays."""
        assert set(got) == set(expected)
        for name in expected:
            np.testing.assert_allclose(
                np.asarray(got[name], np.float64), expected[name], rtol=self.tolerance, atol=self.tolerance
            )
