"""What makes a run this run and no other."""

from __future__ import annotations

import hashlib
from typing import Any

import jax
import numpy as np

from fedjax_het.experiment.build import Study
from fedjax_het.experiment.entrants import Entrant
from fedjax_het.experiment.values import plain

__all__ = ["identity"]


def identity(study: Study, entrant: Entrant, seed: int, parts: dict[str, Any]) -> dict[str, Any]:
    """All that fixes a run's result, and nothing else, as JSON.

    Args:
        study: for its configuration; of parts given in Python, that says nothing of them.
        entrant: the method.
        seed: of the run.
        parts: pytrees told apart by their numbers: algorithm, federation, sampler.
    """
    config = study.config.resolved()
    for name in ("name", "seeds", "compare", "optional", "methods", "algorithm", "checkpoint", "tuning"):
        del config[name]
    if study.given:
        for name in ("data", "clients", "shifts", "model", "local"):
            config.pop(name, None)
    return {
        **config,
        "method": plain(entrant.choice),
        "seed": seed,
        "digests": {name: _digest(part) for name, part in parts.items()},
    }


def _digest(part: Any) -> str:
    """Of the part's numbers and their shapes."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(part):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape};".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()[:16]
