"""FedProx: stragglers, a mu that follows the loss, its limits, and the order in which rows are read."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counting import compile_count
from reference import prox, quadratics
from reference.batches import recorded
from reference.models import Softmax
from reference.setting import BATCH, COHORTS, RATE, server_start, softmax_start
from reference.straggling import WORK, rounds_of, straggling

import fedjax_het as fh
from fedjax_het import tree
from fedjax_het.algorithms import adaptive_mu, fedprox
from fedjax_het.engine.state import initial_state
from fedjax_het.models import quadratic, quadratic_federation
from fedjax_het.pool import Pool

both = pytest.mark.parametrize("x64", [True, False], ids=["x64", "float32"])


@both
def test_partial_solutions_are_kept(settings, x64):
    """Stragglers' work is averaged as it is, with the weight of all of their rows."""
    setting, start = settings[x64], softmax_start()
    with jax.enable_x64(x64):
        algorithm = fedprox(setting.problem, setting.solver(0.9), mu=0.7)
        sampler = straggling()
        state, log = rounds_of(algorithm, setting.federation, setting.key, sampler, 3, server_start(start))
    numbers = {"mu": 0.7, "momentum": 0.9, "batch_size": BATCH}
    expected, _, steps = setting.reference(prox.fedprox, Softmax, start, work=WORK, **numbers)
    setting.same(state.server.params["head"], expected)
    np.testing.assert_array_equal(log["info"]["steps"], steps)
    whole, _, _ = setting.reference(prox.fedprox, Softmax, start, **numbers)
    assert np.abs(whole["kernel"] - expected["kernel"]).max() > 0.01, "the stragglers must matter"


# --- mu follows the loss --------------------------------------------------------------------------------------


SCRIPT = (
    *(3.0, 2.0, 2.5, 2.4, 2.3, 2.2, 2.2, 2.1, 2.0, 1.9, 2.0),
    *(2.1, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2),
)
"""Rises, rows of falls that a rise or an equal loss ends too early, and falls until mu is at its floor."""


@pytest.mark.parametrize(("start", "patience"), [(0.0, 3), (0.0, 5), (0.25, 2), (0.04, 1)])
def test_mu_follows_a_script_of_losses(x64, start, patience):
    rule = adaptive_mu(start=start, step=0.1, patience=patience)
    follower = prox.Follower(start, 0.1, patience)
    follow = jax.jit(rule.next)
    mu, before, falls = rule.start, jnp.asarray(jnp.inf), jnp.int32(0)
    path, expected = [], []
    for loss in SCRIPT:
        now = jnp.asarray(loss)
        mu, falls = follow(mu, before, now, falls)
        before = now
        follower.see(loss)
        path.append(float(mu))
        expected.append(follower.mu)
    np.testing.assert_allclose(path, expected, rtol=0, atol=1e-12)
    assert min(path) >= 0 and len(set(np.round(path, 6))) > 2


def test_by_hand():
    """Up in a rise, down in the fifth fall in a row, and five more for the next step down."""
    rule, losses = adaptive_mu(), [1.0, 2.0, 3.0, *np.arange(2.9, 1.0, -0.1)]
    follow = jax.jit(rule.next)
    mu, before, falls, path = rule.start, jnp.asarray(jnp.inf), jnp.int32(0), []
    for loss in losses:
        mu, falls = follow(mu, before, jnp.asarray(loss, jnp.float32), falls)
        before = jnp.asarray(loss, jnp.float32)
        path.append(round(float(mu), 6))
    assert path[:13] == [0.0, 0.1, 0.2, 0.2, 0.2, 0.2, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.0]
    assert set(path[13:]) == {0.0}


SHORT = [[0, 4, 5], [1, 4, 6], [3, 4, 5], [4], [0, 2, 6], [0, 2, 5], [0, 2, 5], [0, 2, 5]]
PADDED = [cohort + [9] * (3 - len(cohort)) for cohort in SHORT]  # 9: an absent slot


@both
def test_the_whole_trajectory(settings, x64):
    """Eight rounds of changing cohorts, so that the loss rises and falls; nobody has rows in the fourth."""
    setting, start = settings[x64], softmax_start()
    with jax.enable_x64(x64):
        solver = fh.local.sgd(RATE, batch_size=BATCH, epochs=1)
        batches = recorded(solver.plan, setting.federation, setting.key, len(SHORT))
        algorithm = fedprox(setting.problem, solver, mu=adaptive_mu(start=0.2, step=0.3, patience=2))
        sampler = straggling(PADDED, np.ones((len(SHORT), 10)))
        state, log = rounds_of(
            algorithm, setting.federation, setting.key, sampler, len(SHORT), inner_start(start)
        )
    follower = prox.Follower(0.2, 0.3, 2)
    data = (setting.x, setting.y, setting.held, batches, SHORT)
    expected, mus, _ = prox.fedprox(Softmax, start, *data, rate=RATE, batch_size=BATCH, mu=follower)
    setting.same(state.server.average.params["head"], expected)
    np.testing.assert_allclose(state.server.mu, mus[-1], rtol=setting.tolerance)
    np.testing.assert_allclose(state.server.loss, follower.before, rtol=setting.tolerance)
    assert int(state.server.falls) == follower.falls
    moves = np.diff(mus)
    assert (moves > 0).any() and (moves < 0).any() and moves[3] == 0, "a trajectory that tests nothing"
    assert not np.asarray(log["present"])[3].any()


def inner_start(start):
    """Replace the softmax params of FedAvg's server within the server."""

    def change(state):
        inner = server_start(start)(dataclasses.replace(state, server=state.server.average))
        return dataclasses.replace(state, server=dataclasses.replace(state.server, average=inner.server))

    return change


def test_an_empty_round_changes_nothing(settings):
    setting = settings[False]
    algorithm = fedprox(setting.problem, setting.solver(), mu=adaptive_mu(start=0.2))
    round_fn = fh.make_round(fh.sampling.scripted([[4]]), fh.executors.vmapped())
    start = initial_state(algorithm, setting.federation, key=setting.key, round_fn=round_fn)
    state, _ = jax.jit(round_fn.__call__)(algorithm, start, setting.federation)
    assert jax.tree.structure(state) == jax.tree.structure(start)
    for before, after in zip(jax.tree.leaves(start.server), jax.tree.leaves(state.server)):
        assert (before.shape, before.dtype) == (after.shape, after.dtype)
        np.testing.assert_array_equal(before, after)


def test_its_numbers_are_leaves(settings):
    """Other numbers compile nothing, and vmap over them is as many runs."""
    setting = settings[False]
    sampler = fh.sampling.scripted(COHORTS)
    round_fn = fh.make_round(sampler, fh.executors.vmapped())

    def build(start, step, patience):
        return fedprox(
            setting.problem, setting.solver(), mu=adaptive_mu(start=start, step=step, patience=patience)
        )

    algorithms = [build(0.0, 0.1, 5), build(3.0, 1.5, 1)]
    one = jax.jit(fh.make_block(round_fn, 3))
    states = [initial_state(a, setting.federation, key=setting.key, round_fn=round_fn) for a in algorithms]
    ends = [one(algorithms[0], states[0], setting.federation)[0]]
    with compile_count() as count:
        ends.append(one(algorithms[1], states[1], setting.federation)[0])
    assert count.value == 0
    stacked = [jax.tree.map(lambda *leaves: jnp.stack(leaves), *pair) for pair in (algorithms, states)]
    together, _ = jax.jit(jax.vmap(fh.make_block(round_fn, 3), in_axes=(0, 0, None)))(
        *stacked, setting.federation
    )
    for i, end in enumerate(ends):
        for a, b in zip(jax.tree.leaves(together.server), jax.tree.leaves(end.server)):
            np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-5)
    assert float(ends[1].server.mu) != float(ends[0].server.mu)


def test_what_an_adaptive_mu_sends_and_predicts(settings):
    setting = settings[False]
    fixed, moving = (fedprox(setting.problem, setting.solver(), mu=mu) for mu in (0.1, adaptive_mu()))
    servers = [jax.eval_shape(lambda a=a: a.init(setting.key, setting.federation)[0]) for a in (fixed, moving)]
    plain, cost = fixed.traffic(servers[0]), moving.traffic(servers[1])
    assert (cost.down, cost.up) == (plain.down + 4, plain.up + 4)
    server, _ = moving.init(setting.key, setting.federation)
    x = jnp.asarray(setting.x, jnp.float32)
    expected = fixed.predict(fixed.consensus(server.average), x)
    np.testing.assert_array_equal(moving.predict(moving.consensus(server), x), expected)
    assert moving.problem is setting.problem
    assert jax.tree.structure(moving.weighting) == jax.tree.structure(fixed.weighting)


# --- limits ---------------------------------------------------------------------------------------------------


A = np.array([[[1.0, 0.0], [0.0, 4.0]], [[2.0, 1.0], [1.0, 2.0]]])
POINTS = np.array([[1.0, 0.0], [0.0, 1.0]])


def one_round(mu, solver, start):
    """w after a round of everyone on the two quadratics, p = (1/4, 3/4)."""
    federation = quadratic_federation(A, POINTS, sizes=[1, 3])
    problem = quadratic(Pool(federation.x, federation.y, federation.spec.pool))

    def begin(state):
        server = dataclasses.replace(state.server, params={"w": jnp.asarray(start, jnp.result_type(float))})
        return dataclasses.replace(state, server=server)

    algorithm = fedprox(problem, solver, mu=mu)
    state, _ = rounds_of(algorithm, federation, jax.random.key(0), fh.sampling.everyone(), 1, begin)
    return np.asarray(state.server.params["w"])


@pytest.mark.parametrize(
    ("solver", "once", "limit", "rho"),
    [
        (
            lambda: fh.local.sgd(0.1, batch_size=None, epochs=5),
            [1.41172, -0.30201],
            [0.2931641402835, 0.59799954560231],
            0.61982911975592,
        ),
        (
            lambda: fh.local.inexact(fh.local.sgd(0.2, batch_size=None, epochs=500), 1e-13),
            [1.125, -0.05],
            [0.2635814889336, 0.66398390342052],
            0.46972184013377,
        ),
    ],
    ids=["five steps", "exact"],
)
def test_golden_numbers(x64, solver, once, limit, rho):
    np.testing.assert_allclose(one_round(1.0, solver(), (2.0, -1.0)), once, rtol=0, atol=1e-11)
    np.testing.assert_allclose(one_round(1.0, solver(), limit), limit, rtol=0, atol=1e-12)
    origin = one_round(1.0, solver(), (0.0, 0.0))
    linear = np.array([one_round(1.0, solver(), e) - origin for e in np.eye(2)]).T
    np.testing.assert_allclose(np.abs(np.linalg.eigvals(linear)).max(), rho, rtol=1e-11)


def test_the_fixed_point_is_biased(x64):
    """At every finite mu, and less so the larger it is."""
    best = quadratics.optimum(A, POINTS, [0.25, 0.75])
    off = []
    for mu in (1.0, 10.0, 100.0):
        limit = quadratics.fedprox_limit(A, POINTS, [0.25, 0.75], rate=0.008, steps=2000, mu=mu)
        solver = fh.local.sgd(0.008, batch_size=None, steps=2000)
        np.testing.assert_allclose(one_round(mu, solver, limit), limit, rtol=0, atol=1e-12)
        off.append(np.linalg.norm(limit - best))
    assert off[0] > 3 * off[1] > 9 * off[2] > 0


def test_a_large_mu_holds_everyone_back(x64):
    """The update goes to 0 as 1 / mu, at a step size that is stable for it."""
    start, moved = (2.0, -1.0), []
    for mu in (10.0, 1e3, 1e5):
        solver = fh.local.sgd(0.5 / (mu + 5), batch_size=None, steps=60)
        moved.append(np.linalg.norm(one_round(mu, solver, start) - np.array(start)))
    gradient = sum(p * M @ (np.array(start) - a) for p, M, a in zip((0.25, 0.75), A, POINTS))
    np.testing.assert_allclose(moved[2] * 1e5, np.linalg.norm(gradient), rtol=1e-3)
    assert moved[0] > 50 * moved[1] > 2500 * moved[2]


# --- the order of rows ----------------------------------------------------------------------------------------


ROWS, EPOCHS = 6, 3


def visits(script, clients=3):
    """[round] -> the rows that the one client of each round visited, in order, [EPOCHS, ROWS].

    Read off the model: row r is the loss -w_r, and with eta mu = 1/2 and batches of one row coordinate r ends
    at a sum of powers of 1/2, one for each visit, whose exponents are the steps that followed it.
    """
    steps = ROWS * EPOCHS
    y = np.concatenate([np.eye(ROWS), np.zeros((ROWS, 1))], axis=1)
    pool = fh.pool(np.zeros((ROWS, ROWS, ROWS)), y, task="regression")
    problem = quadratic(pool)
    federation = fh.from_index_lists(pool, None, [np.arange(ROWS)] * clients, replacement=True, test=0.0)
    algorithm = fedprox(problem, fh.local.sgd(0.5, batch_size=1, epochs=EPOCHS), mu=1.0)
    orders, before = [], np.zeros(ROWS)
    for rounds in range(1, len(script) + 1):
        sampler = straggling([[k] for k in script], np.ones((len(script), clients)))
        state, _ = rounds_of(algorithm, federation, jax.random.key(4), sampler, rounds)
        after = np.asarray(state.server.params["w"])
        digits = np.round((after - before) * 2.0**steps).astype(int)
        order = np.full(steps, -1)
        for r in range(ROWS):
            for step in range(steps):
                if digits[r] >> step & 1:
                    order[step] = r
        orders.append(order.reshape(EPOCHS, ROWS))
        before = after
    return orders


def test_rows_are_in_a_new_order_every_epoch_round_and_client(x64):
    """The authors' code seeds its shuffle with 100 before every epoch, so that all of these are one order."""
    seen = [*visits([0, 0]), *visits([1]), *visits([2])]
    for order in seen:
        np.testing.assert_array_equal(np.sort(order, axis=1), np.tile(np.arange(ROWS), (EPOCHS, 1)))
    orders = {tuple(epoch) for order in seen for epoch in order}
    assert len(orders) == len(seen) * EPOCHS


# --- bad input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda p, s: fedprox(p, s, mu=-0.1), ValueError, r"mu must be >= 0, got -0.1: 0 is FedAvg"),
        (lambda p, s: fedprox(p, s, mu="0.1"), TypeError, r"mu must be a number, got '0.1'"),
        (lambda p, s: fedprox(p, s, mu=np.nan), ValueError, r"mu must be finite"),
        (lambda p, s: fedprox(p, s, mu=adaptive_mu), TypeError, r"mu must be a number"),
        (lambda p, s: fedprox(s, p), TypeError, r"problem must come before solver"),
        (lambda p, s: adaptive_mu(start=-1), ValueError, r"start must be >= 0, got -1"),
        (lambda p, s: adaptive_mu(step=0), ValueError, r"step must be > 0, got 0"),
        (lambda p, s: adaptive_mu(patience=0), ValueError, r"patience must be >= 1, got 0"),
        (lambda p, s: adaptive_mu(patience=2.5), TypeError, r"patience must be a whole number, got 2.5"),
        (lambda p, s: fedprox(p, s, mu=adaptive_mu(), server="adam"), TypeError, r"server must be made by"),
    ],
)
def test_bad_input(settings, build, error, words):
    with pytest.raises(error, match=words):
        build(settings[False].problem, settings[False].solver())


def test_mu_zero_that_stays_there_is_federated_averaging(settings):
    """A loss that never rises leaves mu at its floor: to rounding FedAvg, whose server it holds."""
    setting = settings[True]
    with jax.enable_x64(True):
        solver = fh.local.sgd(0.01, batch_size=None, epochs=1)
        ends = []
        for algorithm in (
            fedprox(setting.problem, solver, mu=adaptive_mu()),
            fh.algorithms.fedavg(setting.problem, solver),
        ):
            sampler = fh.sampling.everyone()
            ends.append(rounds_of(algorithm, setting.federation, setting.key, sampler, 6)[0].server)
        assert float(ends[0].mu) == 0 and int(ends[0].falls) == 0
        gap = tree.subtract(ends[0].average.params, ends[1].params)
        assert float(tree.sum_of_squares(gap)) < 1e-26
