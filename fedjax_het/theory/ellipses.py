"""Ellipses: the stationary covariance of noise and sampling, drawn on a cloud of the engine's runs."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het import weighting
from fedjax_het.algorithms import fedavg
from fedjax_het.analysis import oracles
from fedjax_het.check import positive_int, scalar
from fedjax_het.engine import executors, initial_state, make_round, sampling
from fedjax_het.federation import Federation
from fedjax_het.local import sgd
from fedjax_het.plots.theory import Panel, chart, track
from fedjax_het.theory.finding import Claim, Finding, in_double
from fedjax_het.theory.paths import MINIMISERS, A
from fedjax_het.theory.runs import increasing, noisy_federation, problem_of
from fedjax_het.typing import Array, Key

__all__ = ["ellipses"]

BATCH, ROWS, CERTAIN = 4, 12, 0.95
"""Rows of a batch and of a client; and the share of a normal distribution inside an ellipse."""

LIMIT = 5.0
"""Of |z|, beyond which chance is no explanation: 6e-7 for a normal statistic."""


@in_double
def ellipses(
    *,
    steps: Any = (1, 10),
    runs: int = 2000,
    rounds: int = 60,
    learning_rate: float = 0.1,
    drawn: int = 2,
    spread: float = 1.0,
    seed: int = 0,
) -> Finding:
    """Where FedAvg wanders once it has settled: ellipses of the exact covariance on the engine's last models.

    The three clients of `paths` hold 12 rows each, with batches of 4 and constant steps. Once everyone takes
    part, once `drawn` of them, with replacement (scheme I). The cloud are many runs that begin at the exact
    stationary mean, vmapped in one program over seeds.

    Args:
        steps: E, increasing, one or two values.
        runs: seeds.
        rounds: of each run, from no variance to that which stays.
        learning_rate: eta.
        drawn: clients drawn in the second panel.
        spread: of a client's rows around its minimum, which makes the noise.
        seed: of the rows and of the first run.

    Returns:
        Arrays, everyone first: "points" [2, len(steps), runs, 2]; "mean" [2, len(steps), 2]; "covariance"
        [2, len(steps), 2, 2], the exact stationary moments; "inside" [2, len(steps)], the share of points in
        the ellipse; "z" [2, len(steps), 5], of the two means and three second moments.

    Raises:
        TypeError, ValueError: a setting of the wrong kind or range.
    """
    listed = increasing("steps", steps)
    runs = positive_int("runs", runs, least=100, remedy="2000 draw the cloud")
    rounds = positive_int("rounds", rounds, remedy="60 are enough to settle")
    rate = scalar("learning_rate", learning_rate, above=0, remedy="2 / L = 0.4 is the limit")
    drawn = positive_int("drawn", drawn, remedy="2 of the three clients")
    spread = scalar("spread", spread, above=0, remedy="without any there is no noise")
    federation = noisy_federation(A, MINIMISERS, rows=ROWS, spread=spread, seed=seed)
    functions, noise = oracles.quadratics_of(federation), oracles.gradient_noise(federation, BATCH)
    keys = jax.random.split(jax.random.key(seed), runs)
    schemes: tuple[dict[str, Any], ...] = ({}, {"scheme": "I", "cohort": drawn})
    found = []
    for scheme in schemes:
        for count in listed:
            settled, last = _exact(functions, noise, rate, count, scheme.get("cohort"), rounds=rounds)
            solver = sgd(jnp.asarray(rate), batch_size=BATCH, steps=jnp.asarray(count, jnp.int32))
            method = fedavg(problem_of(federation), solver)
            cloud = _cloud(method, federation, settled.mean, keys, rounds=rounds, drawn=drawn if scheme else 0)
            found.append((*map(np.asarray, (cloud, settled.mean, settled.covariance, last.covariance)),))
    shape = (len(schemes), len(listed))
    points, mean, covariance, reached = (np.stack(each).reshape(*shape, *each[0].shape) for each in zip(*found))
    away = points - mean[:, :, None]
    distance = np.einsum("abri,abij,abrj->abr", away, np.linalg.inv(covariance), away)
    inside = (distance <= -2 * np.log(1 - CERTAIN)).mean(axis=-1)
    z = _scores(away, reached)
    left = float((np.abs(reached - covariance).max((2, 3)) / np.abs(covariance).max((2, 3))).max())
    size = np.sqrt(np.linalg.det(covariance))
    best = np.asarray(functions.optimum)
    bias = np.linalg.norm(mean - best, axis=-1)
    claims = (
        Claim(
            f"mean and covariance of the engine's {runs} runs are the exact ones: |z| <= {np.abs(z).max():.1f}",
            bool(np.abs(z).max() < LIMIT),
        ),
        Claim(
            f"after {rounds} rounds the variance is the stationary one to {left:.1e} of it", left < 0.01
        ),
        Claim(
            f"{inside.min():.1%} to {inside.max():.1%} of the runs end in the ellipse of {CERTAIN:.0%}",
            bool((np.abs(inside - CERTAIN) < 0.05).all()),
        ),
        Claim(
            f"drawing {drawn} clients makes the ellipses larger: areas "
            + ", ".join(f"{b / a:.1f} times at E = {e}" for a, b, e in zip(*size, listed)),
            bool((size[1] > size[0]).all()),
        ),
    )  # fmt: skip

    def draw() -> Any:
        titles = (
            "everyone takes part: noise of batches",
            f"{drawn} draws of the 3 clients: noise of sampling as well",
        )
        panels = []
        for i, title in enumerate(titles):
            lines = []
            for n, e in enumerate(listed):
                outline = _ellipse(mean[i, n], covariance[i, n])
                lines += [track("", points[i, n], n, "cloud"), track(f"E = {e}", outline, n)]
                lines.append(track("", mean[i, n], n, "cross"))
            lines.append(track("w*", best, 6, "cross"))
            panels.append(Panel(title, lines, "w[0] (parameter)", "w[1] (parameter)", "", equal=True))
        return chart(
            "Where FedAvg wanders: bias moves the cloud, noise and sampling widen it",
            panels,
            f"Last models of {runs} runs of {rounds} rounds, eta = {rate:g}, batches of {BATCH} of {ROWS} "
            f"rows. Ellipses: {CERTAIN:.0%} of the exact stationary covariance; coloured crosses: the exact "
            f"mean. Inside lie {', '.join(f'{share:.1%}' for share in inside.ravel())}. After many steps on "
            "few clients a model is near a mixture of local minima: not normal, but of this covariance.",
        )

    settings = {
        "steps": listed, "runs": runs, "rounds": rounds, "learning_rate": rate, "drawn": drawn,
        "spread": spread, "seed": seed,
    }  # fmt: skip
    arrays = {"points": points, "mean": mean, "covariance": covariance, "inside": inside, "z": z}
    axes = np.sqrt(np.linalg.eigvalsh(covariance)[..., ::-1])
    rows = [
        (who, e, bias[i, n], *axes[i, n], inside[i, n], np.abs(z[i, n]).max())
        for i, who in enumerate(("everyone", f"{drawn} draws"))
        for n, e in enumerate(listed)
    ]  # fmt: skip
    columns = ("clients", "E", "|mean - w*|", "long axis", "short axis", "inside", "largest |z|")
    return Finding("Stationary covariance", settings, arrays, columns, rows, claims, draw)


def _moments(
    functions: oracles.Quadratics, noise: oracles.Noise, rate: Array, steps: Array, cohort: Any, *, rounds: int
) -> tuple[oracles.Moments, oracles.Moments]:
    """The stationary moments, and those after `rounds` rounds from the stationary mean; None is everyone."""
    scheme: dict[str, Any] = {} if cohort is None else {"scheme": "I", "cohort": cohort}
    drawn = oracles.moments(functions, learning_rate=rate, steps=steps, noise=noise, **scheme)
    settled = drawn.stationary
    return settled, jax.tree.map(lambda leaf: leaf[-1], drawn.trajectory(settled.mean, rounds))


_exact = jax.jit(_moments, static_argnames=("rounds",))


def _all_runs(
    method: Any, federation: Federation, start: Array, keys: Key, *, rounds: int, drawn: int
) -> Array:
    """The last models [runs, d]; `drawn` 0 means everyone."""
    sampler, weights = sampling.everyone(), None
    if drawn:
        sampler, weights = sampling.proportional(drawn), weighting.per_draw()
    round_fn = make_round(sampler, executors.vmapped(), weighting=weights)
    state = initial_state(method, federation, key=keys[0], round_fn=round_fn)
    server: Any = dataclasses.replace(state.server, params={"w": start})

    def one(key: Key) -> Array:
        first = dataclasses.replace(state, key=key, server=server)

        def step(state: Any, _: None) -> tuple[Any, None]:
            return round_fn(method, state, federation)[0], None

        return jax.lax.scan(step, first, length=rounds)[0].server.params["w"]

    return jax.vmap(one)(keys)


_cloud = jax.jit(_all_runs, static_argnames=("rounds", "drawn"))


def _scores(away: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """z of the means and of the second moments of [..., runs, 2] about the exact mean, float [..., 5]."""
    root = np.sqrt(away.shape[-2])
    variance = np.stack([covariance[..., 0, 0], covariance[..., 1, 1]], -1)
    of_mean = away.mean(-2) / np.sqrt(variance) * root
    products = np.stack([away[..., 0] ** 2, away[..., 0] * away[..., 1], away[..., 1] ** 2], -1)
    exact = np.stack([covariance[..., 0, 0], covariance[..., 0, 1], covariance[..., 1, 1]], -1)
    return np.concatenate([of_mean, (products.mean(-2) - exact) / products.std(-2) * root], -1)


def _ellipse(mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Points of the ellipse that holds `CERTAIN` of a normal distribution, float [200, 2]."""
    angle = np.linspace(0, 2 * np.pi, 200)
    values, vectors = np.linalg.eigh(covariance)
    circle = np.stack([np.cos(angle), np.sin(angle)], 1)
    return mean + np.sqrt(-2 * np.log(1 - CERTAIN)) * circle @ (np.sqrt(values)[:, None] * vectors.T)
