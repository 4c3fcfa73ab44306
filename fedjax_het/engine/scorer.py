"""Scorer: everything that is evaluated along a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.check import known, require
from fedjax_het.engine.evaluate import Evaluation, evaluate
from fedjax_het.engine.newcomers import adapt
from fedjax_het.engine.state import Seen, State
from fedjax_het.federation import SPLITS, Federation

__all__ = ["Scorer", "splits_of"]

_evaluate = jax.jit(evaluate, static_argnames=("executor", "split", "local", "sample"))


def splits_of(split: str | Sequence[str] | None, federation: Federation) -> tuple[str, ...]:
    """The splits to evaluate, the main one first; None is test rows, and validation rows if there are some.

    Raises:
        ValueError: an unknown split, or one twice, or none.
    """
    if split is None:
        return ("test", "valid") if bool(np.any(np.asarray(federation.valid.size) > 0)) else ("test",)
    splits = (split,) if isinstance(split, str) else tuple(split)
    for one in splits:
        known("split", one, SPLITS)
    require(
        0 < len(splits) == len(set(splits)),
        f"split must name one split or several different ones, got {split!r}: choose from {', '.join(SPLITS)}",
    )
    return splits


@dataclasses.dataclass(frozen=True)
class Scorer:
    """What is evaluated along a run; see `simulate` for the fields."""

    algorithm: Any
    federation: Federation
    executor: Any
    splits: tuple[str, ...]
    metrics: Sequence[Any] | None
    local: bool
    sample: int | None
    newcomers: Federation | None

    def __call__(self, state: State) -> dict[str, Evaluation]:
        """Evaluations by prefix: "" for the main split, "valid/" and the like, "newcomer/"."""
        seen = {}
        metrics = None if self.metrics is None else tuple(self.metrics)
        for place, split in enumerate(self.splits):
            seen[f"{split}/" if place else ""] = _evaluate(
                self.algorithm,
                state,
                self.federation,
                executor=self.executor,
                split=split,
                metrics=metrics,
                local=self.local,
                sample=self.sample,
            )
        if self.newcomers is not None:
            seen["newcomer/"] = _evaluate(
                self.algorithm,
                self._joined(state, self.newcomers),
                self.newcomers,
                executor=self.executor,
                split=self.splits[0],
                metrics=metrics,
                local=self.local,
            )
        return seen

    def _joined(self, state: State, newcomers: Federation) -> State:
        """The state with the newcomers in place of the clients."""
        clients = adapt(self.algorithm, state.server, newcomers, key=state.key, executor=self.executor)
        count = newcomers.num_clients
        loss = jnp.full((count,), jnp.inf, jnp.result_type(float))
        return dataclasses.replace(state, clients=clients, seen=Seen(loss, jnp.full((count,), -1, jnp.int32)))

    def refusal(self, state: State) -> str | None:
        """Why the algorithm cannot serve the newcomers; None if it can, or there are none."""
        newcomers = self.newcomers
        if newcomers is None:
            return None
        try:
            jax.eval_shape(lambda state: self._joined(state, newcomers), state)
        except ValueError as error:
            return f"newcomers are not scored: {error}"
        return None
