"""The fast convolution is `lax.conv`: values and every derivative that training and analysis take."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from fedjax_het.models.convolution import conv_general_dilated, max_pool

LAYOUT = {1: ("NHC", "HIO", "NHC"), 2: ("NHWC", "HWIO", "NHWC")}


def case(rank, strides, padding, dilation, seed=0, dtype=np.float64):
    """(the fast one, lax's, x, kernel): functions of both."""
    rng = np.random.default_rng(seed)
    extent, size = (7, 6)[:rank], (3, 2)[:rank]
    x = jnp.asarray(rng.normal(size=(2, *extent, 3)).astype(dtype))
    kernel = jnp.asarray(rng.normal(size=(*size, 3, 4)).astype(dtype))

    def of(convolve):
        return lambda x, k: convolve(
            x, k, strides, padding, rhs_dilation=dilation, dimension_numbers=LAYOUT[rank]
        )

    return of(conv_general_dilated), of(lax.conv_general_dilated), x, kernel


CASES = {
    "same": (2, (1, 1), "SAME", (1, 1)),
    "strides": (2, (2, 1), "VALID", (1, 1)),
    "dilation": (2, (1, 1), "SAME", (2, 1)),
    "all": (2, (2, 3), ((1, 2), (0, 3)), (1, 2)),
    "cropped": (2, (1, 2), ((-1, 1), (2, -1)), (1, 1)),
    "one axis": (1, (1,), "SAME", (1,)),
    "one axis, all": (1, (2,), ((0, 2),), (2,)),
}


def loss(convolve):
    """Of second order in both, so that no second derivative vanishes."""
    return lambda x, kernel: jnp.sum(jnp.sin(convolve(x, kernel)))


def gradients(f):
    return jax.grad(f, (0, 1))


def products(f):
    """Hessian-vector products, forward over reverse."""
    return lambda x, k: jax.jvp(gradients(f), (x, k), (jnp.cos(x), jnp.sin(k)))[1]


def twice(f):
    """Reverse over reverse."""
    return gradients(lambda x, k: sum(jnp.sum(g**2) for g in gradients(f)(x, k)))


def through_a_scan(f):
    """The derivative of three steps of local training, as a hypergradient has it."""

    def trained(x, k):
        moved, _ = lax.scan(lambda k, _: (k - 0.01 * gradients(f)(x, k)[1], None), k, length=3)
        return f(x, moved)

    return gradients(trained)


def close(found, wanted, tolerance=1e-9):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("derived", [loss, gradients, products, twice, through_a_scan])
def test_values_and_derivatives(x64, name, derived):
    fast, plain, x, kernel = case(*CASES[name])
    f = (lambda g: g) if derived is loss else derived
    close(jax.jit(f(loss(fast)))(x, kernel), jax.jit(f(loss(plain)))(x, kernel))


@pytest.mark.parametrize("name", ["all", "one axis, all"])
@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0)])
@pytest.mark.parametrize("derived", [gradients, products, twice, through_a_scan])
def test_under_vmap(x64, name, axes, derived):
    """Kernels of many clients, rows of many clients, or both."""
    fast, plain, x, kernel = case(*CASES[name])
    x = jnp.stack([x, 2 * x, -x]) if axes[0] == 0 else x
    kernel = jnp.stack([kernel, kernel + 1, 3 * kernel]) if axes[1] == 0 else kernel
    found, wanted = (jax.jit(jax.vmap(derived(loss(f)), axes))(x, kernel) for f in (fast, plain))
    close(found, wanted, 1e-8)


def test_derivatives_of_what_is_vmapped(x64):
    fast, plain, x, kernel = case(*CASES["all"])
    many = jnp.stack([kernel, kernel + 1])

    def total(f):
        return lambda x, many: jnp.sum(jax.vmap(loss(f), (None, 0))(x, many))

    for derived in (gradients, products, twice):
        close(jax.jit(derived(total(fast)))(x, many), jax.jit(derived(total(plain)))(x, many))


NUMBER = st.integers(1, 3)


@given(st.integers(1, 2), NUMBER, NUMBER, st.integers(0, 2), st.integers(0, 3), st.integers(0, 9))
@settings(max_examples=25, deadline=None, derandomize=True, database=None)
def test_any_window_in_single_precision(rank, stride, dilation, low, high, seed):
    setting = (rank, (stride,) * rank, ((low + 2, high + 2),) * rank, (dilation,) * rank, seed, np.float32)
    fast, plain, x, kernel = case(*setting)
    assert fast(x, kernel).dtype == jnp.float32
    close(fast(x, kernel), plain(x, kernel), 1e-5)
    close(gradients(loss(fast))(x, kernel), gradients(loss(plain))(x, kernel), 1e-4)


def test_half_precision_keeps_its_type():
    fast, plain, x, kernel = case(*CASES["same"], dtype=np.float32)
    x, kernel = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    assert fast(x, kernel).dtype == jnp.bfloat16
    assert {g.dtype for g in gradients(loss(fast))(x, kernel)} == {jnp.dtype(jnp.bfloat16)}
    found, wanted = (f(x, kernel).astype(jnp.float32) for f in (fast, plain))
    np.testing.assert_allclose(found, wanted, rtol=0.02, atol=0.05)


def test_on_a_cpu_the_gradient_states_the_fast_layout():
    """Channels are the rows of a convolution over the output's gradient, behind barriers."""
    fast, _, x, kernel = case(*CASES["same"], dtype=np.float32)
    text = jax.jit(jax.grad(loss(fast), 1)).lower(x, kernel).as_text()
    assert "optimization_barrier" in text and text.count("stablehlo.convolution") == 2


@pytest.mark.parametrize("how", ["kernels", "both"])
def test_many_kernels_make_no_grouped_convolution(how):
    fast, _, x, kernel = case(*CASES["same"], dtype=np.float32)
    x = jnp.stack([x] * 3) if how == "both" else x
    mapped = jax.vmap(gradients(loss(fast)), (0 if how == "both" else None, 0))
    text = jax.jit(mapped).lower(x, jnp.stack([kernel] * 3)).as_text()
    assert "convolution" not in text and "dot_general" in text


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("groups", {"feature_group_count": 3}),
        ("a dilated input", {"lhs_dilation": (2, 1), "padding": ((1, 1), (1, 1))}),
        ("another layout than channels last", {"dimension_numbers": ("NCHW", "OIHW", "NCHW")}),
        ("a precision", {"precision": "highest"}),
    ],
)
def test_what_is_not_covered_is_said_and_still_right(words, options):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 6, 6, 6)).astype(np.float32))
    size = (6, 6, 6, 6) if "layout" in words else (3, 3, 6, 6)
    kernel = jnp.asarray(rng.normal(size=size).astype(np.float32))
    kernel = kernel[:, :, :2] if words == "groups" else kernel
    options = {"dimension_numbers": LAYOUT[2], "padding": "SAME", **options}
    with pytest.warns(UserWarning, match=f"a convolution of {words} takes the slow path, got rows"):
        found = conv_general_dilated(x, kernel, (1, 1), **options)
    close(found, lax.conv_general_dilated(x, kernel, (1, 1), **options), 1e-6)


@pytest.mark.parametrize("shape", [(2, 6, 6, 3), (2, 7, 5, 1), (3, 8, 2)])
def test_pooling(shape):
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    rank = len(shape) - 2
    size = (1, *(2,) * rank, 1)

    def plain(x):
        return lax.reduce_window(x, -jnp.inf, lax.max, size, size, "VALID")

    close(max_pool(x, 2), plain(x), 0)
    pooled = (lambda x: max_pool(x, 2)), plain
    found, wanted = (jax.grad(lambda x, f=f: jnp.sum(f(x) ** 2))(x) for f in pooled)
    close(found, wanted, 1e-6)
