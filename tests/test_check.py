"""Validation: types, limits, messages; tracers pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_het.check import known, number, positive_int, require, whole


def test_numbers_become_arrays_of_the_default_type(x64):
    for value in (1, 0.5, np.float32(2), np.int64(3), jnp.float32(4), [1.0, 2.0]):
        assert number("rate", value).dtype == jnp.float64
    with jax.enable_x64(False):
        assert number("rate", 0.5).dtype == jnp.float32


@pytest.mark.parametrize(
    ("value", "limits", "words"),
    [
        (0, {"above": 0}, "> 0"),
        (-1, {"least": 0}, ">= 0"),
        (1, {"below": 1}, "< 1"),
        (1.5, {"most": 1}, "<= 1"),
        (np.nan, {}, "finite"),
        (np.inf, {"above": 0}, "finite"),
        ([0.5, -0.5], {"least": 0}, ">= 0"),
    ],
)
def test_limits(value, limits, words):
    with pytest.raises(ValueError) as caught:
        number("rate", value, **limits, remedy="make it so")
    assert str(caught.value) == f"rate must be {words}, got {value!r}: make it so"


@pytest.mark.parametrize("value", ["0.1", b"1", True, None, object(), [[1], [1, 2]], 1j])
def test_what_is_no_number(value):
    with pytest.raises(TypeError, match=r"rate must be a number, got .*"):
        number("rate", value)


def test_limits_themselves():
    for value, limits in ((0, {"least": 0}), (1, {"most": 1}), (1e-9, {"above": 0}), (0.999, {"below": 1})):
        assert float(number("rate", value, **limits)) == pytest.approx(value)


def test_tracers_pass():
    assert float(jax.jit(lambda v: number("rate", v, above=0))(-1.0)) == -1
    assert int(jax.jit(lambda v: whole("epochs", v))(-1)) == -1


@pytest.mark.parametrize("value", [1.0, "1", True, None, np.float32(2)])
def test_what_is_no_whole_number(value):
    with pytest.raises(TypeError, match=r"epochs must be a whole number, got .*: say how many"):
        positive_int("epochs", value, remedy="say how many")
    with pytest.raises(TypeError, match=r"epochs must be a whole number, got .*: say how many"):
        whole("epochs", value, remedy="say how many")


def test_whole_numbers():
    assert positive_int("epochs", np.int64(3)) == 3 and isinstance(positive_int("epochs", np.int64(3)), int)
    assert positive_int("epochs", 0, least=0) == 0
    assert whole("epochs", [1, 2]).dtype == jnp.int32
    for check in (positive_int, whole):
        with pytest.raises(ValueError, match=r"epochs must be >= 2, got 1: more"):
            check("epochs", 1, least=2, remedy="more")


def test_names():
    assert known("option", "I", ("I", "II")) == "I"
    with pytest.raises(ValueError) as caught:
        known("algorithm", "fedavgg", ["fedavg", "ifca"])
    assert "algorithm" in str(caught.value) and "'fedavgg'" in str(caught.value)
    assert "did you mean 'fedavg'?" in str(caught.value) and "ifca" in str(caught.value)
    with pytest.raises(ValueError) as caught:
        known("algorithm", "zzz", ["fedavg", "ifca"])
    assert "did you mean" not in str(caught.value)


def test_require():
    require(True, "never")
    with pytest.raises(ValueError, match="always"):
        require(False, "always")
