"""Clusters by splits: the cut is optimal, shapes never change, and nothing happens without a reason."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes.blobs import cut, flipped, pool_of
from probes.capped_weights import capped
from probes.cfl_like import cfl_like
from probes.running import begin, many_rounds
from probes.two_parts import two_parts

import fedjax_het as fh

SIZES = (40, 30, 36, 33, 40, 27)
SOLVER = fh.local.sgd(0.3, batch_size=None, epochs=3)


def _worst(similarity, inside, outside):
    return max(similarity[i, j] for i in inside for j in outside)


def test_cut_is_optimal():
    rng = np.random.default_rng(0)
    cut_in_two = jax.jit(two_parts)
    for _ in range(30):
        unit = rng.normal(size=(7, 3))
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        similarity, member = unit @ unit.T, rng.random(7) < 0.8
        members = np.flatnonzero(member)
        if len(members) < 2:
            continue
        side, cross = cut_in_two(jnp.asarray(similarity, jnp.float32), jnp.asarray(member))
        side = np.asarray(side)
        assert not side[~member].any() and 0 < side.sum() <= len(members) / 2
        parts = [c for size in range(1, len(members)) for c in itertools.combinations(members.tolist(), size)]
        best = min(_worst(similarity, part, set(members.tolist()) - set(part)) for part in parts)
        ours = _worst(similarity, np.flatnonzero(side), np.flatnonzero(member & ~side))
        assert ours == pytest.approx(best, abs=1e-6) and float(cross) == pytest.approx(best, abs=1e-6)


def _run(algorithm, federation, rounds, **options):
    round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.chunked(3), **options)
    state = begin(round_fn, algorithm, federation)
    return many_rounds(round_fn, algorithm, state, federation, rounds=rounds)


def test_two_concepts_are_found_and_kept():
    federation = flipped(SIZES, seed=3)
    algorithm = cfl_like(fh.models.softmax(pool_of(federation)), SOLVER, clusters=2, ratio=0.35)
    options = {"measures": {"G2": fh.analysis.gradient_dissimilarity()}, "weighting": capped(0.3)}
    state, logs = _run(algorithm, federation, 25, **options)
    label = np.asarray(state.server.label)
    assert int(state.server.used) == 2
    assert len(set(label[:3])) == len(set(label[3:])) == 1 and label[0] != label[3]
    assert label.dtype == np.int32 and bool(logs["sound"].all())
    used = np.asarray(logs["info"]["label"]).max(axis=1)
    assert used[0] == 0 and used[-1] == 1  # the split happened on the way
    newcomers = fh.adapt(algorithm, state.server, flipped(SIZES, seed=4), key=jax.random.key(5))
    assert np.asarray(newcomers).tolist() == label.tolist()


def test_without_a_split_it_is_fedavg_bit_for_bit():
    federation = cut(SIZES)
    problem = fh.models.softmax(pool_of(federation))
    ours, _ = _run(cfl_like(problem, SOLVER, clusters=1), federation, 3)
    plain, _ = _run(fh.algorithms.fedavg(problem, SOLVER), federation, 3)
    for a, b in zip(jax.tree.leaves(ours.server.params), jax.tree.leaves(plain.server.params)):
        np.testing.assert_array_equal(a[0], b)


def test_an_empty_client_follows_the_larger_part():
    federation = flipped((0, 30, 36, 33, 40, 27), seed=3)
    algorithm = cfl_like(fh.models.softmax(pool_of(federation)), SOLVER, clusters=2, ratio=0.35)
    state, _ = _run(algorithm, federation, 25)
    label = np.asarray(state.server.label)
    assert label.tolist() == [0, 1, 1, 0, 0, 0]


def test_some_of_the_clients_are_refused():
    federation = flipped(SIZES)
    algorithm = cfl_like(fh.models.softmax(pool_of(federation)), SOLVER)
    round_fn = fh.make_round(fh.sampling.uniform(3), fh.executors.looped())
    state = begin(round_fn, algorithm, federation)
    with pytest.raises(ValueError, match="cohort must hold everyone, got 3"):
        jax.eval_shape(round_fn, algorithm, state, federation)


def test_the_round_is_one_program_without_host_callbacks():
    federation = flipped(SIZES)
    algorithm = cfl_like(fh.models.softmax(pool_of(federation)), SOLVER)
    measures = {"G2": fh.analysis.gradient_dissimilarity()}
    round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.auto(), measures, weighting=capped(0.3))
    state = begin(round_fn, algorithm, federation)
    assert "callback" not in str(jax.make_jaxpr(round_fn)(algorithm, state, federation))
