"""Agnostic FedAvg against its NumPy loop, for all kinds of domains, and where authors' code divides by 0."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import fair, methods
from reference.models import Softmax
from reference.setting import CLASSES, COHORTS, RATE, SIZES, server_start, softmax_start

import fedjax_het as fh
from fedjax_het.algorithms import agnostic, fedavg
from fedjax_het.engine.blocks import block
from fedjax_het.engine.sampling import Draw
from fedjax_het.engine.state import initial_state
from fedjax_het.models import quadratic, quadratic_federation, softmax
from fedjax_het.pool import Pool

many_rounds = jax.jit(block, static_argnames="rounds")
GAMMA = 0.4
OF_CLIENT = [0, 1, 1, 0, 2, 3, 0, 1, 3]


def begin(algorithm, federation, key, cohorts, start=None):
    round_fn = fh.make_round(fh.sampling.scripted(cohorts), fh.executors.vmapped())
    state = initial_state(algorithm, federation, key=key, round_fn=round_fn)
    return round_fn, state if start is None else server_start(start)(state)


def last_of(setting, algorithm, start, rounds=3, cohorts=COHORTS):
    """The server after the cohorts."""
    round_fn, state = begin(algorithm, setting.federation, setting.key, cohorts, start)
    return many_rounds(round_fn, algorithm, state, setting.federation, rounds=rounds)[0].server


def side(x, y):
    return jnp.where(x[:, 0] > 0, jnp.where(x[:, 1] > 0, 2, 1), 0)


def domains_of(setting, kind):
    """(what the method is told, what the loop is told)."""
    x, y = setting.x, setting.y
    if kind == "classes":
        return {}, {"domain": lambda k, rows: y[rows], "domains": CLASSES}
    if kind == "clients":
        return {"domains": OF_CLIENT}, {"domain": lambda k, rows: [OF_CLIENT[k]] * len(rows), "domains": 4}

    def by_hand(k, rows):
        return [0 if x[r, 0] <= 0 else (2 if x[r, 1] > 0 else 1) for r in rows]

    return {"domains": side, "num_domains": 3}, {"domain": by_hand, "domains": 3}


@pytest.mark.parametrize(
    ("kind", "window", "x64"),
    [("classes", 1, True), ("classes", 1, False), ("clients", 3, True), ("rows", 2, True), ("rows", 2, False)],
)
def test_it_is_the_loop(settings, kind, window, x64):
    setting, start = settings[x64], softmax_start()
    told, known = domains_of(setting, kind)
    with jax.enable_x64(x64):
        algorithm = agnostic(
            setting.problem, setting.solver(), domain_learning_rate=GAMMA, window=window, **told
        )
        server = last_of(setting, algorithm, start)
    end, share, counts = setting.reference(fair.agnostic, Softmax, start, gamma=GAMMA, window=window, **known)
    setting.same(server.params["head"], end)
    np.testing.assert_allclose(server.mixture, share, atol=setting.tolerance)
    np.testing.assert_allclose(server.window, counts, rtol=setting.tolerance)
    assert share.max() - share.min() > 0.05, "a mixture that does not move is not tested"


def test_a_domain_that_nobody_has_divides_nothing(settings):
    """Domain 3 is with clients 5 and 8 alone: its last count stands until they are back."""
    setting, start, cohorts = settings[True], softmax_start(), [[0, 5], [1, 2], [5, 8], [0, 8]]
    told, known = domains_of(setting, "clients")
    setting_batches = [*setting.batches, setting.batches[0]]
    end, share, counts = fair.agnostic(
        Softmax, start, setting.x, setting.y, setting.held, setting_batches, cohorts[:3],
        rate=RATE, gamma=GAMMA, **known,
    )  # fmt: skip
    assert (counts == 0).any()
    with jax.enable_x64(True):
        algorithm = agnostic(setting.problem, setting.solver(), domain_learning_rate=GAMMA, **told)
        server = last_of(setting, algorithm, start, cohorts=cohorts)
        later = last_of(setting, algorithm, start, rounds=4, cohorts=cohorts)
    setting.same(server.params["head"], end)
    np.testing.assert_allclose(server.mixture, share, atol=1e-9)
    assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves((server, later)))
    np.testing.assert_allclose(later.rows, [SIZES[0], SIZES[1] + SIZES[2], 1, SIZES[8]])


def test_one_domain_and_full_batches_are_fedavg(settings):
    setting, start = settings[True], softmax_start()
    with jax.enable_x64(True):
        solver = fh.local.sgd(RATE, batch_size=None, epochs=2)
        one = agnostic(setting.problem, solver, domains=[0] * 9, domain_learning_rate=0.7)
        two = agnostic(setting.problem, solver, domains=OF_CLIENT, domain_learning_rate=0.7)
        plain = last_of(setting, fedavg(setting.problem, solver), start).params["head"]
        setting.same(last_of(setting, one, start).params["head"], {n: np.asarray(v) for n, v in plain.items()})
        gap = np.abs(np.asarray(last_of(setting, two, start).params["head"]["kernel"] - plain["kernel"])).max()
    assert gap > 1e-3


def test_minibatches_of_an_epoch_make_up_one_mean(settings):
    """beta is the whole client's: a step of B of n_k rows is B/n_k of FedAvg's."""
    setting, start, client = settings[True], softmax_start(), 5
    scale = 4 / SIZES[client]
    expected = methods.fedavg(
        Softmax, start, setting.x, setting.y, setting.held, setting.batches, [[client]], rate=RATE * scale
    )
    with jax.enable_x64(True):
        algorithm = agnostic(setting.problem, setting.solver(), domains=[0] * 9)
        server = last_of(setting, algorithm, start, rounds=1, cohorts=[[client]])
    setting.same(server.params["head"], expected)
    assert SIZES[client] % 4 == 0, "a short last batch counts for less still"


def test_clients_of_more_rows_than_a_chunk():
    """A full batch of 600 rows comes in chunks; rows, losses and gradients are those of one sum."""
    rng = np.random.default_rng(2)
    sizes, features, classes = (600, 5), 3, 3
    x, y = rng.normal(size=(605, features)), rng.integers(0, classes, 605)
    held = np.split(np.arange(605), [600])
    start = {"kernel": rng.normal(size=(features, classes)), "bias": rng.normal(size=classes)}
    expected, share, counts = fair.agnostic(
        Softmax, start, x, y, held, None, [[0, 1]] * 2,
        rate=0.5, gamma=GAMMA, domain=lambda k, rows: y[rows], domains=classes, full=True,
    )  # fmt: skip
    with jax.enable_x64(True):
        pool = fh.pool(x, y, num_classes=classes)
        federation = fh.from_index_lists(pool, None, held, test=0.0)
        solver = fh.local.sgd(0.5, batch_size=None)
        algorithm = agnostic(softmax(pool), solver, domain_learning_rate=GAMMA)
        round_fn, state = begin(algorithm, federation, jax.random.key(0), [[0, 1]], start)
        server = many_rounds(round_fn, algorithm, state, federation, rounds=2)[0].server
    for name in start:
        np.testing.assert_allclose(server.params["head"][name], expected[name], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(server.mixture, share, atol=1e-9)
    assert counts.sum() == sum(sizes)


def test_the_worst_domain_is_weighed_up_and_nothing_overflows(settings):
    setting, start = settings[False], softmax_start()
    for rate in (0.0, 0.4, 1e4):
        algorithm = agnostic(setting.problem, setting.solver(), domain_learning_rate=rate)
        first = last_of(setting, algorithm, start, rounds=1)
        server = last_of(setting, algorithm, start)
        share = np.asarray(server.mixture)
        assert np.isfinite(np.asarray(server.params["head"]["kernel"])).all()
        assert (share >= 0).all() and abs(share.sum() - 1) < 1e-5
        rows = np.concatenate([setting.held[k] for k in COHORTS[0]])
        losses = [
            np.mean([Softmax.loss(start, setting.x[[r]], setting.y[[r]]) for r in rows if setting.y[r] == j])
            for j in range(CLASSES)
        ]
        if rate > 0:
            assert np.asarray(first.mixture).argmax() == int(np.argmax(losses))
        else:
            np.testing.assert_allclose(share, 1 / CLASSES, atol=1e-6)


def test_a_row_of_no_domain_teaches_nothing(settings):
    """Labels of class 2 belong nowhere: as if they were not there."""
    setting, start = settings[True], softmax_start()
    kept = [[r for r in rows if setting.y[r] < 2] for rows in setting.held]
    expected = fair.agnostic(
        Softmax, start, setting.x, setting.y, kept, None, COHORTS,
        rate=RATE, gamma=GAMMA, domain=lambda k, rows: setting.y[rows], domains=2, full=True,
    )  # fmt: skip
    with jax.enable_x64(True):
        solver = fh.local.sgd(RATE, batch_size=None)
        for nowhere in (-1, 7):
            algorithm = agnostic(
                setting.problem,
                solver,
                domains=lambda x, y, nowhere=nowhere: jnp.where(y < 2, y, nowhere),
                num_domains=2,
                domain_learning_rate=GAMMA,
            )
            server = last_of(setting, algorithm, start)
            setting.same(server.params["head"], expected[0])
            np.testing.assert_allclose(server.mixture, expected[1], atol=1e-9)


def test_a_start_and_an_optimiser_of_the_server(settings):
    setting, start = settings[False], softmax_start()
    rule = fh.local.optimizer(optax.sgd, learning_rate=0.5)
    shares = [2.0, 1.0, 0.0]
    whole = agnostic(setting.problem, setting.solver(), start=shares, domain_learning_rate=0)
    half = agnostic(setting.problem, setting.solver(), start=shares, domain_learning_rate=0, server=rule)
    moves = []
    for algorithm in (whole, half):
        server = last_of(setting, algorithm, start, rounds=1)
        np.testing.assert_allclose(server.mixture, [2 / 3, 1 / 3, 0], atol=1e-6)
        moves.append(np.asarray(server.params["head"]["kernel"], np.float64) - start["kernel"])
    np.testing.assert_allclose(moves[1], moves[0] / 2, atol=1e-5)
    assert np.abs(moves[0]).max() > 1e-2


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Twice:
    """Clients 0 and 1, the first drawn twice."""

    def init(self, num_clients):
        return ()

    def draw(self, state, key, round_, sizes, last_loss):
        return Draw(jnp.arange(2, dtype=jnp.int32), jnp.asarray([2.0, 1.0]), jnp.ones(2)), state


def test_who_is_drawn_twice_counts_twice():
    def bowls(minima, of_client):
        m = np.asarray(minima, np.float64)
        federation = quadratic_federation(np.ones((m.size, 1, 1)), m[:, None], sizes=[3] * m.size)
        problem = quadratic(Pool(federation.x, federation.y, federation.spec.pool))
        solver = fh.local.sgd(0.3, batch_size=None)
        return agnostic(problem, solver, domains=of_client, domain_learning_rate=0.2), federation

    ends = []
    for sampler, (algorithm, federation) in (
        (Twice(), bowls([0.0, 2.0], [0, 1])),
        (fh.sampling.everyone(), bowls([0.0, 0.0, 2.0], [0, 0, 1])),
    ):
        round_fn = fh.make_round(sampler, fh.executors.vmapped())
        state = initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
        ends.append(many_rounds(round_fn, algorithm, state, federation, rounds=3)[0].server)
    for a, b in zip(jax.tree.leaves(ends[0]), jax.tree.leaves(ends[1])):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    np.testing.assert_allclose(ends[0].rows, [6, 3], rtol=1e-6)


def test_what_is_refused(settings):
    problem, solver, setting = settings[False].problem, settings[False].solver(), settings[False]
    refused = {
        r"domain_learning_rate must be >= 0, got -1": {"domain_learning_rate": -1},
        r"window must be >= 1, got 0: 1 looks": {"window": 0},
        r"domains must be whole numbers >= 0, got \[0, -1\]: list one": {"domains": [0, -1]},
        r"domains must be whole numbers >= 0, got \[0.5, 1\]: list one": {"domains": [0.5, 1]},
        r"domains must be below num_domains=2, got 3: they count": {"domains": OF_CLIENT, "num_domains": 2},
        r"num_domains must be given for a function, got None": {"domains": side},
        r"num_domains must be left out without domains, got 3": {"num_domains": 3},
        r"start must be .*, got \[0, 0\]: one share for each domain": {"start": [0, 0]},
    }
    for message, arguments in refused.items():
        with pytest.raises(ValueError, match=message):
            agnostic(problem, solver, **arguments)
    with pytest.raises(TypeError, match=r"num_domains must be a whole number, got 2.0: count"):
        agnostic(problem, solver, domains=side, num_domains=2.0)
    late = {
        r"domains must be one number for each of the 9 clients, got shape \(2,\)": {"domains": [0, 1]},
        r"start must be one number for each of the 3 domains, got shape \(2,\)": {"start": [1, 2]},
    }
    for message, arguments in late.items():
        with pytest.raises(ValueError, match=message):
            begin(agnostic(problem, solver, **arguments), setting.federation, setting.key, COHORTS)
    bowls = quadratic_federation(np.ones((2, 1, 1)), np.zeros((2, 1)))
    algorithm = agnostic(quadratic(Pool(bowls.x, bowls.y, bowls.spec.pool)), solver)
    with pytest.raises(
        ValueError, match=r"domains must be given for task 'regression', got None: .*num_domains"
    ):
        begin(algorithm, bowls, setting.key, [[0]])
