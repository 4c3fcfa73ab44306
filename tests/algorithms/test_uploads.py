"""What leaves a client: nothing that is its own, of whichever method with personal models."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import batchnorm
from reference.setting import SIZES

import fedjax_het as fh
from fedjax_het import tree
from fedjax_het.algorithms import ALGORITHMS
from fedjax_het.engine.blocks import block
from fedjax_het.models.selectors import leaf_paths

COHORT = [0, 2, 4, 5]  # 4 has no rows
AWAY = np.setdiff1d(np.arange(len(SIZES)), COHORT)
ROUNDS = 4

KEEPS = {
    "fedper": ["params/head"],
    "lgfedavg": ["params/dense_0"],
    "fedrep": ["params/head"],
    "fedbn": ["params/norm", "buffers"],
    "fedmtl": ["params/head"],
    "ditto": ["personal"],
    "apfl": ["params", "last", "alpha"],
    "local_only": ["params"],
    "meanreg": ["params"],
    "l2gd": ["params"],
    "pfedme": [],
    "finetune": [],
    "perfedavg": [],
}
"""The parts of a client's state; without any, a personal model is made anew whenever it is used."""

HIDDEN = ("ditto", "apfl")
"""Methods whose upload does not depend on what the client keeps."""

OPENED = ("meanreg", "l2gd")
"""Methods whose clients send what their own model moved by: the server holds the mean of them all."""


def replayed(round_fn, algorithm, state, federation):
    """What the client with most rows sends."""
    report = fh.replay(round_fn, algorithm, state, federation, 5)
    return report.total, report.each


many_rounds, sent = jax.jit(block, static_argnames="rounds"), jax.jit(replayed)


@pytest.fixture(scope="module")
def runs(settings):
    """name -> (round, algorithm, state before round 0, federation)."""
    made, setting = {}, settings[False]

    def run(name):
        if name not in made:
            federation = setting.federation
            problem = batchnorm.local(federation) if name == "fedbn" else setting.network
            algorithm = fh.algorithms.make(name, problem, setting.solver())
            round_fn = fh.make_round(fh.sampling.fixed(COHORT), fh.executors.vmapped())
            state = fh.initial_state(algorithm, federation, key=setting.key, round_fn=round_fn)
            made[name] = round_fn, algorithm, state, federation
        return made[name]

    return run


def spoiled(pytree, rows):
    """NaN in these rows of every float leaf."""

    def spoil(leaf):
        return leaf.at[rows].set(jnp.nan) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(spoil, pytree)


def test_every_method_with_personal_models_is_here():
    of = {"personal", "multi-task", "baseline"}
    assert set(KEEPS) | {"mocha"} == {name for name, entry in ALGORITHMS.items() if entry.family in of}


@pytest.mark.parametrize("name", KEEPS)
def test_a_client_keeps_what_the_paper_says(runs, name):
    _, _, state, _ = runs(name)
    kept = leaf_paths(state.clients)
    for part in KEEPS[name]:
        assert any(path == part or path.startswith(part + "/") for path in kept), part
    assert all(any(path == p or path.startswith(p + "/") for p in KEEPS[name]) for path in kept), kept


@pytest.mark.parametrize("name", KEEPS)
def test_an_upload_holds_what_is_shared_and_no_more(runs, name):
    """By the leaves' paths and by their bytes: scalars aside, as many as the method says it sends."""
    round_fn, algorithm, state, federation = runs(name)
    total, each = jax.eval_shape(replayed, round_fn, algorithm, state, federation)
    arrays = [leaf for leaf in jax.tree.leaves((total, each)) if leaf.ndim]
    assert tree.num_bytes(arrays) == algorithm.traffic(state.server).up
    shared = total[0] if name in OPENED else total["delta"]
    assert leaf_paths(shared) == leaf_paths(state.server.params)
    if name not in (*HIDDEN, *OPENED):
        kept = {path.removeprefix("params/") for path in leaf_paths(state.clients)}
        assert not set(leaf_paths(shared)) & kept


@pytest.mark.parametrize("name", KEEPS)
def test_nothing_of_who_is_away_reaches_anybody(runs, name):
    """NaN in all that they keep and in their rows: the server and the cohort's states have the same bits."""
    round_fn, algorithm, state, federation = runs(name)
    rows = federation.train
    theirs = np.concatenate(
        [np.asarray(rows.index)[int(rows.offset[0, k]) :][: int(rows.size[0, k])] for k in AWAY]
    )
    tainted = dataclasses.replace(state, clients=spoiled(state.clients, AWAY))
    poisoned = dataclasses.replace(federation, x=spoiled(federation.x, theirs))
    clean, _ = many_rounds(round_fn, algorithm, state, federation, rounds=ROUNDS)
    after, _ = many_rounds(round_fn, algorithm, tainted, poisoned, rounds=ROUNDS)
    assert bool(tree.all_finite(after.server))
    here = jnp.asarray(COHORT)
    for a, b in zip(
        jax.tree.leaves((after.server, tree.take(after.clients, here))),
        jax.tree.leaves((clean.server, tree.take(clean.clients, here))),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    if KEEPS[name]:
        assert not bool(tree.all_finite(tree.take(after.clients, jnp.asarray(AWAY)))), "there is much to betray"


@pytest.mark.parametrize("name", HIDDEN)
def test_what_a_client_keeps_does_not_change_what_it_sends(runs, name):
    """NaN in its own part, not only in the others'."""
    round_fn, algorithm, state, federation = runs(name)
    everybody = jnp.arange(len(SIZES))
    tainted = dataclasses.replace(state, clients=spoiled(state.clients, everybody))
    assert not bool(tree.all_finite(tainted.clients))
    clean, got = (sent(round_fn, algorithm, each, federation) for each in (state, tainted))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(clean), strict=True):
        np.testing.assert_array_equal(a, b)
    assert bool(tree.all_finite(clean))
