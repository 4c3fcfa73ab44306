"""What every algorithm must do, whatever it is. No method is named here.

Equal means bit for bit; close means within `lab.TOLERANCE`. Properties that concern types and shapes run in
float32 and in double precision, each of the expensive comparisons in one of them, so that the table stays
affordable: see `VARIANTS`.
"""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counting import compile_count

import fedjax_het as fh
from conformance import cases
from conformance.lab import Lab, assert_close, assert_equal
from fedjax_het import executors, tree
from fedjax_het.algorithm import Client
from fedjax_het.engine.evaluate import every_client
from fedjax_het.engine.slots import make_client
from fedjax_het.local import Plan

shipped = pytest.mark.precision("float32")
double = pytest.mark.precision("float64")

ROOT = Path(__file__).parents[2]


def kinds(pytree: Any) -> Any:
    """Structure, and shape and dtype of every leaf."""
    return jax.tree.structure(pytree), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(pytree)]


def spoiled(pytree: Any, rows: Any) -> Any:
    """The tree with NaN in these rows of the leading axis of every float leaf."""

    def spoil(leaf: Any) -> Any:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        return leaf.at[jnp.asarray(rows, jnp.int32)].set(jnp.nan)

    return jax.tree.map(spoil, pytree)


def rows_of(lab: Lab, clients: Any) -> np.ndarray:
    """Pool rows that these clients train or validate on in the phase of the round after `warm`."""
    federation, held = lab.federation, [np.zeros(0, int)]
    for rows in (federation.train, federation.valid):
        index, offset, size = (np.asarray(part) for part in (rows.index, rows.offset, rows.size))
        phase = min(int(federation.phase(lab.warm.round)), len(size) - 1)
        held += [index[offset[phase, k] : offset[phase, k] + size[phase, k]] for k in clients]
    return np.unique(np.concatenate(held))


def outsiders(lab: Lab) -> np.ndarray:
    """The clients that are absent from the round after `warm`."""
    return np.setdiff1d(np.arange(lab.clients), lab.present)


# --- one round ------------------------------------------------------------------------------------------------


def test_a_round_keeps_structure_shapes_and_dtypes(lab: Lab) -> None:
    before, after = lab.start, lab.first
    assert kinds(after) == kinds(before)
    assert all(not getattr(leaf, "weak_type", False) for leaf in jax.tree.leaves(after))
    assert int(after.round) == int(before.round) + 1
    server, kept = jax.tree.leaves((after.server, after.clients)), lab.clients
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in server if jnp.issubdtype(leaf.dtype, jnp.floating))
    assert all(leaf.shape[0] == kept for leaf in jax.tree.leaves(after.clients))


def test_other_numbers_are_the_same_program(lab: Lab) -> None:
    lab.run(lab.first)
    state = lab.init(7)
    with compile_count() as count:
        lab.run(state, algorithm=lab.other)
    assert count.value == 0


def test_absent_clients_keep_their_state(lab: Lab) -> None:
    state, _ = lab.done
    away = jnp.asarray(outsiders(lab), jnp.int32)
    assert_equal(tree.take(state.clients, away), tree.take(lab.warm.clients, away))
    assert_equal(tree.take(state.seen, away), tree.take(lab.warm.seen, away))


def test_slot_order_does_not_matter(lab: Lab) -> None:
    """Absent slots in between, clients in another order: the sums may differ in their last digits."""
    order = np.random.default_rng(0).permutation(lab.slots + lab.spare)
    assert_close(lab.run(lab.warm, order=order)[0], lab.done[0])


def test_an_empty_client_is_an_absent_slot(lab: Lab) -> None:
    """A member of the cohort whose rows are gone (a federation of the same shapes), and nobody in its slot."""
    member = int(lab.present[0])
    train = lab.federation.train
    gone = dataclasses.replace(train, size=train.size.at[:, member].set(0))
    federation = dataclasses.replace(lab.federation, train=gone)
    state, log = lab.run(lab.warm, federation=federation)
    ids, slots = np.asarray(log["id"]), np.arange(lab.slots + lab.spare)
    assert member not in ids[np.asarray(log["present"])]
    without, _ = lab.run(lab.warm, federation=federation, order=np.where(ids == member, slots.size, slots))
    assert_equal(state, without)
    assert bool(tree.all_finite((state.server, state.clients)))


def test_nothing_of_an_absent_client_is_read(lab: Lab) -> None:
    """NaN in the states and rows of everybody outside the cohort changes no bit of what the cohort does."""
    away = outsiders(lab)
    tainted = dataclasses.replace(lab.warm, clients=spoiled(lab.warm.clients, away))
    theirs = np.setdiff1d(np.arange(lab.federation.x.shape[0]), rows_of(lab, lab.present))
    federation = dataclasses.replace(lab.federation, x=spoiled(lab.federation.x, theirs))
    state, log = lab.run(tainted, federation=federation)
    there = jnp.asarray(lab.present, jnp.int32)
    clean, clean_log = lab.done
    assert not np.asarray(log["lost"]).any()
    assert_equal(state.server, clean.server)
    assert_equal(tree.take(state.clients, there), tree.take(clean.clients, there))
    assert_equal(log["measures"], clean_log["measures"])


def test_a_poisoned_client_is_left_out(lab: Lab) -> None:
    """With on_nonfinite="drop", NaN in a client's rows is as if it had not been there."""
    victim = next(k for k in lab.present if not np.isin(rows_of(lab, [k]), rows_of(lab, others(lab, k))).any())
    federation = dataclasses.replace(lab.federation, x=spoiled(lab.federation.x, rows_of(lab, [victim])))
    state, log = lab.run(lab.warm, federation=federation)
    assert np.asarray(log["id"])[np.asarray(log["lost"])].tolist() == [victim]
    assert victim not in np.asarray(log["id"])[np.asarray(log["present"])]
    assert bool(tree.all_finite((state.server, state.clients)))
    if lab.case.full_participation:  # there is no run without it to compare with
        return
    ids, slots = np.asarray(lab.done[1]["id"]), np.arange(lab.slots + lab.spare)
    without, _ = lab.run(lab.warm, order=np.where(ids == victim, slots.size, slots))
    assert_equal(state.seen.round, without.seen.round)
    assert_close(state.clients, without.clients)
    if lab.case.weighting is None and lab.case.hook is None:
        # otherwise weights, or what a hook does to weighted uploads, may depend on who was drawn
        assert_close(state.server, without.server)


def others(lab: Lab, client: int) -> np.ndarray:
    """The cohort of the round after `warm` but for one client."""
    return lab.present[lab.present != client]


def test_a_poisoned_state_stays_where_it_is(lab: Lab) -> None:
    victim = int(lab.present[0])
    poisoned = dataclasses.replace(lab.warm, clients=spoiled(lab.warm.clients, [victim]))
    state, _ = lab.run(poisoned)
    rest = jnp.asarray(others(lab, victim), jnp.int32)
    assert bool(tree.all_finite((state.server, tree.take(state.clients, rest))))


# --- other ways to run it -------------------------------------------------------------------------------------


@shipped
def test_jit_is_eager(lab: Lab) -> None:
    """One operation after the other, on the cohort without spare slots; measures apart, to save time."""
    round_fn = dataclasses.replace(lab.round, sampler=lab.inner, measures={})
    state, _ = round_fn(lab.algorithm, dataclasses.replace(lab.warm, measures={}), lab.federation)
    assert_close(state, dataclasses.replace(lab.done[0], measures={}))


@dataclasses.dataclass(frozen=True)
class Variant:
    """The same two rounds by another program.

    Attributes:
        executor: () -> executor.
        precision: in which it is compared.
        over: what it is vmapped over: "seeds", "leaves" (of the algorithm), both in step, or "".
        padded: whether the federation's capacity is larger.
    """

    executor: Any
    precision: str
    over: str = ""
    padded: bool = False


VARIANTS = {
    "chunks, each sharded, larger capacity, over seeds": Variant(
        lambda: executors.chunked(3, executors.sharded(inner=executors.vmapped())),
        "float32",
        over="seeds",
        padded=True,
    ),
    "sharded chunks of single clients, over the algorithm's leaves": Variant(
        lambda: executors.sharded(inner=executors.chunked(2, executors.looped())), "float64", over="leaves"
    ),
}
"""Together: every executor, nested ones, scan, both vmaps, vmap under sharding, padding, no spare slots."""


def stack(*trees: Any) -> Any:
    """Trees along a new leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def rescaled(algorithm: Any) -> Any:
    """Every float of the algorithm a little smaller."""
    return jax.tree.map(lambda a: 0.9 * a if jnp.issubdtype(a.dtype, jnp.floating) else a, algorithm)


def compare(lab: Lab, variant: Variant) -> None:
    """Two rounds of the variant against single runs in the shared program."""
    federation = cases.padded(lab.federation) if variant.padded else lab.federation
    round_fn = lab.make_round(variant.executor(), lab.inner)
    states, algorithms = [lab.warm], [lab.algorithm]
    if "seeds" in variant.over:
        states.append(lab.run(lab.init(1))[0])
    if "leaves" in variant.over:
        algorithms.append(rescaled(lab.algorithm))
    axes = (0 if len(algorithms) > 1 else None, 0 if len(states) > 1 else None, None)
    if variant.padded and lab.case.capacity_in_state:
        states = [dataclasses.replace(s, clients=widen(lab, federation, s.clients)) for s in states]
    program = fh.make_block(round_fn, 2)
    if axes != (None, None, None):
        program = jax.vmap(program, in_axes=axes)
    together = (
        stack(*algorithms) if axes[0] == 0 else algorithms[0],
        stack(*states) if axes[1] == 0 else states[0],
    )
    got, _ = jax.jit(program)(*together, federation)
    for i in range(max(len(algorithms), len(states))):
        algorithm = algorithms[min(i, len(algorithms) - 1)]
        state = [lab.warm, lab.run(lab.init(1))[0] if len(states) > 1 else None][min(i, len(states) - 1)]
        for _ in range(2):
            state, _ = lab.run(state, algorithm=algorithm)
        mine = jax.tree.map(lambda leaf, i=i: leaf[i], got) if axes != (None, None, None) else got
        if variant.padded and lab.case.capacity_in_state:
            mine = dataclasses.replace(mine, clients=narrow(mine.clients, state.clients))
        assert_close(mine, state)


def widen(lab: Lab, federation: Any, clients: Any) -> Any:
    """Client states in the shapes of a larger capacity; what is new starts as `init` has it."""
    _, fresh = lab.algorithm.init(jax.random.key(0), federation)
    return jax.tree.map(lambda a, b: b.at[tuple(map(slice, a.shape))].set(a), clients, fresh)


def narrow(clients: Any, like: Any) -> Any:
    """Client states cut to the shapes of `like`."""
    return jax.tree.map(lambda a, b: a[tuple(map(slice, b.shape))], clients, like)


@shipped
@pytest.mark.parametrize("name", [name for name, v in VARIANTS.items() if v.precision == "float32"])
def test_another_program_gives_the_same(lab: Lab, name: str) -> None:
    compare(lab, VARIANTS[name])


@double
@pytest.mark.parametrize("name", [name for name, v in VARIANTS.items() if v.precision == "float64"])
def test_another_program_gives_the_same_in_double_precision(lab: Lab, name: str) -> None:
    compare(lab, VARIANTS[name])


# --- runs -----------------------------------------------------------------------------------------------------


def reloaded(state: Any) -> Any:
    """The state after a trip through a file of plain arrays."""
    leaves, structure = jax.tree.flatten(state)
    typed = [jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    plain = [jax.random.key_data(leaf) if key else leaf for leaf, key in zip(leaves, typed)]
    file = io.BytesIO()
    np.savez(file, *(np.asarray(leaf) for leaf in plain))
    file.seek(0)
    arrays = np.load(file)
    read = [jnp.asarray(arrays[f"arr_{i}"]) for i in range(len(leaves))]
    back = [jax.random.wrap_key_data(leaf) if key else leaf for leaf, key in zip(read, typed)]
    return jax.tree.unflatten(structure, back)


def test_a_reloaded_state_continues_bit_for_bit(lab: Lab) -> None:
    assert_equal(lab.run(reloaded(lab.warm)), lab.done)


@shipped
def test_a_resumed_run_is_one_longer_run(lab: Lab) -> None:
    """Bit for bit, through a file, and although one runs in blocks of two rounds and the other of four."""
    resumed, history = lab.simulate(rounds=18, state=reloaded(lab.short[0]))
    long, whole = lab.long
    assert_equal(resumed, long)
    np.testing.assert_array_equal(history["cohort"], whole["cohort"][2:])


@shipped
def test_blocks_are_loops_of_rounds(lab: Lab) -> None:
    """Two rounds of `simulate`, and one round after the other.

    Within a tolerance: XLA takes a loop of one round apart and fuses across its edges. Blocks of different
    lengths, both longer, have equal bits: see above.
    """
    state = lab.start
    for _ in range(2):
        state, _ = lab.run(state)
    assert_close(lab.short[0], state)


@shipped
def test_simulate_compiles_nothing_for_other_numbers(lab: Lab) -> None:
    assert lab.long and lab.short
    with compile_count() as count:
        lab.simulate(algorithm=lab.other, rounds=4, key=jax.random.key(5))
    assert count.value == 0


@shipped
def test_the_history_adds_up(lab: Lab) -> None:
    state, history = lab.long
    cost, present = lab.algorithm.traffic(state.server), history["present"].sum(1)
    np.testing.assert_array_equal(history["bytes_up"], present * cost.up)
    np.testing.assert_array_equal(history["bytes_down"], present * cost.down)
    assert np.isfinite(history["measure/dissimilarity/G2"]).all()
    assert int(state.round) == len(history["round"]) == 20


@shipped
def test_it_learns(lab: Lab) -> None:
    """The mean loss of the clients' own models on their training rows falls by a quarter in 20 rounds."""
    history = lab.long[1]
    rows = history["rows"]
    loss = np.where(rows > 0, history["personal/loss"] * rows, 0).sum(1) / rows.sum(1)
    assert np.isfinite(loss).all()
    assert loss[-1] < 0.75 * loss[0] or not lab.case.learns


# --- what is traced only --------------------------------------------------------------------------------------


def primitives(jaxpr: Any) -> set[str]:
    """The names of all primitives, however deep."""
    found = set()
    for equation in jaxpr.eqns:
        found.add(equation.primitive.name)
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=is_jaxpr):
            if is_jaxpr(value):
                found |= primitives(getattr(value, "jaxpr", value))
    return found


def is_jaxpr(value: Any) -> bool:
    """Whether it is a jaxpr, open or closed."""
    return hasattr(value, "eqns")


@shipped
def test_no_host_callback_in_a_round(lab: Lab) -> None:
    """With G^2 measured, and the case's weights and hook."""
    flat, leaves = lab.flat
    names = primitives(flat.trace(*leaves).jaxpr)
    assert {"while", "cond"} & names
    assert not [name for name in names if "callback" in name or "infeed" in name or "outfeed" in name]


@shipped
def test_a_round_lowers_for_cpu_cuda_and_tpu(lab: Lab) -> None:
    flat, leaves = lab.flat
    exported = jax.export.export(flat, platforms=["cpu", "cuda", "tpu"])(*leaves)
    assert set(exported.platforms) == {"cpu", "cuda", "tpu"}


def shapes(pytree: Any) -> Any:
    """Arrays as shapes and dtypes."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), pytree)


def one_client(lab: Lab, state: Any, federation: Any) -> Client:
    """Client 0, as an algorithm sees it."""
    slots = every_client(lab.algorithm, state, federation, jnp.zeros((), jnp.int32))
    slot = jax.tree.map(lambda leaf: leaf[0], slots)
    return make_client(federation, slot, state.key, state.round)


def test_models_predict(lab: Lab) -> None:
    """personalise, predict and consensus trace, and give outputs that the problem's losses take."""
    algorithm, problem = lab.algorithm, lab.problem

    def outputs(algorithm: Any, state: Any, federation: Any) -> Any:
        client = one_client(lab, state, federation)
        batch = client.data.take(jnp.arange(6, dtype=jnp.int32))
        models = [algorithm.personalise(state.server, client), algorithm.consensus(state.server)]
        outs = [algorithm.predict(model, batch.x) for model in models if model is not None]
        direct = problem.init(state.key)
        expected = problem.apply(direct.params, direct.buffers, batch.x)[0]
        return outs, [problem.losses(out, batch.y) for out in outs], expected

    outs, losses, expected = jax.eval_shape(outputs, algorithm, lab.start, lab.federation)
    assert all(kinds(out) == kinds(expected) for out in outs)
    assert all(loss.shape == (6,) for loss in losses)


@shipped
def test_models_are_scored(lab: Lab) -> None:
    """What `evaluate` gives: a value a client, the problem's metrics, and the same after local work."""
    problem = lab.problem

    def output(algorithm: Any, state: Any, federation: Any) -> Any:
        batch = one_client(lab, state, federation).data.take(jnp.arange(6, dtype=jnp.int32))
        model = problem.init(state.key)
        return problem.apply(model.params, model.buffers, batch.x)[0]

    arguments = (lab.algorithm, lab.start, lab.federation)
    expected = jax.eval_shape(output, *arguments)
    scored = jax.eval_shape(
        lambda a, s, f: fh.evaluate(a, s, f, executor=executors.auto(), local=True), *arguments
    )
    assert all(value.shape == (lab.clients,) for value in scored.personal.values())
    assert set(scored.personal) >= set(jax.eval_shape(problem.metrics, expected, batch_targets(lab)))
    assert kinds(scored.local) in (kinds(scored.personal), kinds({})), "after local work: the same, or no model"


def batch_targets(lab: Lab) -> Any:
    """Targets of six rows."""
    return lab.federation.y[:6]


@shipped
def test_newcomers_join(lab: Lab) -> None:
    """A newcomer's state is like a member's, or there is a reason why not."""
    server = lab.first.server
    if lab.case.joins:
        clients = fh.adapt(lab.algorithm, server, lab.federation, key=jax.random.key(3))
        assert kinds(clients) == kinds(lab.first.clients)
        assert bool(tree.all_finite(clients))
        return
    with pytest.raises(ValueError, match=r"\w+ \w+ \w+"):
        fh.adapt(lab.algorithm, server, lab.federation, key=jax.random.key(3))


@double
def test_newcomers_join_in_double_precision(lab: Lab) -> None:
    def join(algorithm: Any, state: Any, federation: Any) -> Any:
        client = dataclasses.replace(one_client(lab, state, federation), state=())
        return algorithm.join(state.server, client)

    arguments = (lab.algorithm, lab.start, lab.federation)
    if not lab.case.joins:
        with pytest.raises(ValueError, match=r"\w+ \w+ \w+"):
            jax.eval_shape(join, *arguments)
        return
    member = jax.eval_shape(lambda clients: jax.tree.map(lambda leaf: leaf[0], clients), lab.start.clients)
    assert kinds(jax.eval_shape(join, *arguments)) == kinds(member)


def test_traffic_is_what_a_report_can_carry(lab: Lab) -> None:
    """Bytes are whole numbers, the same every round, positive where a report carries more than scalars."""
    server = lab.first.server
    cost = lab.algorithm.traffic(server)
    assert isinstance(cost.down, int) and isinstance(cost.up, int)
    assert lab.algorithm.traffic(shapes(server)) == cost
    assert lab.algorithm.traffic(lab.done[0].server) == cost
    report = jax.eval_shape(fh.replay, lab.round, lab.algorithm, lab.start, lab.federation, 0)
    sent = (report.total, report.each)
    assert (cost.up > 0) == any(leaf.ndim > 0 for leaf in jax.tree.leaves(sent))
    assert cost.up <= tree.num_bytes(sent) + 8 and cost.down <= tree.num_bytes(server) + 8
    assert cost.down > 0 or cost.up == 0


# --- the table itself -----------------------------------------------------------------------------------------


def test_no_method_is_named_where_all_are_treated_alike() -> None:
    from fedjax_het.algorithms import ALGORITHMS

    names = "|".join(re.escape(name) for name in ALGORITHMS)
    files = [Path(__file__), *sorted((ROOT / "fedjax_het" / "engine").glob("*.py"))]
    assert len(files) > 5
    for file in files:
        found = re.search(rf"(?<!\w)({names})(?!\w)", file.read_text().lower())
        assert found is None, f"{file.name} names {found}"


def test_a_number_of_epochs_is_a_leaf() -> None:
    """The suite's two solvers differ in a rate and in an amount of work, both leaves."""
    a, b = cases.solver(), cases.solver(learning_rate=0.07, epochs=1)
    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert isinstance(a.plan, Plan) and int(a.plan.amount) != int(b.plan.amount)
