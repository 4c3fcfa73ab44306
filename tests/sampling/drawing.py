"""Samplers to test, and their draws as NumPy arrays."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from fedjax_het import sampling

SIZES = (4, 0, 3, 8, 1, 6, 2, 12, 5, 7)
"""Rows of ten clients, one of them empty."""

LEVEL = 1e-4
"""Of the tests of frequencies: the keys are fixed, so that a test passes always or never."""

MANY = 20_000
"""Draws that frequencies are taken of."""

N = len(SIZES)
SHARES = np.arange(1, N + 1) / 55.0


def samplers():
    """name -> (sampler, the same with other numbers), made anew for the precision in force."""
    chance, other = np.linspace(0.1, 0.9, N), np.full(N, 0.5)
    uniform = sampling.uniform(5)
    return {
        "uniform": (uniform, uniform),
        "uniform with replacement": (sampling.uniform(4, replacement=True),) * 2,
        "proportional": (sampling.proportional(4),) * 2,
        "proportional without replacement": (sampling.proportional(4, replacement=False),) * 2,
        "given": (sampling.given(4, SHARES), sampling.given(4, SHARES[::-1])),
        "given without replacement": (
            sampling.given(4, SHARES, replacement=False),
            sampling.given(4, SHARES[::-1], replacement=False),
        ),
        "bernoulli": (sampling.bernoulli(0.4, slots=6), sampling.bernoulli(0.3, slots=6)),
        "bernoulli by client": (sampling.bernoulli(chance, slots=6), sampling.bernoulli(other, slots=6)),
        "periodic": (sampling.periodic(4, period=6), sampling.periodic(4, period=8, on_for=0.25)),
        "periodic in step": (
            sampling.periodic(4, period=6, phase=range(N)),
            sampling.periodic(4, period=8, on_for=0.25, phase=np.zeros(N, int)),
        ),
        "markov": (sampling.markov(4, leave=0.2, join=0.1), sampling.markov(4, leave=0.3, join=0.9)),
        "intermittent": (sampling.intermittent(4, chance), sampling.intermittent(4, other)),
        "by size": (sampling.by_size(4), sampling.by_size(4, exponent=-0.5)),
        "power of choice": (sampling.power_of_choice(3, candidates=6),) * 2,
        "cyclic": (sampling.cyclic(4),) * 2,
        "cyclic groups": (sampling.cyclic(2, groups=3, shuffle=False),) * 2,
        "dropout": (sampling.dropout(uniform, 0.4), sampling.dropout(uniform, 0.2)),
        "dropout twice": (
            sampling.dropout(sampling.dropout(uniform, 0.2), 0.3),
            sampling.dropout(sampling.dropout(uniform, 0.5), 0.1),
        ),
        "stragglers": (
            sampling.stragglers(uniform, 0.5, epochs=5),
            sampling.stragglers(uniform, 0.2, epochs=20),
        ),
        "stragglers left out": (
            sampling.stragglers(sampling.bernoulli(0.4, slots=6), 0.5, epochs=5, policy="drop"),
            sampling.stragglers(sampling.bernoulli(0.2, slots=6), 0.2, epochs=9, policy="drop"),
        ),
        "all at once": (
            sampling.dropout(sampling.stragglers(sampling.markov(4, leave=0.2, join=0.5), 0.4, epochs=3), 0.3),
            sampling.dropout(sampling.stragglers(sampling.markov(4, leave=0.1, join=0.1), 0.1, epochs=6), 0.1),
        ),
    }


def run(sampler, key, *, rounds=8, sizes=SIZES, loss=None):
    """The draws of a run's first rounds, leaves [rounds, C], and the sampler's last state; pure."""
    sizes = jnp.asarray(sizes, jnp.int32)
    loss = jnp.arange(sizes.shape[0], dtype=jnp.result_type(float)) if loss is None else jnp.asarray(loss)

    def step(state, t):
        draw, state = sampler.draw(state, jax.random.fold_in(key, t), t, sizes, loss)
        return state, draw

    state, draws = jax.lax.scan(step, sampler.init(sizes.shape[0]), jnp.arange(rounds, dtype=jnp.int32))
    return draws, state


compiled = jax.jit(run, static_argnames="rounds")


def seeded(*seeds):
    """One key a seed."""
    return jnp.stack([jax.random.key(seed) for seed in seeds])


def in_numpy(draws):
    return jax.tree.map(np.asarray, draws)


def many(sampler, *, sizes=SIZES, seed=0, draws=MANY, loss=None):
    """First-round draws under many keys, leaves [draws, C]."""
    keys = jax.random.split(jax.random.key(seed), draws)
    at = jax.jit(jax.vmap(lambda key: run(sampler, key, rounds=1, sizes=sizes, loss=loss)[0]))
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:, 0], at(keys))


def counts(draw, clients):
    """How often each client was drawn, [draws, N]."""
    out = np.zeros((len(draw.id), clients + 1), int)
    np.add.at(out, (np.arange(len(draw.id))[:, None], draw.id), np.round(draw.multiplicity).astype(int))
    return out[:, :clients]


def expect_law(outcomes, law):
    """That `outcomes` (rows of whole numbers) follow `law` (tuple -> probability), by chi square at `LEVEL`.

    Outcomes of less than five expected cases are taken together.
    """
    rows, times = np.unique(outcomes, axis=0, return_counts=True)
    seen = {tuple(row.tolist()): int(count) for row, count in zip(rows, times)}
    assert abs(sum(law.values()) - 1) < 1e-12
    impossible = [row for row in seen if law.get(row, 0) == 0]
    assert not impossible, impossible
    expected = np.array([len(outcomes) * chance for chance in law.values() if chance > 0])
    observed = np.array([seen.get(row, 0) for row, chance in law.items() if chance > 0])
    rare = expected < 5
    if rare.any():
        expected = np.append(expected[~rare], expected[rare].sum())
        observed = np.append(observed[~rare], observed[rare].sum())
    assert len(expected) > 1
    assert stats.chisquare(observed, expected).pvalue > LEVEL
