"""FedAvgM, FedAdagrad, FedAdam, FedYogi: against NumPy loops, in closed form, and what others got wrong."""

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from counting import compile_count
from reference import fedopt, quadratics
from reference.models import Softmax
from reference.setting import RATE, SIZES, server_start, softmax_start, three_rounds

import fedjax_het as fh
from fedjax_het.algorithms import fedadagrad, fedadam, fedavgm, fedyogi
from fedjax_het.engine.blocks import block
from fedjax_het.engine.state import initial_state
from fedjax_het.experiment.choices import CHOICES
from fedjax_het.local import Clock
from fedjax_het.models import quadratic, quadratic_federation
from fedjax_het.pool import Pool

ADAPTIVE = {"fedadagrad": fedadagrad, "fedadam": fedadam, "fedyogi": fedyogi}
RATES = {"fedadagrad": 0.1, "fedadam": 0.01, "fedyogi": 0.01}
"""The default server rates."""

both = pytest.mark.parametrize("x64", [True, False], ids=["x64", "float32"])


@dataclasses.dataclass(frozen=True)
class Variant:
    """A method with its options, and the same as a rule of the reference."""

    build: Callable[..., Any]
    rule: Callable[..., Any]


VARIANTS = {
    "fedavgm": Variant(fedavgm, functools.partial(fedopt.fedavgm, rate=1.0)),
    "fedavgm, nesterov": Variant(
        functools.partial(fedavgm, server_learning_rate=0.7, momentum=0.6, nesterov=True),
        functools.partial(fedopt.fedavgm, rate=0.7, beta=0.6, nesterov=True),
    ),
    "fedadagrad, b1 = 0": Variant(
        functools.partial(fedadagrad, b1=0.0, tau=0.05),
        functools.partial(fedopt.paper, name="fedadagrad", rate=0.1, b1=0.0, tau=0.05),
    ),
    "fedadam, numbers": Variant(
        functools.partial(fedadam, server_learning_rate=0.2, b1=0.5, b2=0.8, tau=0.1),
        functools.partial(fedopt.paper, name="fedadam", rate=0.2, b1=0.5, b2=0.8, tau=0.1),
    ),
    "fedyogi, numbers": Variant(
        functools.partial(fedyogi, server_learning_rate=0.2, b1=0.5, b2=0.8, tau=0.1, mode="keras"),
        functools.partial(fedopt.keras, name="fedyogi", rate=0.2, b1=0.5, b2=0.8, tau=0.1),
    ),
}
for _name, _build in ADAPTIVE.items():
    for _mode, _rule in (("paper", fedopt.paper), ("keras", fedopt.keras)):
        VARIANTS[f"{_name}, {_mode}"] = Variant(
            functools.partial(_build, mode=_mode), functools.partial(_rule, name=_name, rate=RATES[_name])
        )


# --- against the loops ----------------------------------------------------------------------------------------


SINGLE = ("fedavgm", "fedadagrad, paper", "fedadam, keras", "fedyogi, paper")
"""Run in float32 too, on federations; every variant is, on a script of updates."""


@pytest.mark.parametrize(
    ("name", "x64"),
    [(name, True) for name in VARIANTS if "=" not in name and "numbers" not in name]
    + [(name, False) for name in SINGLE],
)
def test_three_rounds(settings, name, x64):
    setting, start, variant = settings[x64], softmax_start(), VARIANTS[name]
    with jax.enable_x64(x64):
        algorithm = variant.build(setting.problem, setting.solver())
        state, _ = three_rounds(algorithm, setting.federation, setting.key, server_start(start))
    expected = setting.reference(fedopt.fedopt, Softmax, start, rule=variant.rule)
    setting.same(state.server.params["head"], expected)


SCRIPT = np.array(
    [
        [0.3, -2.0, 1e-4, 0.0, 0.05],
        [0.3, 0.5, -1e-4, 0.0, -0.05],
        [-0.1, 0.4, 2e-3, 0.0, 0.05],
        [0.0, 0.3, 5e-5, 1.5, -0.04],
        [0.3, -1e-3, 0.0, -1e-2, 0.02],
        [1.0, -1e-3, 4e-4, 0.0, -0.01],
        [-0.2, 2e-3, 0.7, 0.0, 0.0],
    ]
)
"""Deltas of seven rounds: of both signs, far above and below tau, falling, rising, and 0 for a while."""


def scanned(rule, deltas):
    """What a server rule, fed these Deltas, moves w by in each round; and its state after the last."""

    def one(state, given):
        delta, number = given
        clock = Clock(number, number, jnp.zeros((), jnp.int32))
        params, state = rule.step({"w": jnp.zeros_like(delta)}, {"w": -delta}, state, clock)
        return state, params["w"]

    rounds = jnp.arange(len(deltas), dtype=jnp.int32)
    state, changes = jax.lax.scan(one, rule.init({"w": deltas[0]}), (deltas, rounds))
    return changes, state


_scan = jax.jit(scanned)


def moved(rule, deltas):
    """`scanned`, of Deltas of the precision at hand, in NumPy's float64."""
    changes, state = _scan(rule, jnp.asarray(deltas, jnp.result_type(float)))
    return np.asarray(changes, np.float64), state


def server_of(settings, build, x64=True):
    setting = settings[x64]
    return build(setting.problem, setting.solver()).server


@both
@pytest.mark.parametrize("name", VARIANTS)
def test_a_script_of_updates(settings, name, x64):
    with jax.enable_x64(x64):
        got, _ = moved(server_of(settings, VARIANTS[name].build, x64), SCRIPT)
    expected = fedopt.path(VARIANTS[name].rule(SCRIPT.shape[1]), SCRIPT)
    tolerance = 1e-12 if x64 else 1e-4
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


# --- closed forms on a steady update --------------------------------------------------------------------------

STEADY = np.array([0.5, -2.0, 1e-3, -1e-5])
ROUNDS = 12


def steady(settings, build):
    """The changes of w over rounds whose Delta is always the same, [T, d]."""
    with jax.enable_x64(True):
        return moved(server_of(settings, build), np.tile(STEADY, (ROUNDS, 1)))[0]


S = np.arange(1, ROUNDS + 1)[:, None]
TAU = 1e-3


def test_momentum_carries_over_rounds(settings):
    """Started anew every round, or averaged with 1 - beta, every step would be Delta, or (1 - beta) Delta."""
    beta = 0.9
    total = (1 - beta**S) / (1 - beta)
    np.testing.assert_allclose(steady(settings, fedavgm), total * STEADY, rtol=1e-12)
    ahead = steady(settings, functools.partial(fedavgm, nesterov=True))
    np.testing.assert_allclose(ahead, (1 - beta ** (S + 1)) / (1 - beta) * STEADY, rtol=1e-12)


@pytest.mark.parametrize("name", ADAPTIVE)
def test_no_bias_is_corrected_in_mode_paper(settings, name):
    rate, build = RATES[name], ADAPTIVE[name]
    size, b1, b2 = np.abs(STEADY), 0.9, 0.99
    second = {
        "fedadagrad": TAU**2 + S * size**2,
        "fedadam": b2**S * TAU**2 + (1 - b2**S) * size**2,
        "fedyogi": TAU**2 + np.sign(size**2 - TAU**2) * (1 - b2) * S * size**2,
    }[name]
    expected = rate * (1 - b1**S) * STEADY / (np.sqrt(second) + TAU)
    np.testing.assert_allclose(steady(settings, build), expected, rtol=1e-12)


@pytest.mark.parametrize("name", ADAPTIVE)
def test_bias_is_corrected_in_mode_keras(settings, name):
    """From the first step on: for Adam tau / sqrt(1 - b2^s) is all that distinguishes steady rounds."""
    rate, build = RATES[name], functools.partial(ADAPTIVE[name], mode="keras")
    size, b1, b2 = np.abs(STEADY), 0.9, 0.999
    if name == "fedadagrad":
        expected = rate * STEADY / (np.sqrt(S) * size + TAU)
    elif name == "fedadam":
        expected = rate * STEADY / (size + TAU / np.sqrt(1 - b2**S))
    else:
        root = np.sqrt(S * (1 - b2)) * size + TAU
        expected = rate * np.sqrt(1 - b2**S) / (1 - b1**S) * (1 - b1**S) * STEADY / root
    np.testing.assert_allclose(steady(settings, build), expected, rtol=1e-12)


def test_the_two_modes_by_numbers(settings):
    """First two steps of FedAdam for Delta = 0.5 and -2, b2 = 0.999: the printed rule is 3.1 times as long."""
    paper = steady(settings, functools.partial(fedadam, b2=0.999))
    keras = steady(settings, functools.partial(fedadam, mode="keras"))
    np.testing.assert_allclose(paper[0, :2], [0.029686015, -0.031126733], rtol=0, atol=6e-10)
    np.testing.assert_allclose(keras[0, :2], [0.009405165, -0.009844347], rtol=0, atol=6e-10)
    np.testing.assert_allclose(paper[1, :2], [0.040637540, -0.042023342], rtol=0, atol=6e-10)
    np.testing.assert_allclose(keras[1, :2], [0.009571828, -0.009889405], rtol=0, atol=6e-10)


@pytest.mark.parametrize("tau", [1e-3, 1e-9])
def test_the_first_step_is_not_optaxs(settings, tau):
    """Their ratio is known: (1 - b1) / sqrt(1 - b2) for a constant far below the update."""
    b1, b2, update = 0.9, 0.999, STEADY[:2]
    ours = functools.partial(fedadam, b1=b1, b2=b2, tau=tau)
    with jax.enable_x64(True):
        other = fh.local.optimizer(optax.adam, learning_rate=0.01, b1=b1, b2=b2, eps=tau)
        theirs, _ = moved(other, update[None])
        mine, _ = moved(server_of(settings, ours), update[None])
    size = np.abs(update)
    ratio = (1 - b1) * (size + tau) / (np.sqrt(b2 * tau**2 + (1 - b2) * size**2) + tau)
    np.testing.assert_allclose(mine / theirs, ratio[None], rtol=1e-10)
    if tau == 1e-9:
        np.testing.assert_allclose(mine / theirs, (1 - b1) / np.sqrt(1 - b2), rtol=1e-6)


def test_keras_adds_tau_before_the_correction(settings):
    """To the root of v as it is; optax, which adds it after, takes the same first step with another tau."""
    ours = functools.partial(fedadam, mode="keras")
    with jax.enable_x64(True):
        other = fh.local.optimizer(optax.adam, learning_rate=0.01, b1=0.9, b2=0.999, eps=TAU / np.sqrt(1e-3))
        theirs, _ = moved(other, STEADY[None])
        mine, _ = moved(server_of(settings, ours), STEADY[None])
    np.testing.assert_allclose(mine, theirs, rtol=1e-10)


# --- what public code got wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["paper", "keras"])
@pytest.mark.parametrize("name", ["fedadam", "fedyogi"])
def test_the_second_moment_is_of_updates_and_the_step_of_the_first_moment(settings, name, mode):
    """Updates of alternating sign: m all but cancels, v does not; mixed up, v shrinks or steps alternate."""
    b1, b2, size = 0.9, 0.95, 0.5
    deltas = size * (-1.0) ** np.arange(200)[:, None]
    build = functools.partial(ADAPTIVE[name], b1=b1, b2=b2, mode=mode)
    with jax.enable_x64(True):
        changes, state = moved(server_of(settings, build), deltas)
    first, second = state.m["w"], state.v["w"]
    np.testing.assert_allclose(first, (1 - b1) / (1 + b1) * deltas[-1], rtol=1e-6)
    np.testing.assert_allclose(second, size**2, rtol=0.06)
    expected = RATES[name] * np.asarray(first) / (np.sqrt(np.asarray(second)) + TAU)
    np.testing.assert_allclose(changes[-1], expected, rtol=1e-4)


def test_yogi_moves_by_the_sign_and_not_by_the_difference(settings):
    """After large updates v falls by (1 - b2) Delta^2 a round, Adam's by the factor b2."""
    b2, large, small = 0.9, 4.0, 0.5
    deltas = np.array([[large]] * 3 + [[small]] * 4)
    start = TAU**2 + 3 * (1 - b2) * large**2
    with jax.enable_x64(True):
        yogi = moved(server_of(settings, functools.partial(fedyogi, b2=b2)), deltas)[1].v["w"]
        adam = moved(server_of(settings, functools.partial(fedadam, b2=b2)), deltas)[1].v["w"]
    np.testing.assert_allclose(yogi, start - 4 * (1 - b2) * small**2, rtol=1e-12)
    before = b2**3 * TAU**2 + (1 - b2**3) * large**2
    np.testing.assert_allclose(adam, b2**4 * before + (1 - b2**4) * small**2, rtol=1e-12)


def test_yogi_keeps_its_second_moment_where_the_squares_agree(settings):
    with jax.enable_x64(True):
        build = functools.partial(fedyogi, b2=0.0, tau=0.5, mode="paper")
        _, state = moved(server_of(settings, build), np.full((3, 1), 0.5))
    np.testing.assert_array_equal(state.v["w"], 0.25)


# --- quadratics -----------------------------------------------------------------------------------------------

WEIGHTS = np.array([1, 2, 3, 6])
LOCAL_RATE, STEPS = 0.3, 5


@functools.cache
def round_of_all():
    return fh.make_round(fh.sampling.everyone(), fh.executors.vmapped())


_run = jax.jit(block, static_argnames="rounds")


def bowls():
    """Four clients with different curvatures, the problem, and the point where their mean update is 0."""
    A, a = quadratics.functions()
    federation = quadratic_federation(A, a, sizes=WEIGHTS)
    problem = quadratic(Pool(federation.x, federation.y, federation.spec.pool))
    limit = quadratics.fedprox_limit(A, a, WEIGHTS / WEIGHTS.sum(), rate=LOCAL_RATE, steps=STEPS, mu=0.0)
    return federation, problem, limit


def local():
    return fh.local.sgd(LOCAL_RATE, batch_size=None, steps=STEPS)


def started(algorithm, federation, start, round_fn):
    state = initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
    server = dataclasses.replace(state.server, params={"w": jnp.asarray(start)})
    return dataclasses.replace(state, server=server)


POINTS = {
    "fedavgm": functools.partial(fedavgm, momentum=0.5, nesterov=True),
    "fedadagrad": functools.partial(fedadagrad, server_learning_rate=1.0),
    "fedadam": fedadam,
    "fedyogi, keras": functools.partial(fedyogi, server_learning_rate=0.1, mode="keras"),
}


@pytest.mark.parametrize("name", POINTS)
def test_the_server_does_not_move_the_limit(name):
    """It is that of federated averaging, biased as it is, whatever the server makes of an update."""
    with jax.enable_x64(True):
        federation, problem, limit = bowls()
        algorithm, round_fn = POINTS[name](problem, local()), round_of_all()
        ends = []
        for start in (limit, limit + np.array([0.5, -1.0, 0.2])):
            state = started(algorithm, federation, start, round_fn)
            ends.append(_run(round_fn, algorithm, state, federation, rounds=3000)[0].server.params["w"])
    np.testing.assert_allclose(ends, [limit, limit], rtol=0, atol=1e-9)


def test_heavy_ball():
    """w+ = w + eta_g Delta(w) + beta (w - w-): no m, but two models, and the plain round in closed form."""
    beta, eta = 0.8, 0.6
    A, a = quadratics.functions()
    pulls = [np.eye(3) - np.linalg.matrix_power(np.eye(3) - LOCAL_RATE * matrix, STEPS) for matrix in A]
    models = [np.array([1.0, -2.0, 0.5])] * 2
    with jax.enable_x64(True):
        federation, problem, _ = bowls()
        algorithm = fedavgm(problem, local(), server_learning_rate=eta, momentum=beta)
        state = started(algorithm, federation, models[0], round_of_all())
        for _ in range(5):
            shares = WEIGHTS / WEIGHTS.sum()
            update = sum(p * P @ (b - models[-1]) for p, P, b in zip(shares, pulls, a))
            models.append(models[-1] + eta * update + beta * (models[-1] - models[-2]))
            state = _run(round_of_all(), algorithm, state, federation, rounds=1)[0]
            np.testing.assert_allclose(state.server.params["w"], models[-1], rtol=0, atol=1e-12)


# --- rounds without anybody -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fedavgm", "fedadam, keras", "fedyogi, paper"])
def test_an_empty_round_is_no_step(settings, name):
    """When only the empty client is drawn: no moment decays, and the next step is the second, not the third."""
    setting, start, nobody = settings[True], softmax_start(), SIZES.index(0)
    build, rule = VARIANTS[name].build, VARIANTS[name].rule
    with jax.enable_x64(True):
        algorithm, federation = build(setting.problem, setting.solver()), setting.federation
        round_fn = fh.make_round(fh.sampling.scripted([[0], [nobody], [5]]), fh.executors.vmapped())
        state = initial_state(algorithm, federation, key=setting.key, round_fn=round_fn)
        states = [server_start(start)(state)]
        for _ in range(3):
            states.append(_run(round_fn, algorithm, states[-1], federation, rounds=1)[0])
    _, first, second, third = states
    for before, after in zip(jax.tree.leaves(first.server), jax.tree.leaves(second.server), strict=True):
        np.testing.assert_array_equal(before, after)
    assert int(second.round) == int(first.round) + 1
    batches = [setting.batches[0], setting.batches[2]]
    expected = fedopt.fedopt(
        Softmax, start, setting.x, setting.y, setting.held, batches, [[0], [5]], rate=RATE, rule=rule
    )
    setting.same(third.server.params["head"], expected)


# --- numbers --------------------------------------------------------------------------------------------------


def test_a_changed_number_compiles_nothing(settings):
    with jax.enable_x64(True):
        first = server_of(settings, fedadam)
        other = server_of(
            settings, functools.partial(fedadam, server_learning_rate=0.3, b1=0.0, b2=0.9, tau=0.2)
        )
        deltas = jnp.asarray(SCRIPT)
        before, _ = _scan(first, deltas)
        with compile_count() as count:
            after, _ = _scan(other, deltas)
    assert count.value == 0
    assert np.abs(np.asarray(after) - np.asarray(before)).max() > 0.01


def test_numbers_may_be_arrays_of_them(settings):
    """A sweep over all numbers of the server is a `vmap`, of the start of v too."""
    setting = settings[True]
    grid: dict[str, Any] = {
        "b1": [0.0, 0.9],
        "b2": [0.5, 0.99],
        "tau": [1e-3, 0.3],
        "server_learning_rate": [0.01, 0.4],
    }
    with jax.enable_x64(True):
        arrays: dict[str, Any] = {name: jnp.asarray(values) for name, values in grid.items()}
        swept = fedadam(setting.problem, setting.solver(), **arrays)
        together, _ = jax.vmap(lambda server: scanned(server, jnp.asarray(SCRIPT)))(swept.server)
        for place in range(2):
            alone = functools.partial(fedadam, **{name: values[place] for name, values in grid.items()})
            expected, _ = moved(server_of(settings, alone), SCRIPT)
            np.testing.assert_allclose(together[place], expected, rtol=1e-13)


@pytest.mark.parametrize("mode", ["paper", "keras"])
@pytest.mark.parametrize("name", ADAPTIVE)
def test_derivatives_where_nothing_has_moved_yet(settings, name, mode):
    """The root of v = 0 has no slope: an entry whose updates are all 0 must not make a NaN of the others'."""
    setting = settings[True]

    def end(scale, tau, rate):
        build = ADAPTIVE[name]
        server = build(setting.problem, setting.solver(), tau=tau, server_learning_rate=rate, mode=mode).server
        return jnp.sum(scanned(server, scale * jnp.asarray(SCRIPT))[0] ** 2)

    with jax.enable_x64(True):
        value = jax.jit(end)
        slopes = jax.jit(jax.grad(end, argnums=(0, 1, 2)))(1.0, 1e-3, 0.1)
        near = 1e-4
        by_scale = (value(1 + near, 1e-3, 0.1) - value(1 - near, 1e-3, 0.1)) / (2 * near)
        by_tau = (value(1.0, 1e-3 * (1 + near), 0.1) - value(1.0, 1e-3 * (1 - near), 0.1)) / (2e-3 * near)
        by_rate = 2 * value(1.0, 1e-3, 0.1) / 0.1
    np.testing.assert_allclose(slopes, [by_scale, by_tau, by_rate], rtol=1e-5)


def test_the_rate_may_be_a_schedule_over_rounds(settings):
    """It multiplies m where m is applied: what entered m under an earlier rate counts under the present one."""
    with jax.enable_x64(True):
        halving = functools.partial(fedavgm, server_learning_rate=fh.local.geometric(0.4, 0.5))
        got, _ = moved(server_of(settings, halving), SCRIPT)
    factors = 0.4 * 0.5 ** np.arange(len(SCRIPT))
    expected = factors[:, None] * fedopt.path(fedopt.fedavgm(SCRIPT.shape[1], rate=1.0), SCRIPT)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-15)


REFUSED = {
    "momentum of 1": (fedavgm, {"momentum": 1.0}, ValueError, "momentum", "1.0", "FedAvg"),
    "negative momentum": (fedavgm, {"momentum": -0.1}, ValueError, "momentum", "-0.1", "FedAvg"),
    "momentum as text": (fedavgm, {"momentum": "0.9"}, TypeError, "momentum", "'0.9'", "FedAvg"),
    "nesterov as a number": (fedavgm, {"nesterov": 1}, TypeError, "nesterov", "1", "plain momentum"),
    "b1 for Keras's Adagrad": (fedadagrad, {"mode": "keras", "b1": 0.9}, ValueError, "b1", "0.9", "b1=0"),
}
for _name, _build in {"fedavgm": fedavgm, **ADAPTIVE}.items():
    REFUSED[f"{_name}, no rate"] = (
        _build,
        {"server_learning_rate": 0.0},
        ValueError,
        "server_learning_rate",
        "0.0",
        "positive",
    )
for _name, _build in ADAPTIVE.items():
    REFUSED |= {
        f"{_name}, tau of 0": (_build, {"tau": 0.0}, ValueError, "tau", "0.0", "usual"),
        f"{_name}, negative tau": (_build, {"tau": -1e-3}, ValueError, "tau", "-0.001", "usual"),
        f"{_name}, b1 of 1": (_build, {"b1": 1.0}, ValueError, "b1", "1.0", "no momentum"),
        f"{_name}, unknown mode": (_build, {"mode": "kears"}, ValueError, "mode", "'kears'", "'keras'"),
    }
for _name in ("fedadam", "fedyogi"):
    REFUSED |= {
        f"{_name}, b2 of 1": (ADAPTIVE[_name], {"b2": 1.0}, ValueError, "b2", "1.0", "0.99"),
        f"{_name}, negative b2": (ADAPTIVE[_name], {"b2": -0.5}, ValueError, "b2", "-0.5", "0.99"),
    }


@pytest.mark.parametrize("name", REFUSED)
def test_bad_numbers_are_refused(settings, name):
    build, options, kind, argument, value, remedy = REFUSED[name]
    with pytest.raises(kind) as caught:
        build(settings[False].problem, settings[False].solver(), **options)
    message = str(caught.value)
    assert re.match(rf"{argument} must .*, got {re.escape(value)}.*: .+", message), message
    assert remedy in message, message


def test_a_configuration_takes_the_options():
    """From the factories' signatures: the mode, the flag, and None for what depends on the mode."""
    choices = CHOICES["algorithm"]
    assert set(choices["fedadam"].options) == {"server_learning_rate", "b1", "b2", "tau", "mode"}
    assert choices["fedadam"].options["b2"].optional and choices["fedadagrad"].options["b1"].optional
    assert choices["fedavgm"].options["nesterov"].kinds == (bool,)
