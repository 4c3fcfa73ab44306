"""Mean and covariance over cohorts and batches: against every outcome, and against the engine's own draws."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import outcomes, quadratics

import fedjax_het as fh
from fedjax_het.analysis import oracles
from fedjax_het.analysis.oracles.moments import Moments
from fedjax_het.models import quadratic, quadratic_pool

N, D, RATE = 3, 2, 0.3
A, CENTRES = quadratics.functions(N, D, seed=3)
B = np.einsum("nij,nj->ni", A, CENTRES)
P = np.array([1.0, 2.0, 3.0]) / 6
STEPS = np.array([2, 1, 3])


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def close(got, expected, digits=1e-12):
    np.testing.assert_allclose(got, expected, rtol=0, atol=digits)


def functions(p=P):
    return oracles.quadratics(A, b=B, weights=p)


# --- every outcome --------------------------------------------------------------------------------------------

STARTS = np.array([[1.0, -1.0], [0.5, 2.0], [-1.0, 0.3]])
SHIFTS = np.array([[0.7, -0.2], [0.1, 0.9], [-0.5, 0.4]])
INDEPENDENT = np.einsum("ni,nj->nij", SHIFTS, SHIFTS)
ROWS = [
    np.array([[0.8, -0.3], [-0.5, 0.7], [-0.3, -0.4]]),
    np.array([[0.4, 0.4], [-0.4, -0.4]]),
    np.zeros((1, 2)),
]
EPOCHS = oracles.Noise(np.array([rows.T @ rows / len(rows) for rows in ROWS]), np.array([3, 2, 1]))


def before():
    """The moments of the starts, which are equally likely."""
    mean, covariance = outcomes.mean_and_covariance((1 / len(STARTS), w) for w in STARTS)
    return Moments(jnp.asarray(mean), jnp.asarray(covariance))


def all_ends(w, epochs, steps=STEPS, mu=0.0):
    """Each client's equally likely ends from w; `epochs`: noise without replacement, else independent."""
    drawn = [
        outcomes.orders(ROWS[k], steps[k]) if epochs else outcomes.signs(SHIFTS[k], steps[k]) for k in range(N)
    ]
    return [[outcomes.end(A[k], B[k], w, noises, rate=RATE, mu=mu) for noises in drawn[k]] for k in range(N)]


def expected(scheme, *arguments, **numbers):
    """Mean and covariance of w+ over starts, noise and cohorts."""
    return outcomes.mean_and_covariance(
        (chance / len(STARTS), after)
        for w in STARTS
        for chance, after in scheme(P, w, all_ends(w, **numbers), *arguments)
    )


CASES = {
    "full": ({"scheme": "full"}, (outcomes.everyone,)),
    "I": ({"scheme": "I", "cohort": 2}, (outcomes.with_replacement, 2, False)),
    "I, fresh": ({"scheme": "I", "cohort": 2, "fresh": True}, (outcomes.with_replacement, 2, True)),
    "II": ({"scheme": "II", "cohort": 2}, (outcomes.without_replacement, 2)),
    "II, one": ({"scheme": "II", "cohort": 1}, (outcomes.without_replacement, 1)),
}


@pytest.mark.parametrize("epochs", [False, True], ids=["independent", "epochs"])
@pytest.mark.parametrize("name", CASES)
def test_every_outcome(name, epochs):
    """Unequal p and steps; of the epochs, the first client's ends in one, the second's and third's are cut."""
    scheme, how = CASES[name]
    steps = np.array([3, 3, 2]) if epochs else STEPS
    mu = 0.0 if name == "I" else 0.4
    mean, covariance = expected(*how, epochs=epochs, steps=steps, mu=mu)
    noise = EPOCHS if epochs else INDEPENDENT
    drawn = oracles.moments(functions(), learning_rate=RATE, steps=steps, noise=noise, mu=mu, **scheme)
    after = drawn(before())
    close(after.mean, mean)
    close(after.covariance, covariance)
    close(drawn.mean.matrix, oracles.fedprox(functions(), mu=mu, learning_rate=RATE, steps=steps).matrix)


def test_two_epochs_and_a_half():
    """Five steps of two rows: the noise of finished epochs is left over from their order alone."""
    steps = np.array([4, 5, 1])
    mean, covariance = expected(outcomes.everyone, epochs=True, steps=steps)
    after = oracles.moments(functions(), learning_rate=RATE, steps=steps, noise=EPOCHS)(before())
    close(after.mean, mean)
    close(after.covariance, covariance)
    alone = oracles.moments(functions(), learning_rate=RATE, steps=steps, noise=EPOCHS.covariance)(before())
    assert np.linalg.norm(alone.covariance - covariance) > 1e-3


def test_expected_values_over_every_outcome():
    """E F - F*, the dissimilarity at a random point, and the divergence of local models."""
    f, state = functions(), before()
    best = np.asarray(f.optimum)
    H = np.einsum("n,nij->ij", P, A)
    gaps = [0.5 * (w - best) @ H @ (w - best) for w in STARTS]
    close(state.gap(f), np.mean(gaps))
    slopes = np.einsum("nij,sj->sni", A, STARTS) - B
    apart = slopes - np.einsum("n,sni->si", P, slopes)[:, None]
    close(state.dissimilarity(f), np.mean(np.einsum("n,sni,sni->s", P, apart, apart)))
    total = 0.0
    for w in STARTS:
        ends = all_ends(w, epochs=False)
        for chance, middle in outcomes.everyone(P, w, ends):
            total -= chance / len(STARTS) * middle @ middle
        total += sum(P[k] * np.mean([y @ y for y in ends[k]]) for k in range(N)) / len(STARTS)
    close(oracles.moments(f, learning_rate=RATE, steps=STEPS, noise=INDEPENDENT).divergence(state), total)
    still = oracles.moments(f, learning_rate=RATE, steps=0, noise=INDEPENDENT)
    close(still.divergence(state), 0)


# --- where they stay ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_stationary_moments(name):
    f = functions()
    drawn = oracles.moments(f, learning_rate=0.1, steps=STEPS, noise=INDEPENDENT, **CASES[name][0])
    stays = drawn.stationary
    assert drawn.rate < 1
    path = drawn.trajectory(before(), 400)
    close(path.mean[-1], stays.mean)
    close(path.covariance[-1], stays.covariance)
    close(path.gap(f)[-1], stays.gap(f))
    close(drawn(stays).covariance, stays.covariance)
    close(stays.mean, oracles.fedavg(f, learning_rate=0.1, steps=STEPS).fixed_point)
    # from a point without variance, the floor is reached from below
    certain = drawn.trajectory(stays.mean, 2)
    assert certain.covariance.shape == (3, D, D) and (certain.covariance[0] == 0).all()
    assert np.linalg.eigvalsh(stays.covariance - certain.covariance[1]).min() > 0


def test_stationary_covariance_of_everyone_in_a_basis():
    """C_ij = N_ij / (1 - m_i m_j) in the eigenbasis of M; as eta -> 0, H C + C H = eta sum p^2 Sigma."""
    f = functions()
    drawn = oracles.moments(f, learning_rate=RATE, steps=4, noise=INDEPENDENT)
    values, vectors = np.linalg.eigh(drawn.mean.matrix)
    added = vectors.T @ np.einsum("n,nij->ij", P**2, drawn.noise) @ vectors
    close(drawn.stationary.covariance, vectors @ (added / (1 - np.outer(values, values))) @ vectors.T)
    target = np.einsum("n,nij->ij", P**2, INDEPENDENT)
    for steps in (1, 8):
        left = []
        for eta in (2e-4, 1e-4):
            C = oracles.moments(f, learning_rate=eta, steps=steps, noise=INDEPENDENT).stationary.covariance
            left.append(np.linalg.norm((f.hessian @ C + C @ f.hessian) / eta - target) / np.linalg.norm(target))
        assert left[0] < 2e-3 and 1.9 < left[0] / left[1] < 2.1


def test_reductions():
    f, equal = functions(), functions(np.ones(N))
    numbers = {"learning_rate": RATE, "steps": STEPS, "noise": INDEPENDENT}
    state = before()
    everyone = oracles.moments(equal, **numbers)(state)
    everyone_drawn = oracles.moments(equal, scheme="II", cohort=N, **numbers)(state)
    close(everyone_drawn.covariance, everyone.covariance, 1e-14)
    close(everyone_drawn.mean, everyone.mean, 1e-14)
    quiet = oracles.moments(f, learning_rate=RATE, steps=STEPS)
    M = oracles.fedavg(f, learning_rate=RATE, steps=STEPS)
    close(quiet(state).covariance, M.matrix @ state.covariance @ M.matrix.T, 1e-14)
    endless = oracles.moments(f, scheme="I", cohort=10**8, fresh=True, **numbers)
    close(endless(state).covariance, quiet(state).covariance, 1e-7)
    faster = oracles.moments(f, server_learning_rate=1.3, **numbers)
    whole = oracles.fedavg(f, learning_rate=RATE, steps=STEPS, server_learning_rate=1.3)
    close(faster.mean.matrix, whole.matrix, 1e-14)
    close(faster.mean.offset, whole.offset, 1e-14)
    close(
        faster(oracles.Moments(f.optimum, 0 * f.hessian)).covariance,
        1.3**2 * oracles.moments(f, **numbers)(oracles.Moments(f.optimum, 0 * f.hessian)).covariance,
        1e-14,
    )
    falling = oracles.moments(f, **{**numbers, "learning_rate": [RATE] * 3})
    close(falling(state).covariance, oracles.moments(f, **numbers)(state).covariance, 1e-14)


def test_numbers_are_swept_in_one_program():
    """eta, K and the noise; and in single precision."""
    compiled = []

    @jax.jit
    def floor(eta, draws, size, f):
        compiled.append(None)
        drawn = oracles.moments(
            f, learning_rate=eta, steps=2, noise=size * INDEPENDENT, scheme="I", cohort=draws
        )
        return drawn.stationary.gap(f)

    f, args = functions(), (jnp.asarray([0.05, 0.1, 0.2]), jnp.asarray([1, 2, 4], jnp.int32))
    table = jax.vmap(jax.vmap(floor, (None, 0, None, None)), (0, None, None, None))(*args, 1.0, f)
    assert len(compiled) == 1
    assert (np.diff(table, axis=0) > 0).all() and (np.diff(table, axis=1) < 0).all()
    with jax.enable_x64(False):
        single = oracles.moments(
            functions(), learning_rate=0.1, steps=2, noise=INDEPENDENT, scheme="I", cohort=2
        ).stationary.gap(functions())
        assert single.dtype == np.float64
    np.testing.assert_allclose(single, table[1, 1], rtol=1e-12)


# --- the engine -----------------------------------------------------------------------------------------------

SIZES, BATCH, LOCAL, RUNS, ROUNDS = (4, 8, 12), 4, 5, 2000, 3
OWNER = np.repeat(np.arange(N), SIZES)

LIMIT = 4.0
"""Of |z|. There are 15 statistics, each beyond it by chance with probability 6e-5: 1 in 1,000 for all."""


def noisy(spread):
    """A federation of rows with common curvature and random optimum, clients' means `spread` apart."""
    rng = np.random.default_rng(7)
    centres = rng.normal(size=(len(OWNER), D)) + spread * CENTRES[OWNER]
    pool = quadratic_pool(A[OWNER], centres)
    parts = np.split(np.arange(len(OWNER)), np.cumsum(SIZES)[:-1])
    return quadratic(pool), fh.from_index_lists(pool, None, parts, test=0.0)


def scores(drawn, got):
    """z of the mean [d] and of the second moments [d, d] about the oracle's mean, after the last round."""
    last = jax.tree.map(lambda leaf: np.asarray(leaf[-1]), drawn.trajectory(np.zeros(D), ROUNDS))
    away = got - last.mean
    products = away[:, :, None] * away[:, None, :]
    of_mean = away.mean(0) / np.sqrt(np.diag(last.covariance) / RUNS)
    return of_mean, (products.mean(0) - last.covariance) / (products.std(0) / np.sqrt(RUNS))


ENGINE = {
    "full": (lambda: (fh.sampling.everyone(), None), {}, {"epochs"}),
    "I": (
        lambda: (fh.sampling.proportional(2), fh.weighting.per_draw()),
        {"scheme": "I", "cohort": 2},
        {"epochs", "fresh"},
    ),
    "II": (
        lambda: (fh.sampling.uniform(2), fh.weighting.unbiased()),
        {"scheme": "II", "cohort": 2},
        {"epochs"},
    ),
}


@pytest.mark.parametrize("name", ENGINE)
def test_two_thousand_runs_of_the_engine(name):
    """Batches without replacement, as the engine draws them. Other assumptions are told apart: independent
    batches ("epochs"), or a run of its own for every draw ("fresh")."""
    make, scheme, wrong = ENGINE[name]
    problem, federation = noisy(0.2)
    algorithm = fh.algorithms.fedavg(problem, fh.local.sgd(RATE, batch_size=BATCH, steps=LOCAL))
    sampler, weighting = make()
    round_fn = fh.make_round(sampler, fh.executors.vmapped(), weighting=weighting)
    first = fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)

    @jax.jit
    @jax.vmap
    def runs(key):
        def one(state, _):
            return round_fn(algorithm, state, federation)[0], None

        state = dataclasses.replace(first, key=key)
        return jax.lax.scan(one, state, length=ROUNDS)[0].server.params["w"]

    got = np.asarray(runs(jax.random.split(jax.random.key(11), RUNS)))
    f, noise = oracles.quadratics_of(federation), oracles.gradient_noise(federation, BATCH)
    numbers = {"learning_rate": RATE, "steps": LOCAL, **scheme}
    of_mean, of_square = scores(oracles.moments(f, noise=noise, **numbers), got)
    assert np.abs(of_mean).max() < LIMIT and np.abs(of_square).max() < LIMIT
    others = {
        "epochs": lambda: oracles.moments(f, noise=noise.covariance, **numbers),
        "fresh": lambda: oracles.moments(f, noise=noise, fresh=True, **numbers),
    }
    for what in wrong:
        assert np.abs(scores(others[what](), got)[1]).max() > LIMIT, what


# --- the noise of batches, and bad input ----------------------------------------------------------------------


def test_noise_of_batches():
    """Over all batches that there are, of rows 2 by 2."""
    _, federation = noisy(1.0)
    noise = oracles.gradient_noise(federation, 2)
    assert noise.batches.tolist() == [2, 4, 6]
    linear = np.asarray(federation.y)[:, :D]
    for k in range(N):
        rows = linear[k == OWNER]
        pairs = np.array([rows[[i, j]].mean(0) for i in range(len(rows)) for j in range(i)]) - rows.mean(0)
        close(noise.covariance[k], pairs.T @ pairs / len(pairs), 1e-7)
    none = oracles.gradient_noise(federation, None)
    assert (none.covariance == 0).all() and (none.batches == 1).all()


BAD = {
    "noise must have shape": lambda f: oracles.moments(f, learning_rate=0.1, steps=1, noise=np.eye(D)),
    "noise must be covariances": lambda f: oracles.moments(f, learning_rate=0.1, steps=1, noise=-INDEPENDENT),
    "noise must be 0 at a client with one batch": lambda f: oracles.moments(
        f, learning_rate=0.1, steps=1, noise=oracles.Noise(INDEPENDENT, np.array([1, 2, 2]))
    ),
    "batches must be >= 1": lambda f: oracles.moments(
        f, learning_rate=0.1, steps=1, noise=oracles.Noise(INDEPENDENT, 0)
    ),
    "scheme must be one of": lambda f: oracles.moments(f, learning_rate=0.1, steps=1, scheme="III"),
    "cohort must be given for schemes I and II, and only there, got None": lambda f: oracles.moments(
        f, learning_rate=0.1, steps=1, scheme="I"
    ),
    "cohort must be given for schemes I and II, and only there, got 2": lambda f: oracles.moments(
        f, learning_rate=0.1, steps=1, cohort=2
    ),
    "cohort must be <= 3": lambda f: oracles.moments(f, learning_rate=0.1, steps=1, scheme="II", cohort=4),
    "cohort must be >= 1": lambda f: oracles.moments(f, learning_rate=0.1, steps=1, scheme="I", cohort=0),
    "fresh must be False": lambda f: oracles.moments(
        f, learning_rate=0.1, steps=1, scheme="II", cohort=2, fresh=True
    ),
    "batch_size must divide the rows": lambda f: oracles.gradient_noise(noisy(1.0)[1], 3),
    "federation must have one curvature": lambda f: oracles.gradient_noise(
        fh.from_index_lists(quadratic_pool(A, CENTRES), None, [[0, 1], [2]], test=0.0), 1
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_values(message):
    with pytest.raises(ValueError, match=message):
        BAD[message](functions())


def test_bad_kinds():
    with pytest.raises(TypeError, match="fresh must be True or False"):
        oracles.moments(functions(), learning_rate=0.1, steps=1, scheme="I", cohort=2, fresh=1)
    with pytest.raises(TypeError, match="federation must be a Federation"):
        oracles.gradient_noise(functions(), 2)
    with pytest.raises(TypeError, match="rounds must be a whole number"):
        oracles.moments(functions(), learning_rate=0.1, steps=1).trajectory(np.zeros(D), 1.5)
