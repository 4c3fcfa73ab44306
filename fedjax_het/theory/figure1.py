"""Figure 1 of Li et al. 2020 as an experiment: its four pictures, on Synthetic and on handwritten digits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fedjax_het.plots.theory import Line, Panel, chart
from fedjax_het.theory.finding import Claim, Finding
from fedjax_het.theory.li2020 import DATA, LiRuns, li2020_runs
from fedjax_het.theory.runs import increasing

__all__ = ["li2020"]

DRAWN = {
    "scheme I": "scheme I",
    "scheme II": "scheme II",
    "transformed II": "transformed scheme II",
    "original": "original, 9 times the rate",
}
"""Words of the legend."""


def li2020(
    *,
    local_steps: Any = (10, 50, 200, 600),
    clients_per_round: Any = (5, 10, 30),
    rounds: int = 160,
    scheme_rounds: int = 40,
    num_clients: int = 100,
    digit_holders: int = 50,
    largest: int | None = None,
    synthetic_target: float = 1.1,
    digits_target: float = 0.9,
    data: Any = DATA,
    schemes: Any = tuple(DRAWN),
    seed: int = 0,
) -> Finding:
    """Figure 1a-d of Li et al. 2020: rounds to a target against E and against K, and the schemes.

    What is run, and with which step sizes, `fedjax_het.theory.li2020.li2020_runs` says. The paper's MNIST is
    replaced by small handwritten digits, and its targets, which it does not give, by the ones here; no
    theorem covers its step sizes.

    Args:
        local_steps: E of (a), increasing.
        clients_per_round: K of (b), increasing.
        rounds: of (a) and (b) at most.
        scheme_rounds: of (c) and (d).
        num_clients: N of the synthetic sets.
        digit_holders: N of the digit sets.
        largest: cap of the synthetic clients' rows; None for the published sizes.
        synthetic_target: the loss to wait for.
        digits_target: the same for digits.
        data: names of "synthetic(0,0)", "synthetic(1,1)", "digits, balanced", "digits, unbalanced", to leave
            some out; (b) needs the first, (c) and (d) the last two.
        schemes: names of "scheme I", "scheme II", "transformed II", "original", for (c) and (d).
        seed: of data and runs.

    Returns:
        Arrays "local_steps" [a]; "rounds" [len(data), a], NaN where the target is not reached; "clients"
        [b]; "rounds_by_clients" [1, b]; "losses" [2, len(schemes), scheme_rounds + 1] of balanced and of
        unbalanced digits. Data left out has no row.

    Raises:
        TypeError, ValueError: a setting of the wrong kind or range.

    Reference:
        Li, Huang, Yang, Wang, Zhang, ICLR 2020, figure 1.
    """
    steps = increasing("local_steps", local_steps, fewest=2)
    cohorts = increasing("clients_per_round", clients_per_round, fewest=2)
    settings: dict[str, Any] = {
        "local_steps": steps, "clients_per_round": cohorts, "rounds": rounds, "scheme_rounds": scheme_rounds,
        "num_clients": num_clients, "digit_holders": digit_holders, "largest": largest,
        "synthetic_target": synthetic_target, "digits_target": digits_target, "data": data,
        "schemes": schemes, "seed": seed,
    }  # fmt: skip
    ran = li2020_runs(**settings)
    waited = np.stack(list(ran.rounds.values()))
    arrays = {
        "local_steps": ran.local_steps, "rounds": waited, "clients": ran.clients,
        "rounds_by_clients": np.array(list(ran.rounds_by_clients.values())),
        "losses": np.array([list(each.values()) for each in ran.losses.values()]),
    }  # fmt: skip
    rows = [(name, f"{ran.targets[name]:g}", *numbers) for name, numbers in zip(ran.rounds, waited)]
    columns = ("data", "target", *(f"rounds, E = {e}" for e in steps))
    title = "Figure 1 of Li et al. 2020"
    return Finding(title, settings, arrays, columns, rows, tuple(_claims(ran)), lambda: _draw(ran))


def _claims(ran: LiRuns) -> Iterator[Claim]:
    """What is seen of the data that was run."""
    best = {
        name: int(ran.local_steps[np.nanargmin(row)])
        for name, row in ran.rounds.items()
        if np.isfinite(row).any()
    }
    never = [name for name in ran.rounds if name not in best]
    yield Claim(
        "(a) fewest rounds at " + ", ".join(f"E = {e} on {name}" for name, e in best.items())
        + f"; E = {ran.local_steps[0]} is never best"
        + (f"; target not reached: {', '.join(never)}" if never else ""),
        bool(best) and all(e > ran.local_steps[0] for e in best.values()),
    )  # fmt: skip
    for name, row in ran.rounds_by_clients.items():
        each = ", ".join(f"{r:g} at K = {k}" for k, r in zip(ran.clients, row))
        yield Claim(f"(b) on {name} rounds depend little on K: {each}", bool(np.ptp(row) <= 0.5 * np.max(row)))
    for name, by_scheme in ran.losses.items():
        swing = {key: float(np.mean(np.maximum(np.diff(row), 0))) for key, row in by_scheme.items()}
        told = ", ".join(f"{DRAWN[key]} {row[-1]:.3f}" for key, row in by_scheme.items())
        letter = "c" if name == DATA[2] else "d"
        if name == DATA[3] and {"scheme I", "scheme II"} <= set(swing):
            rest = max(value for key, value in swing.items() if key != "scheme II")
            told += (
                f"; scheme II is unstable, its loss rises by {swing['scheme II']:.2g} a round on average, "
                f"no other's by more than {rest:.2g}"
            )
            holds = swing["scheme II"] > 2 * rest
        else:
            holds = all(row[-1] < row[0] for row in by_scheme.values())
        yield Claim(f"({letter}) losses on {name} end at {told}", bool(holds))


def _draw(ran: LiRuns) -> Any:
    a = [
        Line(f"{name}, to {ran.targets[name]:g}", ran.local_steps, waited, i, "both", every=True)
        for i, (name, waited) in enumerate(ran.rounds.items())
    ]
    b = [
        Line(f"{name}, to {ran.targets[name]:g}", ran.clients, waited, i, "both", every=True)
        for i, (name, waited) in enumerate(ran.rounds_by_clients.items())
    ]
    panels = [
        Panel("(a) rounds to a loss, scheme I, K = 10", a, "E, local steps of a round", "rounds", "xy",
              legend="data, target"),
    ]  # fmt: skip
    if b:
        top = 1.1 * max(float(np.nanmax(row)) for row in ran.rounds_by_clients.values())
        panels.append(
            Panel("(b) the same against K, E = 50", b, "K, clients drawn in a round", "rounds", "x", bottom=0.0,
                  top=top, legend="data, target")
        )  # fmt: skip
    for name, by_scheme in ran.losses.items():
        letter = "c" if name == DATA[2] else "d"
        lines = [
            Line(DRAWN[key], np.arange(len(row)), row, list(DRAWN).index(key)) for key, row in by_scheme.items()
        ]
        panels.append(Panel(f"({letter}) {name}, K = 10, E = 100", lines, "rounds done", "loss (nat)", "y"))
    return chart(
        "Figure 1 of Li et al. 2020, run anew",
        panels,
        "All measured: softmax regression, ridge 1e-4, rate 0.1 / (1 + r) after r rounds, batches of 64 drawn "
        "anew at every step (24 in c, d). Handwritten digits of 8 by 8, two classes a client, stand for MNIST. "
        "The paper does not give its targets; these are chosen here. No theorem covers these step sizes.",
        width=13.6,
    )
