"""Histories as pandas data frames and xarray data sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedjax_het.check import known, require
from fedjax_het.engine.history import History

__all__ = ["to_pandas", "to_xarray"]

FACTS = ("rows", "client", "trained")
"""Per-client variables that say whom a metric is about."""

LABELS = {"round": "round", "evaluation": "evaluated_at"}
"""The variable that numbers a dimension."""


def _labels(history: History, dim: str, size: int) -> np.ndarray:
    name = LABELS.get(dim)
    if name is None or name not in history:
        return np.arange(size)
    values = history[name]
    return values[0] if values.ndim == 2 else values  # stacked runs share their rounds


def to_pandas(history: History, names: Sequence[str] = ()) -> Any:
    """A data frame with one row for each place of the dimensions and one column a variable.

    Args:
        history: a run, or stacked runs.
        names: variables that share their dimensions; default all that have one value an evaluation, and of
            each per-client metric its mean over clients ("mean client" and the name).

    Returns:
        A `pandas.DataFrame` indexed by the dimensions: seed, round or evaluation (as rounds done), client.

    Raises:
        ImportError: pandas is missing; the message has the command that adds it.
        ValueError: unknown variables, or variables of different dimensions.
    """
    from fedjax_het.extras import need

    pandas = need("pandas", "analysis")
    columns: dict[str, np.ndarray] = {}
    if names:
        for name in names:
            known("names", name, history)
        dims = history.dims(names[0])
        for name in names:
            require(
                history.dims(name) == dims,
                f"names must share their dimensions, got {history.dims(name)} for {name!r} and {dims} for "
                f"{names[0]!r}: ask for them apart",
            )
            columns[name] = history[name]
    else:
        require("evaluated_at" in history, "history must hold an evaluation, got none: pass every= to simulate")
        dims = history.dims("evaluated_at")
        for name in history:
            if history.dims(name) == dims and name != "evaluated_at":
                columns[name] = history[name]
            elif history.dims(name)[:-1] == dims and name.split("/")[-1] not in FACTS:
                columns[f"mean client {name}"] = history.client_mean(name)
    shape = next(iter(columns.values())).shape
    labels = (_labels(history, dim, size) for dim, size in zip(dims, shape))
    levels = list(np.meshgrid(*labels, indexing="ij"))
    if "client" in dims:  # who was scored varies where clients are sampled
        levels[dims.index("client")] = history["client"]
    index = pandas.MultiIndex.from_arrays([level.reshape(-1) for level in levels], names=list(dims))
    if len(dims) == 1:
        index = index.get_level_values(0)
    return pandas.DataFrame({name: values.reshape(-1) for name, values in columns.items()}, index=index)


def to_xarray(history: History) -> Any:
    """A data set of all variables, its coordinates the rounds, the rounds done at evaluations, and ids.

    Where clients are sampled, other ones at every evaluation, the dimension "client" has no coordinate, and
    `scored_client` (evaluation, client) says who they are.

    Raises:
        ImportError: xarray is missing; the message has the command that adds it.
    """
    from fedjax_het.extras import need

    xarray = need("xarray", "analysis")
    sizes: dict[str, int] = {}
    data = {}
    for name, variable in history.variables.items():
        # the axes of a measure's value are its own: two measures may differ in "axis_0"
        dims = [f"{name}/{dim}" if dim.startswith("axis_") else dim for dim in variable.dims]
        sizes.update(zip(dims, variable.values.shape))
        if name not in sizes:  # a dimension of this name takes the variable as its coordinate
            data[name] = (dims, variable.values)
    coords = {dim: _labels(history, dim, size) for dim, size in sizes.items()}
    data = {name: value for name, value in data.items() if name not in coords}
    if "client" in history:
        who = history["client"]
        if (who != np.arange(who.shape[-1])).any():
            del coords["client"]
        data["scored_client"] = (list(history.dims("client")), who)
    return xarray.Dataset(data, coords=coords, attrs={"interrupted": int(history.interrupted)})
