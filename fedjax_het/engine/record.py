"""What came back from the device, as pieces of a History."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedjax_het.algorithm import Traffic
from fedjax_het.engine.evaluate import Evaluation
from fedjax_het.engine.history import History, Variable

__all__ = ["evaluation", "rounds"]


def rounds(first: int, logs: dict[str, Any], seconds: float, traffic: Traffic) -> History:
    """The logs of a block whose first round is `first`, back after `seconds`."""
    count = len(logs["sound"])
    present = logs["present"].sum(axis=1)
    flat = {
        "round": np.arange(first, first + count),
        "seconds": np.full(count, seconds),
        "bytes_down": present * traffic.down,
        "bytes_up": present * traffic.up,
        "cohort": logs["id"],
        "present": logs["present"],
        "lost": logs["lost"],
    }
    flat |= {f"info/{name}": values for name, values in logs["info"].items()}
    for measure, values in logs["measures"].items():
        flat |= {f"measure/{measure}/{name}": value for name, value in values.items()}
    variables = {}
    for name, value in flat.items():
        values = np.asarray(value)
        slots = ("slot",) if name in ("cohort", "present", "lost") or name.startswith("info/") else ()
        rest = values.ndim - 1 - len(slots)
        variables[name] = Variable(("round", *slots, *(f"axis_{i}" for i in range(rest))), values)
    return History(variables)


def evaluation(at: int, registered: int, seen: dict[str, Evaluation]) -> History:
    """Metrics after `at` rounds.

    Args:
        at: rounds done.
        registered: N.
        seen: evaluations by prefix: "" for the main one, "valid/", "newcomer/".
    """
    variables = {
        "evaluated_at": Variable(("evaluation",), np.asarray([at])),
        "registered": Variable(("evaluation",), np.asarray([registered])),
    }
    for prefix, one in seen.items():
        client = "newcomer" if prefix == "newcomer/" else "client"
        flat: dict[str, Any] = {"rows": one.rows}
        if prefix == "":
            flat |= {"client": one.client, "trained": one.trained}
        kinds = {"global": one.union, "shared": one.shared, "local": one.local, "personal": one.personal}
        for kind, metrics in kinds.items():
            flat |= {f"{kind}/{name}": value for name, value in metrics.items()}
        for name, value in flat.items():
            values = np.asarray(value)[None]
            variables[prefix + name] = Variable(("evaluation", client)[: values.ndim], values)
    return History(variables)
