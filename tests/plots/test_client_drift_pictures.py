"""Pictures of client drift: what is drawn is what was measured."""

from __future__ import annotations

import numpy as np
import pytest

from fedjax_het.engine.history import Variable
from fedjax_het.plots.client_drift import drift_by_layer, drift_by_step
from plots.drawn import caption, key_words, lines, overlaps
from plots.made import ROUNDS, run

J = np.arange(6.0)
DRIFT = np.stack([2 * J, np.minimum(J, 3.0), np.full(6, np.nan)])


def test_every_client_and_their_root_mean_square() -> None:
    figure = drift_by_step(DRIFT, steps=[5, 3, 5], expected=DRIFT)
    found = lines(figure)
    np.testing.assert_allclose(found[0], [J[1:], 2 * J[1:]])
    np.testing.assert_allclose(found[1][1], [1, 2, 3, np.nan, np.nan])
    assert np.isnan(found[2][1]).all()
    mean = np.sqrt([(4 + 1) / 2, (16 + 4) / 2, (36 + 9) / 2, 64, 100])
    np.testing.assert_allclose(found[3][1], mean)
    np.testing.assert_allclose(found[4][1], mean[0] * J[1:])
    np.testing.assert_allclose(found[6][1], found[1][1])
    assert key_words(figure) == ["a client", "root mean square", "linear in j", "predicted"]
    assert caption(figure).startswith("2 clients.") and not overlaps(figure)
    assert figure.axes[0].get_xscale() == figure.axes[0].get_yscale() == "log"


def test_layers_by_round() -> None:
    values = {f"measure/layers/{name}": np.arange(ROUNDS) + 1.0 + i for i, name in enumerate(("a/b", "head"))}
    history = run(**{name: Variable(("round",), value) for name, value in values.items()})
    figure = drift_by_layer(history, "layers", smooth=2)
    np.testing.assert_allclose(lines(figure)[0], [np.arange(ROUNDS - 1) + 1.5] * 2)
    assert sorted(words.split("  ")[1] for words in key_words(figure)) == ["a/b", "head"]


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        (DRIFT[0], {}, "with E >= 2"),
        (DRIFT, {"steps": [1, 2]}, "steps must be one number a client"),
        (DRIFT, {"expected": DRIFT[:2]}, "expected must have the shape of drift"),
        (DRIFT * 0, {}, "nobody moved"),
    ],
)
def test_bad_input_is_named(given: np.ndarray, options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        drift_by_step(given, **options)


def test_a_missing_measure_says_what_to_pass() -> None:
    with pytest.raises(ValueError, match=r"measures=\{'layers': fh.analysis.layer_drift\(\)\}"):
        drift_by_layer(run(), "layers")
    with pytest.raises(TypeError, match="history must be a History"):
        drift_by_layer({"a": run()}, "layers")  # pyright: ignore[reportArgumentType]
