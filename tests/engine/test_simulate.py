"""The host's loop: blocks, evaluation points, resuming, Ctrl-C, progress."""

import dataclasses
import importlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counting import compile_count

import fedjax_het as fh
from fedjax_het.engine.progress import bar
from fedjax_het.engine.simulate import LONGEST, block_lengths

module = importlib.import_module("fedjax_het.engine.simulate")
record = importlib.import_module("fedjax_het.engine.record")
scorer = importlib.import_module("fedjax_het.engine.scorer")
KEY = jax.random.key(5)
SIZES = (7, 1, 12, 5, 0, 9)


@pytest.fixture(scope="module")
def federation():
    rng = np.random.default_rng(1)
    pool = fh.pool(rng.normal(size=(sum(SIZES), 3)), rng.integers(0, 3, sum(SIZES)), num_classes=3)
    parts = np.split(np.arange(sum(SIZES)), np.cumsum(SIZES)[:-1])
    return fh.from_index_lists(pool, None, parts, test=0.3)


def algorithm_of(federation, rate=0.1):
    pool = fh.Pool(federation.x, federation.y, federation.spec.pool)
    return fh.algorithms.scaffold(fh.models.softmax(pool), fh.local.sgd(rate, batch_size=4))


def run(federation, rounds, **options):
    arguments = {"sampler": fh.sampling.uniform(3), "executor": fh.executors.vmapped(), **options}
    if "state" not in arguments:
        arguments.setdefault("key", KEY)
    return fh.simulate(algorithm_of(federation), federation, rounds=rounds, **arguments)


@pytest.fixture(scope="module")
def whole(federation):
    """Eleven rounds, evaluated every four: blocks of 4, 4, 1, 1 and 1."""
    return run(federation, 11, every=4)


def bits(tree):
    return [
        np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
        for x in jax.tree.leaves(tree)
    ]


def same_state(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for one, other in zip(bits(a), bits(b)):
        np.testing.assert_array_equal(one, other)


def test_blocks_cover_all_rounds_and_end_at_evaluations():
    for start, rounds, every in itertools.product(
        (0, 1, 5, 32), (1, 2, 7, 31, 32, 33, 37, 64, 100), (None, 1, 3, 4, 10, 37, 64, 1000)
    ):
        blocks = block_lengths(start, rounds, every)
        assert sum(count for count, _ in blocks) == rounds
        assert all(1 <= count <= LONGEST for count, _ in blocks)
        ends = np.cumsum([count for count, _ in blocks]) + start
        scored = {int(end) for end, (_, flag) in zip(ends, blocks) if flag}
        wanted = {start + rounds}
        if every is not None:
            wanted |= {t for t in range(start + 1, start + rounds + 1) if t % every == 0}
        assert scored == wanted


def test_blocks_are_long_where_they_can_be():
    assert [count for count, _ in block_lengths(0, 100, None)] == [LONGEST, LONGEST, LONGEST, 100 - 3 * LONGEST]
    assert block_lengths(0, 20, 10) == [(10, True), (10, True)]
    assert block_lengths(7, 6, 10) == [(3, True), (3, True)]


def test_every_length_of_block_is_one_program(whole, federation):
    """Rounds, evaluation intervals and remainders are numbers: other ones compile nothing."""
    with compile_count() as count:
        run(federation, 3, every=2)
        run(federation, 7, every=5)
    assert count.value == 0


def test_evaluation_points(whole, federation):
    state, history = whole
    assert int(state.round) == 11
    np.testing.assert_array_equal(history["evaluated_at"], [0, 4, 8, 11])
    np.testing.assert_array_equal(history["round"], np.arange(11))
    assert history["personal/accuracy"].shape == (4, 6)
    assert not history.interrupted
    assert (np.diff(history["seconds"]) >= 0).all()
    _, only_end = run(federation, 4)
    np.testing.assert_array_equal(only_end["evaluated_at"], [4])
    np.testing.assert_array_equal(only_end["global/loss"][0], history["global/loss"][1])


@pytest.mark.parametrize("cuts", [(5, 6), (1, 3, 1, 6)])
def test_resuming_is_one_run_bit_for_bit(whole, federation, cuts):
    """Whatever the blocks of the parts are, and whether they are evaluated."""
    state, history = run(federation, cuts[0], every=4)
    for number, rounds in enumerate(cuts[1:]):
        state, more = run(federation, rounds, state=state, every=[3, None, 4][number])
        history = history + more
    same_state(state, whole[0])
    for name in ("cohort", "present", "info/loss", "round", "bytes_up"):
        np.testing.assert_array_equal(history[name], whole[1][name])
    assert list(history["evaluated_at"])[-1] == 11
    np.testing.assert_array_equal(history["personal/loss"][-1], whole[1]["personal/loss"][-1])


def test_the_callers_state_stays_valid(whole, federation):
    state, _ = run(federation, 4)
    before = bits(state)
    run(federation, 4, state=state)
    for one, other in zip(before, bits(state)):
        np.testing.assert_array_equal(one, other)


def test_simulate_is_the_pure_block(whole, federation):
    algorithm = algorithm_of(federation)
    round_fn = fh.make_round(fh.sampling.uniform(3), fh.executors.vmapped())
    state = fh.initial_state(algorithm, federation, key=KEY, round_fn=round_fn)
    state, logs = jax.jit(fh.make_block(round_fn, 11))(algorithm, state, federation)
    same_state(state, whole[0])
    np.testing.assert_array_equal(logs["info"]["loss"], whole[1]["info/loss"])


class Interrupted:
    """A method that is cut off by Ctrl-C on its n-th call."""

    def __init__(self, method, on):
        self.method, self.left = method, on

    def __call__(self, *args, **kwargs):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return self.method(*args, **kwargs)


@pytest.mark.parametrize(
    ("owner", "name", "on"),
    [
        (module, "_block", 1),
        (module, "_block", 3),
        (scorer, "_evaluate", 2),
        (record, "rounds", 1),
        (record, "rounds", 2),
        (record, "rounds", 3),
    ],
)
def test_ctrl_c_keeps_what_is_done(whole, federation, monkeypatch, owner, name, on):
    interrupted = Interrupted(getattr(owner, name), on)
    monkeypatch.setattr(owner, name, lambda *args, **kwargs: interrupted(*args, **kwargs))
    state, history = run(federation, 11, every=4)
    monkeypatch.undo()
    assert history.interrupted
    done = int(state.round)
    assert done < 11 and done == (len(history["round"]) if "round" in history else 0)
    if done:
        np.testing.assert_array_equal(history["info/loss"], whole[1]["info/loss"][:done])
        assert max(history["evaluated_at"]) <= done
    if on > 2 and owner is record:
        assert done >= 4, "whole blocks are kept"
    state, rest = run(federation, 11 - done, state=state, every=4)
    same_state(state, whole[0])
    assert not rest.interrupted


def test_ctrl_c_while_an_evaluation_is_read(whole, federation, monkeypatch):
    """The rounds of the history are those of the state, wherever the wait was cut short."""
    for on in range(1, 9):
        interrupted = Interrupted(jax.device_get, on)
        monkeypatch.setattr(jax, "device_get", interrupted)
        state, history = run(federation, 11, every=4)
        monkeypatch.undo()
        if interrupted.left > 0:  # fewer calls than that
            assert not history.interrupted
            break
        assert history.interrupted
        assert int(state.round) == (len(history["round"]) if "round" in history else 0)
        if "evaluated_at" in history:
            assert max(history["evaluated_at"]) <= int(state.round)


def test_progress_is_silent_unless_somebody_watches(federation, capsys):
    run(federation, 4)
    seen = capsys.readouterr()
    assert seen.out == "" and seen.err == ""


def test_progress_on_request(capsys):
    with bar("FedAvg", 8, True) as (advance, say):
        advance(4, "loss 0.1")
        say("client 3 does much worse")
        advance(4, "loss 0.05")
    shown = capsys.readouterr().err
    assert "FedAvg" in shown and "client 3 does much worse" in shown
    with bar("FedAvg", 8, False) as (advance, say):
        advance(8, "")
        say("client 3 does much worse")
    assert capsys.readouterr().err == ""


def test_measures_may_change_between_runs(federation):
    question = {"spread": fh.analysis.gradient_dissimilarity()}
    state, _ = run(federation, 4)
    state, history = run(federation, 4, state=state, measures=question)
    assert history["measure/spread/G2"].shape == (4,)
    state, history = run(federation, 4, state=state)
    assert int(state.round) == 12 and "measure/spread/G2" not in history


def test_another_federation_or_sampler_is_refused_on_resuming(federation):
    state, _ = run(federation, 4)
    fewer = fh.from_index_lists(
        fh.Pool(federation.x, federation.y, federation.spec.pool), None, [np.arange(9), np.arange(9, 20)]
    )
    with pytest.raises(ValueError, match=r"federation must have the clients .* 6, got 2"):
        run(fewer, 4, state=state, sampler=fh.sampling.everyone())


def test_traffic_is_what_present_clients_move(whole):
    state, history = whole
    size = 4 * sum(leaf.size for leaf in jax.tree.leaves(state.server))
    np.testing.assert_array_equal(history["bytes_up"], history["present"].sum(axis=1) * size)
    np.testing.assert_array_equal(history["bytes_down"], history["bytes_up"])


def test_history_reads_well(whole):
    _, history = whole
    text = history.summary()
    assert "global accuracy" in text and "worst decile accuracy" in text and "11 rounds" in text
    assert history.dims("personal/loss") == ("evaluation", "client")
    assert history.dims("info/loss") == ("round", "slot")
    with pytest.raises(KeyError, match="did you mean"):
        history["personal/acuracy"]
    both = fh.stack([history, history])
    assert both["global/loss"].shape == (2, 4) and both.dims("global/loss") == ("seed", "evaluation")
    held = history["rows"] > 0
    expected = np.where(held, history["personal/loss"], 0).sum(axis=1) / held.sum(axis=1)
    np.testing.assert_allclose(history.client_mean("personal/loss"), expected, rtol=1e-6)
    partial = dataclasses.replace(history, interrupted=True)
    assert "interrupted" in partial.summary()
