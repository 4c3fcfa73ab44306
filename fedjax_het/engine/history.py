"""History: what a run measured, as arrays with named dimensions on the host."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from os import PathLike
from typing import Any

import numpy as np

from fedjax_het.check import known, require
from fedjax_het.metrics import fairness, low_is_good

__all__ = ["DIMENSIONS", "History", "Variable", "join", "stack"]

DIMENSIONS = {
    "seed": "independent runs",
    "round": "training rounds, see the variable `round`",
    "slot": "places in the cohort; `cohort` says which client sat there",
    "evaluation": "evaluations, see the variable `evaluated_at`",
    "client": "clients scored, see the variable `client`",
    "newcomer": "clients never trained on, by id in their own federation",
}

TIME = ("round", "evaluation")
"""Dimensions along which a run grows."""

CLIENTS = ("client", "newcomer")
"""Dimensions that fairness is about."""


@dataclasses.dataclass(frozen=True, eq=False)  # arrays have no one truth; see `History.same`
class Variable:
    """An array and the names of its axes.

    Attributes:
        dims: one name an axis, from `DIMENSIONS`; further axes of a measure's value are named "axis_0", ...
        values: the numbers.
    """

    dims: tuple[str, ...]
    values: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class History:
    """What a run measured: `history["global/accuracy"]` is an array, `history.dims(name)` names its axes.

    | variable | dims | meaning |
    |---|---|---|
    | round | round | the number of each training round |
    | seconds | round | wall-clock seconds of computing since the run began, when the round's block came back |
    | bytes_down, bytes_up | round | bytes moved in the round, all clients together |
    | cohort, present, lost | round, slot | client id; took part; left out for NaN or infinity |
    | info/NAME | round, slot | what clients report: loss, steps, ... |
    | measure/NAME/VALUE | round, ... | in-round measures |
    | evaluated_at | evaluation | rounds done when evaluated |
    | registered | evaluation | N, of whom the clients scored may be a sample |
    | client | evaluation, client | who was scored |
    | trained | evaluation, client | whether the client had taken part in training |
    | rows | evaluation, client | rows each client was scored on; its metrics are NaN where it has none |
    | global/METRIC | evaluation | the global model over the union of these clients' rows |
    | shared/METRIC | evaluation, client | the global model on each client's rows |
    | local/METRIC | evaluation, client | what the client holds after a round of local work, if asked for |
    | personal/METRIC | evaluation, client | each client's own model on its rows |
    | newcomer/... | evaluation, newcomer | rows and metrics of clients never trained on, if given |
    | valid/... | evaluation, ... | rows and metrics on validation rows, where there are some |

    Attributes:
        variables: name -> Variable.
        interrupted: whether Ctrl-C ended the run early; what is here is complete up to the last whole block.
        notices: (rounds done, what a person should know), such as clients that do much worse than the rest.
    """

    variables: dict[str, Variable]
    interrupted: bool = False
    notices: tuple[tuple[int, str], ...] = ()

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
        """This run and its continuation, one after the other in rounds and evaluations; its clock goes on.

        What only one of them recorded is NaN (zero, or False) in the other.

        Raises:
            ValueError: the second does not begin after the first, or has other cohorts or clients scored.
        """
        if "round" in self and "round" in later:
            end, begin = int(self["round"].max()), int(later["round"].min())
            require(end < begin, f"later must begin after round {end}, got round {begin}: add in order of time")
        return join([self, later.later(self["seconds"][..., -1:] if "seconds" in self else 0.0)])

    def later(self, seconds: Any) -> History:
        """The same, with the clock `seconds` ahead."""
        if "seconds" not in self:
            return self
        clock = Variable(self.dims("seconds"), self["seconds"] + seconds)
        return dataclasses.replace(self, variables={**self.variables, "seconds": clock})

    @property
    def seeds(self) -> int | None:
        """How many runs are stacked here; None for a single run."""
        for variable in self.variables.values():
            if variable.dims[:1] == ("seed",):
                return variable.values.shape[0]
        return None

    def held(self, name: str) -> np.ndarray:
        """Which clients a (..., client) variable counts: those with rows to judge it by.

        A metric that some rows cannot define (AUC of a single class, R^2 of equal targets) counts where it is
        defined. A loss always is, so that its NaN stays: the model is broken.
        """
        has_rows = self._rows(name) > 0
        return has_rows if low_is_good(name) else has_rows & ~np.isnan(self[name])

    def client_mean(self, name: str, *, weighted: bool = False) -> np.ndarray:
        """Mean of a (..., client) variable over the clients that hold rows; weighted by rows if asked."""
        return fairness.mean(self[name], self.held(name), self._rows(name) if weighted else None)

    def worst_decile(self, name: str, *, weighted: bool = False) -> np.ndarray:
        """Mean over the worst tenth (at least one) of the clients that hold rows."""
        weight = self._rows(name) if weighted else None
        return fairness.worst_decile(self[name], self.held(name), weight, low_is_good=low_is_good(name))

    def spread(self, name: str, *, weighted: bool = False) -> dict[str, np.ndarray]:
        """Every reading of `fedjax_het.metrics.fairness.spread` over the clients that hold rows, by name."""
        weight = self._rows(name) if weighted else None
        return fairness.spread(self[name], self.held(name), weight, low_is_good=low_is_good(name))

    def sampling_error(self, name: str, *, weighted: bool = False) -> np.ndarray:
        """Standard error of `client_mean` where a sample of clients was scored; 0 where all were."""
        scored = self[name].shape[-1]
        population = scored if self.dims(name)[-1] == "newcomer" else int(self["registered"].reshape(-1)[-1])
        weight = self._rows(name) if weighted else None
        return fairness.sampling_error(self[name], self.held(name), population, weight)

    def _rows(self, name: str) -> np.ndarray:
        dims = self.dims(name)
        require(dims[-1] in CLIENTS, f"name must be a per-client variable, got {name!r} of dims {dims}")
        return self[_sibling(name, "rows")]

    def final(self, name: str, *, window: int = 5, by: str | None = None) -> Any:
        """Last, best by validation and final-window values, see `fedjax_het.engine.final.final`."""
        from fedjax_het.engine.final import final

        return final(self, name, window=window, by=by)

    def by_evaluation(self, name: str) -> np.ndarray:
        """A metric by evaluation, its mean over clients if it has one a client.

        Raises:
            ValueError: it is not of evaluations.
        """
        dims = self.dims(name)
        require(
            "evaluation" in dims, f"name must be an evaluated metric, got {name!r} of dims {dims}: see history"
        )
        return self.client_mean(name) if dims[-1] in CLIENTS else self[name]

    def same(self, other: History) -> bool:
        """Whether both hold the same numbers, bit for bit; the wall clock (`seconds`) is not compared."""
        if set(self) != set(other) or self.interrupted != other.interrupted or self.notices != other.notices:
            return False
        names = [name for name in self if name != "seconds"]
        pairs = [(self.variables[name], other.variables[name]) for name in names]
        return all(a.dims == b.dims and _identical(a.values, b.values) for a, b in pairs)

    def summary(self, *, metric: str | None = None, weighted: bool = False) -> str:
        """All evaluations, and the matrix of the last; see `fedjax_het.engine.summary.summary`."""
        from fedjax_het.engine.summary import summary

        return summary(self, metric=metric, weighted=weighted)

    def to_pandas(self, *names: str) -> Any:
        """A pandas data frame, see `fedjax_het.engine.frames.to_pandas`."""
        from fedjax_het.engine.frames import to_pandas

        return to_pandas(self, names)

    def to_xarray(self) -> Any:
        """An xarray data set, see `fedjax_het.engine.frames.to_xarray`."""
        from fedjax_het.engine.frames import to_xarray

        return to_xarray(self)

    def save(self, path: str | PathLike[str]) -> None:
        """Write an npz file, see `fedjax_het.engine.files.save`."""
        from fedjax_het.engine.files import save

        save(self, path)

    @staticmethod
    def load(path: str | PathLike[str]) -> History:
        """Read what `save` wrote, see `fedjax_het.engine.files.load`."""
        from fedjax_het.engine.files import load

        return load(path)


def _sibling(name: str, other: str) -> str:
    """The variable `other` that goes with `name`: "valid/rows" with "valid/shared/loss"."""
    head = name.split("/")[0]
    return f"{head}/{other}" if head in ("valid", "train", "test", "newcomer") else other


def _identical(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def join(pieces: Sequence[History]) -> History:
    """Pieces of one run, in order, each along its own rounds and evaluations.

    Raises:
        ValueError: a variable's other axes differ from piece to piece.
    """
    kinds = {name: variable for piece in reversed(pieces) for name, variable in piece.variables.items()}
    names = dict.fromkeys(name for piece in pieces for name in piece)
    variables = {}
    for name in names:
        dims = kinds[name].dims
        axis = next(place for place, dim in enumerate(dims) if dim in TIME)
        parts = [_part(piece, name, kinds[name], axis) for piece in pieces]
        rest = {(*part.shape[:axis], *part.shape[axis + 1 :]) for part in parts}
        require(
            len(rest) == 1,
            f"histories must have equal cohorts and clients scored to be joined, got axes {sorted(rest)} of "
            f"{name!r} beside {dims[axis]!r}: keep them apart",
        )
        variables[name] = Variable(dims, np.concatenate(parts, axis))
    notices = tuple(notice for piece in pieces for notice in piece.notices)
    return History(variables, bool(pieces) and pieces[-1].interrupted, notices)


def _part(piece: History, name: str, kind: Variable, axis: int) -> np.ndarray:
    """A variable's values in a piece; NaN, zero or False for as long as the piece went on without it."""
    if name in piece:
        return piece[name]
    time = kind.dims[axis]
    sizes = (v.values.shape[v.dims.index(time)] for v in piece.variables.values() if time in v.dims)
    shape = (*kind.values.shape[:axis], next(sizes, 0), *kind.values.shape[axis + 1 :])
    return np.full(shape, np.nan if kind.values.dtype.kind == "f" else 0, kind.values.dtype)


def stack(histories: Sequence[History]) -> History:
    """Runs with the same variables, shapes and rounds as one History with a leading dimension "seed".

    Raises:
        ValueError: no histories, or histories of different runs.
    """
    require(len(histories) > 0, "histories must hold at least one History, got none: pass a list of runs")
    first, remedy = histories[0], "stack runs of one setting"
    variables = {}
    for place, history in enumerate(histories):
        require(history.seeds is None, f"histories must be single runs, got a stack at {place}: {remedy}")
        other = sorted(set(history) ^ set(first))
        require(not other, f"histories must hold the same variables, got only some with {other}: {remedy}")
    for name, variable in first.variables.items():
        values = [history[name] for history in histories]
        require(
            all(v.shape == variable.values.shape for v in values),
            f"histories must have equal shapes, got {[v.shape for v in values]} for {name!r}: {remedy}",
        )
        require(
            name not in ("round", "evaluated_at") or all((v == values[0]).all() for v in values),
            f"histories must be of the same rounds, got others for {name!r}: {remedy}",
        )
        variables[name] = Variable(("seed", *variable.dims), np.stack(values))
    notices = [
        (rounds, f"seed {place}: {text}")
        for place, history in enumerate(histories)
        for rounds, text in history.notices
    ]
    notices.sort(key=lambda notice: notice[0])
    return History(variables, any(history.interrupted for history in histories), tuple(notices))
