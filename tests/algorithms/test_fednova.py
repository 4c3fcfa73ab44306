"""FedNova against its NumPy loop, in closed form, and where public code counts wrongly."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import nova, quadratics
from reference.models import Softmax
from reference.setting import COHORTS, RATE, server_start, softmax_start
from reference.straggling import WORK, rounds_of, straggling

import fedjax_het as fh
from fedjax_het import tree
from fedjax_het.algorithms import fednova
from fedjax_het.engine.state import initial_state
from fedjax_het.models import quadratic, quadratic_federation
from fedjax_het.pool import Pool

MU, RHO = 0.7, 0.9


@functools.partial(jax.jit)
def many_rounds(round_fn, algorithm, state, federation, rounds):
    """The state after `rounds` of them, a traced number."""
    return jax.lax.fori_loop(0, rounds, lambda _, s: round_fn(algorithm, s, federation)[0], state)


def halving(initial, count):
    return initial * 0.8**count


CASES = {
    "plain": {},
    "momentum": {"momentum": RHO, "mu": 0.0},
    "prox": {"momentum": 0.0, "mu": MU},
    "momentum, prox outside": {"momentum": RHO, "mu": MU},
    "momentum, prox inside": {"momentum": RHO, "mu": MU, "prox": "inside"},
    "momentum, prox outside, steps": {"momentum": RHO, "mu": MU, "effective_steps": "steps"},
    "momentum, schedule": {"momentum": RHO, "falling": True},
    "everything": {"momentum": RHO, "mu": MU, "prox": "inside", "falling": True, "server_momentum": 0.6},
}
RUNS = [(name, True) for name in CASES] + [("plain", False), ("everything", False)]
LABELS = [f"{name}, {'x64' if wide else 'float32'}" for name, wide in RUNS]


@pytest.mark.parametrize(("name", "x64"), RUNS, ids=LABELS)
def test_it_is_the_loop(settings, name, x64):
    """Stragglers too, one of which takes no step."""
    case, setting, start = dict(CASES[name]), settings[x64], softmax_start()
    falling, server_momentum = case.pop("falling", False), case.pop("server_momentum", None)
    with jax.enable_x64(x64):
        rate = fh.local.schedule(halving, RATE) if falling else RATE
        solver = dataclasses.replace(setting.solver(), rule=fh.local.gradient(rate, case.get("momentum")))
        options = {key: value for key, value in case.items() if key != "momentum"}
        if server_momentum is not None:
            options["server"] = fh.local.optimizer(optax.sgd, learning_rate=1.0, momentum=server_momentum)
        algorithm = fednova(setting.problem, solver, **options)
        state, log = rounds_of(algorithm, setting.federation, setting.key, straggling(), 3, server_start(start))
    expected = setting.reference(
        nova.fednova,
        Softmax,
        start,
        rates=RATE * 0.8 ** np.arange(20) if falling else None,
        server_momentum=server_momentum or 0.0,
        work=WORK,
        **case,
    )
    setting.same(state.server.params["head"], expected)
    steps = [[np.round(WORK[t][k] * len(setting.batches[t][k])) for k in c] for t, c in enumerate(COHORTS)]
    np.testing.assert_array_equal(log["info"]["steps"], steps)
    assert (np.asarray(log["present"])[1] & (np.asarray(steps)[1] == 0)).any()


def test_the_setting_tells_the_cases_apart(settings):
    """No two cases end at the same point, so that each of the comparisons above says something."""
    ends = []
    for case in CASES.values():
        falling = case.get("falling")
        numbers = {name: value for name, value in case.items() if name != "falling"}
        rates = RATE * 0.8 ** np.arange(20) if falling else None
        start = softmax_start()
        end = settings[True].reference(nova.fednova, Softmax, start, rates=rates, work=WORK, **numbers)
        ends.append(end["kernel"])
    apart = [np.abs(a - b).max() for i, a in enumerate(ends) for b in ends[:i]]
    assert min(apart) > 1e-3


# --- closed forms ---------------------------------------------------------------------------------------------


def begin(algorithm, federation, round_fn, start=None):
    state = initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
    if start is None:
        return state
    server = dataclasses.replace(state.server, params={"w": jnp.asarray(start, jnp.result_type(float))})
    return dataclasses.replace(state, server=server)


def everyone(weighting=None):
    return fh.make_round(fh.sampling.everyone(), fh.executors.vmapped(), weighting=weighting)


def run(algorithm, federation, rounds, start=None, weighting=None):
    """w after so many rounds of everyone."""
    round_fn = everyone(weighting)
    state = begin(algorithm, federation, round_fn, start)
    return np.asarray(many_rounds(round_fn, algorithm, state, federation, rounds).server.params["w"])


def problem_of(federation):
    return quadratic(Pool(federation.x, federation.y, federation.spec.pool))


def one_row_a_step(rate, **options):
    """A client of n rows takes n steps."""
    return fh.local.sgd(rate, batch_size=1, epochs=1, **options)


@pytest.mark.parametrize(("rate", "average", "normalised"), [(0.05, 0.778, -0.1096), (0.001, 0.8174, -0.00225)])
def test_lemma_1(x64, rate, average, normalised):
    """Equal curvatures, 1 and 10 steps, truth 0: FedAvg is dragged along, FedNova is off by order eta."""
    a, steps = np.array([[-1.0], [1.0]]), [1, 10]
    federation = quadratic_federation(np.ones((2, 1, 1)), a, sizes=steps)
    uniform = fh.weighting.uniform()
    dragged = quadratics.unequal_steps_limit(a, [0.5, 0.5], rate=rate, steps=steps)
    limit = quadratics.unequal_steps_limit(a, [0.5, 0.5 / 10], rate=rate, steps=steps)
    assert abs(dragged[0] - average) < 5e-4 and abs(limit[0] - normalised) < 5e-5
    algorithm = fednova(problem_of(federation), one_row_a_step(rate))
    w = run(algorithm, federation, 100 if rate > 0.01 else 20, limit, uniform)
    np.testing.assert_allclose(w, limit, rtol=0, atol=1e-10)
    # and the way there: one round, by hand
    tau, start = 5.5, 0.4
    shrink = [1 - (1 - rate) ** step for step in steps]
    once = start - sum(0.5 * tau / step * s * (start - p) for step, s, p in zip(steps, shrink, a[:, 0]))
    np.testing.assert_allclose(run(algorithm, federation, 1, [start], uniform), [once], rtol=0, atol=1e-10)
    if rate > 0.01:
        np.testing.assert_allclose(run(algorithm, federation, 400, [2.0], uniform), limit, rtol=0, atol=1e-10)


A = np.array([[[1.0, 0.0], [0.0, 4.0]], [[2.0, 1.0], [1.0, 2.0]]])
POINTS = np.array([[1.0, 0.0], [0.0, 1.0]])


def test_golden_numbers(x64):
    """Different curvatures, p = (1/4, 3/4), 2 and 6 steps: one round, the limit, and the rate."""
    federation = quadratic_federation(A, POINTS, sizes=[2, 6])
    algorithm = fednova(problem_of(federation), one_row_a_step(0.1))
    np.testing.assert_allclose(
        run(algorithm, federation, 1, [2.0, -1.0]), [1.29555125, -0.01430125], rtol=0, atol=1e-12
    )
    limit = [0.34896727809426, 0.45859042386962]
    np.testing.assert_allclose(run(algorithm, federation, 60, [2.0, -1.0]), limit, rtol=0, atol=1e-13)
    columns = [run(algorithm, federation, 1, e) - run(algorithm, federation, 1, [0.0, 0.0]) for e in np.eye(2)]
    rho = np.abs(np.linalg.eigvals(np.array(columns).T)).max()
    np.testing.assert_allclose(rho, 0.50950610951833, rtol=1e-12)


@pytest.mark.parametrize("steps", [[1, 8], [2, 16]])
def test_unequal_epochs_leave_a_bias_of_order_eta_only(x64, steps):
    """Where FedAvg's limit stays off however small eta is."""
    federation = quadratic_federation(A, POINTS, sizes=steps)
    p = np.array(steps) / sum(steps)
    best = quadratics.optimum(A, POINTS, p)
    slope = np.einsum("k,k,kij,kj->i", p, np.array(steps) - 1.0, A, np.einsum("kij,kj->ki", A, best - POINTS))
    first = np.linalg.solve(np.tensordot(p, A, 1), slope) / 2
    off = []
    for rate in (2e-3, 1e-3):
        algorithm = fednova(problem_of(federation), one_row_a_step(rate))
        off.append(run(algorithm, federation, 4000, best) - best)
        np.testing.assert_allclose(off[-1], rate * first, rtol=0.1)
    np.testing.assert_allclose(off[0], 2 * off[1], rtol=0.02)
    average = fh.algorithms.fedavg(problem_of(federation), one_row_a_step(1e-3))
    dragged = run(average, federation, 4000, best) - best
    assert np.linalg.norm(dragged) > 20 * np.linalg.norm(off[1])


# --- the norm of a --------------------------------------------------------------------------------------------


def straight(clients, sizes, gradient):
    """F_k(w) = <g, w>: the same constant gradient everywhere."""
    return quadratic_federation(np.zeros((clients, 2, 2)), b=[-np.array(gradient)] * clients, sizes=sizes)


@pytest.mark.parametrize("prox", ["outside", "inside"])
def test_momentum_and_prox_together_are_counted_right(x64, prox):
    """On equal straight losses normalised averaging moves by eta tau_eff g, whoever took how many steps.

    The authors' count does not: it multiplies with (1 - eta mu) after adding the velocity, and adds 1 more.
    """
    sizes, rate, gradient = [2, 9, 5], 0.1, np.array([1.0, -2.0])
    federation = straight(3, sizes, gradient)
    algorithm = fednova(problem_of(federation), one_row_a_step(rate, momentum=RHO), mu=MU, prox=prox)
    norms = [nova.weights_of_gradients([rate] * n, RHO, MU, prox).sum() for n in sizes]
    p = np.array(sizes) / sum(sizes)
    expected = -rate * (p @ norms) * gradient
    got = run(algorithm, federation, 1, [0.0, 0.0])
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)
    theirs = np.array([nova.authors_count(rate, n, RHO, MU) for n in sizes])
    wrong = -rate * (p @ theirs) * (p @ (np.array(norms) / theirs)) * gradient
    assert np.abs(wrong - expected).max() > 0.01


def test_the_authors_count_is_ours_where_only_one_of_the_two_is_there(x64):
    for momentum, mu in ((0.0, 0.0), (RHO, 0.0), (0.0, MU)):
        ours = nova.weights_of_gradients([0.1] * 7, momentum, mu).sum()
        assert nova.authors_count(0.1, 7, momentum, mu) == pytest.approx(ours, rel=1e-12)


def test_a_rate_that_begins_at_zero(x64):
    """A warm-up: |a| in units of the first rate is infinite, what the server needs of it is not."""
    federation = straight(2, [2, 4], [1.0, -2.0])
    warm = fh.local.schedule(lambda count: 0.1 * count)
    algorithm = fednova(problem_of(federation), one_row_a_step(warm))
    reach = np.array([0.1, 0.6])
    expected = -(np.array([1, 2]) / 3 @ reach) * np.array([1.0, -2.0])
    np.testing.assert_allclose(run(algorithm, federation, 1, [0.0, 0.0]), expected, rtol=0, atol=1e-12)


def test_the_local_schedule_restarts_unless_the_clock_is_asked_for(x64):
    sizes, gradient = [3, 3], np.array([1.0, -2.0])
    federation = straight(2, sizes, gradient)
    rate = fh.local.schedule(halving, 0.1)
    moves = {}
    for clock in ("round", "run"):
        algorithm = fednova(problem_of(federation), one_row_a_step(rate), clock=clock)
        moves[clock] = [run(algorithm, federation, rounds, [0.0, 0.0]) for rounds in (1, 2)]
    rates = 0.1 * 0.8 ** np.arange(6)
    np.testing.assert_allclose(moves["round"][1], -2 * rates[:3].sum() * gradient, atol=1e-12)
    np.testing.assert_allclose(moves["run"][1], -rates.sum() * gradient, atol=1e-12)
    np.testing.assert_allclose(moves["round"][0], moves["run"][0], atol=1e-15)
    by_round = fh.local.geometric(0.1, 0.5)
    algorithm = fednova(problem_of(federation), one_row_a_step(by_round))
    np.testing.assert_allclose(run(algorithm, federation, 2, [0.0, 0.0]), -0.45 * gradient, atol=1e-12)


# --- nobody, somebody -----------------------------------------------------------------------------------------


def test_a_cohort_without_a_step_changes_nothing(x64):
    """Not even by the server's momentum."""
    federation = straight(2, [2, 4], [1.0, -2.0])
    server = fh.local.optimizer(optax.sgd, learning_rate=1.0, momentum=0.9)
    algorithm = fednova(problem_of(federation), one_row_a_step(0.1), server=server)
    sampler = straggling([[0, 1]] * 2, np.array([[1.0, 1.0], [0.1, 0.1]]))
    ends = [rounds_of(algorithm, federation, jax.random.key(0), sampler, n)[0].server for n in (1, 2)]
    for one, two in zip(*map(jax.tree.leaves, ends)):
        np.testing.assert_array_equal(one, two)
    assert float(tree.sum_of_squares(ends[0].opt)) > 0


@pytest.mark.parametrize("mu", [0.0, MU])
def test_equal_steps_are_federated_averaging_or_fedprox(settings, mu):
    """With momentum, and rows of unequal number."""
    setting, start, ends = settings[True], softmax_start(), []
    with jax.enable_x64(True):
        solver = fh.local.sgd(RATE, batch_size=4, steps=5, momentum=RHO)
        algorithms = [
            fednova(setting.problem, solver, mu=mu, prox="inside"),
            fh.algorithms.fedprox(setting.problem, solver, mu=mu),
        ]
        if mu == 0:
            algorithms.append(fh.algorithms.fedavg(setting.problem, solver))
        for algorithm in algorithms:
            sampler = fh.sampling.scripted(COHORTS)
            state, _ = rounds_of(algorithm, setting.federation, setting.key, sampler, 2, server_start(start))
            ends.append(state.server.params["head"])
    for end in ends[1:]:
        for name in end:
            np.testing.assert_allclose(ends[0][name], end[name], rtol=1e-13, atol=1e-13)


def test_derivatives_with_respect_to_mu_and_the_rate(x64):
    """Through two rounds with an empty client, by central differences."""
    federation = quadratic_federation(np.concatenate([A, A[:1]]), np.eye(3, 2), sizes=[2, 5, 0])
    problem = problem_of(federation)
    executor = fh.executors.vmapped()
    round_fn = fh.make_round(fh.sampling.everyone(), executor, differentiable=True)
    solver = fh.local.scanned(one_row_a_step(0.1, momentum=0.5), 5)
    state = begin(fednova(problem, solver, mu=MU), federation, round_fn, [2.0, -1.0])

    def end(numbers):
        rule = fh.local.gradient(numbers[1], 0.5)
        algorithm = fednova(problem, dataclasses.replace(solver, rule=rule), mu=numbers[0])
        return jnp.sum(fh.make_block(round_fn, 2)(algorithm, state, federation)[0].server.params["w"] ** 2)

    at, step = jnp.array([MU, 0.1]), 1e-6
    value, slope = (jax.jit(f) for f in (end, jax.grad(end)))
    expected = [(value(at + step * e) - value(at - step * e)) / (2 * step) for e in np.eye(2)]
    np.testing.assert_allclose(slope(at), expected, rtol=1e-6)


def test_traffic_and_bad_input(settings):
    problem, solver = settings[False].problem, fh.local.sgd(0.1, batch_size=4)
    algorithm = fednova(problem, solver)
    server = jax.eval_shape(lambda: algorithm.init(jax.random.key(0), settings[False].federation)[0])
    cost, plain = algorithm.traffic(server), fh.algorithms.fedavg(problem, solver).traffic(server)
    assert (cost.down, cost.up) == (plain.down, plain.up + 4)
    adam = fh.local.from_optax(optax.adam, learning_rate=0.1, batch_size=4)
    with pytest.raises(ValueError, match=r"solver must be plain or momentum SGD.*fedavg"):
        fednova(problem, adam)
    with pytest.raises(ValueError, match=r"pull must be None"):
        data = settings[False].federation.data("train", settings[False].federation.locate("train", 0, 0))
        adam.solve(jax.random.key(0), None, None, data, pull=0.1)
    with pytest.raises(ValueError, match=r"mu must be >= 0, got -1"):
        fednova(problem, solver, mu=-1)
    with pytest.raises(TypeError, match=r"mu must be a number"):
        fednova(problem, solver, mu="much")
    for name in ("prox", "effective_steps", "clock"):
        with pytest.raises(ValueError, match=rf"{name} must be one of"):
            fednova(problem, solver, **{name: "outsid"})
    with pytest.raises(TypeError, match=r"problem must come before solver"):
        fednova(solver, problem)
