"""Training in `personalise`: the global track is untouched, and validation rows decide."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from probes.blobs import cut, flipped, pool_of
from probes.personal_training import personal_training
from probes.running import begin, one_round

import fedjax_het as fh
from fedjax_het.engine.evaluate import every_client
from fedjax_het.engine.slots import make_client
from fedjax_het.problem import full_loss

SOLVER = fh.local.sgd(0.3, batch_size=5)


def _start(federation, **numbers):
    problem = fh.models.softmax(pool_of(federation))
    algorithm = personal_training(problem, SOLVER, **numbers)
    round_fn = fh.make_round(fh.sampling.uniform(3), fh.executors.looped())
    state = begin(round_fn, algorithm, federation)
    return algorithm, round_fn, state


@jax.jit
def _losses(algorithm, state, federation):
    """(validation loss of w, of the personal model, |personal - w|^2), each [N]."""
    phase = jnp.zeros((), jnp.int32)

    def one(slot):
        client = make_client(federation, slot, state.key, state.round)
        personal = algorithm.personalise(state.server, client)
        plain = algorithm.inner.personalise(state.server, client)
        apart = fh.tree.sum_of_squares(fh.tree.subtract(personal.params, plain.params))
        problem = algorithm.problem
        return full_loss(problem, plain, client.valid), full_loss(problem, personal, client.valid), apart

    return jax.lax.map(one, every_client(algorithm, state, federation, phase))


def test_validation_loss_never_rises():
    federation = flipped()
    algorithm, round_fn, state = _start(federation, mu=0.01)
    for _ in range(3):
        state, _ = one_round(round_fn, algorithm, state, federation)
    plain, personal, apart = map(np.asarray, _losses(algorithm, state, federation))
    has_rows = np.asarray(federation.valid.size[0]) > 0
    assert np.all(personal[has_rows] <= plain[has_rows])
    assert np.all(apart[~has_rows] > 0)
    assert np.sum(personal < plain) >= 3


def test_strong_prox_keeps_the_global_model():
    federation = cut()
    algorithm, _, state = _start(federation, mu=1.0)
    near, far = (dataclasses.replace(algorithm, mu=jnp.asarray(mu)) for mu in (3.0, 0.0))
    close, free = (np.asarray(_losses(a, state, federation)[2]) for a in (near, far))
    assert np.all(close <= free) and close.sum() < 0.5 * free.sum()


def test_global_track_is_fedavg_bit_for_bit():
    federation = cut()
    algorithm, round_fn, state = _start(federation)
    ours, _ = one_round(round_fn, algorithm, state, federation)
    plain, _ = one_round(round_fn, algorithm.inner, state, federation)
    for a, b in zip(jax.tree.leaves(ours.server), jax.tree.leaves(plain.server)):
        np.testing.assert_array_equal(a, b)
