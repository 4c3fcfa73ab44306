"""Checkpoints: bit for bit, whole or absent, and nothing damaged or foreign is believed."""

import collections
import contextlib
import dataclasses
import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_het as fh
from fedjax_het.engine.history import History, Variable
from fedjax_het.experiment import steps, store
from fedjax_het.experiment.checkpoint import (
    CheckpointError,
    SaveError,
    check_writable,
    restore,
    save,
    saved_steps,
)

CONFIG = {"rounds": 100, "algorithm": {"name": "fedprox", "mu": 0.1}, "seeds": (0, 1), "alpha": float("nan")}
Pair = collections.namedtuple("Pair", "count trace")


def meta_of(step, **changes):
    return {"round": step, "config": CONFIG, "executor": "vmapped", "versions": {"jax": "1.0"}} | changes


def run_at(step, elements=8):
    """A state and a history that say which step they belong to."""
    state = {"round": jnp.int32(step), "params": jnp.arange(elements, dtype=jnp.float32) * step}
    history = History({"round": Variable(("round",), np.arange(step))})
    return state, history


def save_at(folder, step, *, keep=2, elements=8, **changes):
    return save(folder, *run_at(step, elements), meta_of(step, **changes), keep=keep)


def restored_round(folder, *, step=None):
    """The round that comes back, after a look at all of it."""
    state, history = restore(folder, run_at(0)[0], meta_of(0), step=step)
    number = int(state["round"])
    np.testing.assert_array_equal(state["params"], run_at(number)[0]["params"])
    np.testing.assert_array_equal(history["round"], np.arange(number))
    return number


def bits(tree):
    """Type, shape and bytes of every leaf."""

    def of(leaf):
        kind = str(leaf.dtype)
        plain = jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        return kind, leaf.shape, np.asarray(plain).tobytes()

    return jax.tree.map(of, tree)


def shapes(tree):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def test_every_kind_of_leaf_comes_back_bit_for_bit(tmp_path):
    payload = np.array([0x7FC00123, 0xFFC00001, 0x80000000, 0x7F800000, 1], np.uint32).view(np.float32)
    state = {
        "odd floats": jnp.asarray(payload),
        "zeros": jnp.zeros((3, 4)),
        "negative zeros": -jnp.zeros((3, 4)),
        "half": jnp.asarray([1.5, -0.0, jnp.nan], jnp.bfloat16),
        "flags": jnp.asarray([True, False, True]),
        "bytes": jnp.asarray([-1, 5], jnp.int8),
        "count": Pair(jnp.int32(7), (jnp.float32(0.1), None, ())),
        "nothing": jnp.zeros((0, 5)),
        "large": jax.random.normal(jax.random.key(1), (3, 999_999)),
        "key": jax.random.key(3),
        "keys": jax.random.split(jax.random.key(4, impl="rbg"), (2, 3)),
        "empty": (),
    }
    history = History(
        {
            "round": Variable(("round",), np.arange(3)),
            "measure/odd": Variable(("round", "axis_0"), np.array([[np.nan, -0.0]] * 3)),
            "present": Variable(("round", "slot"), np.zeros((3, 0), bool)),
            "names": Variable(("client",), np.array(["a", "ødegård"])),
            "reversed": Variable(("round",), np.arange(6)[::-2]),
            "big": Variable(("evaluation", "client"), np.random.default_rng(0).normal(size=(2, 90_000))),
        },
        interrupted=True,
        notices=((2, "client 7 does much worse than the rest"),),
    )
    path = save(tmp_path / "new" / "folder", state, history, meta_of(3))
    assert path == tmp_path / "new" / "folder" / "3"
    back, told = restore(tmp_path / "new" / "folder", shapes(state), meta_of(0))
    assert jax.tree.structure(back) == jax.tree.structure(state)
    assert bits(back) == bits(state)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(back))
    assert jax.random.key_impl(back["keys"]) == jax.random.key_impl(state["keys"])
    assert list(told) == list(history)
    for name in history:
        assert told.dims(name) == history.dims(name)
        assert told[name].dtype == history[name].dtype and told[name].shape == history[name].shape
        assert told[name].tobytes() == history[name].tobytes()
    for field in dataclasses.fields(History):
        if field.name != "variables":
            assert getattr(told, field.name) == getattr(history, field.name)


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    pool = fh.datasets.digits()
    federation = fh.heterogeneity.label.dirichlet(pool, clients=6, alpha=0.5, seed=0)
    algorithm = fh.algorithms.scaffold(fh.models.softmax(pool), fh.local.sgd(0.1, batch_size=20, epochs=1))
    sampler, key = fh.sampling.uniform(3), jax.random.key(0)

    def go(rounds, **start):
        return fh.simulate(
            algorithm, federation, rounds=rounds, sampler=sampler, every=2, progress=False, **start
        )

    whole, told = go(4, key=key)
    save(tmp_path, *go(2, key=key), meta_of(2))
    round_fn = fh.make_round(sampler, fh.executors.auto())
    like = jax.eval_shape(lambda key: fh.initial_state(algorithm, federation, key=key, round_fn=round_fn), key)
    state, before = restore(tmp_path, like, meta_of(2))
    state, after = go(2, state=state)
    assert jax.tree.structure(state) == jax.tree.structure(whole)
    assert bits(state) == bits(whole)
    joined = before + after
    assert set(joined) == set(told)
    for name in set(told) - {"seconds"}:
        assert joined[name].tobytes() == told[name].tobytes(), name


def test_a_folder_without_checkpoints_has_nothing_to_restore(tmp_path):
    like = run_at(0)[0]
    assert restore(tmp_path, like, meta_of(0)) is None
    assert restore(tmp_path / "absent", like, meta_of(0)) is None
    with pytest.raises(ValueError, match="step must be a saved one, got 3"):
        restore(tmp_path, like, meta_of(0), step=3)


def test_the_newest_steps_are_kept(tmp_path):
    for step in (9, 10, 11, 100):
        save_at(tmp_path, step)
    assert saved_steps(tmp_path) == (11, 100)
    assert restored_round(tmp_path) == 100 and restored_round(tmp_path, step=11) == 11
    save_at(tmp_path, 101, keep=1)
    assert saved_steps(tmp_path) == (101,)
    with pytest.raises(ValueError, match="step must be one of 101, got 100"):
        restore(tmp_path, run_at(0)[0], meta_of(0), step=100)


def test_what_was_saved_last_is_what_comes_back(tmp_path):
    for step in (10, 20, 15):
        save_at(tmp_path, step)
    assert saved_steps(tmp_path) == (10, 15)
    changed, history = run_at(15)
    changed["params"] += 1
    save(tmp_path, changed, history, meta_of(15))
    assert saved_steps(tmp_path) == (10, 15)
    assert bits(restore(tmp_path, changed, meta_of(0))[0]) == bits(changed)


def test_another_configuration_is_refused_with_what_differs(tmp_path):
    save_at(tmp_path, 5)
    other = {
        "rounds": 100,
        "algorithm": {"name": "fedprox", "mu": 0.3},
        "seeds": [0, 1],
        "alpha": float("nan"),
        "cohort": 4,
    }
    with pytest.raises(CheckpointError, match="another configuration") as caught:
        restore(tmp_path, run_at(0)[0], meta_of(0, config=other))
    lines = str(caught.value).splitlines()[1:]
    assert lines == ["  algorithm.mu: 0.1 != 0.3", "  cohort: absent != 4"]


def test_a_long_list_of_differences_is_cut(tmp_path):
    save_at(tmp_path, 5, config={f"a{i}": 0 for i in range(50)})
    with pytest.raises(CheckpointError, match="and 30 more"):
        restore(tmp_path, run_at(0)[0], meta_of(0, config={f"a{i}": 1 for i in range(50)}))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"versions": {"jax": "2.0"}}, 'versions.jax: "1.0" != "2.0"'),
        ({"executor": "chunked(10)"}, 'executor: "vmapped" != "chunked\\(10\\)"'),
    ],
)
def test_other_versions_and_another_executor_are_told(tmp_path, changes, line):
    save_at(tmp_path, 5)
    with pytest.warns(UserWarning, match=line):
        state, _ = restore(tmp_path, run_at(0)[0], meta_of(0, **changes))
    assert state["round"] == 5


@pytest.mark.parametrize(
    ("like", "line"),
    [
        (lambda: {"params": jnp.zeros(9)}, r"state\['params'\]: float32\[8\] != float32\[9\]"),
        (lambda: {"params": jnp.zeros(8, jnp.int32)}, r"float32\[8\] != int32\[8\]"),
        (dict, r"state\['params'\]: float32\[8\] != absent"),
        (lambda: {"params": jnp.zeros(8), "key": jax.random.key(0)}, r"absent != key<fry>\[\]"),
    ],
)
def test_a_state_of_another_structure_is_refused(tmp_path, like, line):
    save_at(tmp_path, 5)
    with pytest.raises(CheckpointError, match=line):
        restore(tmp_path, {"round": jnp.int32(0)} | like(), meta_of(0))


def _flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _truncate(file):
    os.truncate(file, file.stat().st_size // 2)


@pytest.mark.parametrize("harm", [_flip, _truncate, Path.unlink])
def test_damage_to_any_file_is_named_and_the_step_before_offered(tmp_path, harm):
    for step in (10, 20):
        save_at(tmp_path / "good", step)
    files = [file.relative_to(tmp_path / "good") for file in (tmp_path / "good" / "20").rglob("*")]
    files = [file for file in files if (tmp_path / "good" / file).is_file()]
    assert len(files) >= 4
    for number, file in enumerate(files):
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "good", folder)
        harm(folder / file)
        with pytest.raises(CheckpointError, match="step 10 is whole: resume with step=10") as caught:
            restore(folder, run_at(0)[0], meta_of(0))
        assert caught.value.previous == 10
        if file.name != steps.SUMS:
            assert str(folder / file) in str(caught.value)
        assert restored_round(folder, step=10) == 10


def test_the_step_offered_is_itself_verified(tmp_path):
    for step in (10, 20, 30):
        save_at(tmp_path, step, keep=3)
    for step in ("20", "30"):
        _flip(tmp_path / step / "_CHECKPOINT_METADATA")
    with pytest.raises(CheckpointError, match=r"_CHECKPOINT_METADATA is corrupted.*step 10 is whole"):
        restore(tmp_path, run_at(0)[0], meta_of(0))
    _flip(tmp_path / "10" / "_CHECKPOINT_METADATA")
    with pytest.raises(CheckpointError, match="no earlier step is whole") as caught:
        restore(tmp_path, run_at(0)[0], meta_of(0))
    assert caught.value.previous is None


def test_a_step_without_all_its_digests_or_under_another_number_is_refused(tmp_path):
    save_at(tmp_path, 10)
    sums = tmp_path / "10" / steps.SUMS
    lines = sums.read_text().splitlines(keepends=True)
    for kept in ([], lines[:-1], lines[1:]):
        sums.write_text("".join(kept))
        with pytest.raises(CheckpointError, match="SHA256SUMS does not list"):
            restore(tmp_path, run_at(0)[0], meta_of(0))
    sums.write_text("".join(lines))
    shutil.copytree(tmp_path / "10", tmp_path / "20")
    with pytest.raises(CheckpointError, match="is round 10 under another name; step 10 is whole"):
        restore(tmp_path, run_at(0)[0], meta_of(0))


def test_a_run_goes_on_from_the_step_before_a_damaged_one(tmp_path):
    for step in (10, 20):
        save_at(tmp_path, step)
    _flip(tmp_path / "20" / "_METADATA")
    assert restored_round(tmp_path, step=10) == 10
    save_at(tmp_path, 15)
    assert restored_round(tmp_path) == 15


def test_foreign_steps_are_neither_restored_nor_deleted(tmp_path):
    store.write(tmp_path / "7", np.ones(3, np.uint8), {})
    with pytest.raises(CheckpointError, match="SHA256SUMS is missing"):
        restore(tmp_path, run_at(0)[0], meta_of(0))
    for step in (5, 9):
        with pytest.raises(CheckpointError, match="none of our checkpoints"):
            save_at(tmp_path, step)
    steps.seal(tmp_path / "7")
    with pytest.raises(CheckpointError, match="cannot be understood"):
        restore(tmp_path, run_at(0)[0], meta_of(0))
    (tmp_path / "7" / steps.SUMS).write_text("rubbish\n")
    with pytest.raises(CheckpointError, match="not a list of digests"):
        restore(tmp_path, run_at(0)[0], meta_of(0))


def test_later_steps_of_another_configuration_are_not_deleted(tmp_path):
    save_at(tmp_path, 20)
    for step in (10, 20):
        with pytest.raises(
            CheckpointError, match=r"later step of another configuration(.|\n)*rounds: 100 != 5"
        ):
            save_at(tmp_path, step, config=CONFIG | {"rounds": 5})
    assert restored_round(tmp_path) == 20


def test_what_cannot_be_saved_is_refused_before_anything_is_written(tmp_path):
    state, history = run_at(1)
    objects = History({"names": Variable(("client",), np.array([None], object))})
    for wrong, message in (
        (
            lambda: save(tmp_path, {"rate": 0.1}, history, meta_of(1)),
            r"state\['rate'\] must be an array, got float",
        ),
        (lambda: save(tmp_path, state, objects, meta_of(1)), "history.*must hold numbers, got Python objects"),
        (
            lambda: save(tmp_path, state, history, meta_of(1, config={"a": {1}})),
            "meta must hold what JSON can say",
        ),
        (lambda: save(tmp_path, state, history, {"config": {}}), r"meta\['round'\] must be a whole number"),
        (lambda: save(tmp_path, state, history, meta_of(1), keep=0), "keep must be >= 1, got 0"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            wrong()
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="got the file"):
        save_at(tmp_path / "file", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@contextlib.contextmanager
def files_of_at_most(size):
    """What a full disk does to a write, without one: the system lets no file grow beyond `size` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("elements", [50_000, 5_000_000], ids=["a small state", "a large one"])
def test_a_disk_that_fills_up_harms_nothing_saved(tmp_path, elements):
    def noise(step):
        state = {"noise": jax.random.normal(jax.random.key(step), (elements,))}
        return state, run_at(step)[1], meta_of(step)

    save(tmp_path, *noise(10))
    before = sorted(tmp_path.rglob("*"))
    with (
        files_of_at_most(50_000),
        pytest.raises(SaveError, match=r"round 20 could not be saved.*File too large.*untouched \(10\)"),
    ):
        save(tmp_path, *noise(20))
    assert sorted(tmp_path.rglob("*")) == before
    time.sleep(0.5)  # nothing is still being written either
    assert sorted(tmp_path.rglob("*")) == before
    assert bits(restore(tmp_path, noise(0)[0], meta_of(0))[0]) == bits(noise(10)[0])
    save(tmp_path, *noise(20))
    assert saved_steps(tmp_path) == (10, 20)


def test_a_folder_is_tried_before_a_run(tmp_path, monkeypatch):
    check_writable(tmp_path / "new" / "folder", 10_000)
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError, match=r"can be written to, got .*file/below \(Not a directory\)"):
        check_writable(tmp_path / "file" / "below")
    with pytest.raises(SaveError, match=r"must have room for 1000000000.0 GB, got .* with .* free: make room"):
        check_writable(tmp_path, 10**18)
    with files_of_at_most(1000), pytest.raises(SaveError, match="File too large"):
        check_writable(tmp_path, 10_000)

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SaveError, match="No space left on device"):
        check_writable(tmp_path)


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("again", [20, 30], ids=["the same step", "the next step"])
@pytest.mark.parametrize("point", range(12))
def test_an_end_at_any_point_leaves_whole_steps(tmp_path, monkeypatch, point, again):
    for step in (10, 20):
        save_at(tmp_path, step)
    passed = 0

    def watched(function):
        def call(*args, **kwargs):
            nonlocal passed
            if passed == point:
                raise Killed
            passed += 1
            result = function(*args, **kwargs)
            if passed == point:
                raise Killed
            passed += 1
            return result

        return call

    with monkeypatch.context() as patch:
        patch.setattr(store, "write", watched(store.write))
        patch.setattr(steps, "seal", watched(steps.seal))
        patch.setattr(Path, "rename", watched(Path.rename))
        patch.setattr(shutil, "rmtree", watched(shutil.rmtree))
        with contextlib.suppress(Killed):
            save_at(tmp_path, again)
    assert restored_round(tmp_path) in (20, again)
    save_at(tmp_path, 40)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.isdecimal())[-1] == "40"
    assert restored_round(tmp_path) == 40 and len(saved_steps(tmp_path)) == 2
    save_at(tmp_path, 50, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["50"]


def test_only_our_own_leftovers_are_swept(tmp_path):
    save_at(tmp_path, 10)
    for name in ("saving-20", "saving-20.orbax-checkpoint-tmp", "removed-5", "notes", "metrics-3"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "content").write_text("")
    (tmp_path / "readme.txt").write_text("")
    assert restored_round(tmp_path) == 10
    save_at(tmp_path, 20)
    assert {path.name for path in tmp_path.iterdir()} == {"10", "20", "notes", "metrics-3", "readme.txt"}


# forks rather than begins anew, since importing takes seconds; no thread runs before the fork
SAVER = """
import os, sys, pathlib
sys.path[:0] = sys.argv[2:]
import fedjax_het.experiment.checkpoint
assert not [name for name in sys.modules if name.split(".")[0] == "orbax"], "orbax is imported by whoever saves"
import orbax.checkpoint
from experiment.test_checkpoint import save_at, saved_steps
folder = pathlib.Path(sys.argv[1])
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        first = max(saved_steps(folder), default=0) + 1
        print("begin", os.getpid(), flush=True)
        for step in range(first, first + 1000):
            save_at(folder, step)
            print("saved", step, flush=True)
    os.waitpid(child, 0)
    print("dead", flush=True)
"""


def test_killed_at_random_moments(tmp_path):
    """Ten times SIGKILL: what comes back is the last step that was completed, or the one being completed."""
    moments = random.Random(0)
    roots = [str(Path(fh.__file__).parents[1]), str(Path(__file__).parents[1])]
    with subprocess.Popen(
        [sys.executable, "-c", SAVER, str(tmp_path), *roots],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as saver:
        done = 0
        for _ in range(10):
            print("go", file=saver.stdin, flush=True)
            child = int(saver.stdout.readline().split()[1])
            done = int(saver.stdout.readline().split()[1])
            time.sleep(moments.uniform(0, 0.2))
            os.kill(child, signal.SIGKILL)
            for line in iter(saver.stdout.readline, "dead\n"):
                done = int(line.split()[1])
            assert restored_round(tmp_path) in (done, done + 1)
        saver.stdin.close()
    assert saver.returncode == 0 and done > 10
