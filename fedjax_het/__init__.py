"""fedjax_het: federated learning on heterogeneous clients, simulated as one compiled JAX program."""

from fedjax_het import (
    algorithms,
    analysis,
    datasets,
    heterogeneity,
    keys,
    local,
    metrics,
    models,
    tree,
    weighting,
)
from fedjax_het.algorithm import Client, Cohort, Report, Traffic, Upload
from fedjax_het.construct import from_clients, from_groups, from_index_lists, pooled
from fedjax_het.engine import (
    History,
    NonFiniteError,
    State,
    adapt,
    evaluate,
    executors,
    initial_state,
    make_block,
    make_round,
    replay,
    sampling,
    simulate,
    stack,
    survey,
)
from fedjax_het.federation import Batch, Data, Federation, Rows, Transform
from fedjax_het.frames import from_frame
from fedjax_het.pool import Pool, pool
from fedjax_het.problem import Facts, Model, Problem

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "Client",
    "Cohort",
    "Data",
    "Facts",
    "Federation",
    "History",
    "Model",
    "NonFiniteError",
    "Pool",
    "Problem",
    "Report",
    "Rows",
    "State",
    "Traffic",
    "Transform",
    "Upload",
    "adapt",
    "algorithms",
    "analysis",
    "datasets",
    "evaluate",
    "executors",
    "from_clients",
    "from_frame",
    "from_groups",
    "from_index_lists",
    "heterogeneity",
    "initial_state",
    "keys",
    "local",
    "make_block",
    "make_round",
    "metrics",
    "models",
    "pool",
    "pooled",
    "replay",
    "sampling",
    "simulate",
    "stack",
    "survey",
    "tree",
    "weighting",
]
