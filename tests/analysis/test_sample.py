"""Samples of rows as clients see them: whose, which, after what; and refusals."""

import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_het as fh
from fedjax_het.analysis.components import components
from fedjax_het.analysis.sample import sample
from fedjax_het.phases import phases as phases_of
from fedjax_het.phases import switch
from fedjax_het.transforms import transformed

SIZES = (30, 0, 4, 17, 25, 12)


def marked(x, y, mark, row):
    """The client's mark and the row's number, where they can be read again."""
    return x + mark + 1000.0 * row.astype(x.dtype)[:, None, None], y


def federation(phases=1, **facts):
    ends = np.cumsum(SIZES)
    x = np.zeros((ends[-1], 2, 2), facts.pop("dtype", float))
    pool = fh.pool(x, np.arange(ends[-1]) % 3, num_classes=3, **facts)
    plain = fh.from_index_lists(pool, None, np.split(np.arange(ends[-1]), ends[:-1]), test=0.0)
    marks = jnp.arange(6.0)[None] + 100 * jnp.arange(phases, dtype=float)[:, None]
    if phases == 1:
        return transformed(plain, fh.Transform(marks, marked))
    states = [transformed(plain, fh.Transform(marks[t : t + 1], marked)) for t in range(phases)]
    return phases_of(states, switch([10]))


def asked(of, **options):
    return sample(
        of, **{"split": "train", "phase": 0, "clients": 3, "rows": 14, "least": 10, "seed": 0, **options}
    )


@pytest.mark.parametrize("dtype", [float, np.uint8])
def test_rows_are_the_clients_own_and_transformed(dtype):
    taken = asked(federation(dtype=dtype), clients=9)
    np.testing.assert_array_equal(taken.client, [0, 3, 4, 5])
    np.testing.assert_array_equal(taken.rows, [14, 14, 14, 12])
    np.testing.assert_array_equal(taken.owner, np.repeat(np.arange(4), taken.rows))
    assert taken.x.shape == (54, 4) and taken.x.dtype == np.float64
    np.testing.assert_array_equal(taken.x[:, 0] % 1000, taken.client[taken.owner])
    row = (taken.x[:, 0] // 1000).astype(int)
    assert len(set(row)) == 54
    starts = np.cumsum(SIZES) - SIZES
    for k in range(4):
        own = row[taken.owner == k] - starts[taken.client[k]]
        assert own.min() >= 0 and own.max() < SIZES[taken.client[k]]
    np.testing.assert_array_equal(taken.labels, row % 3)
    np.testing.assert_array_equal(taken.y, taken.labels)


def test_draws_belong_to_seed_and_client():
    one, same, other = asked(federation()), asked(federation()), asked(federation(), seed=1)
    np.testing.assert_array_equal(one.x, same.x)
    assert one.x.shape != other.x.shape or not np.array_equal(one.x, other.x)
    many = asked(federation(), clients=4)
    for place, client in enumerate(one.client):
        again = many.x[many.owner == list(many.client).index(client)]
        np.testing.assert_array_equal(one.x[one.owner == place], again)


def test_everybody_is_sampled_in_the_long_run():
    seen = {int(k) for seed in range(30) for k in asked(federation(), clients=2, seed=seed).client}
    assert seen == {0, 3, 4, 5}


def test_tokens_are_counted():
    x = np.array([[0, 1, 1], [2, 2, 2], [0, 2, 1], [1, 1, 1]])
    pool = fh.pool(x, x[:, 0], task="tokens", num_classes=4)
    taken = asked(fh.from_index_lists(pool, None, [[0, 1], [2, 3]], test=0.0), least=2)
    np.testing.assert_array_equal(taken.x, [[1, 2, 0, 0], [0, 0, 3, 0], [1, 1, 1, 0], [0, 3, 0, 0]])
    np.testing.assert_array_equal(taken.labels, [0, 2, 0, 1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"least": 26}, r"two clients with 26 rows of 'train' or more, got 1 of 6 \(client 0\): .*30, 25, 17"),
        ({"split": "test"}, r"two clients with 10 rows of 'test' or more, got 0 of 6"),
        ({"split": "trian"}, "did you mean 'train'"),
        ({"phase": 1}, "phase must be < 1, got 1"),
        ({"clients": 1}, "clients must be >= 2, got 1"),
        ({"rows": 9}, "rows must be >= 10, got 9"),
    ],
)
def test_refusals(options, words):
    of = federation()
    with pytest.raises(ValueError, match=words):
        asked(of, **{"rows": 40, **options})


def test_what_is_no_federation():
    with pytest.raises(TypeError, match="federation must be a Federation, got Pool"):
        asked(federation().pool)


def broken(x, y, argument, row):
    return x / argument, y


def test_rows_that_are_not_finite_name_the_client():
    of = transformed(federation(), fh.Transform(jnp.array([[1.0, 1, 1, 0, 1, 1]]), broken))
    with pytest.raises(ValueError, match="got NaN or infinity for client 3"):
        asked(of, clients=4)


@pytest.mark.parametrize("shape", [(50, 6), (6, 50)])
def test_components_are_principal_and_free_of_units(shape):
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape) @ rng.normal(size=(shape[1], shape[1]))
    x[:, 2] = 7.0
    z = components(x, 4)
    assert z.shape == (shape[0], 4) and (z**2).mean() == pytest.approx(1)
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-12)
    scatter = z.T @ z
    np.testing.assert_allclose(scatter, np.diag(np.diagonal(scatter)), atol=1e-9)
    assert (np.diff(np.diagonal(scatter)) < 0).all()
    kept = np.delete(x, 2, axis=1)
    squares = np.linalg.svd((kept - kept.mean(0)) / kept.std(0), compute_uv=False)[:4] ** 2
    np.testing.assert_allclose(np.diagonal(scatter) / scatter[0, 0], squares / squares[0])
    np.testing.assert_allclose(abs(components(x * rng.uniform(1, 9, shape[1]) + 5, 4)), abs(z), atol=1e-8)


def test_features_that_never_vary():
    with pytest.raises(ValueError, match="features that vary"):
        components(np.full((5, 3), 0.1), 2)
