"""Map-style datasets of PyTorch and of nobody."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from alike import equal
from PIL import Image as Picture
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset, random_split

from fedjax_het.construct import from_clients, from_index_lists
from fedjax_het.datasets import from_torch

ROWS = 24
X = np.random.default_rng(0).normal(size=(ROWS, 2, 3)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, ROWS)
PARTS = [[5, 0, 7, 1], [], np.array([2, 3, 23]), [10, 11, 12, 13, 14]]


class Rows(Dataset):
    """A dataset of one's own: an array and a Python number a row."""

    def __init__(self, x=X, y=Y):
        self.x, self.y, self.read = x, y, 0

    def __len__(self):
        return len(self.x)

    def __getitem__(self, row):
        self.read += 1
        return self.x[row], int(self.y[row])


class Loud(Subset):
    """A Subset that changes what it gives."""

    def __getitem__(self, row):
        x, y = super().__getitem__(row)
        return 2 * x, y

    def __getitems__(self, rows):
        return [self[row] for row in rows]


def tensors():
    return TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))


KINDS = {
    "TensorDataset": tensors,
    "own": Rows,
    "pairs": lambda: list(zip(X, Y)),
    "tensors a row": lambda: [(torch.tensor(x), torch.tensor(y)) for x, y in zip(X, Y)],
    "with gradient": lambda: TensorDataset(torch.from_numpy(X).requires_grad_(), torch.from_numpy(Y)),
    "Subset": lambda: Subset(
        TensorDataset(torch.from_numpy(X[::-1].copy()), torch.from_numpy(Y[::-1].copy())), range(ROWS)[::-1]
    ),
    "ConcatDataset": lambda: ConcatDataset([Rows(X[:9], Y[:9]), Rows(X[9:], Y[9:])]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_dataset_and_index_lists(kind):
    options = {"test": 0.3, "valid": 0.1, "seed": 2, "num_classes": 4, "name": "rows"}
    federation, names = from_torch(KINDS[kind](), PARTS, **options)
    equal(federation, from_index_lists(X, Y, PARTS, **options))
    assert names.clients == (0, 1, 2, 3)


def test_clients_have_names():
    named = dict(zip("abcd", PARTS))
    federation, names = from_torch(tensors(), named)
    assert names.clients == ("a", "b", "c", "d") and names.client("c") == 2
    equal(federation, from_index_lists(X, Y, PARTS, name="torch"))


@pytest.mark.parametrize("kind", ["TensorDataset", "own"])
def test_random_split(kind):
    data = KINDS[kind]()
    subsets = random_split(data, [10, 8, 6], torch.Generator().manual_seed(0))
    federation, _ = from_torch(subsets)
    equal(federation, from_index_lists(X, Y, [subset.indices for subset in subsets], name="torch"))
    if kind == "own":
        assert data.read == ROWS, "each row is read once"


def test_subsets_of_subsets():
    outer = Subset(tensors(), [3, 4, 5, 6, 7, 8, 9])
    federation, _ = from_torch([Subset(outer, [0, 2]), Subset(outer, torch.tensor([6, 5]))])
    equal(federation, from_index_lists(X, Y, [[3, 5], [9, 8]], name="torch"))


def test_a_dataset_a_client():
    cuts = {"Oslo": slice(0, 5), "Bergen": slice(5, 12), "Alta": slice(12, 24)}
    clients = {
        town: TensorDataset(torch.from_numpy(X[cut]), torch.from_numpy(Y[cut])) for town, cut in cuts.items()
    }
    federation, names = from_torch(clients, seed=1)
    equal(
        federation, from_clients({town: (X[cut], Y[cut]) for town, cut in cuts.items()}, seed=1, name="torch")
    )
    assert names.clients == ("Oslo", "Bergen", "Alta")


def test_subsets_of_several_datasets():
    one, other = tensors(), Rows(X + 1, Y)
    federation, _ = from_torch([Subset(one, [4, 2, 3]), Subset(other, [0, 1])])
    equal(federation, from_clients([(X[[4, 2, 3]], Y[[4, 2, 3]]), (X[:2] + 1, Y[:2])], name="torch"))


def test_a_class_that_derives_from_subset_is_asked_for_its_rows():
    federation, _ = from_torch([Loud(Rows(), [0, 1, 2])])
    equal(federation, from_clients([(2 * X[:3], Y[:3])], name="torch"))


def test_an_empty_dataset_is_an_empty_client():
    federation, _ = from_torch([Rows(X[:4], Y[:4]), Rows(X[:0], Y[:0])])
    assert federation.num_clients == 2 and int(federation.train.size[0, 1]) == 0


def test_pictures():
    grey = np.random.default_rng(0).integers(0, 256, (6, 4, 5), np.uint8)
    federation, _ = from_torch(
        [(Picture.fromarray(one), k % 2) for k, one in enumerate(grey)], [[0, 1, 2], [3, 4, 5]]
    )
    equal(federation, from_index_lists(grey, np.arange(6) % 2, [[0, 1, 2], [3, 4, 5]], name="torch"))
    assert federation.x.dtype == np.uint8


def test_rows_listed_twice():
    data = tensors()
    shared = [Subset(data, [0, 1, 2]), Subset(data, [2, 3])]
    for arguments in ([shared], [data, [[0, 1, 2], [2, 3]]]):
        with pytest.raises(ValueError, match="parts must list each row once, got row 2 by clients 0 and 1"):
            from_torch(*arguments)
        federation, _ = from_torch(*arguments, replacement=True)
        equal(federation, from_index_lists(X, Y, [[0, 1, 2], [2, 3]], replacement=True, name="torch"))


def test_pytorch_is_not_imported():
    program = (
        "import sys, numpy as np\n"
        "from fedjax_het.datasets import from_torch\n"
        "federation, _ = from_torch([(np.zeros(2, np.float32), 0), (np.ones(2, np.float32), 1)], [[0], [1]])\n"
        "assert federation.num_clients == 2\n"
        "print([name for name in ('torch', 'datasets', 'flwr_datasets', 'h5py') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(X, Y))


class Triples(Rows):
    def __getitem__(self, row):
        return self.x[row], self.y[row], row


class Ragged(Rows):
    def __getitem__(self, row):
        return self.x[row][: 1 + row // 3], self.y[row]


BAD = {
    "a stream": ([Stream(), PARTS], TypeError, "dataset must have a length and rows by number, got Stream"),
    "a stream for a client": (
        [[Stream()]],
        TypeError,
        "client 0 must have a length and rows by number, got Stream",
    ),
    "no parts": ([tensors()], TypeError, "dataset must be a list or dict, one entry a client, got "),
    "nobody": ([[]], ValueError, "dataset must list at least one client"),
    "no clients": ([tensors(), []], ValueError, "parts must list at least one client"),
    "a number for parts": (
        [tensors(), 3],
        TypeError,
        "parts must be a list or dict, one entry a client, got 3",
    ),
    "triples": ([Triples(), PARTS], TypeError, "dataset: row 0 must be (x, y), got tuple"),
    "triples of a client": ([{"a": Triples()}], TypeError, "client 'a': row 0 must be (x, y), got tuple"),
    "three tensors": (
        [TensorDataset(*[torch.from_numpy(Y)] * 3), PARTS],
        TypeError,
        "dataset: row 0 must be (x, y)",
    ),
    "ragged": (
        [Ragged(), PARTS],
        ValueError,
        "dataset: x of row 3 must have shape (1, 3) as row 0 has, got (2, 3)",
    ),
    "outside": ([tensors(), [[24]]], ValueError, "parts must hold row numbers in 0..23, got 24 for client 0"),
    "float labels": (
        [TensorDataset(torch.zeros(3, 2), torch.zeros(3)), [[0, 1, 2]]],
        TypeError,
        "y must hold integer labels",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case):
    arguments, error, message = BAD[case]
    with pytest.raises(error, match=re.escape(message)):
        from_torch(*arguments)
