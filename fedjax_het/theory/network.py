"""Network: drift and gradient dissimilarity of a network that learns, where no theorem has exact constants."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from fedjax_het.algorithms import fedavg
from fedjax_het.analysis import (
    client_drift,
    drift_exponent,
    drift_growth,
    gradient_dissimilarity,
    layer_drift,
    local_path,
)
from fedjax_het.check import positive_int, require, scalar, short
from fedjax_het.datasets import digits
from fedjax_het.engine import executors, simulate
from fedjax_het.heterogeneity.label import dirichlet_per_client
from fedjax_het.local import sgd
from fedjax_het.models import mlp
from fedjax_het.plots.theory import Line, Panel, chart
from fedjax_het.theory.finding import Claim, Finding, in_double

__all__ = ["network"]


@in_double
def network(
    *,
    rounds: int = 40,
    steps: int = 20,
    clients: int = 20,
    rows: int = 60,
    alphas: Any = (0.1, 100.0),
    hidden: int = 32,
    learning_rate: float = 0.1,
    seed: int = 0,
) -> Finding:
    """FedAvg of a small network on the digits, labels skewed and even: what its clients' drift does in a run.

    Drift over the rounds, as a whole and by layer, falls as training settles; drift over the local steps of a
    round grows, but less than linearly. G^2, at the server's model, is the clients' disagreement.

    Args:
        rounds: T, in which everyone takes part.
        steps: E, on batches of 16.
        clients: N.
        rows: of a client, a tenth of them for testing.
        alphas: concentration of the label shares, the skewed federation's and the even one's.
        hidden: units of the one hidden layer.
        learning_rate: eta.
        seed: of data and run.

    Returns:
        Arrays, skewed first: "drift" and "G2" [2, T]; "layers" [2, 4, T], in the order of the legend; "path"
        [2, T, E + 1], the root mean square of |w_k,j - w| over the clients; "exponent" [2, T], the mean over
        the clients of the slope of log |w_k,j - w| over log j.

    Raises:
        TypeError, ValueError: a setting of the wrong kind or range.
    """
    rounds = positive_int("rounds", rounds, least=2, remedy="40 show the course")
    steps = positive_int("steps", steps, least=2, remedy="20 show the growth within a round")
    rate = scalar("learning_rate", learning_rate, above=0, remedy="0.1 trains it")
    require(
        isinstance(alphas, (list, tuple)) and len(alphas) == 2,
        f"alphas must be two numbers, got {short(alphas)}: skewed and even, such as [0.1, 100]",
    )
    source, solver = digits(), sgd(rate, batch_size=16, steps=steps)
    method = fedavg(mlp(source, hidden=(hidden,)), solver)
    asked = {
        "whole": client_drift(), "layer": layer_drift(), "path": local_path(solver, steps),
        "gradients": gradient_dissimilarity(),
    }  # fmt: skip
    histories = []
    for alpha in alphas:
        federation = dirichlet_per_client(source, clients=clients, alpha=alpha, sizes=rows, seed=seed, test=0.1)
        histories.append(
            simulate(
                method, federation, rounds=rounds, key=jax.random.key(seed), measures=asked,
                executor=executors.vmapped(), progress=False,
            )[1]
        )  # fmt: skip

    def both(name: str) -> np.ndarray:
        return np.stack([np.asarray(history[f"measure/{name}"]) for history in histories])

    names = [name for name in histories[0] if name.startswith("measure/layer/")]
    layers = np.stack([both(name.removeprefix("measure/")) for name in names], axis=1)
    names = [name.removeprefix("measure/layer/") for name in names]
    drift, G2, path = both("whole/drift"), both("gradients/G2"), np.sqrt(both("path/squared"))
    exponent = np.asarray(drift_exponent(both("path/by_client"))).mean(axis=-1)
    shrink = 1 - np.exp(np.log(np.asarray(drift_growth(drift))).mean(axis=1))
    off = float(np.abs((layers**2).sum(1) / both("whole/drift_squared") - 1).max())
    end = [float(np.median(each[0, -rounds // 2 :] / each[1, -rounds // 2 :])) for each in (drift, G2)]
    kernels = [i for i, name in enumerate(names) if name.endswith("kernel")]
    widest = [names[kernels[int(np.argmax(layers[i, kernels, -1]))]] for i in (0, 1)]
    claims = (
        Claim(
            f"skewed labels: in the second half of the run G^2 is {end[1]:.3g} times the even federation's, "
            f"drift {end[0]:.2f} times",
            min(end) > 1,
        ),
        Claim(
            f"drift falls over the rounds, from {drift[0, 0]:.3f} to {drift[0, -1]:.3f} and from "
            f"{drift[1, 0]:.3f} to {drift[1, -1]:.3f}: by {shrink[0]:.1%} and {shrink[1]:.1%} a round",
            bool((drift[:, -1] < drift[:, 0]).all()),
        ),
        Claim(
            "within a round it grows less than linearly in the steps, least where labels are skewed: exponent "
            f"{exponent[0, -1]:.2f} and {exponent[1, -1]:.2f} in the last round",
            bool((exponent[:, -1] < 1).all() and exponent[0, -1] < exponent[1, -1]),
        ),
        Claim(
            f"skew moves the drift to the head: widest at the end {widest[0]}, with even labels {widest[1]}",
            widest[0] == "head/kernel" and widest[1] != widest[0],
        ),
        Claim(f"the layers' squares add up to the whole to {off:.1e}", off < 1e-9),
    )  # fmt: skip
    done, words = np.arange(1, rounds + 1), ("skewed", "even")

    def draw() -> Any:
        shown = sorted({0, rounds // 4, rounds - 1})
        j = np.arange(1, steps + 1)
        by_layer = [
            Line(f"{name}, {words[i]}", done, layers[i, n], n, ("line", "dashed")[i])
            for n, name in enumerate(names)
            for i in (0, 1)
        ]
        inside = [
            Line(f"round {done[t]}, {words[i]}", j, path[i, t, 1:], place, ("line", "dashed")[i])
            for place, t in enumerate(shown)
            for i in (0, 1)
        ]
        inside.append(Line("linear in j", j, path[0, 0, 1] * j, -1, "dotted"))
        up = "|w_k - w| (parameter), rms"
        return chart(
            "A network's drift: it falls over the rounds, and skewed labels move it to the head",
            [
                Panel("drift of whole models", [Line(w, done, drift[i], i) for i, w in enumerate(words)],
                      "round", "mean of |w_k - w| (parameter)", "", legend="labels"),
                Panel("gradient dissimilarity", [Line(w, done, G2[i], i) for i, w in enumerate(words)],
                      "round", "G² (loss² / parameter²)", legend="labels"),
                Panel("drift by layer", by_layer, "round", up, "y", legend="array"),
                Panel("drift within a round", inside, "local step j", up, "xy"),
            ],
            f"FedAvg, {clients} clients with {rows} digits each, one hidden layer of {hidden}, E = {steps} "
            f"steps of 16 rows, eta = {rate:g}, everyone in every round. Label shares: Dirichlet of sum "
            f"{alphas[0]:g} (skewed) and {alphas[1]:g} (even). All measured in the engine's rounds; "
            "nothing here is exact.",
            width=13.6,
        )  # fmt: skip

    settings = {
        "rounds": rounds, "steps": steps, "clients": clients, "rows": rows, "alphas": list(alphas),
        "hidden": hidden, "learning_rate": rate, "seed": seed,
    }  # fmt: skip
    arrays = {"drift": drift, "G2": G2, "layers": layers, "path": path, "exponent": exponent}
    table = [
        (w, t + 1, drift[i, t], exponent[i, t], G2[i, t], *layers[i, kernels, t])
        for i, w in enumerate(words)
        for t in (0, rounds - 1)
    ]
    columns = ("labels", "round", "drift", "exponent", "G^2", *(names[k] for k in kernels))
    title = "Drift and dissimilarity of a network"
    return Finding(title, settings, arrays, columns, table, claims, draw)
