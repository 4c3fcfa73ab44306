"""TERM against its NumPy loop, at its limits, and where the authors' federated code is not the formula."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import fair, methods
from reference.models import Softmax
from reference.setting import COHORTS, RATE, server_start, softmax_start

import fedjax_het as fh
from fedjax_het.algorithms import fedavg, term
from fedjax_het.engine.blocks import block
from fedjax_het.engine.state import initial_state
from fedjax_het.models import quadratic, quadratic_federation
from fedjax_het.pool import Pool

many_rounds = jax.jit(block, static_argnames="rounds")


def last_of(setting, algorithm, start, rounds=3):
    """The server after the cohorts of the setting."""
    round_fn = fh.make_round(fh.sampling.scripted(COHORTS), fh.executors.vmapped())
    state = initial_state(algorithm, setting.federation, key=setting.key, round_fn=round_fn)
    state = server_start(start)(state)
    return many_rounds(round_fn, algorithm, state, setting.federation, rounds=rounds)[0].server


RUNS = [
    (0.8, "proportional", True),
    (0.8, "proportional", False),
    (-1.5, "uniform", True),
    (20.0, "uniform", True),
]


@pytest.mark.parametrize(("t", "base", "x64"), RUNS)
def test_it_is_the_loop(settings, t, base, x64):
    setting, start = settings[x64], softmax_start()
    with jax.enable_x64(x64):
        server = last_of(setting, term(setting.problem, setting.solver(), t=t, weights=base), start)
    setting.same(server.params["head"], setting.reference(fair.term, Softmax, start, t=t, base=base))


def test_without_a_tilt_it_is_fedavg_bit_for_bit(settings):
    """With an optimiser at the server too."""
    setting, start = settings[False], softmax_start()
    rule = fh.local.optimizer(optax.adam, learning_rate=0.05)
    tilted = last_of(setting, term(setting.problem, setting.solver(), t=0, server=rule), start)
    plain = last_of(setting, fedavg(setting.problem, setting.solver(), server=rule), start)
    for name in start:
        np.testing.assert_array_equal(tilted.params["head"][name], plain.params["head"][name])


def test_a_small_tilt_is_near_fedavg(settings):
    setting, start = settings[True], softmax_start()
    plain = setting.reference(methods.fedavg, Softmax, start)
    gaps = []
    with jax.enable_x64(True):
        for t in (1e-2, 1e-4):
            server = last_of(setting, term(setting.problem, setting.solver(), t=t), start)
            gaps.append(np.abs(np.asarray(server.params["head"]["kernel"]) - plain["kernel"]).max())
    assert 0 < gaps[1] < 1e-3 and 50 < gaps[0] / gaps[1] < 200, "the distance is of the order of t"


def test_an_upload_is_weighted_by_the_loss_before_training(settings):
    setting, start, client, t = settings[True], softmax_start(), 5, 1.5
    rows = setting.held[client]
    received = Softmax.loss(start, setting.x[rows], setting.y[rows])
    with jax.enable_x64(True):
        algorithm = term(setting.problem, setting.solver(), t=t)
        round_fn = fh.make_round(fh.sampling.fixed([client]), fh.executors.looped())
        state = initial_state(algorithm, setting.federation, key=setting.key, round_fn=round_fn)
        report = fh.replay(round_fn, algorithm, server_start(start)(state), setting.federation, client)
        weight, exponent = float(report.total["weight"]), float(report.each)
    np.testing.assert_allclose(exponent, t * received, rtol=1e-9)
    np.testing.assert_allclose(weight, np.exp(t * received), rtol=1e-9)


# --- quadratics -----------------------------------------------------------------------------------------------


def bowls(minima, heights):
    """F_k(w) = (w - m_k)^2 / 2 + c_k on the line: (problem, federation)."""
    m, c = np.asarray(minima, np.float64), np.asarray(heights, np.float64)
    federation = quadratic_federation(np.ones((m.size, 1, 1)), b=m[:, None], c=m**2 / 2 + c)
    return quadratic(Pool(federation.x, federation.y, federation.spec.pool)), federation


def run(algorithm, federation, w, rounds):
    """w before the first and after each round."""
    round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped())
    state = initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
    params = {"w": jnp.asarray([w], jnp.result_type(float))}
    state = dataclasses.replace(state, server=dataclasses.replace(state.server, params=params))
    path = [w]
    for _ in range(rounds):
        state, _ = many_rounds(round_fn, algorithm, state, federation, rounds=1)
        path.append(float(state.server.params["w"][0]))
    return path


@pytest.mark.usefixtures("x64")
def test_it_ends_where_the_tilted_risk_is_flat():
    m, c = np.array([0.0, 1.0, 3.0]), np.array([0.2, 0.5, 0.1])
    problem, federation = bowls(m, c)
    ends = {}
    for t in (-0.5, 0.0, 0.5, 3.0):
        w = ends[t] = run(term(problem, fh.local.sgd(0.2, batch_size=None), t=t), federation, 0.4, 300)[-1]
        raised = np.exp(t * ((w - m) ** 2 / 2 + c))
        assert abs((raised * (w - m)).sum() / raised.sum()) < 1e-6
    np.testing.assert_allclose(ends[0.0], m.mean(), atol=1e-6)
    worst = [max((w - m) ** 2 / 2 + c) for w in ends.values()]
    assert worst == sorted(worst, reverse=True) and worst[0] > worst[-1] + 0.5
    assert abs(ends[-0.5] - np.median(m)) < abs(ends[0.0] - np.median(m)), "below 0 it turns from the outlier"


@pytest.mark.parametrize("t", [50.0, -50.0])
def test_no_tilt_overflows_in_single_precision(t):
    """Losses from 1e-3 to 1e3: the worst client alone, or the best, once the reference is known."""
    m = np.linspace(-1, 1, 7)
    problem, federation = bowls(m, np.geomspace(1e-3, 1e3, 7))
    path = run(term(problem, fh.local.sgd(0.3, batch_size=None), t=t), federation, 0.2, 4)
    assert np.isfinite(path).all()
    for before, after in itertools.pairwise(path[1:]):
        F = (before - m) ** 2 / 2 + np.geomspace(1e-3, 1e3, 7)
        raised = np.exp(t * F - max(t * F))
        np.testing.assert_allclose(
            after, before - 0.3 * (raised * (before - m)).sum() / raised.sum(), rtol=2e-3
        )


def test_weights_sum_to_one_from_the_first_round():
    """Equal clients: whatever t, FedAvg's step. A moving average that starts at 0 doubles the first."""
    problem, federation = bowls([1.0, 1.0, 1.0], [0.4, 0.4, 0.4])
    path = run(term(problem, fh.local.sgd(0.25, batch_size=None), t=2.0), federation, 0.0, 3)
    np.testing.assert_allclose(path, 1 - 0.75 ** np.arange(4), rtol=1e-5)


def test_what_is_refused(settings):
    problem, solver = settings[False].problem, settings[False].solver()
    with pytest.raises(ValueError, match=r"t must be finite, got inf: above 0 is fair"):
        term(problem, solver, t=np.inf)
    with pytest.raises(TypeError, match=r"t must be a number, got None"):
        term(problem, solver, t=None)
    with pytest.raises(ValueError, match=r"weights must be .*, got 'rows': uniform, proportional"):
        term(problem, solver, weights="rows")
    with pytest.raises(TypeError, match=r"server must be made by fh.local.optimizer, got float"):
        term(problem, solver, server=RATE)
