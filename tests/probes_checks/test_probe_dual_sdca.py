"""The dual method: weak duality, convergence to the direct solution, budgets by work."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes.blobs import SIZES, pool_of, tasks
from probes.dual_gap import Gap
from probes.dual_sdca import dual_sdca
from probes.running import begin, many_rounds, one_round
from probes.stragglers import idle

import fedjax_het as fh

SOLVER = fh.local.sgd(0.1, batch_size=4, epochs=3)


def _start(federation, sampler=None, **options):
    problem = fh.models.linear(pool_of(federation), bias=False)
    algorithm = dual_sdca(problem, SOLVER, **options)
    sampler = fh.sampling.everyone() if sampler is None else sampler
    round_fn = fh.make_round(sampler, fh.executors.chunked(2), {"gap": Gap()})
    return (
        algorithm,
        round_fn,
        begin(round_fn, algorithm, federation),
    )


@pytest.mark.parametrize("learns", [False, True])
def test_gap_is_never_negative_and_shrinks(learns):
    federation = tasks()
    algorithm, round_fn, state = _start(federation, learns=learns)
    state, logs = many_rounds(round_fn, algorithm, state, federation, rounds=30)
    seen = {name: np.asarray(value) for name, value in logs["measures"]["gap"].items()}
    assert np.all(seen["gap"] >= -1e-5 * np.abs(seen["primal"]))
    assert np.all(seen["apart"] < 1e-5)
    assert seen["gap"][-1] < 1e-2 * seen["gap"][0]
    if not learns:
        assert np.all(np.diff(seen["dual"]) >= -1e-5)


def test_squared_loss_reaches_ridge_regression():
    with jax.enable_x64(True):
        federation = tasks()
        algorithm, round_fn, state = _start(federation)
        state, _ = many_rounds(round_fn, algorithm, state, federation, rounds=150)
        x, y = np.asarray(federation.x), np.asarray(federation.y)
        weights = np.asarray(state.server.relation @ state.server.images / algorithm.strength)
        for client in range(len(SIZES)):
            start, size = (int(v[0, client]) for v in (federation.train.offset, federation.train.size))
            rows = np.asarray(federation.train.index)[start : start + size]
            # Sigma = I/N: the penalty of every task is lambda N / 2 |w|^2
            matrix = x[rows].T @ x[rows] / size + 0.1 * len(SIZES) * np.eye(x.shape[1])
            np.testing.assert_allclose(
                weights[client], np.linalg.solve(matrix, x[rows].T @ y[rows] / size), 1e-9
            )


def test_hinge_keeps_its_box_and_closes_its_gap():
    federation = tasks()
    federation = dataclasses.replace(federation, y=jnp.where(federation.y > 0, 1.0, -1.0))
    algorithm, round_fn, state = _start(federation, loss="hinge")
    state, logs = many_rounds(round_fn, algorithm, state, federation, rounds=40)
    gap = np.asarray(logs["measures"]["gap"]["gap"])
    assert np.all(gap >= -1e-5) and gap[-1] < 0.05 * gap[0]
    alpha = np.asarray(state.clients)
    for client in range(len(SIZES)):
        start, size = (int(v[0, client]) for v in (federation.train.offset, federation.train.size))
        labels = np.asarray(federation.y)[np.asarray(federation.train.index)[start : start + size]]
        assert np.all((alpha[client, :size] * labels >= 0) & (alpha[client, :size] * labels <= 1))
        assert np.all(alpha[client, size:] == 0)  # rows that do not exist


def test_a_dropped_node_stands_still_and_the_others_are_safe():
    federation = tasks()
    algorithm, round_fn, state = _start(federation, idle(fh.sampling.everyone(), 0.3))
    idled = 0
    for _ in range(4):
        before = state
        state, log = one_round(round_fn, algorithm, state, federation)
        still = np.asarray(log["info"]["steps"]) == 0
        idled += still.sum()
        for old, new in ((before.clients, state.clients), (before.server.images, state.server.images)):
            assert np.all((np.asarray(old) == np.asarray(new)).all(axis=1) == still)
        assert log["measures"]["gap"]["gap"] >= 0
    assert idled > 0


def test_work_is_a_budget_of_coordinate_steps():
    federation = tasks()
    algorithm, round_fn, state = _start(
        federation, fh.sampling.stragglers(fh.sampling.everyone(), 1.0, epochs=3)
    )
    _, log = one_round(round_fn, algorithm, state, federation)
    full = 3 * np.ceil(np.asarray(federation.train.size[0]) / 4)
    steps = np.asarray(log["info"]["steps"])
    assert np.all(steps <= full) and steps.sum() < full.sum()


def test_unseen_clients_are_refused():
    federation = tasks()
    algorithm, _, state = _start(federation)
    with pytest.raises(ValueError, match="cannot serve unseen clients"):
        fh.adapt(algorithm, state.server, federation, key=jax.random.key(0))
