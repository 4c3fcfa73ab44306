"""One case under one precision, with what its tests share: compiled rounds, states, runs."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

import fedjax_het as fh
from conformance import cases
from conformance.arranged import Arranged
from fedjax_het import executors
from fedjax_het.engine.blocks import block, up_to

__all__ = ["Lab", "assert_close", "assert_equal", "guarded"]

SHIPPED: dict[str, Any] = {"xla_backend_optimization_level": 3}
"""Compiler options that undo those of the test run: `simulate` compiles as it ships here."""
if jax.__version_info__ < (0, 11):  # later versions have no such option
    SHIPPED["xla_cpu_use_fusion_emitters"] = True

_shipped = jax.jit(up_to, static_argnames=("most",), compiler_options=SHIPPED)

host_loop = importlib.import_module("fedjax_het.engine.simulate")  # the module, not the function

SPARE = 3
"""Absent slots of the arranged cohort."""

TOLERANCE = {"float32": 1e-4, "float64": 1e-9}
"""Relative and absolute: two rounds of a dozen steps on numbers of order 1, summed in another order."""


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Refuse a key used twice, and any transfer between host and device that nobody asked for."""
    with jax.debug_key_reuse(True), jax.transfer_guard("disallow"):
        yield


def _data(leaf: Any) -> np.ndarray:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(jax.device_get(leaf))


def _pairs(a: Any, b: Any) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b)):
        assert (x.shape, x.dtype) == (y.shape, y.dtype), jax.tree_util.keystr(path)
        yield jax.tree_util.keystr(path, simple=True, separator="/"), _data(x), _data(y)


def assert_equal(a: Any, b: Any) -> None:
    """The same tree, bit for bit (NaN equals NaN)."""
    for where, x, y in _pairs(a, b):
        np.testing.assert_array_equal(x, y, err_msg=where)


def assert_close(a: Any, b: Any) -> None:
    """The same tree, floats within `TOLERANCE`, everything else exactly."""
    for where, x, y in _pairs(a, b):
        if x.dtype.kind == "f":
            limit = TOLERANCE[str(x.dtype)]
            np.testing.assert_allclose(x, y, rtol=limit, atol=limit, err_msg=where)
        else:
            np.testing.assert_array_equal(x, y, err_msg=where)


class Lab:
    """See the module. Whoever uses it does so under `jax.enable_x64(lab.double)`.

    Attributes:
        case: the line of the table.
        double: whether floats are of 64 bits.
        federation, problem, algorithm: the subject.
        other: the same algorithm with other numbers.
        inner: its sampler, of `slots` slots.
        round: the round that most tests run; all clients at once, G^2 measured, NaN left out.
    """

    def __init__(self, name: str, double: bool) -> None:
        self.case, self.double = cases.CASES[name], double
        case = self.case
        own = case.federation is not None
        self.federation = case.federation() if own else cases.federation()
        self.problem = (case.problem or cases.problem)(self.federation)
        self.algorithm = case.build(self.problem, cases.solver())
        self.other = case.build(self.problem, cases.solver(learning_rate=0.07, epochs=1))
        self.clients = self.federation.num_clients
        self.inner = self._sampler(own)
        self.slots = self._drawn().shape[0]
        self.spare = 0 if case.full_participation else SPARE
        self.round = self.make_round(executors.vmapped(), self.arranged())
        self._run = jax.jit(lambda r, a, s, f: block(r, a, s, f, rounds=1))

    def _sampler(self, own: bool) -> Any:
        if self.case.full_participation:
            return fh.sampling.everyone()
        if self.case.sampler is not None:
            return self.case.sampler(5)
        return fh.sampling.uniform(5) if own else fh.sampling.scripted(cases.COHORTS)

    def _drawn(self) -> Any:
        sizes = self.federation.train.size[0]
        loss = jnp.zeros((self.clients,), jnp.result_type(float))
        state = self.inner.init(self.clients)
        shape = jax.eval_shape(self.inner.draw, state, jax.random.key(0), jnp.int32(0), sizes, loss)
        return shape[0].id

    def arranged(self, order: Any = None) -> Arranged:
        """The sampler with spare slots; `order` defaults to ascending ids, absent slots last."""
        order = np.arange(self.slots + self.spare) if order is None else order
        return Arranged(self.inner, jnp.asarray(order, jnp.int32))

    def make_round(self, executor: Any, sampler: Any, **options: Any) -> Any:
        """A round of this case's weighting and hook."""
        case = self.case
        given = {
            "weighting": None if case.weighting is None else case.weighting(self.clients),
            "hook": None if case.hook is None else case.hook(),
            "on_nonfinite": "drop",
        }
        measures = {"dissimilarity": fh.analysis.gradient_dissimilarity()}
        return fh.make_round(sampler, executor, measures, **(given | options))

    def init(self, seed: int = 0) -> Any:
        """The state before round 0."""
        key = jax.random.key(seed)
        return fh.initial_state(self.algorithm, self.federation, key=key, round_fn=self.round)

    def run(self, state: Any, *, algorithm: Any = None, federation: Any = None, order: Any = None) -> Any:
        """(state, log) of one round in the shared program, a block of one round; guarded."""
        sampler = self.arranged(order)
        round_fn = dataclasses.replace(self.round, sampler=sampler)
        algorithm = self.algorithm if algorithm is None else algorithm
        federation = self.federation if federation is None else federation
        with guarded():
            state, logs = self._run(round_fn, algorithm, state, federation)
        return state, jax.tree.map(lambda leaf: leaf[0], logs)

    @functools.cached_property
    def start(self) -> Any:
        """The state before round 0."""
        return self.init()

    @functools.cached_property
    def flat(self) -> tuple[Any, list[Any]]:
        """(jitted round on leaves alone, those of the first round): traced once for all who look at it."""
        leaves, structure = jax.tree.flatten((self.algorithm, self.start, self.federation))
        flat = jax.jit(lambda *given: jax.tree.leaves(self.round(*jax.tree.unflatten(structure, given))))
        return flat, leaves

    @functools.cached_property
    def first(self) -> Any:
        """The state after round 0."""
        return self.run(self.start)[0]

    @functools.cached_property
    def warm(self) -> Any:
        """A state after some rounds whose next cohort has at least two clients with rows."""
        state = self.first
        for _ in range(10):
            if np.asarray(self.run(state)[1]["present"]).sum() >= 2:
                return state
            state = self.run(state)[0]
        raise AssertionError("no cohort of two clients in ten rounds")

    @functools.cached_property
    def done(self) -> Any:
        """(state, log) of the round after `warm`."""
        return self.run(self.warm)

    @functools.cached_property
    def present(self) -> np.ndarray:
        """The ids of the clients of the round after `warm`."""
        log = self.done[1]
        return np.asarray(log["id"])[np.asarray(log["present"])]

    def simulate(self, *, algorithm: Any = None, rounds: int, every: int = 2, **begin: Any) -> Any:
        """(state, history) of `simulate`, the shared round in blocks of `every`, scored on training data."""
        round_fn = self.round
        with mock.patch.object(host_loop, "_block", _shipped):
            return fh.simulate(
                self.algorithm if algorithm is None else algorithm,
                self.federation,
                rounds=rounds,
                sampler=round_fn.sampler,
                executor=round_fn.executor,
                measures=round_fn.measures,
                weighting=round_fn.weighting,
                hook=round_fn.hook,
                on_nonfinite=round_fn.on_nonfinite,
                every=every,
                split="train",
                **begin,
            )

    @functools.cached_property
    def short(self) -> Any:
        """(state, history) of two rounds."""
        return self.simulate(rounds=2, key=jax.random.key(0))

    @functools.cached_property
    def long(self) -> Any:
        """(state, history) of twenty rounds from the same key, in blocks of four."""
        return self.simulate(rounds=20, every=4, key=jax.random.key(0))
