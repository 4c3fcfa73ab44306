"""Floor: how the bias of constant steps grows with the rate and with the number of local steps."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.algorithms import fedavg
from fedjax_het.analysis import oracles
from fedjax_het.check import positive_int
from fedjax_het.local import sgd
from fedjax_het.models import quadratics
from fedjax_het.plots.theory import Line, Panel, chart
from fedjax_het.theory.finding import Claim, Finding, in_double
from fedjax_het.theory.runs import engine_map, increasing, problem_of
from fedjax_het.typing import Array

__all__ = ["floor"]


@in_double
def floor(*, steps: Any = (2, 5, 20), points: int = 13, clients: int = 10, seed: int = 0) -> Finding:
    """|w_inf - w*| of FedAvg against eta in [1e-3, 1], and the line (E - 1) eta |b1|, on quadratics with L = 1.

    b1 = H^-1 sum_k p_k H_k g_k* / 2 is the drift-bias vector. The engine's limit is that of the affine map
    which its compiled round is.

    Args:
        steps: E > 1, increasing.
        points: rates, evenly spaced on a logarithmic axis.
        clients: N.
        seed: of the quadratics.

    Returns:
        Arrays "rates" [points]; "exact", "measured" and "line" [len(steps), points].

    Raises:
        TypeError, ValueError: a setting of the wrong kind or range.
    """
    listed, points = increasing("steps", steps), positive_int("points", points, least=2, remedy="13 draw it")
    federation = quadratics(clients, 5, hessian_dissimilarity=0.4, seed=seed)
    functions, problem = oracles.quadratics_of(federation), problem_of(federation)
    rates, best = jnp.logspace(-3, 0, points), functions.optimum

    def each(rate: Array, count: Array) -> tuple[Array, Array, Array]:
        known = oracles.fedavg(functions, learning_rate=rate, steps=count).fixed_point
        seen = engine_map(fedavg(problem, sgd(rate, batch_size=None, steps=count)), federation).fixed_point
        line = oracles.drift_bias(functions, learning_rate=rate, steps=count)
        return tuple(jnp.linalg.norm(v) for v in (known - best, seen - best, line))  # pyright: ignore

    sweep = jax.jit(jax.vmap(jax.vmap(each, (0, None)), (None, 0)))
    exact, seen, line = (np.asarray(v) for v in sweep(rates, jnp.asarray(listed, jnp.int32)))
    apart, ratio = float(np.abs(exact - seen).max()), exact / line
    claims = (
        Claim(f"the engine's floors are the oracle's to {apart:.1e}", apart < 1e-9),
        Claim(
            f"at eta = {float(rates[0]):g} floor / line is "
            + ", ".join(f"{r:.4f} at E = {e}" for e, r in zip(listed, ratio[:, 0])),
            bool((np.abs(ratio[:, 0] - 1) < 0.02 * np.array(listed)).all()),
        ),
    )
    xs = np.asarray(rates)

    def draw() -> Any:
        lines = []
        for i, e in enumerate(listed):
            lines += [Line(f"E = {e}", xs, exact[i], i), Line("", xs, seen[i], i, "points", every=True)]
            lines.append(Line("", xs, line[i], i, "dashed"))
        panel = Panel("", lines, "eta, local step size (parameter² / loss)", "|w_inf - w*| (parameter)", "xy")
        return chart(
            "The floor is first order in the rate and in E - 1",
            [panel],
            f"FedAvg on {clients} quadratics, L = 1, delta = 0.4. Lines: exact; points: the engine's compiled "
            "round; dashed: (E - 1) eta |b1|, which the floor leaves where eta E L is no longer small.",
        )

    arrays = {"rates": xs, "exact": exact, "measured": seen, "line": line}
    rows = [
        (e, float(xs[j]), exact[i, j], seen[i, j], line[i, j]) for i, e in enumerate(listed) for j in (0, -1)
    ]
    settings = {"steps": listed, "points": points, "clients": clients, "seed": seed}
    columns = ("E", "eta", "exact floor", "engine", "(E-1) eta |b1|")
    return Finding("The floor against the rate", settings, arrays, columns, rows, claims, draw)
