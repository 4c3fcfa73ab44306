"""Record: collects the logs and evaluations of a run as they come back, and turns them into a History."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedjax_het.algorithm import Traffic
from fedjax_het.engine.evaluate import Evaluation
from fedjax_het.engine.history import History, Variable

__all__ = ["Record"]


class Record:
    """Collects logs and evaluations as they come back, and turns them into a History."""

    def __init__(self, traffic: Traffic) -> None:
        self.traffic = traffic
        self.rounds: dict[str, list[np.ndarray]] = {}
        self.evaluations: dict[str, list[np.ndarray]] = {}

    def add_rounds(self, first: int, logs: dict[str, Any], seconds: float) -> None:
        """Logs of a block whose first round is `first`, back after `seconds`."""
        count = len(logs["sound"])
        present = logs["present"].sum(axis=1)
        flat = {
            "round": np.arange(first, first + count),
            "seconds": np.full(count, seconds),
            "bytes_down": present * self.traffic.down,
            "bytes_up": present * self.traffic.up,
            "cohort": logs["id"],
            "present": logs["present"],
            "lost": logs["lost"],
        }
        flat |= {f"info/{name}": values for name, values in logs["info"].items()}
        for measure, values in logs["measures"].items():
            flat |= {f"measure/{measure}/{name}": value for name, value in values.items()}
        for name, value in flat.items():
            self.rounds.setdefault(name, []).append(np.asarray(value))

    def add_evaluation(self, at: int, seen: Evaluation) -> None:
        """Metrics after `at` rounds."""
        flat = {"evaluated_at": np.asarray(at), "rows": seen.rows}
        for kind, metrics in (("global", seen.union), ("shared", seen.shared), ("personal", seen.personal)):
            flat |= {f"{kind}/{name}": value for name, value in metrics.items()}
        for name, value in flat.items():
            self.evaluations.setdefault(name, []).append(np.asarray(value))

    def history(self, interrupted: bool = False) -> History:
        """All of it so far."""
        variables = {}
        for name, parts in self.rounds.items():
            values = np.concatenate(parts)
            slots = ("slot",) if name in ("cohort", "present", "lost") or name.startswith("info/") else ()
            rest = values.ndim - 1 - len(slots)
            variables[name] = Variable(("round", *slots, *(f"axis_{i}" for i in range(rest))), values)
        for name, parts in self.evaluations.items():
            values = np.stack(parts)
            variables[name] = Variable(("evaluation", "client")[: values.ndim], values)
        return History(variables, interrupted)
