"""NaN and infinity: who, when, where; said in full, computed again, or left out."""

import dataclasses

import jax
import numpy as np
import optax
import pytest
from reference.batches import recorded

import fedjax_het as fh
from fedjax_het import tree

KEY = jax.random.key(9)
SIZES = (7, 5, 9, 14, 6)
POISONED = 3
COHORTS = [[0, 1, 2], [0, 2, 4], [1, 2, 3], [0, 3, 4], [0, 1, 4]]
FIRST = 2
"""The first round that draws the poisoned client."""


def build(poison=True):
    """(federation, problem, the pool's row that overflows): float32, one row of client 3 is huge."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(sum(SIZES), 2)), rng.normal(size=(sum(SIZES), 1))
    parts = np.split(np.arange(sum(SIZES)), np.cumsum(SIZES)[:-1])
    row = int(parts[POISONED][5])
    if poison:
        y[row] = 1e30
        x[row] = 1e30
    pool = fh.pool(x.astype(np.float32), y.astype(np.float32), task="regression")
    return fh.from_index_lists(pool, None, parts, test=0.0), fh.models.linear(pool), row


def solver():
    return fh.local.sgd(0.05, batch_size=4, epochs=2)


def run(algorithm, federation, rounds=5, sampler=None, **options):
    sampler = fh.sampling.scripted(COHORTS) if sampler is None else sampler
    options.setdefault("executor", fh.executors.vmapped())
    return fh.simulate(algorithm, federation, key=KEY, rounds=rounds, sampler=sampler, **options)


@pytest.fixture(scope="module")
def poisoned():
    return build()


@pytest.fixture(scope="module")
def error(poisoned):
    federation, problem, _ = poisoned
    with pytest.raises(fh.NonFiniteError) as caught:
        run(fh.algorithms.fedavg(problem, solver()), federation)
    return caught.value


def test_the_client_is_named(poisoned, error):
    federation, _, row = poisoned
    steps = recorded(solver().plan, federation, KEY, FIRST + 1)[FIRST][POISONED]
    bad = next(j for j, rows in enumerate(steps) if row in rows)
    assert (error.client, error.round, error.step) == (POISONED, FIRST, bad)
    assert error.leaf.startswith("total/delta/head/")
    message = str(error)
    for words in (
        f"client {POISONED} ",
        f"round {FIRST} ",
        error.leaf,
        f"step {bad} of {len(steps)}",
        "learning rate",
        "on_nonfinite",
    ):
        assert words in message
    assert int(error.state.round) == FIRST
    assert int(error.block_state.round) == 0 and "round" not in error.history


def test_the_report_can_be_computed_again(poisoned, error):
    federation, problem, _ = poisoned
    algorithm = fh.algorithms.fedavg(problem, solver())
    round_fn = fh.make_round(fh.sampling.scripted(COHORTS), fh.executors.looped())
    report = jax.jit(lambda state: fh.replay(round_fn, algorithm, state, federation, error.client))(error.state)
    assert not np.isfinite(report.total["delta"]["head"]["kernel"]).all()
    other = jax.jit(lambda state: fh.replay(round_fn, algorithm, state, federation, 1))(error.state)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(other.total))


def test_blocks_before_are_kept(poisoned):
    federation, problem, _ = poisoned
    late = fh.sampling.scripted([[0, 1, 2]] * 4 + [[0, 2, POISONED]] + [[0, 1, 2]] * 4)
    with pytest.raises(fh.NonFiniteError) as caught:
        run(fh.algorithms.fedavg(problem, solver()), federation, rounds=6, sampler=late, every=2)
    error = caught.value
    assert (error.client, error.round) == (POISONED, 4)
    assert int(error.block_state.round) == 4 and len(error.history["round"]) == 4
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(error.block_state.server))


def test_dropping_is_leaving_out(poisoned):
    """The rest of the run is the one in which the client never took part."""
    federation, problem, _ = poisoned
    algorithm = fh.algorithms.fedavg(problem, solver())
    state, history = run(algorithm, federation, on_nonfinite="drop")
    np.testing.assert_array_equal(history["lost"], np.array(COHORTS) == POISONED)
    np.testing.assert_array_equal(history["present"], np.array(COHORTS) != POISONED)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.server))
    clean, healthy, _ = build(poison=False)
    without = fh.from_index_lists(
        fh.Pool(clean.x, clean.y, clean.spec.pool),
        None,
        [
            part if k != POISONED else part[:0]
            for k, part in enumerate(np.split(np.arange(41), np.cumsum(SIZES)[:-1]))
        ],
        test=0.0,
    )
    expected, _ = run(fh.algorithms.fedavg(healthy, solver()), without, on_nonfinite="drop")
    for a, b in zip(jax.tree.leaves(state.server.params), jax.tree.leaves(expected.server.params)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_dropped_client_keeps_its_state(poisoned):
    federation, problem, _ = poisoned
    state, _ = run(fh.algorithms.scaffold(problem, solver()), federation, on_nonfinite="drop")
    for leaf in jax.tree.leaves(state.clients.control):
        assert np.isfinite(leaf).all() and not np.asarray(leaf)[POISONED].any()
        assert np.asarray(leaf)[0].any()
    mean = jax.tree.map(lambda leaf: np.asarray(leaf).mean(axis=0), state.clients.control)
    for a, b in zip(jax.tree.leaves(state.server.control), jax.tree.leaves(mean)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_a_servers_step_is_told_apart():
    federation, problem, _ = build(poison=False)
    server = fh.local.optimizer(optax.scale(np.nan))
    algorithm = fh.algorithms.fedavg(problem, solver(), server=server)
    with pytest.raises(fh.NonFiniteError, match=r"server's step must be finite, got .* round 0") as caught:
        run(algorithm, federation)
    assert caught.value.client is None and caught.value.step is None


@dataclasses.dataclass(frozen=True)
class Overheard:
    """A measure that keeps every local model of the round."""

    def init(self, algorithm, server):
        return ()

    def client(self, carry, algorithm, server, client, report):
        return (), (report.local.params, report.info["loss"], client.weight)

    def finish(self, carry, algorithm, server, total, each, cohort):
        params, loss, weight = each
        return {"kernel": params["head"]["kernel"], "loss": loss, "weight": weight}, carry


jax.tree_util.register_dataclass(Overheard)


def test_a_replay_is_what_looped_computes_bit_for_bit():
    federation, problem, _ = build(poison=False)
    algorithm = fh.algorithms.fedprox(problem, solver(), mu=0.3)
    round_fn = fh.make_round(
        fh.sampling.scripted(COHORTS), fh.executors.looped(), {"seen": Overheard()}, on_nonfinite="raise"
    )
    state = fh.initial_state(algorithm, federation, key=KEY, round_fn=round_fn)
    state, _ = jax.jit(round_fn)(algorithm, state, federation)
    _, log = jax.jit(round_fn)(algorithm, state, federation)
    again = jax.jit(fh.replay)
    for slot, client in enumerate(COHORTS[1]):
        report = again(round_fn, algorithm, state, federation, client)
        seen = log["measures"]["seen"]
        np.testing.assert_array_equal(report.local.params["head"]["kernel"], seen["kernel"][slot])
        np.testing.assert_array_equal(report.info["loss"], seen["loss"][slot])
        np.testing.assert_array_equal(report.total["weight"], seen["weight"][slot])
    absent = again(round_fn, algorithm, state, federation, 3)
    assert float(absent.total["weight"]) == 0 and int(absent.info["steps"]) == 8
    half = jax.jit(lambda state: fh.replay(round_fn, algorithm, state, federation, 0, work=0.5))(state)
    assert int(half.info["steps"]) == 2


def test_a_measure_does_not_see_who_was_dropped(poisoned):
    federation, problem, _ = poisoned
    algorithm = fh.algorithms.fedavg(problem, solver())
    measures = {"spread": fh.analysis.gradient_dissimilarity()}
    _, history = run(algorithm, federation, on_nonfinite="drop", measures=measures)
    assert np.isfinite(history["measure/spread/G2"]).all()


def mild():
    """Four clients of clean rows, regression."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)), 100 * rng.normal(size=(40, 1))
    pool = fh.pool(x, y, task="regression")
    return fh.from_index_lists(pool, None, np.split(np.arange(40), 4), test=0.0), fh.models.linear(pool)


def test_a_client_state_that_becomes_infinite_is_found_in_its_round():
    federation, problem = mild()
    algorithm = fh.algorithms.local_only(problem, fh.local.sgd(3e38, batch_size=None, epochs=1))
    everyone = fh.sampling.everyone()
    with pytest.raises(fh.NonFiniteError, match=r"client \d in round 0 at state/.* first at local step 0 of 1"):
        run(algorithm, federation, rounds=2, sampler=everyone)
    state, history = run(algorithm, federation, rounds=1, sampler=everyone, on_nonfinite="drop")
    assert history["lost"].any()
    for leaf in jax.tree.leaves(state.clients):
        assert np.isfinite(leaf).all(), "a lost client keeps its state"


def test_a_server_state_that_becomes_infinite_is_found_in_its_round():
    federation, problem = mild()
    algorithm = fh.algorithms.scaffold(problem, fh.local.sgd(0.05, batch_size=None), server_learning_rate=3e38)
    with pytest.raises(fh.NonFiniteError, match=r"the server's step must be finite, got .* in round 0"):
        run(algorithm, federation, rounds=3, sampler=fh.sampling.everyone())


def test_an_infinity_that_was_there_before_is_legal():
    old = {"best": np.array([np.inf, np.inf, 1.0], np.float32)}
    for new, sound in (([np.inf, 0.5, 1], True), ([np.nan, 0.5, 1], False), ([0.1, 0.5, np.inf], False)):
        assert bool(tree.stays_sound({"best": np.asarray(new, np.float32)}, old)) is sound
