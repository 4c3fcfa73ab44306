"""Where personal methods end on quadratics, what they are special cases of, and who is left alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from federations import RATE, SIZES, STEPS, N
from reference import quadratics

from fedjax_het.analysis import oracles


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


LOCAL = {"learning_rate": RATE, "steps": STEPS}


def many():
    """Four clients in space."""
    return oracles.quadratics(*quadratics.functions(), weights=SIZES)


def close(got, expected, digits=1e-11):
    np.testing.assert_allclose(got, expected, rtol=0, atol=digits)


def same(one, other, digits=1e-13):
    close(one.matrix, other.matrix, digits)
    close(one.offset, other.offset, digits)


def proximal_points(f, centre, lam):
    """(A_k + lam I)^-1 (b_k + lam centre)."""
    return np.array([np.linalg.solve(A + lam * np.eye(3), b + lam * centre) for A, b in zip(f.A, f.b)])


def test_pfedme_is_fedavg_on_envelopes():
    f = many()
    exact = oracles.pfedme(f, lam=0.7, **LOCAL)
    same(exact, oracles.fedavg(oracles.envelope(f, 0.7), **LOCAL))
    for carry_over in (False, True):
        near = oracles.pfedme(
            f, lam=0.7, personal_learning_rate=0.25, inner_steps=200, carry_over=carry_over, **LOCAL
        )
        same(near, exact)
    once = {"lam": 0.7, "personal_learning_rate": 0.2, "inner_steps": 1}
    same(oracles.pfedme(f, **once, **LOCAL), oracles.fedavg(f, learning_rate=RATE * 0.7 * 0.2, steps=STEPS))
    # with more than one inner step the start of theta matters, but not in the first local round
    several = {**once, "inner_steps": 3, "learning_rate": RATE}
    cold, warm = (oracles.pfedme(f, carry_over=carry, steps=4, **several) for carry in (False, True))
    assert np.linalg.norm(cold.matrix - warm.matrix) > 1e-3
    same(*(oracles.pfedme(f, carry_over=carry, steps=1, **several) for carry in (False, True)))
    slow = oracles.pfedme(f, lam=0.7, learning_rate=1e-7, steps=5)
    close(slow.fixed_point, oracles.fedprox(f, mu=0.7).fixed_point, 1e-6)


def test_perfedavg_ends_at_the_minimum_of_weighted_functions():
    f, alpha = many(), 0.2
    same(oracles.perfedavg(f, alpha=0.0, **LOCAL), oracles.fedavg(f, **LOCAL))
    same(
        oracles.perfedavg(f, alpha=alpha, variant="hf", **LOCAL), oracles.perfedavg(f, alpha=alpha, **LOCAL), 0
    )
    for variant, power in (("exact", 2), ("fo", 1)):
        pull = [np.linalg.matrix_power(np.eye(3) - alpha * A, power) for A in f.A]
        left = sum(p * P @ A for p, P, A in zip(f.p, pull, f.A))
        right = sum(p * P @ b for p, P, b in zip(f.p, pull, f.b))
        got = oracles.perfedavg(f, alpha=alpha, variant=variant, learning_rate=RATE, steps=1)
        close(got.fixed_point, np.linalg.solve(left, right))


def test_models_beside_a_global_one():
    """The global one is FedAvg's; a client's own ends at its proximal point, or makes up for the global one."""
    f = many()
    average = oracles.fedavg(f, **LOCAL)
    ditto = oracles.split(oracles.ditto(f, lam=0.8, **LOCAL).fixed_point, N)
    close(ditto.point, average.fixed_point)
    close(ditto.control, proximal_points(f, average.fixed_point, 0.8))
    minima = np.linalg.solve(f.A, f.b[..., None])[..., 0]
    once = {"learning_rate": RATE, "steps": 1}
    held = oracles.split(oracles.apfl(f, alpha=0.4, **once).fixed_point, N)
    close(0.4 * held.control + 0.6 * held.point[None], minima)
    close(held.point, f.optimum)
    for alone in (oracles.ditto(f, lam=0.0, **LOCAL), oracles.apfl(f, alpha=1.0, **LOCAL)):
        same(
            oracles.Affine(alone.matrix[3:, 3:], alone.offset[3:]),
            oracles.partial(f, personal=[0, 1, 2], **LOCAL),
        )
        close(alone.matrix[3:, :3], 0)


def test_models_near_their_mean_end_at_the_joint_minimum():
    f, equal = many(), oracles.quadratics(*quadratics.functions())
    for steps in (1, 7):
        v = oracles.meanreg(f, lam=0.8, learning_rate=RATE, steps=steps).fixed_point.reshape(N, 3)
        close(f.p @ v, oracles.envelope(f, 0.8).optimum)
        close(v, proximal_points(f, f.p @ v, 0.8))
    # with one step the mean of L2GD's maps is a gradient step on the same objective, of equal weights
    centre, away = oracles.envelope(equal, 0.8).optimum, []
    for steps in (1, 4):
        mean = oracles.l2gd(equal, lam=0.8, p=0.4, learning_rate=0.2, steps=steps).mean
        away.append(np.linalg.norm(mean.fixed_point.reshape(N, 3) - proximal_points(equal, centre, 0.8)))
    assert away[0] < 1e-10 and away[1] > 1e-3


def test_shared_coordinates_end_at_the_joint_minimum():
    """With one step, jointly or in turns; with several they do not."""
    f, kept, rest = many(), [1], [0, 2]
    size = 2 + N
    left, right = np.zeros((size, size)), np.zeros(size)
    for k in range(N):
        spread = np.zeros((3, size))
        spread[rest, [0, 1]], spread[1, 2 + k] = 1, 1
        left += f.p[k] * spread.T @ f.A[k] @ spread
        right += f.p[k] * spread.T @ f.b[k]
    joint = np.linalg.solve(left, right)
    close(oracles.partial(f, personal=kept, learning_rate=RATE, steps=1).fixed_point, joint)
    close(oracles.partial(f, personal=kept, learning_rate=RATE, steps=1, own_steps=9).fixed_point, joint)
    for own in (None, 9):
        moved = oracles.partial(f, personal=kept, own_steps=own, **LOCAL).fixed_point
        assert np.linalg.norm(moved - joint) > 1e-4


def test_tasks_are_between_one_model_for_all_and_one_head_each():
    f, order = many(), [0, 2, 1]
    one = oracles.hard_sharing(f, personal=[1], tasks=[0] * N, **LOCAL)
    average = oracles.fedavg(f, **LOCAL)
    same(one, oracles.Affine(average.matrix[np.ix_(order, order)], average.offset[jnp.array(order)]))
    each = oracles.hard_sharing(f, personal=[1], tasks=range(N), server_learning_rate=0.7, **LOCAL)
    same(each, oracles.partial(f, personal=[1], server_learning_rate=0.7, **LOCAL))
    # who is alone in its task and absent leaves its head as it was; the others' is the mean of who came
    here, state = np.array([True, False, True, True]), np.random.default_rng(0).normal(size=4)
    some = oracles.hard_sharing(f, personal=[1], tasks=[0, 1, 0, 0], present=here, **LOCAL)(state)
    close(some[3], state[3], 0)
    left = oracles.quadratics(f.A[here], b=f.b[here], weights=np.asarray(f.p)[here])
    close(some[:3], oracles.fedavg(left, **LOCAL)(state[jnp.array([0, 2, 1])])[jnp.array(order)])


def test_who_is_absent_stays():
    """And the others' round is what it would be without them, where all is relative to those present."""
    f, here = many(), np.array([True, False, True, True])
    some = oracles.quadratics(f.A[here], b=f.b[here], weights=np.asarray(f.p)[here])
    for make in (
        lambda f, **who: oracles.pfedme(f, lam=0.7, **LOCAL, **who),
        lambda f, **who: oracles.perfedavg(f, alpha=0.2, **LOCAL, **who),
    ):
        same(make(f, present=here), make(some))
    state = np.random.default_rng(0).normal(size=3 + 3 * N)
    for method in (
        oracles.ditto(f, lam=0.8, present=here, **LOCAL),
        oracles.apfl(f, alpha=0.4, present=here, **LOCAL),
    ):
        before, after = oracles.split(state, N), oracles.split(method(state), N)
        close(after.control[1], before.control[1], 0)
        close(after.point, oracles.fedavg(some, **LOCAL)(before.point))
    v = state[3:]
    coins = oracles.l2gd(f, lam=0.8, p=0.4, present=here, **LOCAL)
    for method in (oracles.meanreg(f, lam=0.8, present=here, **LOCAL), coins.alone, coins.together):
        moved = method(v).reshape(N, 3)
        close(moved[1], v.reshape(N, 3)[1], 0)
        assert (np.abs(moved - v.reshape(N, 3)).max(axis=1) > 1e-3).tolist() == here.tolist()
    parts = np.asarray(oracles.partial(f, personal=[1], present=here, **LOCAL)(state[: 2 + N]))
    assert ((parts != state[: 2 + N])[2:] == here).all()


def test_x64_off():
    """The same in double precision, and without a number of another type on the way."""

    def maps(f):
        return {
            "pfedme": oracles.pfedme(
                f, lam=0.7, personal_learning_rate=0.2, inner_steps=3, carry_over=True, **LOCAL
            ),
            "perfedavg": oracles.perfedavg(f, alpha=0.2, variant="fo", **LOCAL),
            "ditto": oracles.ditto(f, lam=0.8, **LOCAL),
            "apfl": oracles.apfl(f, alpha=0.4, **LOCAL),
            "l2gd": oracles.l2gd(f, lam=0.8, p=0.4, **LOCAL).mean,
            "partial": oracles.partial(f, personal=[1], own_steps=2, **LOCAL),
            "hard sharing": oracles.hard_sharing(f, personal=[1], tasks=(0, 0, 1, 1), **LOCAL),
        }

    double = maps(many())
    with jax.enable_x64(False):
        single = maps(many())
        for name, method in single.items():
            assert method.matrix.dtype == method.offset.dtype == np.float64, name
            same(method, jax.tree.map(np.asarray, double[name]), 1e-12)
