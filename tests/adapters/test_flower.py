"""Flower's partitioners: client k holds the rows of partition k, each row once."""

import datasets
import numpy as np
import pytest
from alike import equal, rows
from flwr_datasets import partitioner as flower

from fedjax_het.construct import from_index_lists
from fedjax_het.datasets import from_flower
from fedjax_het.pool import pool

# datasets' own, where a partitioner sorts with a newer pyarrow
pytestmark = pytest.mark.filterwarnings("ignore:Specifying null_placement:FutureWarning")

M = 240
X = np.random.default_rng(0).normal(size=(M, 3)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 5, M)
WRITER = [f"w{k}" for k in np.random.default_rng(2).integers(0, 7, M)]

PARTITIONERS = {
    "iid": lambda: flower.IidPartitioner(num_partitions=6),
    "dirichlet": lambda: flower.DirichletPartitioner(6, partition_by="label", alpha=0.5, min_partition_size=3),
    "balanced dirichlet": lambda: flower.DirichletPartitioner(
        4, partition_by="label", alpha=5.0, min_partition_size=1, self_balancing=True, seed=7
    ),
    "pathological": lambda: flower.PathologicalPartitioner(
        5, partition_by="label", num_classes_per_partition=2, class_assignment_mode="deterministic"
    ),
    "shard": lambda: flower.ShardPartitioner(
        6, partition_by="label", num_shards_per_partition=2, shard_size=20
    ),
    "natural": lambda: flower.NaturalIdPartitioner(partition_by="writer"),
    "grouped": lambda: flower.GroupedNaturalIdPartitioner(
        partition_by="writer", group_size=2, mode="allow-smaller"
    ),
    "sizes": lambda: flower.SizePartitioner(partition_sizes=[100, 90, 50]),
    "linear": lambda: flower.LinearPartitioner(num_partitions=5),
    "continuous": lambda: flower.ContinuousPartitioner(4, partition_by="score", strictness=0.7),
}

SCORE = np.random.default_rng(3).normal(size=M)


def with_features():
    """What Flower's users partition: a dataset with everything in it."""
    return datasets.Dataset.from_dict({"x": X, "label": Y, "writer": WRITER, "score": SCORE})


@pytest.mark.parametrize("kind", PARTITIONERS)
def test_it_is_the_partition_that_flower_makes(kind):
    federation, names = from_flower(
        PARTITIONERS[kind](), X, Y, columns={"writer": WRITER, "score": SCORE}, seed=3
    )
    theirs = PARTITIONERS[kind]()
    theirs.dataset = with_features()
    parts = [theirs.load_partition(k).with_format("numpy") for k in range(theirs.num_partitions)]
    assert federation.num_clients == len(parts) == len(names.clients)
    for k, part in enumerate(parts):
        own = rows(federation, k)
        assert len(own) == len(part)
        order, same = np.lexsort(X[own].T), np.lexsort(part["x"][:].T)
        np.testing.assert_array_equal(X[own][order], part["x"][:][same])
        np.testing.assert_array_equal(Y[own][order], part["label"][:][same])


@pytest.mark.parametrize("kind", PARTITIONERS)
def test_each_row_is_somebodys_once(kind):
    federation, _ = from_flower(
        PARTITIONERS[kind](), X, Y, columns={"writer": WRITER, "score": SCORE}, valid=0.1
    )
    held = np.concatenate([rows(federation, k) for k in range(federation.num_clients)])
    np.testing.assert_array_equal(np.sort(held), np.arange(M))


def by_hand(make, **options):
    """The same through index lists that the test reads off the partitioner."""
    theirs = make()
    theirs.dataset = datasets.Dataset.from_dict({"idx": np.arange(M), "label": Y})
    parts = [np.array(theirs.load_partition(k)["idx"][:]) for k in range(theirs.num_partitions)]
    return from_index_lists(X, Y, parts, **options)


def test_it_is_the_federation_of_the_index_lists():
    options = {"test": 0.3, "valid": 0.1, "seed": 5, "num_classes": 6, "name": "flowers"}
    federation, names = from_flower(PARTITIONERS["dirichlet"](), X, Y, **options)
    equal(federation, by_hand(PARTITIONERS["dirichlet"], **options))
    assert names.clients == tuple(range(6))
    source = pool(X, Y, num_classes=6, name="flowers")
    equal(from_flower(PARTITIONERS["dirichlet"](), source, test=0.3, valid=0.1, seed=5)[0], federation)


def test_the_partitioner_may_be_used_again():
    partitioner = PARTITIONERS["dirichlet"]()
    first, _ = from_flower(partitioner, X, Y)
    assert not partitioner.is_dataset_assigned()
    equal(from_flower(partitioner, X, Y)[0], first)


def test_natural_clients_have_names():
    columns = {"writer": WRITER}
    federation, names = from_flower(PARTITIONERS["natural"](), X, Y, columns=columns)
    assert names.clients == tuple(sorted(set(WRITER)))
    for k, name in enumerate(names.clients):
        assert {WRITER[row] for row in rows(federation, k)} == {name}
    federation, names = from_flower(PARTITIONERS["grouped"](), X, Y, columns=columns)
    for k, group in enumerate(names.clients):
        assert {WRITER[row] for row in rows(federation, k)} == set(group)


def test_a_partitioner_with_a_dataset():
    """idx says which row of x a row is; rows that it lacks are nobody's."""
    kept = np.random.default_rng(4).permutation(M)[:200]
    partitioner = PARTITIONERS["iid"]()
    partitioner.dataset = datasets.Dataset.from_dict({"idx": kept})
    federation, _ = from_flower(partitioner, X, Y)
    np.testing.assert_array_equal(
        np.concatenate([np.sort(rows(federation, k)) for k in range(6)]).shape, (200,)
    )
    np.testing.assert_array_equal(
        np.sort(np.concatenate([rows(federation, k) for k in range(6)])), np.sort(kept)
    )


def test_targets_of_several_numbers():
    """There is no label then; a column may stand for it."""
    targets = np.random.default_rng(5).normal(size=(M, 2))
    federation, _ = from_flower(PARTITIONERS["iid"](), X, targets, task="regression")
    assert federation.y.shape == (M, 2)
    with pytest.raises(ValueError, match="partition_by must be one of the names below, got 'label'"):
        from_flower(PARTITIONERS["dirichlet"](), X, targets, task="regression")
    group = {"label": (targets[:, 0] > 0).astype(int)}
    federation, _ = from_flower(PARTITIONERS["dirichlet"](), X, targets, columns=group, task="regression")
    assert federation.num_clients == 6


def assigned(**columns):
    partitioner = PARTITIONERS["iid"]()
    partitioner.dataset = datasets.Dataset.from_dict(columns)
    return partitioner


BAD = {
    "no partitioner": (
        lambda: "dirichlet",
        {},
        TypeError,
        "partitioner must be one of flwr_datasets.partitioner",
    ),
    "the class": (lambda: flower.IidPartitioner, {}, TypeError, "partitioner must be one of .* got ABCMeta"),
    "unknown column": (
        lambda: flower.DirichletPartitioner(3, partition_by="labels", alpha=1.0),
        {},
        ValueError,
        "partition_by must be one of the names below, got 'labels': did you mean 'label'",
    ),
    "missing column": (PARTITIONERS["natural"], {}, ValueError, "partition_by must be .* got 'writer'"),
    "short column": (
        PARTITIONERS["natural"],
        {"columns": {"writer": WRITER[:-1]}},
        ValueError,
        "columns must have one value for each of the 240 rows, got 239 in 'writer'",
    ),
    "idx": (PARTITIONERS["iid"], {"columns": {"idx": Y}}, ValueError, "columns must not hold 'idx'"),
    "vertical": (
        lambda: flower.VerticalEvenPartitioner(num_partitions=2),
        {},
        ValueError,
        "partitioner must split rows, got VerticalEvenPartitioner",
    ),
    "dataset without idx": (lambda: assigned(label=Y), {}, ValueError, "got 'idx'"),
    "dataset and columns": (
        lambda: assigned(idx=np.arange(M)),
        {"columns": {"writer": WRITER}},
        ValueError,
        "columns must be None for a partitioner that has a dataset",
    ),
    "idx outside": (
        lambda: assigned(idx=np.arange(M) + 1),
        {},
        ValueError,
        "parts must hold row numbers in 0..239",
    ),
    "idx twice": (
        lambda: assigned(idx=np.zeros(M, int)),
        {},
        ValueError,
        "parts must list each row once, got row 0",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case):
    make, options, error, message = BAD[case]
    with pytest.raises(error, match=message):
        from_flower(make(), X, Y, **options)
