"""Data frames and data sets: every number at its label."""

import numpy as np
import pytest
from engine.made import made

import fedjax_het as fh

RUNS = {
    "one": made(newcomers=True),
    "stack": fh.stack([made(seed=s, newcomers=True) for s in (0, 1)]),
    "sampled": made(sampled=True),
    "sampled stack": fh.stack([made(seed=s, sampled=True) for s in (0, 1)]),
}


@pytest.mark.parametrize("name", RUNS)
def test_evaluations_as_a_data_frame(name):
    history = RUNS[name]
    frame = history.to_pandas()
    assert list(frame.index.names) == list(history.dims("evaluated_at"))
    assert "global/accuracy" in frame and "mean client valid/personal/loss" in frame
    assert not any("rows" in column or column.endswith("/client") for column in frame)
    for seed in [None] if history.seeds is None else range(history.seeds):
        for place, at in enumerate((2, 4, 6)):
            row = frame.loc[at if seed is None else (seed, at)]
            here = place if seed is None else (seed, place)
            assert row["global/accuracy"] == history["global/accuracy"][here]
            assert row["mean client personal/loss"] == history.client_mean("personal/loss")[here]


@pytest.mark.parametrize("name", RUNS)
def test_clients_as_a_data_frame(name):
    """Each row says whom it is about, also where every evaluation scored others."""
    history = RUNS[name]
    frame = history.to_pandas("personal/loss", "valid/personal/loss", "rows")
    assert list(frame.index.names) == list(history.dims("personal/loss"))
    assert frame.index.is_unique
    for place in np.ndindex(history["rows"].shape):
        label = (*place[:-2], (2, 4, 6)[place[-2]], history["client"][place])
        np.testing.assert_array_equal(frame.loc[label, "personal/loss"], history["personal/loss"][place])
        assert frame.loc[label, "rows"] == history["rows"][place]


def test_rounds_and_slots_and_newcomers():
    history = made(start=4, newcomers=True)
    rounds = history.to_pandas("seconds", "bytes_up")
    assert rounds.index.name == "round" and list(rounds.index) == list(range(4, 10))
    slots = history.to_pandas("cohort", "info/loss")
    assert slots.loc[(7, 1), "cohort"] == history["cohort"][3, 1]
    new = history.to_pandas("newcomer/personal/loss")
    assert new.loc[(8, 1), "newcomer/personal/loss"] == history["newcomer/personal/loss"][1, 1]


def test_bad_questions():
    with pytest.raises(ValueError, match=r"names must share their dimensions, got \('round',\)"):
        made().to_pandas("global/loss", "seconds")
    with pytest.raises(ValueError, match="did you mean 'global/loss'"):
        made().to_pandas("global/los")
    with pytest.raises(ValueError, match="must hold an evaluation"):
        fh.engine.History({}).to_pandas()


@pytest.mark.parametrize("name", RUNS)
def test_a_data_set(name):
    history = RUNS[name]
    data = history.to_xarray()
    for variable in history:
        if variable in ("round", "evaluated_at", "client"):
            continue
        assert data[variable].shape == history[variable].shape
        np.testing.assert_array_equal(data[variable].values, history[variable])
    np.testing.assert_array_equal(data.coords["round"], np.arange(6))
    np.testing.assert_array_equal(data.coords["evaluation"], [2, 4, 6])
    np.testing.assert_array_equal(data["scored_client"], history["client"])
    assert ("client" in data.coords) == ("sampled" not in name)
    at = data["personal/loss"].sel(evaluation=4).isel(client=3).values
    np.testing.assert_array_equal(at, history["personal/loss"][..., 1, 3])
