"""Local work in gradient steps: how many a cohort takes, and a solver that takes as many."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.engine.sampling import Everyone, Fixed, Scripted, Stragglers, Uniform
from fedjax_het.local import Solver

if TYPE_CHECKING:
    from fedjax_het.experiment.build import Study

__all__ = ["cohort_steps", "paced", "slots", "unfailing"]


def slots(sampler: Any, many: int) -> int:
    """Places in a sampler's cohorts of `many` clients."""
    sizes = jnp.zeros((many,), jnp.int32)
    loss = jnp.zeros((many,), jnp.result_type(float))
    drawn = jax.eval_shape(
        lambda key: sampler.draw(sampler.init(many), key, jnp.int32(0), sizes, loss)[0], jax.random.key(0)
    )
    return drawn.id.shape[0]


def unfailing(sampler: Any, many: int) -> bool:
    """Whether a sampler brings all of `many` clients in every round, be some of them late."""
    if isinstance(sampler, Stragglers) and sampler.policy == "keep":
        return unfailing(sampler.inner, many)
    fixed = isinstance(sampler, Uniform) and not sampler.replacement
    return (fixed or isinstance(sampler, (Everyone, Fixed, Scripted))) and slots(sampler, many) == many


def cohort_steps(study: Study, solver: Solver) -> int:
    """Steps that a cohort takes a round: the clients' mean, times the slots."""
    sizes, plan = np.asarray(study.federation.train.size[0]), solver.plan
    batch = plan.batch_size or max(1, int(sizes.max()))
    amount = int(plan.amount)
    each = amount * -(-sizes // batch) if plan.unit == "epochs" else np.full(sizes.shape, amount)
    return max(1, round(float(np.where(sizes > 0, each, 0).mean()) * slots(study.sampler, len(sizes))))


def paced(solver: Solver, steps: int) -> Solver:
    """The same solver, taking `steps` steps a round."""
    plan = dataclasses.replace(solver.plan, amount=jnp.asarray(steps, jnp.int32), unit="steps")
    return dataclasses.replace(solver, plan=plan)
