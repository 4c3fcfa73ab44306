"""Three rounds of any method, and the model that each client would use after them."""

import functools

import jax
import jax.numpy as jnp

import fedjax_het as fh
from fedjax_het import keys
from fedjax_het.engine.blocks import block
from fedjax_het.engine.evaluate import every_client
from fedjax_het.engine.slots import make_client
from reference.setting import COHORTS

__all__ = ["begun", "of_each", "rounds", "trained", "used"]

rounds = jax.jit(block, static_argnames="rounds")


def begun(round_fn, algorithm, federation, key):
    """The state before round 0, not compiled as a whole: a start's bits depend on what is fused with it."""
    return fh.initial_state(algorithm, federation, key=key, round_fn=round_fn)


def trained(algorithm, federation, key):
    """(state, log) after the three rounds of `reference.setting`."""
    round_fn = fh.make_round(fh.sampling.scripted(COHORTS), fh.executors.vmapped())
    first = begun(round_fn, algorithm, federation, key)
    return rounds(round_fn, algorithm, first, federation, rounds=len(COHORTS))


@functools.partial(jax.jit, static_argnums=0)
def of_each(question, algorithm, state, federation):
    """question(algorithm, server, client) of all clients, as evaluation sees them; leading axis N."""
    slots = every_client(algorithm, state, federation, jnp.zeros((), jnp.int32))
    key = keys.stream(keys.round_(state.key, state.round), "evaluate")

    def one(slot):
        return question(algorithm, state.server, make_client(federation, slot, key, state.round))

    return jax.vmap(one)(slots)


def _model(algorithm, server, client):
    return algorithm.personalise(server, client)


def used(algorithm, state, federation):
    """Their models."""
    return of_each(_model, algorithm, state, federation)
