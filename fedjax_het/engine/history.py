"""History: what a run measured, as arrays with named dimensions on the host."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from fedjax_het.check import known, require
from fedjax_het.metrics import fairness

__all__ = ["DIMENSIONS", "History", "Variable", "stack"]

DIMENSIONS = {
    "seed": "independent runs",
    "round": "training rounds, see the variable `round`",
    "slot": "places in the cohort; `cohort` says which client sat there",
    "evaluation": "evaluations, see the variable `evaluated_at`",
    "client": "registered clients, by id",
}


@dataclasses.dataclass(frozen=True)
class Variable:
    """An array and the names of its axes.

    Attributes:
        dims: one name an axis, from `DIMENSIONS`; further axes of a measure's value are named "axis_0", ...
        values: the numbers.
    """

    dims: tuple[str, ...]
    values: np.ndarray


@dataclasses.dataclass(frozen=True)
class History:
    """What a run measured: `history["global/accuracy"]` is an array, `history.dims(name)` names its axes.

    | variable | dims | meaning |
    |---|---|---|
    | round | round | the number of each training round |
    | seconds | round | wall-clock seconds since `simulate` began, when the round's block came back |
    | bytes_down, bytes_up | round | bytes moved in the round, all clients together |
    | cohort, present, lost | round, slot | client id; took part; left out for NaN or infinity |
    | info/NAME | round, slot | what clients report: loss, steps, ... |
    | measure/NAME/VALUE | round, ... | in-round measures |
    | evaluated_at | evaluation | rounds done when evaluated |
    | global/METRIC | evaluation | the global model over the union of all clients' rows |
    | shared/METRIC | evaluation, client | the global model on each client's rows |
    | personal/METRIC | evaluation, client | each client's own model on its rows |
    | rows | evaluation, client | rows each client was scored on; its metrics are NaN where it has none |

    Attributes:
        variables: name -> Variable.
        interrupted: whether Ctrl-C ended the run early; what is here is complete up to the last whole block.
    """

    variables: dict[str, Variable]
    interrupted: bool = False

    def __getitem__(self, name: str) -> np.ndarray:
        """The values of a variable.

        Raises:
            KeyError: there is none of this name; the message suggests one.
        """
        try:
            known("variable", name, self.variables)
        except ValueError as error:
            raise KeyError(str(error)) from None
        return self.variables[name].values

    def __contains__(self, name: object) -> bool:
        """Whether there is such a variable."""
        return name in self.variables

    def __iter__(self) -> Iterator[str]:
        """The variables' names."""
        return iter(self.variables)

    def dims(self, name: str) -> tuple[str, ...]:
        """The names of a variable's axes."""
        self[name]
        return self.variables[name].dims

    def __add__(self, later: History) -> History:
        """This run and its continuation, one after the other in rounds and evaluations."""
        variables = dict(self.variables)
        for name, variable in later.variables.items():
            if name in variables:
                joined = np.concatenate([variables[name].values, variable.values])
                variables[name] = Variable(variable.dims, joined)
            else:
                variables[name] = variable
        return History(variables, later.interrupted)

    def client_mean(self, name: str) -> np.ndarray:
        """Mean over the clients that hold rows of a (..., evaluation, client) variable."""
        return fairness.mean(self[name], self["rows"] > 0)

    def worst_decile(self, name: str) -> np.ndarray:
        """Mean over the worst tenth (at least one) of the clients that hold rows; low is bad."""
        return fairness.worst_decile(self[name], self["rows"] > 0)

    def summary(self) -> str:
        """A table of the evaluations: rounds done, the global model, the clients' mean and worst decile."""
        require("evaluated_at" in self, "history must hold an evaluation, got none: pass every= to simulate")
        names = [n.split("/", 1)[1] for n in self if n.startswith("personal/")]
        seeds = self.dims("evaluated_at")[0] == "seed"
        rounds = self["evaluated_at"][0] if seeds else self["evaluated_at"]
        columns: list[tuple[str, np.ndarray]] = [("round", rounds)]
        for metric in names:
            if f"global/{metric}" in self:
                columns.append((f"global {metric}", self[f"global/{metric}"]))
            columns.append((f"mean client {metric}", self.client_mean(f"personal/{metric}")))
            if metric == "accuracy":
                columns.append((f"worst decile {metric}", self.worst_decile(f"personal/{metric}")))
        width = 17 if seeds else 8
        lines = ["  ".join(name.rjust(max(width, len(name))) for name, _ in columns)]
        for row in range(len(rounds)):
            cells = [str(int(rounds[row])).rjust(width)]
            for name, values in columns[1:]:
                cells.append(_cell(values[..., row]).rjust(max(width, len(name))))
            lines.append("  ".join(cells))
        if "round" in self:
            down, up = (self[name].sum(axis=-1).mean() / 1e6 for name in ("bytes_down", "bytes_up"))
            seconds = self["seconds"][..., -1].sum()
            many = f"{len(self['seconds'])} seeds of " if seeds else ""
            count = self["round"].shape[-1]
            lines.append(f"{many}{count} rounds, {down:.2f} MB down, {up:.2f} MB up, {seconds:.1f} s")
        if self.interrupted:
            lines.append("interrupted: complete up to the last whole block of rounds")
        return "\n".join(lines)


def _cell(value: np.ndarray) -> str:
    """One number, or mean ± standard deviation over seeds; a dash where there was nothing to score."""
    if np.isnan(value).any():
        return "-"
    if value.ndim == 0:
        return f"{float(value):.4f}"
    spread = np.std(value, ddof=1) if len(value) > 1 else 0.0
    return f"{np.mean(value):.4f} ± {spread:.4f}"


def stack(histories: Sequence[History]) -> History:
    """Runs with the same variables and shapes as one History with a leading dimension "seed".

    Raises:
        ValueError: no histories, or histories of different runs.
    """
    require(len(histories) > 0, "histories must hold at least one History, got none: pass a list of runs")
    first = histories[0]
    variables = {}
    for name, variable in first.variables.items():
        values = [history[name] for history in histories]
        require(
            all(v.shape == variable.values.shape for v in values),
            f"histories must have equal shapes, got {[v.shape for v in values]} for {name!r}: stack "
            "runs of one setting",
        )
        variables[name] = Variable(("seed", *variable.dims), np.stack(values))
    return History(variables, any(history.interrupted for history in histories))
