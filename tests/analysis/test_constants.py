"""Constants of quadratics are exact, and constants that are given are checked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_het.analysis import bounds, constants, oracles


def known(record):
    return {
        name: float(getattr(record, name).value) for name in ("L", "mu", "zeta_star_sq", "gamma_gap", "delta")
    }


def two():
    A = np.array([np.diag([1.0, 4.0]), [[2.0, 1.0], [1.0, 2.0]]])
    return oracles.quadratics(A, np.eye(2), weights=[0.25, 0.75])


@pytest.mark.parametrize("double", [True, False])
def test_printed_numbers_whatever_the_precision(double):
    with jax.enable_x64(double):
        record = constants.of_quadratics(two(), [2.0, -1.0], noise=np.ones((2, 2, 2)))
    wanted = {
        "L": 4.0,
        "mu": 1.0,
        "zeta_star_sq": 1.42622950819672,
        "gamma_gap": 0.32581967213115,
        "delta": 1.727081728299,
    }
    for name, value in known(record).items():
        np.testing.assert_allclose(value, wanted[name], rtol=1e-12)
    assert all(
        np.asarray(each.value).dtype == np.float64 for each in jax.tree.leaves(record, is_leaf=is_constant)
    )
    best = np.array([0.36065573770492, 0.49180327868852])
    np.testing.assert_allclose(
        record.distance_sq.value, np.sum((np.array([2.0, -1.0]) - best) ** 2), rtol=1e-12
    )
    np.testing.assert_array_equal(record.sigma_sq.value, [2.0, 2.0])
    np.testing.assert_allclose(record.dissimilarity_G_sq.value, 2 * wanted["zeta_star_sq"], rtol=1e-12)
    assert record.zeta_bar_sq.value == np.inf and record.li_G_sq is None
    assert {each.provenance for each in jax.tree.leaves(record, is_leaf=is_constant)} == {"exact"}


def is_constant(leaf):
    return isinstance(leaf, constants.Constant)


def test_numbers_of_single_precision_lose_nothing_more():
    """A start that single precision cannot hold is used as it is."""
    start = np.array([1 / 3, 1e-9])
    record = constants.of_quadratics(two(), start)
    best = np.array([22 / 61, 30 / 61])
    np.testing.assert_allclose(record.distance_sq.value, np.sum((start - best) ** 2), rtol=1e-13)


def test_gap_and_gamma_against_plain_minima():
    rng = np.random.default_rng(0)
    A = np.einsum("kij,klj->kil", *(rng.normal(size=(5, 3, 3)),) * 2) + 0.1 * np.eye(3)
    a, p, start = rng.normal(size=(5, 3)), rng.dirichlet(np.ones(5)), rng.normal(size=3)
    record = constants.of_quadratics(oracles.Quadratics(A, np.einsum("kij,kj->ki", A, a), p), start)

    def F(w):
        return sum(p[k] * (w - a[k]) @ A[k] @ (w - a[k]) / 2 for k in range(5))

    H = sum(p[k] * A[k] for k in range(5))
    best = np.linalg.solve(H, sum(p[k] * A[k] @ a[k] for k in range(5)))
    np.testing.assert_allclose(record.gamma_gap.value, F(best), rtol=1e-10)  # every F_k* is 0
    np.testing.assert_allclose(record.gap.value, F(start) - F(best), rtol=1e-10)
    values = np.linalg.eigvalsh(A)
    np.testing.assert_allclose([record.L.value, record.mu.value], [values.max(), values.min()], rtol=1e-10)
    apart = max(np.linalg.norm(A[k] - H, 2) for k in range(5))
    np.testing.assert_allclose(record.delta.value, apart, rtol=1e-10)


def test_gamma_lies_between_the_bounds_that_zeta_gives():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        A = np.einsum("kij,klj->kil", *(rng.normal(size=(3, 2, 2)),) * 2) + 0.05 * np.eye(2)
        functions = oracles.Quadratics(A, rng.normal(size=(3, 2)), rng.dirichlet(np.ones(3)))
        told = known(constants.of_quadratics(functions, np.zeros(2)))
        assert told["zeta_star_sq"] / (2 * told["L"]) <= told["gamma_gap"] * (1 + 1e-9)
        assert told["gamma_gap"] <= told["zeta_star_sq"] / (2 * told["mu"]) * (1 + 1e-9)


def test_flat_directions():
    """A direction in which a client is flat: mu is 0, and Gamma infinite where it slopes there for ever."""
    A = np.array([np.diag([1.0, 0.0]), np.diag([0.0, 1.0])])
    even = constants.of_quadratics(
        oracles.Quadratics(A, np.array([[1.0, 0], [0, 1.0]]), np.full(2, 0.5)), [0, 0]
    )
    assert even.mu.value == 0 and even.gamma_gap.value == 0
    steep = constants.of_quadratics(
        oracles.Quadratics(A, np.array([[1.0, 1.0], [0, 1.0]]), np.full(2, 0.5)), [0, 0]
    )
    assert steep.gamma_gap.value == np.inf


def test_where_the_mean_is_flat_the_nearest_optimum_counts():
    """Fewer rows than parameters: F is flat in one direction, and its optima are a line."""
    A = np.array([np.diag([1.0, 0.0]), np.diag([3.0, 0.0])])
    even = constants.of_quadratics(oracles.quadratics(A, b=np.array([[1.0, 0], [5.0, 0]])), [4.0, 7.0])
    assert even.mu.value == 0 and even.lower_curvature.value == 0
    found = [getattr(even, name).value for name in ("distance_sq", "gap", "zeta_star_sq")]
    np.testing.assert_allclose(found, [6.25, 6.25, 0.25], rtol=1e-12)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    A = np.einsum("ij,kj,lj->kil", turn, np.array([[1.0, 2.0, 0.0], [0.5, 1e-3, 0.0]]), turn)
    b = np.einsum("kij,kj->ki", A, np.random.default_rng(1).normal(size=(2, 3)))
    near = constants.of_quadratics(oracles.quadratics(A, b=b), [1.0, 2.0, 3.0])
    best = np.linalg.lstsq(A.mean(0), b.mean(0), rcond=1e-10)[0]
    away = turn.T @ (np.array([1.0, 2.0, 3.0]) - best)
    np.testing.assert_allclose(near.distance_sq.value, away[0] ** 2 + away[1] ** 2, rtol=1e-9)
    np.testing.assert_allclose(near.zeta_star_sq.value, np.mean(np.sum((A @ best - b) ** 2, axis=1)), rtol=1e-9)


def test_where_the_mean_slopes_for_ever_there_is_no_optimum():
    A, b = np.repeat(np.diag([1.0, 0.0])[None], 2, axis=0), np.ones((2, 2))
    steep = constants.of_quadratics(oracles.quadratics(A, b=b), [0.0, 0.0])
    assert steep.gap.value == np.inf and steep.gamma_gap.value == np.inf
    assert np.isnan([steep.zeta_star_sq.value, steep.distance_sq.value]).all()
    with pytest.raises(ValueError, match=r"zeta_star_sq must exist, got nan.*has no minimum"):
        bounds.explicit.e1f(steep, 0.01, 2, 4)


def test_equal_clients_have_a_finite_supremum_and_absent_ones_do_not_count():
    A = np.tile(np.diag([1.0, 2.0]), (3, 1, 1))
    a = np.array([[0.0, 0], [1, 1], [0, 0]])
    alike = constants.of_quadratics(oracles.quadratics(A, a), [0, 0])
    np.testing.assert_allclose(alike.zeta_bar_sq.value, alike.zeta_star_sq.value)
    assert alike.delta.value <= 1e-12 and alike.zeta_star_sq.value > 0
    A[1] *= 100
    absent = constants.of_quadratics(oracles.quadratics(A, a, weights=[1, 0, 1]), [0, 0])
    assert absent.L.value == 2 and absent.zeta_star_sq.value == 0 and absent.gamma_gap.value == 0


def test_they_are_swept_by_vmap(x64):
    starts = jnp.arange(6.0).reshape(3, 2)
    swept = jax.vmap(lambda start: constants.of_quadratics(two(), start))(starts)
    for i in range(3):
        one = constants.of_quadratics(two(), starts[i])
        np.testing.assert_allclose(swept.gap.value[i], one.gap.value, rtol=1e-12)
    assert swept.gap.provenance == "exact"


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"L": -1.0}, ValueError, "L must be >= 0"),
        ({"L": "big"}, TypeError, "L must be a number"),
        ({"L": [1.0, 2.0]}, ValueError, "L must be one number"),
        ({"mu": float("nan")}, ValueError, "mu must be finite"),
        ({"sigma_sq": 1.0}, ValueError, r"sigma_sq must be one number a client \[N\]"),
        ({"p": [0.5, 0.6]}, ValueError, "p must have sum 1, got 1.1"),
        ({"zeta": 1.0}, ValueError, "constant must be one of"),
        ({"L": 1.0, "provenance": "guess"}, ValueError, "provenance must be one of"),
    ],
)
def test_given_constants_are_checked(values, error, message):
    with pytest.raises(error, match=message):
        constants.given(**values)


def test_given_constants_are_assumed_until_told_otherwise():
    record = constants.given(L=2, zeta_bar_sq=np.inf, p=[0.25, 0.75])
    assert record.L.value == 2 and record.L.provenance == "assumed" and record.mu is None
    told = constants.replace(record, provenance="trajectory_max", li_G_sq=3.0)
    assert told.li_G_sq.provenance == "trajectory_max" and told.L is record.L and record.li_G_sq is None


def test_starts_and_noises_are_checked():
    with pytest.raises(ValueError, match=r"start must have shape \[2\]"):
        constants.of_quadratics(two(), [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"noise must have shape \[2\] or \[2, 2, 2\]"):
        constants.of_quadratics(two(), [1.0, 2.0], noise=np.ones(3))
    for noise in ([0.1, -0.1], -np.stack([np.eye(2)] * 2)):
        with pytest.raises(ValueError, match="noise must be >= 0, got"):
            constants.of_quadratics(two(), [1.0, 2.0], noise=noise)
    with pytest.raises(TypeError, match="functions must be Quadratics, got 3"):
        constants.of_quadratics(3, [1.0, 2.0])


def test_matrices_of_single_precision_that_lack_rank_are_convex():
    """Their least eigenvalues are rounding errors of either sign, about 1e-7 of the largest."""
    rows = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    A = rows[:, :, None] * rows[:, None, :]
    assert np.linalg.eigvalsh(np.float64(A)).min() < 0
    facts = constants.of_quadratics(oracles.quadratics(A, b=np.zeros((6, 4))), np.ones(4))
    assert facts.mu.value == 0 and facts.lower_curvature.value == 0 and np.isfinite(facts.distance_sq.value)
