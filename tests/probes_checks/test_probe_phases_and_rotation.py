"""Phases and lazy rotations: a round reads its phase's rows only, turned, in one program."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counting import compile_count
from probes.blobs import pool_of
from probes.phases_and_rotation import SWITCH, federation
from probes.running import begin, one_round

import fedjax_het as fh
from fedjax_het.assembly import assemble

SOLVER = fh.local.sgd(0.2, batch_size=5)


def _start(data):
    algorithm = fh.algorithms.fedavg(fh.models.softmax(pool_of(data)), SOLVER)
    round_fn = fh.make_round(fh.sampling.uniform(4), fh.executors.looped())
    return algorithm, round_fn, begin(round_fn, algorithm, data)


def _rows(data, split, phase):
    """The pool's row numbers that the clients hold in a phase, one array a client."""
    rows = data.rows(split)
    index, offset, size = np.asarray(rows.index), np.asarray(rows.offset[phase]), np.asarray(rows.size[phase])
    return [index[o : o + s] for o, s in zip(offset, size)]


def _turned(data, phase, client, rows):
    angle = float(data.transforms[0].arguments[phase, client])
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    x = np.array(data.x)[rows]
    return np.concatenate([x[:, :2] @ matrix.T, x[:, 2:]], axis=1)


def test_one_program_serves_both_phases():
    data = federation()
    algorithm, round_fn, state = _start(data)
    state, _ = one_round(round_fn, algorithm, state, data)
    later = dataclasses.replace(data, schedule=federation(switch=7).schedule)
    with compile_count() as count:
        for held in (data, data, data, later):
            state, log = one_round(round_fn, algorithm, state, held)
            jax.block_until_ready(log)
    assert count.value == 0 and bool(log["sound"])


@pytest.mark.parametrize("poisoned", [0, 1])
def test_a_round_reads_the_rows_of_its_phase_only(poisoned):
    data = federation()
    rows = np.concatenate(_rows(data, "train", poisoned))
    bad = dataclasses.replace(data, x=data.x.at[rows].set(jnp.nan))
    algorithm, round_fn, state = _start(data)
    for round_ in range(2 * SWITCH):
        state = dataclasses.replace(state, round=jnp.asarray(round_, jnp.int32))
        _, log = one_round(round_fn, algorithm, state, bad)
        assert bool(log["sound"]) == ((round_ >= SWITCH) != poisoned)


def test_taken_features_are_turned():
    data = federation()
    places = jnp.arange(data.spec.capacity[2], dtype=jnp.int32)
    take = jax.jit(lambda data, located: data.data("test", located).take(places))
    for phase in (0, 1):
        for client, rows in enumerate(_rows(data, "test", phase)):
            located = data.locate("test", jnp.asarray(phase), jnp.asarray(client))
            batch, count = jax.device_get(take(data, located)), len(rows)
            np.testing.assert_array_equal(batch.weight, np.arange(data.spec.capacity[2]) < count)
            np.testing.assert_allclose(
                batch.x[:count], _turned(data, phase, client, rows), rtol=1e-5, atol=1e-6
            )
            np.testing.assert_array_equal(batch.y[:count], np.asarray(data.y)[rows])


@pytest.mark.parametrize("phase", [0, 1])
def test_equals_a_federation_that_stores_its_turned_rows(phase):
    data = federation()
    splits = {split: _rows(data, split, phase) for split in ("train", "test")}
    x = np.array(data.x)
    for parts in splits.values():
        for client, rows in enumerate(parts):
            x[rows] = _turned(data, phase, client, rows)
    stored = assemble(fh.pool(x, np.asarray(data.y), num_classes=3), splits["train"], test=splits["test"])
    results = []
    for held in (data, stored):
        algorithm, round_fn, state = _start(held)
        state = dataclasses.replace(state, round=jnp.asarray(phase * SWITCH, jnp.int32))
        state, _ = one_round(round_fn, algorithm, state, held)
        seen = jax.jit(fh.evaluate, static_argnames="executor")(
            algorithm, state, held, executor=fh.executors.looped()
        )
        results.append((state.server.params, seen))
    for a, b in zip(*map(jax.tree.leaves, results)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
