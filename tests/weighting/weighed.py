"""Weightings called on cohorts made by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_het.algorithm import Cohort

call = jax.jit(lambda weighting, sizes, cohort: weighting(sizes, cohort))


def cohort_of(sizes, *, ids=None, present=None, multiplicity=None, population=None, rows=None, round_=0):
    """(sizes, cohort) in the float type in force; everyone with rows present, ids 0, 1, ..."""
    real = jnp.result_type(float)
    sizes = np.asarray(sizes, np.float64)
    count = len(sizes)
    ids = np.arange(count) if ids is None else np.asarray(ids)
    population = count if population is None else population
    there = (sizes > 0) & (ids < population) if present is None else np.asarray(present, bool)
    times = np.ones(count) if multiplicity is None else np.asarray(multiplicity)
    cohort = Cohort(
        jnp.asarray(ids, jnp.int32),
        jnp.asarray(there),
        jnp.zeros(count, real),
        jnp.asarray(times, real),
        jnp.ones(count, real),
        jnp.asarray(round_, jnp.int32),
        jnp.asarray(sizes.sum() if rows is None else rows, real),
        population,
    )
    return jnp.asarray(sizes, real), cohort


def weigh(weighting, sizes, **options):
    """omega as compiled, with the weighting's numbers as arguments."""
    return np.asarray(call(weighting, *cohort_of(sizes, **options)), np.float64)
