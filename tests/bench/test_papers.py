"""Results of papers come out: the quick ones as they are, the long ones in small; and a failure is told."""

import dataclasses
import gzip
import importlib
import importlib.util
import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import fedjax_het as fh

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(scope="module")
def script():
    """The command as a module, with the modules beside it to be found."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCH))
        spec = importlib.util.spec_from_file_location("bench_papers", BENCH / "papers.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


def part(name):
    return importlib.import_module(f"papers.{name}")


def verdicts(rows):
    return [row.passed for row in rows if row.passed is not None]


def test_scaffold_does_not_see_how_far_apart_two_quadratics_are(script):
    rows = script.RESULTS["scaffold"]()
    assert all(verdicts(rows)) and len(verdicts(rows)) == 32, part("rows").show(rows)


def test_limits_of_fednova_are_those_of_its_lemma(script):
    rows = script.RESULTS["fednova"](seeds=[0])
    assert all(verdicts(rows)) and len(verdicts(rows)) == 9, part("rows").show(rows)


def test_fedavg_reaches_the_accuracy_that_pfedme_prints(script):
    rows = script.RESULTS["pfedme"](seeds=[0])
    assert verdicts(rows) == [True, True], part("rows").show(rows)


def test_a_client_goes_on_where_its_last_round_ended(script):
    rng = np.random.default_rng(0)
    client = (rng.normal(size=(13, 3)), rng.integers(0, 2, 13))
    federation = fh.from_clients([client], test=0.0)
    problem = fh.models.softmax(federation.pool)

    def end(rounds, steps, wrap):
        solver = fh.local.sgd(0.3, batch_size=5, steps=steps, shuffle=False)
        algorithm = wrap(fh.algorithms.fedavg(problem, solver))
        state, _ = fh.simulate(
            algorithm, federation, key=jax.random.key(0), rounds=rounds, split="train", progress=False
        )
        return np.asarray(state.server.params["head"]["kernel"])

    onward = part("onward").onward
    whole = end(1, 8, lambda algorithm: algorithm)
    np.testing.assert_allclose(end(4, 2, onward), whole, rtol=1e-6, atol=1e-7)
    assert np.abs(end(4, 2, lambda algorithm: algorithm) - whole).max() > 1e-3, "it begins at the first row"


def test_three_classes_of_images(script, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for stem, many in (("train", 120), ("t10k", 60)):
        labels = np.arange(many, dtype=np.uint8) % 10
        images = rng.integers(0, 60, (many, 784)).astype(np.uint8)
        images[np.arange(many), labels] = 255  # a pixel for each class
        for kind, header, values in (("images-idx3", (many, 28, 28), images), ("labels-idx1", (many,), labels)):
            start = bytes([0, 0, 8, len(header)]) + np.array(header, ">u4").tobytes()
            with gzip.open(tmp_path / f"{stem}-{kind}-ubyte.gz", "wb", compresslevel=1) as stream:
                stream.write(start + values.tobytes())
    monkeypatch.setenv("FEDJAX_HET_DATA", str(tmp_path))
    federation = part("fashion").classes()
    assert federation.train.size.tolist() == [[12, 12, 12]] and federation.test.size.tolist() == [[6, 6, 6]]
    x = np.asarray(federation.x)
    assert abs(x[:, 700].mean()) < 0.5 and 0.7 < x[:, 700].std() < 1.3, "pixels are standardised"
    rows = {row.name: row for row in script.RESULTS["fashion"](rounds=2, seeds=[0])}
    cells = {
        name: [rows[f"{name}: {label}, %"].ours for label in part("fashion").CLASSES]
        for name in ("q=0", "q=15")
    }
    for name, values in cells.items():
        assert np.mean(values) == pytest.approx(rows[f"{name}: average, %"].ours)
    gain = rows["worst class, q=15 over q=0, points"]
    assert gain.ours == pytest.approx(min(cells["q=15"]) - min(cells["q=0"])) and gain.passed == (
        gain.ours >= 5
    )


def test_stragglers_in_small(script, monkeypatch):
    monkeypatch.setattr(part("stragglers"), "EPOCHS", 2)
    monkeypatch.setattr(part("stragglers"), "FRACTIONS", (0.0, 0.9))
    rows = {row.name: row for row in script.RESULTS["fedprox"](rounds=2, seeds=[0])}
    kept, dropped = (rows[f"0%, {name}: loss"].ours for name in ("mu=0, kept", "FedAvg, dropped"))
    assert kept == pytest.approx(dropped, rel=1e-6), "without stragglers they are one method"
    more = rows["90%, seed 0: loss of mu=0 over mu=1"]
    assert more.ours == pytest.approx(rows["90%, mu=0, kept: loss"].ours - rows["90%, mu=1, kept: loss"].ours)
    assert more.passed == (more.ours > 0)
    assert rows["90%, FedAvg, dropped: loss"].ours != dropped


def test_all_q_in_one_program_are_as_one_by_one(script):
    deciles = part("deciles")
    both = deciles._both(3, 1, 2.0)
    federation = fh.datasets.synthetic_qffl(seed=1)
    solver = fh.local.sgd(0.1, batch_size=10, epochs=1)
    algorithm = fh.algorithms.qfedavg(fh.models.softmax(federation.pool), solver, q=1.0)
    _, history = fh.simulate(
        algorithm,
        federation,
        key=jax.random.key(1),
        rounds=3,
        sampler=fh.sampling.proportional(10),
        executor=fh.executors.looped(),
        progress=False,
    )
    own = np.asarray(history["shared/accuracy"][-1], float)
    assert federation.train.size.tolist() == deciles.federation_of(1, 2.0).train.size.tolist()
    assert both[1][4] == pytest.approx(100 * history["global/accuracy"][-1], abs=0.2)
    assert both[1][0] == pytest.approx(100 * own.mean(), abs=0.2)
    assert both[1][3] == pytest.approx(1e4 * own.var(), rel=0.02)
    assert abs(both[0][0] - both[1][0]) > 0.5


def test_a_row_that_is_off_or_no_number_fails(script):
    rows = part("rows")
    assert rows.near("", 1.5, 1.0, 0.5).passed and not rows.near("", 1.6, 1.0, 0.5).passed
    assert rows.least("", 2, 2).passed and not rows.least("", 1.9, 2).passed
    assert rows.more("", 2.1, 2).passed and not rows.more("", 2, 2).passed
    assert rows.most("", 2, 2).passed and not rows.most("", 2.1, 2).passed
    nan = float("nan")
    assert not any(
        row.passed for row in (rows.near("", nan, 0, 1), rows.least("", nan, 0), rows.most("", nan, 0))
    )
    assert rows.told("", nan).passed is None


@pytest.mark.parametrize("value, status", [(1.0, 0), (3.0, 1)])
def test_the_command_tells_a_failure(script, monkeypatch, tmp_path, capsys, value, status):
    rows = part("rows")

    def result(rounds=7, seeds=(0,)):
        """A result."""
        return [rows.near(f"after {rounds} of {seeds}", value, 1.0, 0.5), rows.told("and so", 2.0)]

    monkeypatch.setattr(script, "RESULTS", {"one": result})
    file = tmp_path / "found.json"
    monkeypatch.setattr(sys, "argv", ["papers.py", "one", "--rounds", "3", "--seeds", "2", "--json", str(file)])
    assert script.main() == status
    out = capsys.readouterr().out
    assert ("FAIL one: after 3 of [0, 1]" in out) == bool(status)
    found = json.loads(file.read_text())["results"]["one"]
    assert found["changed"] == {"rounds": 3, "seeds": [0, 1]}
    assert found["rows"][0] == dataclasses.asdict(result(3, [0, 1])[0]) and len(found["rows"]) == 2
    monkeypatch.setattr(sys, "argv", ["papers.py", "two"])
    with pytest.raises(SystemExit) as stopped:
        script.main()
    assert stopped.value.code == 2
