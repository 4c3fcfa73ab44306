"""Curvature by Hessian-vector products, b1, zeta_* and Gamma at optima, and the (G, B) front."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_het as fh
from fedjax_het import analysis
from fedjax_het.analysis import oracles
from fedjax_het.engine.blocks import make_block
from fedjax_het.engine.state import initial_state
from fedjax_het.models import mlp, quadratic, quadratic_federation, softmax
from fedjax_het.problem import Model


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def four():
    """(functions, federation, problem, A): an empty client among four, curvatures that differ."""
    rng = np.random.default_rng(5)
    A = rng.normal(size=(5, 3, 3))
    A = np.einsum("nij,nkj->nik", A, A) / 3 + 0.2 * np.eye(3)
    federation = quadratic_federation(A, rng.normal(size=(5, 3)), sizes=[2, 0, 3, 1, 2])
    problem = quadratic(fh.Pool(federation.x, federation.y, federation.spec.pool))
    return oracles.quadratics_of(federation), federation, problem, A


def at(w):
    return Model({"w": jnp.asarray(w)}, ())


def test_norms_on_quadratics():
    """delta, L and the Frobenius spread against eigenvalues; the empty client has no say and no norm."""
    functions, federation, problem, A = four()
    p, held = np.asarray(functions.p), [0, 2, 3, 4]
    apart = A - np.tensordot(p, A, 1)
    expected = np.abs(np.linalg.eigvalsh(apart)).max(axis=1)
    here = at([0.3, -1.0, 2.0])
    delta = jax.jit(analysis.hessian_dissimilarity)(problem, federation, here, iterations=3000, tolerance=1e-10)
    np.testing.assert_allclose(delta.each[jnp.array(held)], expected[held], rtol=1e-9)
    np.testing.assert_allclose(delta.largest, expected[held].max(), rtol=1e-9)
    assert np.isnan(delta.each[1]) and np.isnan(delta.residual[1])
    assert (np.asarray(delta.residual)[held] <= 1e-10).all() and int(delta.iterations) < 3000
    some = analysis.hessian_dissimilarity(problem, federation, here, clients=[3], iterations=1)
    assert float(some.each[0]) <= expected[3] and np.isinf(some.residual[0]), "not yet certified"
    top = analysis.smoothness(problem, federation, here, iterations=3000, tolerance=1e-10)
    np.testing.assert_allclose(top.each[jnp.array(held)], np.linalg.eigvalsh(A).max(axis=1)[held], rtol=1e-9)
    whole, norm, spread = jax.jit(analysis.hessians)(problem, federation, here)
    np.testing.assert_allclose(whole[jnp.array(held)], A[held], rtol=1e-12)
    assert not np.asarray(whole[1]).any()
    np.testing.assert_allclose(norm, expected[held].max(), rtol=1e-12)
    frobenius = p @ (apart**2).sum(axis=(1, 2))
    np.testing.assert_allclose(spread, frobenius, rtol=1e-12)
    estimate, error = analysis.hessian_spread(problem, federation, here, probes=400)
    assert 0 < error < 0.1 * frobenius and abs(estimate - frobenius) < 4 * error


def test_the_same_key_gives_the_same_norms():
    _, federation, problem, _ = four()
    one, two = (
        analysis.hessian_dissimilarity(
            problem, federation, at(np.zeros(3)), key=jax.random.key(3), iterations=3
        )
        for _ in range(2)
    )
    np.testing.assert_array_equal(one.each, two.each)


def test_clients_that_are_alike_have_no_dissimilarity():
    """0 and a residual of 0, not 0/0."""
    federation = quadratic_federation(np.tile(np.eye(2), (4, 1, 1)), np.arange(8.0).reshape(4, 2))
    problem = quadratic(fh.Pool(federation.x, federation.y, federation.spec.pool))
    delta = analysis.hessian_dissimilarity(problem, federation, at(np.zeros(2)))
    np.testing.assert_array_equal(delta.each, 0)
    np.testing.assert_array_equal(delta.residual, 0)
    vector = analysis.drift_vector(problem, federation, at([5.0, 5.0]), most=1.0)
    assert float(vector.length) < 1e-14 and float(vector.zeta) > 1, "no bias, off the optimum too"
    with pytest.raises(ValueError, match=r"an optimum, \|grad F\| <= 0.001 zeta_\*, got .* = 2.24"):
        analysis.drift_vector(problem, federation, at([5.0, 5.0]))


def blobs(sizes):
    """(pool, federation) of ragged clients with different mixes of three classes."""
    rng = np.random.default_rng(2)
    x = np.concatenate([rng.normal(size=(n, 4)) * rng.uniform(0.3, 2.0, 4) for n in sizes])
    y = rng.integers(0, 3, len(x))
    y[: len(x) // 2] = (x[: len(x) // 2, 0] > 0).astype(int)
    pool = fh.pool(x, y, num_classes=3)
    parts = np.split(np.arange(len(x)), np.cumsum(sizes)[:-1])
    return pool, fh.from_index_lists(pool, None, parts, test=0.0), parts


def test_a_network_against_its_dense_hessian():
    """jax.hessian of each client's own mean loss, by hand; one client fills more than one chunk."""
    pool, federation, parts = blobs((40, 11, 0, 300))
    problem = mlp(pool, hidden=(3,), activation="tanh", l2=0.01)
    model = problem.init(jax.random.key(1))
    flat, back = jax.flatten_util.ravel_pytree(model.params)

    def loss(w, share):
        out, _ = problem.apply(back(w), (), pool.x)
        return share @ problem.losses(out, pool.y) + 0.005 * jnp.sum(w**2)

    held = [k for k in range(4) if len(parts[k])]
    p = np.array([len(parts[k]) for k in held]) / sum(map(len, parts))
    share = np.stack([np.isin(np.arange(len(pool.y)), parts[k]) / len(parts[k]) for k in held])

    @jax.jit
    def all_of_it(flat, share, problem, federation, model):
        by_hand = jax.vmap(lambda s: (jax.hessian(loss)(flat, s), jax.grad(loss)(flat, s)))(share)
        delta = analysis.hessian_dissimilarity(problem, federation, model, iterations=150)
        vector = analysis.drift_vector(problem, federation, model, damping=0.5)
        return by_hand, analysis.hessians(problem, federation, model), delta, vector

    (dense, own), (found, norm, spread), delta, vector = jax.device_get(
        all_of_it(flat, share, problem, federation, model)
    )
    np.testing.assert_allclose(found[held], dense, rtol=1e-9, atol=1e-12)
    apart = dense - np.tensordot(p, dense, 1)
    np.testing.assert_allclose(norm, np.abs(np.linalg.eigvalsh(apart)).max(), rtol=1e-9)
    np.testing.assert_allclose(spread, p @ (apart**2).sum(axis=(1, 2)), rtol=1e-9)
    np.testing.assert_allclose(delta.largest, norm, rtol=1e-5)
    right = np.einsum("n,nij,nj->i", p, dense, own - p @ own) / 2
    total = np.tensordot(p, dense, 1) + 0.5 * np.eye(len(flat))
    np.testing.assert_allclose(
        jax.flatten_util.ravel_pytree(vector.params)[0], np.linalg.solve(total, right), rtol=1e-8, atol=1e-11
    )
    assert float(vector.residual) < 1e-8
    np.testing.assert_allclose(vector.gradient, np.linalg.norm(p @ own), rtol=1e-9)
    np.testing.assert_allclose(vector.zeta, np.sqrt(p @ ((own - p @ own) ** 2).sum(axis=1)), rtol=1e-9)


def test_the_drift_vector_of_quadratics_is_the_oracles():
    functions, federation, problem, _ = four()
    got = jax.jit(analysis.drift_vector)(problem, federation, at(functions.optimum))
    expected = oracles.drift_bias(functions, learning_rate=0.01, steps=5) / (4 * 0.01)
    np.testing.assert_allclose(got.params["w"], expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(got.length, np.linalg.norm(expected), rtol=1e-9)
    assert float(got.residual) < 1e-9 and float(got.gradient) < 1e-12
    np.testing.assert_allclose(2 * got.params["w"], oracles.prox_bias(functions, mu=1.0), atol=1e-9)


def test_it_predicts_where_fedavg_stops_on_softmax_regression():
    """The remainder of w_inf - w* = (E - 1) eta b1 halves with eta; one program runs all rates."""
    pool, federation, _ = blobs((40, 11, 0, 60, 25))
    problem = softmax(pool, l2=0.2)
    rates = jnp.asarray([0.4, 0.12, 0.06, 0.03])
    steps = jnp.asarray([1, 6, 6, 6], jnp.int32)
    round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.vmapped())
    first = fh.algorithms.fedavg(problem, fh.local.sgd(0.1, batch_size=None, steps=5))
    state = initial_state(first, federation, key=jax.random.key(0), round_fn=round_fn)

    @jax.jit
    @jax.vmap
    def settle(rate, steps):
        algorithm = fh.algorithms.fedavg(problem, fh.local.sgd(rate, batch_size=None, steps=steps))
        return make_block(round_fn, 500)(algorithm, state, federation)[0].server.params

    ends = settle(rates, steps)
    best = Model(jax.tree.map(lambda leaf: leaf[0], ends), ())
    vector = analysis.drift_vector(problem, federation, best)
    assert float(vector.gradient) < 1e-9 * float(vector.zeta) and float(vector.residual) < 1e-9
    b1, points = jax.flatten_util.ravel_pytree(vector.params)[0], jax.vmap(fh.similarity.flatten)(ends)
    remainder = []
    for i in (1, 2, 3):
        predicted = 5 * rates[i] * b1
        remainder.append(float(jnp.linalg.norm(points[i] - points[0] - predicted) / jnp.linalg.norm(predicted)))
    assert 0.005 < remainder[0] < 0.3
    ratios = np.array(remainder[:-1]) / remainder[1:]
    np.testing.assert_allclose(ratios, 2, rtol=0.1)
    zeta = analysis.dissimilarity_at_optimum(problem, federation, best)
    np.testing.assert_allclose(zeta, vector.zeta**2, rtol=1e-9)
    assert vector.length <= analysis.hessians(problem, federation, best)[1] / 0.2 / 2 * vector.zeta


def test_zeta_at_an_optimum_and_nowhere_else():
    functions, federation, problem, _ = four()
    own = functions.gradients(functions.optimum)
    expected = float(functions.p @ (own**2).sum(axis=1))
    np.testing.assert_allclose(analysis.zeta_star_sq(own, functions.p), expected, rtol=1e-12)
    got = analysis.dissimilarity_at_optimum(problem, federation, at(functions.optimum))
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    off = functions.optimum + 0.1
    gradient = np.linalg.norm(functions.hessian @ (off - functions.optimum))
    apart = np.sqrt(float(analysis.gradients.dissimilarity(functions.gradients(off), functions.p)))
    words = rf"must be an optimum.*got \|grad F\| = {gradient:.3g} and zeta_\* = {apart:.3g}"
    with pytest.raises(ValueError, match=words):
        analysis.zeta_star_sq(functions.gradients(off), functions.p)
    with pytest.raises(ValueError, match=words):
        analysis.dissimilarity_at_optimum(problem, federation, at(off))
    traced = jax.jit(analysis.dissimilarity_at_optimum)
    assert np.isnan(traced(problem, federation, at(off)))
    np.testing.assert_allclose(traced(problem, federation, at(functions.optimum)), expected, rtol=1e-12)
    assert float(analysis.dissimilarity_at_optimum(problem, federation, at(off), most=10.0)) > 0
    near = functions.optimum + 1e-6
    np.testing.assert_allclose(
        analysis.dissimilarity_at_optimum(problem, federation, at(near)), expected, rtol=1e-5
    )


def test_everybodys_minimum_is_an_optimum():
    """zeta_* = 0, where |grad F| is not below it."""
    rng = np.random.default_rng(0)
    A = np.stack([np.diag([1.0, 2.0]), np.diag([3.0, 0.5])])
    functions = oracles.quadratics(A, np.tile(rng.normal(size=2), (2, 1)))
    assert float(analysis.zeta_star_sq(functions.gradients(functions.optimum))) < 1e-28
    with pytest.raises(ValueError, match="must be an optimum"):
        analysis.zeta_star_sq(np.ones((2, 3)))


def test_gamma():
    functions, *_ = four()
    best, slopes, p = (np.asarray(value) for value in (functions.optimum, functions.b, functions.p))
    regular = np.asarray(functions.A) + (p == 0)[:, None, None] * np.eye(3)
    minima = np.linalg.solve(regular, slopes[..., None])[..., 0]

    def value(k, w):
        return float(w @ functions.A[k] @ w / 2 - functions.b[k] @ w)

    held = [0, 2, 3, 4]
    total = sum(p[k] * value(k, best) for k in held)
    own = np.array([value(k, minima[k]) if p[k] else 0.0 for k in range(5)])
    away = best - minima
    expected = sum(p[k] * away[k] @ functions.A[k] @ away[k] / 2 for k in held)
    gap = analysis.gamma_gap(total, own, p)
    np.testing.assert_allclose(gap, expected, rtol=1e-12)
    zeta = float(analysis.zeta_star_sq(functions.gradients(jnp.asarray(best)), p))
    spectrum = np.linalg.eigvalsh(functions.A[jnp.array(held)])
    assert zeta / (2 * spectrum.max()) <= gap <= zeta / (2 * spectrum.min())
    with pytest.raises(ValueError, match="a client's minimum was not reached"):
        analysis.gamma_gap(total, own + 2 * gap, p)
    with pytest.raises(ValueError, match="one minimum a client"):
        analysis.gamma_gap(own, own, p)


@pytest.mark.parametrize("convex", [False, True])
def test_the_front_is_a_supremum_that_is_attained(convex):
    functions, *_ = four()
    p, A = np.asarray(functions.p), np.asarray(functions.A)
    least = float(analysis.dissimilarity_front(functions, 1.0, convex=convex).least_B_sq)
    B_sq = least * np.array([0.999, 1.001, 1.5, 4.0, 100.0])
    front = analysis.dissimilarity_front(functions, B_sq, convex=convex)
    assert np.isinf(front.G_sq[0]) and np.isnan(front.point[0]).all(), "below the least B^2 there is no G"
    assert np.isfinite(front.G_sq[1:]).all() and (np.diff(front.G_sq[1:]) < 0).all()
    held = np.asarray(functions.p) > 0
    largest = np.linalg.eigvalsh(A[held]).max()
    best = np.asarray(functions.optimum)

    def left(w, B):
        own = np.asarray(functions.gradients(jnp.asarray(w)))
        if convex:
            right = 2 * largest * (w - best) @ np.asarray(functions.hessian) @ (w - best) / 2
        else:
            right = ((p @ own) ** 2).sum()
        return p @ (own**2).sum(axis=1) - B * right

    rng = np.random.default_rng(1)
    for i in (1, 2, 3, 4):
        point, G_sq = np.asarray(front.point[i]), float(front.G_sq[i])
        np.testing.assert_allclose(left(point, B_sq[i]), G_sq, rtol=1e-6)
        for scale in (0.01, 1.0, 100.0):
            for _ in range(20):
                assert left(point + scale * rng.normal(size=3), B_sq[i]) <= G_sq * (1 + 1e-9)
    direction = np.linalg.eigh(
        largest * np.asarray(functions.hessian) if convex else np.asarray(functions.hessian @ functions.hessian)
    )
    root = direction[1] / np.sqrt(direction[0])
    square = np.einsum("n,nij,njk->ik", p, A, A)
    np.testing.assert_allclose(np.linalg.eigvalsh(root.T @ square @ root).max(), least, rtol=1e-9)
    zeta = float(analysis.zeta_star_sq(functions.gradients(functions.optimum), p))
    if convex:
        assert float(analysis.dissimilarity_front(functions, 2.0, convex=True).G_sq) <= 2 * zeta * (1 + 1e-12)
    far = analysis.dissimilarity_front(functions, 1e12, convex=convex)
    np.testing.assert_allclose(far.G_sq, zeta, rtol=1e-9)


def test_the_front_of_like_clients_and_of_one_minimum():
    """At B^2 = 1 of equal curvatures S = 0: no G if gradients differ ... but they have c = 0."""
    same = oracles.quadratics(np.tile(np.diag([1.0, 3.0]), (2, 1, 1)), [[1.0, 0.0], [-1.0, 2.0]])
    front = analysis.dissimilarity_front(same, [0.5, 1.0, 2.0])
    zeta = float(analysis.zeta_star_sq(same.gradients(same.optimum), same.p))
    np.testing.assert_allclose(front.G_sq, [np.inf, zeta, zeta], rtol=1e-12)
    np.testing.assert_allclose(front.least_B_sq, 1, rtol=1e-12)


def test_the_front_of_visited_points():
    functions, *_ = four()
    p = functions.p
    points = jnp.asarray(np.random.default_rng(0).normal(size=(40, 3)))
    own = jax.vmap(functions.gradients)(points)
    spread = jax.vmap(lambda g: analysis.gradients.dissimilarity(g, p))(own)
    norm = jnp.sum(jnp.einsum("n,tnd->td", p, own) ** 2, axis=1)
    least = float(analysis.dissimilarity_front(functions, 1.0).least_B_sq)
    B_sq = least * np.array([1.5, 3.0])
    found = analysis.visited_front(spread, norm, B_sq)
    expected = [max(float(jnp.max(spread + (1 - B) * norm)), 0) for B in B_sq]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert (np.asarray(found) <= analysis.dissimilarity_front(functions, B_sq).G_sq).all()
    gap = jax.vmap(lambda w: (w - functions.optimum) @ functions.hessian @ (w - functions.optimum) / 2)(points)
    largest = float(jnp.linalg.eigvalsh(functions.A).max())
    convex = analysis.visited_front(spread, (norm, 2 * largest * gap), 1.0, convex=True)
    np.testing.assert_allclose(convex, float(jnp.max(spread + norm - 2 * largest * gap)), rtol=1e-12)
    with pytest.raises(TypeError, match="right must be"):
        analysis.visited_front(spread, norm, 1.0, convex=True)
    with pytest.raises(ValueError, match="the same points"):
        analysis.visited_front(spread, norm[1:], 1.0)


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"weights": [1.0, 2.0]}, ValueError, "one share for each of 5 clients"),
        ({"weights": [0.0, 9.0, 0.0, 0.0, 0.0]}, ValueError, "somebody must count"),
        ({"clients": [[0]]}, ValueError, "clients must be a list"),
        ({"clients": [5]}, ValueError, "clients must be below 5"),
        ({"iterations": 0}, ValueError, "iterations must be >= 1"),
        ({"tolerance": -1.0}, ValueError, "tolerance must be >= 0"),
    ],
)
def test_bad_input(options, kind, words):
    _, federation, problem, _ = four()
    with pytest.raises(kind, match=words):
        analysis.hessian_dissimilarity(problem, federation, at(np.zeros(3)), **options)


def test_bad_points_and_numbers():
    functions, federation, problem, _ = four()
    with pytest.raises(TypeError, match="model must be a Model"):
        analysis.smoothness(problem, federation, {"w": jnp.zeros(3)})
    with pytest.raises(TypeError, match="problem must be a Problem"):
        analysis.drift_vector(federation, problem, at(np.zeros(3)))
    with pytest.raises(ValueError, match="probes must be >= 2"):
        analysis.hessian_spread(problem, federation, at(np.zeros(3)), probes=1)
    with pytest.raises(ValueError, match="damping must be >= 0"):
        analysis.drift_vector(problem, federation, at(np.zeros(3)), damping=-1.0)
    with pytest.raises(ValueError, match="B_sq must be >= 0"):
        analysis.dissimilarity_front(functions, -1.0)


def test_in_single_precision():
    """What ships: the same numbers to five digits."""
    functions, *_ = four()
    optimum = np.asarray(functions.optimum, np.float32)
    with jax.enable_x64(False):
        single, federation, problem, A = four()
        best = at(optimum)
        delta = analysis.hessian_dissimilarity(problem, federation, best, iterations=300)
        vector = analysis.drift_vector(problem, federation, best)
        front = analysis.dissimilarity_front(single, 5.0)
    p = np.asarray(functions.p)
    apart = np.abs(np.linalg.eigvalsh(A - np.tensordot(p, A, 1))).max(axis=1)
    assert delta.each.dtype == jnp.float32 and vector.params["w"].dtype == jnp.float32
    np.testing.assert_allclose(float(delta.largest), apart[p > 0].max(), rtol=1e-4)
    expected = oracles.drift_bias(functions, learning_rate=0.01, steps=5) / (4 * 0.01)
    np.testing.assert_allclose(np.asarray(vector.params["w"]), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(front.G_sq, analysis.dissimilarity_front(functions, 5.0).G_sq, rtol=1e-5)
