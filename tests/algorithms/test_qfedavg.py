"""q-FedAvg and q-FedSGD against their NumPy loops, in closed form, at their limits, where public code errs."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import fair, methods
from reference.models import Softmax
from reference.setting import COHORTS, RATE, SIZES, server_start, softmax_start

import fedjax_het as fh
from fedjax_het.algorithms import qfedavg, qfedsgd
from fedjax_het.engine.blocks import block
from fedjax_het.engine.sampling import Draw
from fedjax_het.engine.state import initial_state
from fedjax_het.models import quadratic, quadratic_federation
from fedjax_het.pool import Pool

many_rounds = jax.jit(block, static_argnames="rounds")


def last_of(setting, algorithm, start, rounds=3):
    """The server's params after the cohorts of the setting."""
    round_fn = fh.make_round(fh.sampling.scripted(COHORTS), fh.executors.vmapped())
    state = initial_state(algorithm, setting.federation, key=setting.key, round_fn=round_fn)
    state = server_start(start)(state)
    return many_rounds(round_fn, algorithm, state, setting.federation, rounds=rounds)[0].server


RUNS = [
    (0.0, "uniform", True),
    (1.0, "uniform", True),
    (1.0, "uniform", False),
    (2.5, "proportional", True),
    (5.0, "uniform", False),
]


@pytest.mark.parametrize(("q", "base", "x64"), RUNS)
@pytest.mark.parametrize("method", [qfedavg, qfedsgd], ids=["avg", "sgd"])
def test_it_is_the_loop(settings, method, q, base, x64):
    setting, start = settings[x64], softmax_start()
    loop = {"qfedavg": fair.qfedavg, "qfedsgd": fair.qfedsgd}[method.__name__]
    with jax.enable_x64(x64):
        server = last_of(setting, method(setting.problem, setting.solver(), q=q, weights=base), start)
    setting.same(server.params["head"], setting.reference(loop, Softmax, start, q=q, base=base))


def test_the_lipschitz_constant_is_fixed_by_the_first_rate(settings):
    """Under a schedule too, 1/eta_0; and a number of its own takes its place."""
    setting, start = settings[True], softmax_start()
    expected = setting.reference(fair.qfedavg, Softmax, start, q=1.5, decay=0.6)
    moving = setting.reference(fair.qfedavg, Softmax, start, q=1.5, decay=0.6, smooth=2.0)
    with jax.enable_x64(True):
        falling = fh.local.sgd(fh.local.geometric(RATE, 0.6), batch_size=4, epochs=2)
        setting.same(last_of(setting, qfedavg(setting.problem, falling, q=1.5), start).params["head"], expected)
        given = qfedavg(setting.problem, falling, q=1.5, lipschitz=2.0)
        setting.same(last_of(setting, given, start).params["head"], moving)
    assert np.abs(moving["kernel"] - expected["kernel"]).max() > 1e-3


def test_without_q_sizes_do_not_count(settings):
    """The uniform mean of y_k, as the documentation says; FedAvg's weights are another mean."""
    setting, start = settings[True], softmax_start()
    ends = []
    for k in (k for k in COHORTS[0] if SIZES[k]):
        alone = methods.fedavg(
            Softmax, start, setting.x, setting.y, setting.held, setting.batches, [[k]], rate=RATE
        )
        ends.append(alone)
    mean = {name: np.mean([end[name] for end in ends], axis=0) for name in start}
    weighted = methods.fedavg(
        Softmax, start, setting.x, setting.y, setting.held, setting.batches, COHORTS[:1], rate=RATE
    )
    with jax.enable_x64(True):
        solver = setting.solver()
        setting.same(last_of(setting, qfedavg(setting.problem, solver, q=0), start, 1).params["head"], mean)
        by_rows = qfedavg(setting.problem, solver, q=0, weights="proportional")
        setting.same(last_of(setting, by_rows, start, 1).params["head"], weighted)
    assert np.abs(mean["kernel"] - weighted["kernel"]).max() > 1e-2


def test_an_upload_is_of_the_loss_before_training(settings):
    """F_k at the received w, not after local work; L (w - y_k) and not zero; h_k in the denominator alone."""
    setting, start, q, client = settings[True], softmax_start(), 1.5, 5
    rows = setting.held[client]
    received = Softmax.loss(start, setting.x[rows], setting.y[rows])
    end = methods.fedavg(
        Softmax, start, setting.x, setting.y, setting.held, setting.batches, [[client]], rate=RATE
    )
    after = Softmax.loss(end, setting.x[rows], setting.y[rows])
    assert abs(received - after) > 0.1
    with jax.enable_x64(True):
        algorithm = qfedavg(setting.problem, setting.solver(), q=q)
        round_fn = fh.make_round(fh.sampling.fixed([client]), fh.executors.looped())
        state = initial_state(algorithm, setting.federation, key=setting.key, round_fn=round_fn)
        state = server_start(start)(state)
        report = fh.replay(round_fn, algorithm, state, setting.federation, client)
        info, total, each = report.info, report.total, float(report.each)
    np.testing.assert_allclose(each, q * np.log(received), rtol=1e-9)
    g = {name: (start[name] - end[name]) / RATE for name in start}
    step = {name: received**q * leaf for name, leaf in g.items()}
    for name in start:
        np.testing.assert_allclose(total["step"]["head"][name], step[name], rtol=1e-7, atol=1e-9)
        assert np.abs(step[name]).max() > 0.1
    square = sum((leaf**2).sum() for leaf in g.values())
    np.testing.assert_allclose(
        total["curvature"], q * received ** (q - 1) * square + received**q / RATE, rtol=1e-7
    )
    assert int(info["steps"]) == len(setting.batches[0][client])


# --- quadratics -----------------------------------------------------------------------------------------------


def bowls(curvatures, minima, heights, sizes=None):
    """F_k(w) = a_k/2 (w - m_k)^2 + c_k on the line: (problem, federation)."""
    a, m, c = (np.asarray(values, np.float64) for values in (curvatures, minima, heights))
    federation = quadratic_federation(
        a[:, None, None], b=(a * m)[:, None], c=a * m**2 / 2 + c, sizes=sizes, name="bowls"
    )
    return quadratic(Pool(federation.x, federation.y, federation.spec.pool)), federation


def run(algorithm, federation, w, rounds, sampler=None):
    """States before the first and after each round, from w."""
    round_fn = fh.make_round(fh.sampling.everyone() if sampler is None else sampler, fh.executors.vmapped())
    state = initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
    params = {"w": jnp.asarray([w], jnp.result_type(float))}
    states = [dataclasses.replace(state, server=dataclasses.replace(state.server, params=params))]
    for _ in range(rounds):
        states.append(many_rounds(round_fn, algorithm, states[-1], federation, rounds=1)[0])
    return states


def points(states):
    return np.array([float(state.server.params["w"][0]) for state in states])


def full_step(rate, steps=1):
    return fh.local.sgd(rate, batch_size=None, steps=steps)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("method", [qfedavg, qfedsgd], ids=["avg", "sgd"])
def test_a_single_client_by_hand(method):
    """w - g / (q g^2 / F + L): the power of F cancels, and steps shrink with q."""
    problem, federation = bowls([1.5], [2.0], [0.3])
    moves = []
    for q in (0.0, 0.5, 3.0, 15.0):
        w = -1.0
        F, g = 0.75 * (w - 2) ** 2 + 0.3, 1.5 * (w - 2)
        after = points(run(method(problem, full_step(0.1), q=q), federation, w, 1))[-1]
        np.testing.assert_allclose(after, w - g / (q * g**2 / F + 10), rtol=1e-9)
        moves.append(abs(after - w))
    assert moves == sorted(moves, reverse=True) and moves[-1] > 0


@pytest.mark.usefixtures("x64")
def test_it_ends_where_the_objective_is_flat():
    """sum F_k^q grad F_k = 0. An objective sum F_k^q has its minimum elsewhere, and q = 0 is no constant."""
    a, m, c = np.array([1.0, 0.5, 2.0]), np.array([0.0, 1.0, 3.0]), np.array([0.2, 0.5, 0.1])
    problem, federation = bowls(a, m, c)
    ends = {}
    for q in (0.0, 1.0, 4.0):
        w = ends[q] = points([run(qfedavg(problem, full_step(0.2), q=q), federation, 0.4, 400)[-1]])[0]
        F, g = a / 2 * (w - m) ** 2 + c, a * (w - m)
        assert abs((F**q * g).sum()) < 1e-6 * (F**q).sum()
        if q > 0:
            assert abs((F ** (q - 1) * g).sum()) > 1e-2 * (F ** (q - 1)).sum()
    np.testing.assert_allclose(ends[0.0], (a * m).sum() / a.sum(), atol=1e-6)
    spreads = [np.ptp(a / 2 * (w - m) ** 2 + c) for w in ends.values()]
    assert spreads[0] > spreads[1] > spreads[2], "the larger q, the more even the losses"


@pytest.mark.parametrize("method", [qfedavg, qfedsgd], ids=["avg", "sgd"])
def test_a_power_of_fifteen_stays_finite_in_single_precision(method):
    """Losses over six decades: F^15 alone would be 1e45. From the second round on, to the digits of float64."""
    a, m = np.ones(7), np.zeros(7)
    c = np.geomspace(1e-3, 1e3, 7)
    m = m + np.linspace(0.5, -0.5, 7)
    problem, federation = bowls(a, m, c)
    path = points(run(method(problem, full_step(0.3), q=15.0), federation, 0.2, 4))
    assert np.isfinite(path).all() and len(set(path)) == 5
    for before, after in itertools.pairwise(path[1:]):
        F, g = a / 2 * (before - m) ** 2 + c, a * (before - m)
        step = (F**15 * g).sum() / (15 * F**14 * g**2 + F**15 / 0.3).sum()
        np.testing.assert_allclose(before - after, step, rtol=1e-3)


def test_losses_that_fall_out_of_reach_leave_a_finite_step():
    """Nothing of the cohort is near the last reference, or all of it is far above."""
    problem, federation = bowls([1.0, 1.0], [0.0, 1.0], [1e-6, 1e-6])
    for reference in (500.0, -500.0):
        algorithm = qfedavg(problem, full_step(0.3), q=5.0)
        round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped())
        state = initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
        server = dataclasses.replace(
            state.server, reference=jnp.float32(reference), params={"w": jnp.asarray([0.3], jnp.float32)}
        )
        state = dataclasses.replace(state, server=server)
        after = many_rounds(round_fn, algorithm, state, federation, rounds=1)[0].server
        assert np.isfinite(np.asarray(after.params["w"])).all() and float(after.params["w"][0]) != 0.3
        expected = 5 * np.log(0.7**2 / 2)
        np.testing.assert_allclose(after.reference, expected, rtol=1e-4)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Twice:
    """Clients 0 and 1, the first drawn twice."""

    def init(self, num_clients):
        return ()

    def draw(self, state, key, round_, sizes, last_loss):
        return Draw(jnp.arange(2, dtype=jnp.int32), jnp.asarray([2.0, 1.0]), jnp.ones(2)), state


def test_who_is_drawn_twice_counts_twice():
    once, twice = bowls([1.0, 2.0], [0.0, 1.0], [0.5, 0.2]), bowls([1, 1, 2], [0, 0, 1], [0.5, 0.5, 0.2])
    for method in (qfedavg, qfedsgd):
        drawn = points(run(method(once[0], full_step(0.3), q=2.0), once[1], 0.8, 2, Twice()))
        there = points(run(method(twice[0], full_step(0.3), q=2.0), twice[1], 0.8, 2))
        np.testing.assert_allclose(drawn, there, rtol=1e-5)


@pytest.mark.usefixtures("x64")
def test_one_gradient_whatever_the_solver_plans():
    """q-FedSGD: batches of one row of two equal ones; epochs and steps do not matter."""
    problem, federation = bowls([1.0, 2.0], [0.0, 1.0], [0.5, 0.2], sizes=[2, 3])
    paths = []
    for plan in ({"steps": 1}, {"steps": 5}, {"epochs": 3}):
        solver = fh.local.sgd(0.3, batch_size=1, **plan)
        paths.append(points(run(qfedsgd(problem, solver, q=2.0), federation, 0.8, 2)))
    np.testing.assert_array_equal(paths[0], paths[1])
    np.testing.assert_array_equal(paths[0], paths[2])
    F = np.array([0.8**2 / 2 + 0.5, 0.2**2 + 0.2])
    g = np.array([0.8, -0.4])
    step = (F**2 * g).sum() / (2 * F * g**2 + F**2 / 0.3).sum()
    np.testing.assert_allclose(paths[0][1], 0.8 - step, rtol=1e-9)


def test_what_is_refused(settings):
    problem, solver = settings[False].problem, settings[False].solver()
    adam = fh.local.from_optax(optax.adam, learning_rate=0.1, batch_size=4)
    for method in (qfedavg, qfedsgd):
        with pytest.raises(ValueError, match=r"q must be >= 0, got -1: 0 averages"):
            method(problem, solver, q=-1)
        with pytest.raises(TypeError, match=r"q must be a number, got 'x'"):
            method(problem, solver, q="x")
        with pytest.raises(ValueError, match=r"lipschitz must be > 0, got 0: None takes"):
            method(problem, solver, lipschitz=0)
        with pytest.raises(
            ValueError, match=r"lipschitz must be given for an optax solver, got None: .* pass 1"
        ):
            method(problem, adam)
        with pytest.raises(
            ValueError, match=r"weights must be .*, got 'proportion': did you mean 'proportional'"
        ):
            method(problem, solver, weights="proportion")
        with pytest.raises(TypeError, match="problem must come before solver"):
            method(solver, problem)
        assert method(problem, adam, lipschitz=3.0).lipschitz == 3
