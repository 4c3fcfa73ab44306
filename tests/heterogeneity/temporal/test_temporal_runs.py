"""Everything that changes over time, run: one program for all phases, which reads the round's own phase."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counting import compile_count
from heterogeneity.temporal.timed import cut, dealt, moved, poisoned, rows_of

import fedjax_het as fh
from fedjax_het.heterogeneity import compose, temporal
from fedjax_het.phases import Season

one_round = jax.jit(lambda round_fn, algorithm, state, federation: round_fn(algorithm, state, federation))
SOLVER = fh.local.sgd(0.1, batch_size=5)
BOTH = compose(dealt, moved)

KINDS = {
    "sudden": partial(temporal.sudden, change=BOTH, round=1, spread=1, seed=3),
    "gradual": partial(temporal.gradual, change=dealt, begin=0, end=2, phases=2),
    "gradual both": partial(temporal.gradual, change=BOTH, begin=0, end=2, phases=2),
    "recurring": partial(temporal.recurring, changes=[dealt, moved], length=1, offset="random"),
    "rotating": partial(temporal.rotating_classes, window=1, length=1, offset="random"),
    "growing": partial(temporal.growing, length=1, phases=3),
    "delay": compose(
        partial(temporal.rotating_classes, window=1, length=1), partial(temporal.label_delay, phases=1)
    ),
}


def later(schedule):
    """The same schedule with other numbers."""
    if isinstance(schedule, Season):
        return dataclasses.replace(schedule, length=schedule.length + 2)
    return dataclasses.replace(schedule, at=schedule.at + 2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_round_reads_its_own_phase_in_one_program(kind):
    data = KINDS[kind](cut())
    algorithm = fh.algorithms.fedavg(fh.models.softmax(data.pool), SOLVER)
    round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.looped())
    state = fh.initial_state(algorithm, data, key=jax.random.key(0), round_fn=round_fn)
    states = [dataclasses.replace(state, round=jnp.asarray(r, jnp.int32)) for r in range(2 * data.spec.phases)]
    jax.block_until_ready(one_round(round_fn, algorithm, states[0], data))
    everything = np.arange(data.x.shape[0])
    held, worlds = [], []
    for t in range(data.spec.phases):
        own = np.concatenate(rows_of(data, "train", t))
        held.append(own)
        worlds.append((poisoned(data, np.setdiff1d(everything, own)), poisoned(data, own[:1])))
    others = dataclasses.replace(data, schedule=later(data.schedule))
    with compile_count() as count:
        for state in states:
            phase = int(data.phase(state.round))
            clean, bad = (one_round(round_fn, algorithm, state, world)[1] for world in worlds[phase])
            one_round(round_fn, algorithm, state, others)
            assert bool(clean["sound"]) and not bool(bad["sound"])
            size = np.array([len(rows) for rows in rows_of(data, "train", phase)])
            np.testing.assert_array_equal(np.asarray(clean["present"]), size > 0)
    assert not [name for name in count.programs if "lambda" in name], count.programs
    assert len({tuple(sorted(own.tolist())) for own in held}) > 1


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"gradual both"}))
def test_fedavg_and_ifca_run_through(kind):
    data = KINDS[kind](cut())
    model = fh.models.softmax(data.pool)
    for algorithm in (fh.algorithms.fedavg(model, SOLVER), fh.algorithms.ifca(model, SOLVER, clusters=2)):
        state, history = fh.simulate(
            algorithm, data, rounds=4, split="test", key=jax.random.key(0), executor=fh.executors.looped()
        )
        assert int(state.round) == 4 and np.all(np.isfinite(history["personal/loss"][history["rows"] > 0]))
