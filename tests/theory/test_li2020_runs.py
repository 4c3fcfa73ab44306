"""Li et al. 2020: fresh batches, schemes, and rounds to a target loss."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import softmax_descent

import fedjax_het as fh
from fedjax_het.engine.state import initial_state
from fedjax_het.theory.fresh import fresh_fedavg
from fedjax_het.theory.li2020 import digit_clients, li2020_runs, rounds_to
from fedjax_het.theory.schemes import SCHEMES, scheme

SIZES = (6, 2, 9, 5)
FEATURES, CLASSES, L2, RATE, STEPS = 3, 3, 0.05, 0.3, 3
COHORT = [0, 2]


def rows():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(sum(SIZES), FEATURES))
    y = rng.integers(0, CLASSES, sum(SIZES)).astype(np.int32)
    y[-1] = CLASSES - 1
    return x, y, np.split(np.arange(len(y)), np.cumsum(SIZES)[:-1])


def held():
    x, y, parts = rows()
    return fh.from_index_lists(x, y, parts, test=0.0)


def start():
    return np.random.default_rng(1).normal(size=(FEATURES + 1, CLASSES))


def after_one(method, round_fn, federation, cohort=COHORT):
    """W after a round of these clients."""
    round_fn = dataclasses.replace(round_fn, sampler=fh.sampling.scripted([cohort]))
    state = initial_state(method, federation, key=jax.random.key(0), round_fn=round_fn)
    begin = jnp.asarray(start())
    params = {"head": {"kernel": begin[:-1], "bias": begin[-1]}}
    state = dataclasses.replace(state, server=dataclasses.replace(state.server, params=params))
    head = jax.jit(round_fn)(method, state, federation)[0].server.params["head"]
    return np.vstack([head["kernel"], head["bias"]])


def local_models(rates):
    x, y, parts = rows()
    ends = []
    for part, rate in zip(parts, rates):
        own = start()
        for _ in range(STEPS):
            ones = np.ones((len(part), 1))
            own = own - rate * softmax_descent.gradient(own, np.hstack([x[part], ones]), y[part], L2)
        ends.append(own)
    return np.array(ends)


def expected(name):
    """The paper's formulas, on models."""
    p, count, drawn = np.array(SIZES) / sum(SIZES), len(SIZES), len(COHORT)
    plain, scaled = local_models([RATE] * count), local_models(RATE * count * p)
    held_back = 1 - p[COHORT].sum()
    return {
        "everyone": np.tensordot(p[COHORT] / p[COHORT].sum(), plain[COHORT], 1),
        "scheme I": plain[COHORT].mean(0),
        "scheme II": count / drawn * np.tensordot(p[COHORT], plain[COHORT], 1),
        "transformed II": scaled[COHORT].mean(0),
        "original": np.tensordot(p[COHORT], plain[COHORT], 1) + held_back * start(),
    }[name]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", SCHEMES)
def test_a_scheme_averages_as_the_paper_says(name):
    federation = held()
    problem = fh.models.softmax(federation.pool, l2=L2)
    made = scheme(name, problem, federation, RATE, steps=STEPS, batch_size=None, clients_per_round=2)
    np.testing.assert_allclose(after_one(*made, federation), expected(name), atol=1e-12)
    if name == "transformed II":  # a batch of at least all rows is all rows, drawn without replacement
        whole = scheme(name, problem, federation, RATE, steps=STEPS, batch_size=9, clients_per_round=2)
        np.testing.assert_allclose(after_one(*whole, federation), expected(name), atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_fresh_batches_are_uniform_pairs_of_rows():
    """One step on pairs out of five rows: only the ten pairs' gradients occur, each of them, about as often."""
    federation = held()
    problem = fh.models.softmax(federation.pool, l2=L2)
    method = fresh_fedavg(problem, RATE, steps=1, batch_size=2)
    round_fn = fh.make_round(fh.sampling.scripted([[3]]), fh.executors.vmapped())

    def one(key):
        state = initial_state(method, federation, key=key, round_fn=round_fn)
        return round_fn(method, state, federation)[0].server.params["head"]["kernel"]

    draws = 500
    got = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(5), draws)))
    x, y, parts = rows()
    zero = np.zeros((FEATURES, CLASSES))
    own = softmax_descent.row_gradients(zero, x[parts[3]], y[parts[3]])
    pairs = np.array([-RATE * (own[i] + own[j]) / 2 for i in range(5) for j in range(i)])
    off = np.abs(got[:, None] - pairs[None]).max((2, 3))
    assert off.min(1).max() < 1e-12
    counts = np.bincount(off.argmin(1), minlength=10)
    chi_square = ((counts - draws / 10) ** 2 / (draws / 10)).sum()
    assert chi_square < 27.9, counts  # 0.1 % of nine degrees of freedom


SMALL = {
    "local_steps": (5, 50),
    "clients_per_round": (5, 10),
    "rounds": 40,
    "scheme_rounds": 5,
    "num_clients": 20,
    "digit_holders": 20,
    "largest": 150,
    "synthetic_target": 1.6,
    "digits_target": 1.5,
    "data": ("synthetic(0,0)", "digits, unbalanced"),
    "schemes": ("scheme I", "transformed II"),
}


def test_the_figure_in_a_small_setting():
    found = li2020_runs(**SMALL)
    assert set(found.rounds) == set(found.targets) and tuple(found.rounds) == SMALL["data"]
    for each in found.rounds.values():
        few, many = each
        assert 0 < many <= 40 and (np.isnan(few) or few > many)  # more local steps: fewer rounds, in this range
    assert found.rounds_by_clients["synthetic(0,0)"].shape == (2,)
    for by_scheme in found.losses.values():
        assert tuple(by_scheme) == SMALL["schemes"]
        for name, losses in by_scheme.items():
            np.testing.assert_allclose(losses[0], np.log(10), rtol=1e-6)
            assert losses.shape == (6,) and np.isfinite(losses).all(), name
        assert by_scheme["scheme I"][-1] < np.log(10) > by_scheme["transformed II"][-1]


def test_a_run_ends_at_its_target_and_says_so_when_it_does_not():
    federation = digit_clients(20)
    options = {"local_steps": 50, "clients_per_round": 5, "rate": 0.1}
    count, losses = rounds_to(federation, "scheme I", target=1.5, rounds=40, **options)
    assert losses[int(count)] <= 1.5 < losses[: int(count)].min() and np.isnan(losses[int(count) + 1 :]).all()
    missed, all_ = rounds_to(federation, "scheme I", target=1e-9, rounds=40, **options)
    assert np.isnan(missed) and np.isfinite(all_).all()
    np.testing.assert_array_equal(all_[: int(count) + 1], losses[: int(count) + 1])


def test_digits_are_two_classes_a_client_of_equal_or_of_falling_sizes():
    for power in (0.0, 1.0):
        made = digit_clients(20, power=power)
        size, y = np.asarray(made.train.size[0]), np.asarray(made.y)
        parts = np.split(np.asarray(made.train.index)[: size.sum()], np.cumsum(size)[:-1])
        kinds = [len(np.unique(y[part])) for part in parts]
        assert np.median(kinds) == 2
        assert size.max() / size.min() < 1.4 if power == 0 else size.max() / size.min() > 4
    assert max(kinds) <= 10


def test_bad_settings_are_refused():
    federation = held()
    problem = fh.models.softmax(federation.pool, l2=0.1)
    with pytest.raises(ValueError, match="scheme must be one of"):
        scheme("scheme III", problem, federation, 0.1, steps=1, batch_size=2)
    with pytest.raises(TypeError, match="clients_per_round must be a whole number"):
        scheme("scheme I", problem, federation, 0.1, steps=1, batch_size=2)
    with pytest.raises(ValueError, match="largest must be >= 1"):
        li2020_runs(**{**SMALL, "largest": 0})
    with pytest.raises(ValueError, match="data must be one of"):
        li2020_runs(**{**SMALL, "data": ("mnist",)})
