"""Local work against NumPy: steps, counts, accounts, schedules, optax rules, both loops."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference.nova import weights_of_gradients

import fedjax_het as fh
from fedjax_het import keys, local, tree
from fedjax_het.models import linear
from fedjax_het.problem import Model, objective, prox

SIZES = (7, 0, 12, 300)
START = np.array([[0.5], [-1.0]])
KEY = jax.random.key(2)
MU = 0.4


def make():
    """(problem, federation): least squares, y about 2 x_0 - x_1."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(sum(SIZES), 2))
    y = x @ np.array([[2.0], [-1.0]]) + 0.3 * rng.normal(size=(len(x), 1))
    pool = fh.pool(x, y, task="regression")
    parts = np.split(np.arange(len(x)), np.cumsum(SIZES)[:-1])
    return linear(pool, bias=False), fh.from_index_lists(pool, None, parts, test=0.0)


def client(federation, k):
    return federation.data("train", federation.locate("train", jnp.int32(0), jnp.int32(k)))


@jax.jit
def solve(solver, problem, data, mu, work=1.0, round_=0, pull=None, held=None):
    start = Model({"head": {"kernel": jnp.asarray(START, jnp.result_type(float))}}, ())
    f = objective(problem)
    if mu is not None:
        f = prox(f, start.params, mu)
    return solver.solve(KEY, f, start, data, round_=round_, work=work, pull=pull, held=held)


positions = jax.jit(lambda plan, data, seed, j: plan.positions(data, seed, j))


def recorded(solver, data, federation):
    """Rows of each batch of the client, in order."""
    seed = keys.seed(keys.stream(KEY, "order"))
    index = np.asarray(federation.train.index)[int(data.offset) :]
    out = []
    for j in range(int(solver.plan.steps(data))):
        place, counts = positions(solver.plan, data, seed, jnp.int32(j))
        out.append(index[np.asarray(place)[np.asarray(counts)]])
    return out


def by_hand(federation, steps, rates, momentum=0.0, mu=0.0):
    """Momentum SGD on the recorded batches: (w, mean loss)."""
    x, y = np.asarray(federation.x, np.float64), np.asarray(federation.y, np.float64)
    w, velocity, losses = START.copy(), np.zeros_like(START), []
    for rows, rate in zip(steps, rates):
        error = x[rows] @ w - y[rows]
        losses.append(float(np.mean(error**2) / 2))
        velocity = momentum * velocity + x[rows].T @ error / len(rows)
        velocity = velocity + mu * (w - START)
        w = w - rate * velocity
    return w, float(np.mean(losses))


def kernel(solution):
    return np.asarray(solution.params["head"]["kernel"])


@pytest.mark.parametrize(("momentum", "mu"), [(None, None), (0.9, None), (None, MU), (0.9, MU)])
def test_sgd_by_hand(x64, momentum, mu):
    problem, federation = make()
    for k in (0, 2):
        data = client(federation, k)
        solver = local.sgd(0.1, batch_size=4, epochs=3, momentum=momentum)
        solution = solve(solver, problem, data, mu)
        steps = recorded(solver, data, federation)
        w, loss = by_hand(federation, steps, [0.1] * len(steps), momentum or 0.0, mu or 0.0)
        np.testing.assert_allclose(kernel(solution), w, rtol=1e-12)
        np.testing.assert_allclose(solution.loss, loss, rtol=1e-12)
        assert int(solution.steps) == len(steps) == 3 * -(-SIZES[k] // 4)
        np.testing.assert_allclose(solution.step_sum, 0.1 * len(steps), rtol=1e-12)


@pytest.mark.parametrize("momentum", [None, 0.9])
def test_no_dead_steps(x64, momentum):
    """A client of seven rows ends where it ends, however long the loop, capacity and neighbours are."""
    problem, federation = make()
    solver = local.sgd(0.1, batch_size=4, epochs=2, momentum=momentum)
    alone = solve(solver, problem, client(federation, 0), MU)
    scan = solve(local.scanned(solver, 50), problem, client(federation, 0), MU)
    assert int(alone.steps) == int(scan.steps) == 4
    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(scan)):
        np.testing.assert_array_equal(a, b)
    ids = jnp.arange(3, dtype=jnp.int32)
    located = federation.locate("train", jnp.int32(0), ids)
    for each in (solver, local.scanned(solver, 6)):
        batch = jax.jit(jax.vmap(lambda place, s=each: solve(s, problem, federation.data("train", place), MU)))(
            located
        )
        np.testing.assert_array_equal(batch.steps, [4, 0, 6])
        np.testing.assert_allclose(kernel(batch)[0], kernel(alone), rtol=1e-13)
        np.testing.assert_array_equal(kernel(batch)[1], START)


def test_weight_decay_does_not_fire_on_a_dead_step(x64):
    problem, federation = make()
    rule = local.from_optax(optax.adamw, learning_rate=0.05, weight_decay=0.3, batch_size=4, epochs=1)
    short = solve(rule, problem, client(federation, 0), None)
    padded = solve(local.scanned(rule, 20), problem, client(federation, 0), None)
    np.testing.assert_array_equal(kernel(short), kernel(padded))
    empty = solve(local.scanned(rule, 20), problem, client(federation, 1), None)
    np.testing.assert_array_equal(kernel(empty), START)


def test_an_empty_client_stays(x64):
    problem, federation = make()
    for solver in (local.sgd(0.1, batch_size=4, momentum=0.9), local.sgd(0.1, batch_size=None, epochs=3)):
        solution = solve(solver, problem, client(federation, 1), MU)
        np.testing.assert_array_equal(kernel(solution), START)
        for value in (solution.steps, solution.step_sum, solution.reach, solution.accumulated, solution.loss):
            assert float(value) == 0


@pytest.mark.parametrize("k", [0, 3])
def test_full_batches_are_the_gradient_over_all_rows(x64, k):
    problem, federation = make()
    x, y = np.asarray(federation.x), np.asarray(federation.y)
    rows = np.asarray(federation.train.index)[sum(SIZES[:k]) : sum(SIZES[: k + 1])]
    solution = solve(local.sgd(0.2, batch_size=None, epochs=2), problem, client(federation, k), None)
    w, losses = START.copy(), []
    for _ in range(2):
        error = x[rows] @ w - y[rows]
        losses.append(np.mean(error**2) / 2)
        w = w - 0.2 * x[rows].T @ error / len(rows)
    assert int(solution.steps) == 2
    np.testing.assert_allclose(kernel(solution), w, rtol=1e-12)
    np.testing.assert_allclose(solution.loss, np.mean(losses), rtol=1e-12)


def halved(initial, count):
    return initial * 0.5**count


def test_accounts_in_closed_form(x64):
    problem, federation = make()
    data, eta, rho = client(federation, 2), 0.1, 0.9
    plain = solve(local.sgd(eta, batch_size=4, epochs=3), problem, data, None)
    tau = 9
    np.testing.assert_allclose(plain.accumulated, tau, rtol=1e-12)
    heavy = solve(local.sgd(eta, batch_size=4, epochs=3, momentum=rho), problem, data, None)
    expected = (tau - rho * (1 - rho**tau) / (1 - rho)) / (1 - rho)
    np.testing.assert_allclose(heavy.accumulated, expected, rtol=1e-12)
    for mu, where in ((MU, {"held": MU}), (None, {"pull": MU})):
        solution = solve(local.sgd(eta, batch_size=4, epochs=3), problem, data, mu, **where)
        np.testing.assert_allclose(solution.accumulated, (1 - (1 - eta * MU) ** tau) / (eta * MU), rtol=1e-12)
        np.testing.assert_allclose(solution.reach, eta * solution.accumulated, rtol=1e-12)


def straight():
    """(problem, data): F(w) = <g, w> with g = (1, -2), nine rows."""
    federation = fh.models.quadratic_federation(np.zeros((1, 2, 2)), b=[[-1.0, 2.0]], sizes=[9])
    return fh.models.quadratic(federation.pool), client(federation, 0)


@pytest.mark.parametrize("most", [None, 12])
def test_the_account_is_the_displacement_on_a_straight_loss(x64, most):
    """-eta_0 |a|_1 g, and |a|_1 as gradient by gradient, each followed through the later steps.

    All at once: with and without momentum, a falling rate, a term inside the rule, one outside, and both.
    """
    problem, data = straight()
    start = Model({"w": jnp.array([0.5, -1.0])}, ())

    @jax.jit
    @jax.vmap
    def work(factor, rho, pull, held):
        solver = local.sgd(local.geometric(0.2, factor, unit="local"), batch_size=1, momentum=rho)
        solver = solver if most is None else local.scanned(solver, most)
        f = prox(objective(problem), start.params, held)
        return solver.solve(KEY, f, start, data, pull=pull, held=held)

    cases = list(itertools.product((1.0, 0.5), (0.0, 0.8), (0.0, MU), (0.0, 1.3)))
    solutions = work(*jnp.array(cases).T)
    for i, (factor, rho, pull, held) in enumerate(cases):
        solution = jax.tree.map(lambda leaf, i=i: leaf[i], solutions)
        rates = 0.2 * factor ** np.arange(9)
        moved = start.params["w"] - solution.params["w"]
        np.testing.assert_allclose(moved, solution.reach * np.array([1.0, -2.0]), rtol=1e-12)
        np.testing.assert_allclose(solution.step_sum, rates.sum(), rtol=1e-12)
        np.testing.assert_allclose(solution.reach, 0.2 * solution.accumulated, rtol=1e-12)
        if not (pull and held):
            weights = weights_of_gradients(rates, rho, pull or held, "inside" if held else "outside")
            np.testing.assert_allclose(solution.accumulated, weights.sum(), rtol=1e-12)


@pytest.mark.parametrize("momentum", [None, 0.9])
def test_a_pull_outside_the_rule_by_hand(x64, momentum):
    """Without momentum it is the term in the objective; with momentum the buffer does not gather it."""
    problem, federation = make()
    data = client(federation, 2)
    solver = local.sgd(0.1, batch_size=4, epochs=2, momentum=momentum)
    pulled = solve(solver, problem, data, None, pull=MU)
    x, y = np.asarray(federation.x), np.asarray(federation.y)
    w, velocity = START.copy(), 0.0
    for rows in recorded(solver, data, federation):
        velocity = (momentum or 0.0) * velocity + x[rows].T @ (x[rows] @ w - y[rows]) / len(rows)
        w = w - 0.1 * (velocity + MU * (w - START))
    np.testing.assert_allclose(kernel(pulled), w, rtol=1e-12)
    inside = kernel(solve(solver, problem, data, MU))
    assert (np.abs(inside - w).max() < 1e-12) == (momentum is None)


def test_accumulated_is_unknown_for_an_adaptive_rule(x64):
    problem, federation = make()
    rule = local.from_optax(optax.adam, learning_rate=0.05, batch_size=4)
    solution = solve(rule, problem, client(federation, 0), None)
    assert rule.kind == "adaptive" and np.isnan(solution.accumulated) and np.isnan(solution.reach)
    np.testing.assert_allclose(solution.step_sum, 0.1, rtol=1e-12)
    assert local.sgd(0.1, batch_size=4).kind == "sgd"
    assert local.sgd(0.1, batch_size=4, momentum=0.0).kind == "momentum"


def test_partial_work(x64):
    problem, federation = make()
    data, solver = client(federation, 2), local.sgd(0.1, batch_size=4, epochs=3)
    part = solve(solver, problem, data, None, work=0.45)
    steps = recorded(solver, data, federation)[:4]
    w, _ = by_hand(federation, steps, [0.1] * 4)
    assert int(part.steps) == 4
    np.testing.assert_allclose(kernel(part), w, rtol=1e-12)
    none = solve(solver, problem, data, None, work=0.0)
    assert int(none.steps) == 0
    np.testing.assert_array_equal(kernel(none), START)


def inverse(numerator, offset, count):
    return numerator / (offset + count)


@pytest.mark.parametrize(
    ("unit", "counts"),
    [("step", 2 * 6 + np.arange(6)), ("round", np.full(6, 2)), ("local", np.arange(6))],
)
def test_schedules_read_their_clock(x64, unit, counts):
    problem, federation = make()
    data = client(federation, 2)
    solver = local.sgd(local.schedule(inverse, 1.0, 4.0, unit=unit), batch_size=4, epochs=2)
    solution = solve(solver, problem, data, None, round_=2)
    rates = 1.0 / (4.0 + counts)
    w, _ = by_hand(federation, recorded(solver, data, federation), rates)
    np.testing.assert_allclose(kernel(solution), w, rtol=1e-12)
    np.testing.assert_allclose(solution.step_sum, rates.sum(), rtol=1e-12)


def test_ready_made_schedules_and_plain_functions(x64):
    zero = jnp.int32(0)
    clock = local.Clock(step=jnp.int32(6), round=jnp.int32(3), local=zero)
    assert float(local.inverse_time(2.0, 4.0)(clock)) == pytest.approx(0.2, rel=1e-12)
    assert float(local.geometric(0.4, 0.5)(clock)) == pytest.approx(0.05, rel=1e-12)
    cosine = local.sgd(optax.cosine_decay_schedule(0.1, 12), batch_size=4).rule.rate(clock)
    assert float(cosine) == pytest.approx(0.05, rel=1e-6)


def test_step_clock_counts_the_full_plan_of_a_straggler(x64):
    problem, federation = make()
    data = client(federation, 2)
    solver = local.sgd(local.schedule(inverse, 1.0, 4.0), batch_size=4, epochs=2)
    part = solve(solver, problem, data, None, work=0.5, round_=2)
    np.testing.assert_allclose(part.step_sum, (1.0 / (4.0 + 12 + np.arange(3))).sum(), rtol=1e-12)


def test_optax_momentum_equals_ours(x64):
    problem, federation = make()
    data = client(federation, 2)
    ours = solve(local.sgd(0.1, batch_size=4, epochs=2, momentum=0.9), problem, data, MU)
    theirs = local.from_optax(optax.sgd, learning_rate=0.1, momentum=0.9, batch_size=4, epochs=2)
    np.testing.assert_allclose(kernel(solve(theirs, problem, data, MU)), kernel(ours), rtol=1e-12)


def test_adam_by_hand(x64):
    problem, federation = make()
    data = client(federation, 2)
    solver = local.from_optax(optax.adam, learning_rate=0.05, b1=0.8, b2=0.95, batch_size=4, epochs=2)
    solution = solve(solver, problem, data, None)
    x, y = np.asarray(federation.x), np.asarray(federation.y)
    w, m, v = START.copy(), 0.0, 0.0
    for i, rows in enumerate(recorded(solver, data, federation), start=1):
        gradient = x[rows].T @ (x[rows] @ w - y[rows]) / len(rows)
        m, v = 0.8 * m + 0.2 * gradient, 0.95 * v + 0.05 * gradient**2
        w = w - 0.05 * (m / (1 - 0.8**i)) / (np.sqrt(v / (1 - 0.95**i)) + 1e-8)
    np.testing.assert_allclose(kernel(solution), w, rtol=1e-10)


def test_a_finished_transformation_with_clipping(x64):
    problem, federation = make()
    data = client(federation, 2)
    chain = optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.1))
    solver = local.from_optax(chain, batch_size=4, epochs=2)
    solution = solve(solver, problem, data, None)
    x, y = np.asarray(federation.x), np.asarray(federation.y)
    w = START.copy()
    for rows in recorded(solver, data, federation):
        gradient = x[rows].T @ (x[rows] @ w - y[rows]) / len(rows)
        w = w - 0.1 * gradient * min(1.0, 0.5 / np.linalg.norm(gradient))
    np.testing.assert_allclose(kernel(solution), w, rtol=1e-10)


def test_an_optax_rate_may_be_a_schedule(x64):
    problem, federation = make()
    data = client(federation, 2)
    decayed = local.schedule(inverse, 1.0, 4.0)
    ours = solve(local.sgd(decayed, batch_size=4, epochs=2), problem, data, None, round_=1)
    theirs = local.from_optax(optax.sgd, learning_rate=decayed, batch_size=4, epochs=2)
    solution = solve(theirs, problem, data, None, round_=1)
    np.testing.assert_allclose(kernel(solution), kernel(ours), rtol=1e-12)
    np.testing.assert_allclose(solution.step_sum, ours.step_sum, rtol=1e-12)


def test_changing_a_number_compiles_nothing():
    problem, federation = make()
    data = client(federation, 0)
    pairs = [
        (local.sgd(0.1, batch_size=4, momentum=0.9), local.sgd(0.3, batch_size=4, epochs=3, momentum=0.5)),
        (
            local.from_optax(optax.adam, learning_rate=0.1, b1=0.9, batch_size=4),
            local.from_optax(optax.adam, learning_rate=0.01, b1=0.5, batch_size=4),
        ),
        (
            local.sgd(local.inverse_time(1.0, 4.0), batch_size=4),
            local.sgd(local.inverse_time(2.0, 9.0), batch_size=4),
        ),
    ]
    for first, second in pairs:
        one = solve(first, problem, data, MU)
        before = solve._cache_size()
        two = solve(second, problem, data, 2 * MU)
        assert solve._cache_size() == before
        assert not np.array_equal(kernel(one), kernel(two))


@pytest.mark.parametrize("wide", [True, False], ids=["x64", "float32"])
def test_the_two_loops_give_equal_bits(wide):
    with jax.enable_x64(wide):
        problem, federation = make()
        solver = local.sgd(0.1, batch_size=4, epochs=2, momentum=0.9)
        located = federation.locate("train", jnp.int32(0), jnp.array([0, 1, 2], jnp.int32))

        def at(place, solver):
            return solve(solver, problem, federation.data("train", place), MU)

        batch = [jax.jit(jax.vmap(at, (0, None)))(located, s) for s in (solver, local.scanned(solver, 6))]
        for a, b in zip(*map(jax.tree.leaves, batch)):
            np.testing.assert_array_equal(a, b)
        for k in (0, 2):
            data = client(federation, k)
            a, b = (solve(s, problem, data, MU) for s in (solver, local.scanned(solver, 6)))
            assert a.params["head"]["kernel"].dtype == (jnp.float64 if wide else jnp.float32)
            for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
                np.testing.assert_array_equal(one, other)


RULES = {
    "plain": lambda: local.sgd(0.1, batch_size=4, epochs=2),
    "momentum": lambda: local.sgd(0.1, batch_size=4, epochs=2, momentum=0.9),
    "adam": lambda: local.from_optax(optax.adam, learning_rate=0.01, batch_size=4, epochs=2),
}


@pytest.mark.parametrize("executor", [fh.executors.looped(), fh.executors.vmapped()], ids=["looped", "vmapped"])
@pytest.mark.parametrize("rule", RULES)
def test_a_round_of_either_loop_gives_equal_bits(rule, executor):
    """A network of two hidden layers, clients of 0 to 61 rows."""
    sizes = (5, 37, 0, 1, 61)
    rng = np.random.default_rng(0)
    pool = fh.pool(rng.normal(size=(sum(sizes), 6)), rng.integers(0, 3, sum(sizes)), num_classes=3)
    parts = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    federation = fh.from_index_lists(pool, None, parts, test=0.0)
    problem = fh.models.mlp(pool, hidden=(16, 8))
    ends = []
    for solver in (RULES[rule](), local.scanned(RULES[rule](), 40)):
        algorithm = fh.algorithms.fedavg(problem, solver)
        round_fn = fh.make_round(fh.sampling.everyone(), executor)
        state = fh.initial_state(algorithm, federation, key=KEY, round_fn=round_fn)
        ends.append(jax.jit(round_fn.__call__)(algorithm, state, federation)[0].server.params)
    for one, other in zip(*map(jax.tree.leaves, ends)):
        np.testing.assert_array_equal(one, other)


def test_a_static_loop_that_is_too_short_says_so():
    problem, federation = make()
    solver = local.scanned(local.sgd(0.1, batch_size=4, epochs=2), 5)
    assert np.isfinite(solve(solver, problem, client(federation, 0), None).loss)
    assert np.isnan(solve(solver, problem, client(federation, 2), None).loss)


def look(params, start, gradient):
    return {
        "drift": tree.sum_of_squares(tree.subtract(params, start)),
        "slope": gradient["head"]["kernel"],
    }


@pytest.mark.parametrize("most", [None, 8])
def test_probes_record_each_step(x64, most):
    problem, federation = make()
    data = client(federation, 0)
    solver = local.sgd(0.1, batch_size=4, epochs=2)
    solver = solver if most is None else local.scanned(solver, most)
    solution = solve(local.traced(solver, look, 6), problem, data, None)
    x, y = np.asarray(federation.x), np.asarray(federation.y)
    w, drift, slopes = START.copy(), np.zeros(6), np.zeros((6, 2, 1))
    for j, rows in enumerate(recorded(solver, data, federation)):
        drift[j] = ((w - START) ** 2).sum()
        slopes[j] = x[rows].T @ (x[rows] @ w - y[rows]) / len(rows)
        w = w - 0.1 * slopes[j]
    np.testing.assert_allclose(solution.trace["drift"], drift, rtol=1e-12)
    np.testing.assert_allclose(solution.trace["slope"], slopes, rtol=1e-12)
    np.testing.assert_array_equal(kernel(solution), kernel(solve(solver, problem, data, None)))
    short = solve(local.traced(solver, look, 2), problem, data, None)
    np.testing.assert_allclose(short.trace["drift"], drift[:2], rtol=1e-12)
