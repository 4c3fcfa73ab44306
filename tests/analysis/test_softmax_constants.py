"""Exact constants of softmax regression, against derivatives of the library's own problem and NumPy loops."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import softmax_descent

import fedjax_het as fh
from fedjax_het.analysis import constants as record
from fedjax_het.analysis import softmax
from fedjax_het.analysis.softmax.regression import curve, hessian, of_client, pull
from fedjax_het.problem import full_loss

SIZES = (7, 1, 12, 5, 0, 9)
FEATURES, CLASSES, L2 = 3, 4, 0.25


def rows():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(sum(SIZES), FEATURES)).astype(np.float32).astype(np.float64)
    y = rng.integers(0, CLASSES, sum(SIZES)).astype(np.int32)
    y[-1] = CLASSES - 1
    return x, y, np.split(np.arange(len(y)), np.cumsum(SIZES)[:-1])


def clients():
    """(x with a column of ones, y) of each client."""
    x, y, parts = rows()
    return [(np.column_stack([x[part], np.ones(len(part))]), y[part]) for part in parts]


def federation(scale=1.0):
    x, y, parts = rows()
    return fh.from_index_lists(scale * x, y, parts, test=0.0)


def made(**options):
    held = federation()
    return fh.models.softmax(held.pool, **{"l2": L2, **options}), held


@pytest.fixture(scope="module")
def exact():
    """Made in a session of single precision."""
    assert not jax.config.jax_enable_x64
    return softmax.constants(*made(), batch_size=2)


def points(count, scale=1.0):
    return scale * np.random.default_rng(0).normal(size=(count, FEATURES + 1, CLASSES))


def derivatives(at):
    """(F_k, gradients, Hessians) [N, ..] of the library's own problem by automatic differentiation."""
    problem, held = made()
    model = softmax.regression(problem, held)

    def loss(flat, located):
        params = model.params(flat.reshape(at.shape))
        return full_loss(problem, fh.Model(params, ()), held.data("train", located, differentiable=True))

    located = held.locate("train", jnp.zeros((), jnp.int32), jnp.arange(len(SIZES), dtype=jnp.int32))
    ask = jax.jit(
        jax.vmap(
            lambda flat, one: (loss(flat, one), jax.grad(loss)(flat, one), jax.hessian(loss)(flat, one)),
            (None, 0),
        )
    )
    return jax.device_get(ask(jnp.asarray(at.reshape(-1)), located))


@pytest.mark.usefixtures("x64")
def test_values_and_derivatives_are_those_of_the_problem():
    model = softmax.regression(*made())
    at, along = points(2)
    values, gradients, hessians = derivatives(at)

    @jax.jit
    def ours(model, at, along):
        def one(client):
            data = of_client(model, client)
            slope = pull(model, data, at)
            return *slope, hessian(model, data, at), curve(model, data, at, along)

        return jax.lax.map(one, jnp.arange(len(SIZES), dtype=jnp.int32))

    value, slope, dense, product = jax.device_get(ours(model, jnp.asarray(at), jnp.asarray(along)))
    np.testing.assert_allclose(value, values, rtol=1e-12)
    np.testing.assert_allclose(slope.reshape(len(SIZES), -1), gradients, atol=1e-12)
    np.testing.assert_allclose(dense, hessians, atol=1e-12)
    np.testing.assert_allclose(product.reshape(len(SIZES), -1), hessians @ along.reshape(-1), atol=1e-12)


def test_optima_are_where_a_long_descent_ends(exact):
    x = [pair for pair in clients() if len(pair[1])]
    share = np.array([n for n in SIZES if n]) / sum(SIZES)
    point, value = softmax_descent.descend(x, share, L2, CLASSES)
    found = exact.optima
    np.testing.assert_allclose(found.point, point, atol=1e-9)
    assert abs(found.value - value) < 1e-12
    held = [k for k, n in enumerate(SIZES) if n]
    for k, pair in zip(held, x):
        own, lowest = softmax_descent.descend([pair], [1.0], L2, CLASSES)
        np.testing.assert_allclose(found.own_points[k], own, atol=1e-9)
        assert abs(found.own_values[k] - lowest) < 1e-12
    assert found.certificate <= 1e-16 and (found.own_certificates <= 1e-16).all()
    assert not found.own_points[SIZES.index(0)].any() and 0 < found.steps < 15


def test_everything_is_in_double_precision_in_a_session_that_is_not(exact):
    for leaf in (exact.optima.point, exact.optima.own_points, exact.heterogeneity.drift_bias):
        assert leaf.dtype == np.float64
    _, gradients, _ = in_double(derivatives, exact.optima.point)
    assert np.abs(exact.model.p @ gradients).max() < 1e-8


def in_double(function, *arguments):
    with jax.enable_x64(True):
        return function(*arguments)


def test_what_holds_at_the_optimum(exact):
    best, p, here = exact.optima.point, exact.model.p, exact.heterogeneity
    _, gradients, hessians = in_double(derivatives, best)
    kept = p > 0
    zeta = p @ (gradients**2).sum(1)
    np.testing.assert_allclose(here.zeta_star_sq, zeta, rtol=1e-9)
    mean = np.einsum("k,kij->ij", p, hessians)
    apart = np.abs(np.linalg.eigvalsh(hessians - mean)).max(1)
    np.testing.assert_allclose(here.delta, apart[kept].max(), rtol=1e-9)
    bias = np.linalg.solve(mean, np.einsum("k,kij,kj->i", p, hessians, gradients)) / 2
    np.testing.assert_allclose(here.drift_bias.reshape(-1), bias, atol=1e-9)
    gap = exact.optima.value - p @ exact.optima.own_values
    assert abs(here.gamma_gap - gap) <= here.gamma_error < 1e-14
    lipschitz, mu = exact.constants.L.value, exact.constants.mu.value
    assert zeta / (2 * lipschitz) < here.gamma_gap < zeta / (2 * mu)
    assert not here.gradients[~kept].any() and here.apart[SIZES.index(0)] == 0


def test_the_supremum_of_curvature_is_attained_and_mu_is_the_ridge(exact):
    lipschitz = softmax.smoothness(exact.model)
    random = in_double(derivatives, points(1, 2.0)[0])[2]
    tied = np.zeros((FEATURES + 1, CLASSES))
    tied[-1, 2:] = -60.0  # the bias makes two classes equally likely, and the others impossible, for all rows
    top = in_double(derivatives, tied)[2]
    held = np.array(SIZES) > 0
    found = np.linalg.eigvalsh(top)[:, -1]
    np.testing.assert_allclose(found[held], lipschitz[held], rtol=1e-9)
    values = np.linalg.eigvalsh(random)
    assert (values[:, -1] <= lipschitz + 1e-12).all()
    np.testing.assert_allclose(values[:, 0], L2, rtol=1e-12)
    assert softmax.strong_convexity(exact.model) == L2 and lipschitz[SIZES.index(0)] == L2


def test_without_a_bias_the_bound_is_one_and_the_optimum_is_found():
    problem, held = made(bias=False)
    model = softmax.regression(problem, held)
    assert model.shape == (FEATURES, CLASSES)
    x, y, parts = rows()
    own = [np.linalg.eigvalsh(x[part].T @ x[part] / len(part))[-1] / 2 + L2 for part in parts if len(part)]
    np.testing.assert_allclose(softmax.smoothness(model)[np.array(SIZES) > 0], own, rtol=1e-12)
    found = softmax.optima(model)
    pairs = [(x[part], y[part]) for part in parts if len(part)]
    share = np.array([n for n in SIZES if n]) / sum(SIZES)
    np.testing.assert_allclose(found.point, softmax_descent.descend(pairs, share, L2, CLASSES)[0], atol=1e-9)


def test_noise_by_the_rank_one_formula_is_that_of_all_batches(exact):
    at = points(2)
    found = softmax.row_variance(exact.model, at)
    pairs = clients()
    for point, variances in zip(at, found):
        for k, (x, y) in enumerate(pairs):
            rows = softmax_descent.row_gradients(point, x, y)
            mean = rows.mean(0) if len(y) else 0.0
            spread = ((rows - mean) ** 2).sum((1, 2)).mean() if len(y) else 0.0
            np.testing.assert_allclose(variances[k], spread, rtol=1e-12, atol=1e-14)
    k, size = 3, 2
    rows = softmax_descent.row_gradients(at[0], *pairs[k])
    for replacement in (False, True):
        drawn = (
            itertools.product(range(SIZES[k]), repeat=size)
            if replacement
            else itertools.combinations(range(SIZES[k]), size)
        )
        off = [((rows[list(batch)].mean(0) - rows.mean(0)) ** 2).sum() for batch in drawn]
        of_batch = softmax.of_batches(exact.model, found[0], size, replacement)
        np.testing.assert_allclose(of_batch[k], np.mean(off), rtol=1e-12)
    assert not softmax.of_batches(exact.model, found[0], 12, False).any()
    assert not softmax.of_batches(exact.model, found[0], None, False).any()
    assert (softmax.largest_noise(exact.model) >= softmax.row_variance(exact.model, points(20, 5.0))).all()


@pytest.mark.parametrize("begin", [0.0, 20.0])
def test_gradients_never_pass_the_bound_known_before_the_run(exact, begin):
    start = begin * points(1)[0]
    bound = softmax.second_moment(exact.model, start)
    longest = max((x**2).sum(1).max() for x, y in clients() if len(y))
    if not begin:
        np.testing.assert_allclose(bound, 8 * longest)
    rng = np.random.default_rng(1)
    for rate in (0.1, 1 / L2):
        for x, y in clients():
            if not len(y):
                continue
            at = start.copy()
            for _ in range(30):
                row = rng.integers(len(y))
                step = softmax_descent.row_gradients(at, x[[row]], y[[row]])[0] + L2 * at
                assert (step**2).sum() <= bound
                at = at - rate * step


def test_the_first_order_bias_predicts_where_fedavg_ends(exact):
    """The remainder, relative to the first order, halves with eta."""
    pairs = [pair for pair in clients() if len(pair[1])]
    share = np.array([n for n in SIZES if n]) / sum(SIZES)
    left = []
    for rate in (0.04, 0.02):
        ends = softmax_descent.local_limit(pairs, share, L2, exact.optima.point, rate, 5)
        first = 4 * rate * exact.heterogeneity.drift_bias
        left.append(np.linalg.norm(ends - exact.optima.point - first) / np.linalg.norm(first))
    assert left[1] < 0.2 and 0.4 < left[1] / left[0] < 0.6


def test_constants_are_what_they_were_made_of(exact):
    have = exact.constants
    known = {f.name: getattr(have, f.name) for f in dataclasses.fields(have)}
    unknown = {name for name, each in known.items() if each is None}
    assert unknown == {"zeta_bar_sq", "ratio_B_sq", "coordinate_G"}
    assert {each.provenance for each in known.values() if each is not None} == {"exact"}
    zeros = np.zeros(exact.model.shape)
    np.testing.assert_allclose(have.distance_sq.value, (exact.optima.point**2).sum())
    np.testing.assert_allclose(have.gap.value, np.log(CLASSES) - exact.optima.value, rtol=1e-12)
    assert have.mu.value == L2 and have.L.value == softmax.smoothness(exact.model).max()
    assert have.li_G_sq.value == softmax.second_moment(exact.model, zeros)
    assert (have.sigma_star_sq.value <= have.sigma_sq.value).all()
    along = record.replace(have, provenance="trajectory_max", li_G_sq=1.5)
    assert along.li_G_sq == record.Constant(np.float64(1.5), "trajectory_max")


def test_another_start_and_other_weights(exact):
    problem, held = made()
    start = exact.model.params(exact.optima.point)
    weights = [1, 1, 1, 1, 0, 0]
    other = softmax.constants(problem, held, start=start, weights=weights)
    np.testing.assert_array_equal(other.model.p, [0.25] * 4 + [0.0] * 2)
    assert other.constants.gap.value > 1e-4
    here = softmax.constants(problem, held, start=start)
    assert here.constants.distance_sq.value < 1e-12 and here.constants.gap.value < 1e-12
    assert not here.constants.sigma_sq.value.any()


def test_newton_shortens_a_step_that_would_overshoot():
    """sqrt(1 + w^2) + w^2/200: from 3 the full Newton step lands farther away than it began."""
    with jax.enable_x64(True):
        f = lambda w: jnp.sum(jnp.sqrt(1 + w**2) + w**2 / 200)  # noqa: E731
        start = jnp.full((1,), 3.0)
        full = start - jnp.linalg.solve(jax.hessian(f)(start), jax.grad(f)(start))
        assert f(full) > f(start)
        numbers = {"mu": jnp.asarray(0.01), "tolerance": jnp.asarray(1e-20)}
        ends = jax.jit(lambda at: softmax.newton(jax.value_and_grad(f), jax.hessian(f), at, **numbers))(start)
        assert abs(float(ends.point[0])) < 1e-9 and int(ends.steps) < 20


def bad():
    problem, held = made()
    x, y, _ = rows()
    target = fh.pool(x, x[:, 0], task="regression")
    return {
        "network": (lambda: (fh.models.mlp(held.pool, hidden=(4,)), held), "'mlp'.*not convex"),
        "no ridge": (lambda: (made(l2=None)[0], held), "l2 must be one number > 0, got None.*mu is 0"),
        "flat": (lambda: (made(l2=0.0)[0], held), "l2 must be one number > 0.*need not exist"),
        "squares": (lambda: (fh.models.linear(target, l2=1), held), "softmax regression.*least squares"),
        "widths": (lambda: (fh.models.softmax(fh.pool(x[:, :2], y), l2=1), held), "fit the federation's rows"),
        "kinds": (lambda: (held, problem), "problem must be a Problem"),
        "pool": (lambda: (problem, held.pool), "federation must be a Federation"),
    }


@pytest.mark.parametrize("name", bad())
def test_what_has_no_constants_is_refused(name):
    arguments, message = bad()[name]
    with pytest.raises((TypeError, ValueError), match=message):
        softmax.regression(*arguments())


def test_bad_numbers_are_refused(exact):
    problem, held = made()
    for weights, message in (
        ([1.0] * 3, "weights must have shape"),
        ([0.0] * 6, "weights must be > 0"),
        ([1.0] * 6, "without rows"),
        ([-1.0] * 6, "weights must be >= 0"),
    ):
        with pytest.raises(ValueError, match=message):
            softmax.regression(problem, held, weights=weights)
    with pytest.raises(ValueError, match="tolerance must be reachable, got 1e-60"):
        softmax.optima(exact.model, tolerance=1e-60)
    with pytest.raises(ValueError, match="tolerance must be > 0"):
        softmax.optima(exact.model, tolerance=0.0)
    with pytest.raises(ValueError, match="params must make a matrix"):
        exact.model.matrix({"head": {"kernel": np.zeros((2, CLASSES)), "bias": np.zeros(CLASSES)}})
    with pytest.raises(ValueError, match="at must have shape"):
        softmax.row_variance(exact.model, np.zeros((2, 2)))
    with pytest.raises(ValueError, match="batch_size must be >= 1"):
        softmax.of_batches(exact.model, np.ones(6), 0, True)
    several = softmax.value(exact.model, points(3))
    np.testing.assert_allclose(several[1], softmax.value(exact.model, points(3)[1]), rtol=1e-14)
