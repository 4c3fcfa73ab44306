"""Clients: what is drawn of each is its mean over seeds."""

from __future__ import annotations

import numpy as np
import pytest

from fedjax_het.engine import History, stack
from fedjax_het.engine.history import Variable
from fedjax_het.plots import client_distribution, client_gain
from plots.drawn import caption, lines
from plots.made import run, seeds


def last(history: History, name: str) -> np.ndarray:
    """Each client's mean over seeds, of those with rows."""
    return history[name][:, -1, :5].mean(axis=0)


def bars(figure: object, panel: int = 0) -> np.ndarray:
    """Heights of a panel, losers and winners together."""
    return sum(patch.get_data().values for patch in figure.axes[panel].patches)  # pyright: ignore


def test_every_client_is_a_dot() -> None:
    history = seeds(3)
    figure = client_distribution({"fedavg": history})
    np.testing.assert_allclose(lines(figure)[0][0], np.sort(last(history, "personal/accuracy")))
    np.testing.assert_allclose(lines(figure)[1][0], last(history, "personal/accuracy").min())


def test_for_a_loss_the_worst_are_the_largest() -> None:
    history = seeds(2)
    figure = client_distribution(history, "loss")
    np.testing.assert_allclose(lines(figure)[1][0], last(history, "personal/loss").max())


def test_the_best_mean_is_on_top_and_no_model_is_a_dash() -> None:
    histories = {"none": seeds(1, consensus=False)} | {f"m{i}": stack([run(i)]) for i in range(3)}
    figure = client_distribution(histories, who="shared")
    means = {name: last(h, "shared/accuracy").mean() for name, h in histories.items() if name != "none"}
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names == [*sorted(means, key=lambda name: -means[name]), "none"]
    assert [text.get_text() for text in figure.axes[0].texts].count("-") == 2


def test_of_very_many_clients_evenly_spaced_ones_are_drawn() -> None:
    values = np.linspace(0, 1, 10_001)[None]
    both = ("evaluation", "client")
    history = History(
        {
            "evaluated_at": Variable(("evaluation",), np.array([1])),
            "rows": Variable(both, np.ones_like(values, int)),
            "personal/accuracy": Variable(both, values),
        }
    )
    figure = client_distribution(history)
    np.testing.assert_allclose(lines(figure)[0][0], np.linspace(0, 1, 400), atol=1e-4)
    assert "400 of up to 10,001" in caption(figure)


def test_samples_of_clients_are_matched_by_id() -> None:
    def sampled(ids: list[int], values: list[float]) -> History:
        both = ("evaluation", "client")
        return History(
            {
                "evaluated_at": Variable(("evaluation",), np.array([1])),
                "client": Variable(both, np.array([ids])),
                "rows": Variable(both, np.ones((1, len(ids)), int)),
                "personal/loss": Variable(both, np.array([values])),
            }
        )

    two = stack([sampled([1, 5, 9], [1.0, 2.0, 3.0]), sampled([5, 9, 7], [4.0, 5.0, 6.0])])
    figure = client_gain(two, sampled([9, 5, 2], [1.0, 10.0, 0.0]), "loss")
    np.testing.assert_allclose(bars(figure), [1.0 - 4.0, 10.0 - 3.0])
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["9", "5"]
    with pytest.raises(ValueError, match="got none in common"):
        client_gain(two, sampled([20, 21, 22], [1.0, 1.0, 1.0]), "loss")


def test_gains_are_sorted_and_the_losers_counted() -> None:
    history, baseline = stack([run(1), run(2)]), stack([run(3), run(4)])
    figure = client_gain({"fedper": history, "fedavg": baseline}, baseline)
    gain = np.sort(last(history, "personal/accuracy") - last(baseline, "personal/accuracy"))
    np.testing.assert_allclose(bars(figure), 100 * gain)
    assert (
        figure.axes[0].get_title("left").startswith(f"fedper: {(gain < 0).sum()} lose, {(gain > 0).sum()} gain")
    )
    assert figure.axes[1].get_title("left").startswith("fedavg: 0 lose, 0 gain, mean +0.0")


@pytest.mark.parametrize("count", [1, 2, 6, 20])
def test_every_method_has_its_panel(count: int) -> None:
    figure = client_gain({f"method {i}": run(i) for i in range(count)}, run(99))
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == count
    boxes = [axes.get_window_extent() for axes in shown]
    assert min(box.width for box in boxes) > 100
    assert min(box.height for box in boxes) > 70


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="who must be 'personal'"):
        client_distribution(run(), who="global")
    with pytest.raises(ValueError, match="did you mean 'accuracy'"):
        client_gain(run(), run(), "accurac")
    with pytest.raises(TypeError, match="must be a History"):
        client_gain(run(), np.zeros(3))  # pyright: ignore[reportArgumentType]
