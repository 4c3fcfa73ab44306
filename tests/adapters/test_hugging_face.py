"""Datasets of the package datasets, in memory: what they show is what a federation holds."""

import datasets
import numpy as np
import pytest
from alike import equal
from datasets import Array2D, ClassLabel, Dataset, Features, Image, List, Value
from PIL import Image as Picture

from fedjax_het.construct import from_clients, from_groups
from fedjax_het.datasets import from_hugging_face
from fedjax_het.frames import Names

ROWS = 40
LETTERS = ["a", "b", "c"]


def columns(seed=0, rows=ROWS):
    rng = np.random.default_rng(seed)
    return {
        "writer": [f"w{k}" for k in rng.integers(0, 4, rows)],
        "site": rng.integers(0, 2, rows),
        "picture": rng.integers(0, 256, (rows, 3, 5), np.uint8),
        "tokens": rng.integers(0, 9, (rows, 6), np.int32),
        "height": rng.normal(size=rows),
        "age": rng.integers(10, 90, rows),
        "letter": rng.integers(0, 2, rows),
    }


FEATURES = Features(
    {
        "writer": Value("string"),
        "site": ClassLabel(names=["north", "south"]),
        "picture": Array2D((3, 5), "uint8"),
        "tokens": List(Value("int32"), length=6),
        "height": Value("float64"),
        "age": Value("int64"),
        "letter": ClassLabel(names=LETTERS),
    }
)


def made(seed=0, rows=ROWS):
    return Dataset.from_dict(columns(seed, rows), features=FEATURES)


def test_a_column_of_arrays():
    """The type that is declared: unsigned bytes stay bytes, though NumPy's format makes int64 of them."""
    held = columns()
    federation, names = from_hugging_face(
        made(), 0.25, valid=0.25, seed=4, client="writer", x="picture", y="letter"
    )
    assert names == Names(("w0", "w1", "w2", "w3"), (), ("a", "b", "c"))
    expected = from_groups(
        held["picture"],
        held["letter"],
        held["writer"],
        test=0.25,
        valid=0.25,
        seed=4,
        num_classes=3,
        name="hugging_face",
    )
    equal(federation, expected)
    assert federation.x.dtype == np.uint8 and federation.spec.pool.scale == 1 / 255


VIEWS = {
    "select": (lambda data: data.select([7, 3, 11, 30, 31, 2]), lambda n: np.array([7, 3, 11, 30, 31, 2])),
    "a contiguous select": (lambda data: data.select(range(5, 25)), lambda n: np.arange(5, 25)),
    "filter": (lambda data: data.filter(lambda age: age > 40, input_columns="age"), None),
    "sort": (lambda data: data.sort("height"), lambda n: np.argsort(columns()["height"])),
    "shuffle": (lambda data: data.shuffle(seed=1), None),
    "shuffle and select": (lambda data: data.shuffle(seed=1).select(range(4, 30)), None),
    "format": (lambda data: data.with_format("numpy"), lambda n: np.arange(n)),
    "transform": (lambda data: data.with_transform(lambda batch: {"age": [0]}), lambda n: np.arange(n)),
}


@pytest.mark.filterwarnings("ignore:Specifying null_placement:FutureWarning")  # datasets' own, by sort
@pytest.mark.parametrize("view", VIEWS)
def test_the_rows_are_those_that_the_dataset_shows(view):
    change, order = VIEWS[view]
    held = columns() | {"row": np.arange(ROWS)}
    data = change(made().add_column("row", held["row"]))
    rows = np.asarray(data.with_format(None)["row"][:]) if order is None else order(ROWS)
    assert len(rows) == len(data)
    federation, _ = from_hugging_face(data, client="writer", x="picture", y="letter")
    writers = np.asarray(held["writer"])[rows]
    expected = from_groups(
        held["picture"][rows], held["letter"][rows], writers, num_classes=3, name="hugging_face"
    )
    equal(federation, expected)


def test_columns_of_numbers_side_by_side():
    held = columns()
    federation, names = from_hugging_face(made(), client="site", x=["height", "age"], y="letter")
    assert names == Names(("north", "south"), ("height", "age"), ("a", "b", "c"))
    x = np.stack([held["height"], held["age"]], 1)
    equal(federation, from_groups(x, held["letter"], held["site"], num_classes=3, name="hugging_face"))


def test_a_class_that_no_row_has_keeps_its_name():
    """Client names go by the numbers that occur."""
    data = made().filter(lambda site: site == 1, input_columns="site")
    federation, names = from_hugging_face(data, client="site", x=["age"], y="letter")
    assert names.clients == ("south",) and federation.num_clients == 1


def test_a_class_may_be_a_number_to_predict():
    federation, names = from_hugging_face(made(), client="site", x="tokens", y="letter", task="regression")
    assert names.labels == () and federation.y.dtype == np.float32


def test_labels_below_0_are_refused_with_dataset_and_client():
    sound = Dataset.from_dict({"who": ["a", "b"], "x": [[1.0], [2.0]], "y": [0, 1]})
    bad = Dataset.from_dict({"who": ["a", "b"], "x": [[1.0], [2.0]], "y": [0, -1]})
    with pytest.raises(ValueError, match=r"^the test dataset: client 'b' must have labels >= 0, got -1: "):
        from_hugging_face(sound, bad, client="who", x="x", y="y")


def test_tokens():
    held = columns()
    federation, _ = from_hugging_face(made(), client="age", x="tokens", y="tokens", task="tokens")
    equal(
        federation, from_groups(held["tokens"], held["tokens"], held["age"], task="tokens", name="hugging_face")
    )
    assert federation.x.dtype == np.int32


def test_regression_in_double_precision(x64):
    held = columns()
    federation, names = from_hugging_face(made(), client="writer", x=["age"], y="height", task="regression")
    np.testing.assert_array_equal(federation.y, held["height"])
    assert federation.y.dtype == np.float64 and names.labels == ()


def test_pictures():
    grey = np.random.default_rng(0).integers(0, 256, (6, 4, 5), np.uint8)
    data = Dataset.from_dict(
        {
            "image": [Picture.fromarray(one) for one in grey],
            "label": [0, 1, 0, 1, 0, 1],
            "who": [1, 1, 1, 0, 0, 0],
        },
        features=Features({"image": Image(), "label": Value("int8"), "who": Value("int64")}),
    )
    federation, names = from_hugging_face(data, client="who", x="image", y="label")
    equal(federation, from_groups(grey, np.array([0, 1] * 3), [1, 1, 1, 0, 0, 0], name="hugging_face"))
    assert names.clients == (0, 1)


def test_a_dataset_of_test_rows():
    held, other = columns(), columns(seed=1, rows=12)
    federation, names = from_hugging_face(made(), made(1, 12), client="writer", x="picture", y="letter")
    clients = {}
    for name in names.clients:
        own = [np.asarray(part["writer"]) == name for part in (held, other)]
        clients[name] = {
            split: (part["picture"][mine], part["letter"][mine])
            for split, part, mine in zip(("train", "test"), (held, other), own)
        }
    equal(federation, from_clients(clients, num_classes=3, name="hugging_face"))
    assert names.labels == ("a", "b", "c")


def test_clients_of_the_test_rows_must_train():
    data = made()
    few = data.filter(lambda writer: writer != "w2", input_columns="writer")
    with pytest.raises(
        ValueError, match="test must hold clients of train only, got 'w2' and 0 more in the test"
    ):
        from_hugging_face(few, data, client="writer", x="picture", y="letter")


def with_holes(column, kind):
    values = columns()
    held = list(values[column])
    held[3] = held[5] = None
    return Dataset.from_dict(values | {column: held}, features=Features(FEATURES | {column: kind}))


def ragged_inside():
    return Dataset.from_dict(columns() | {"tokens": [[[1, 2], [3]]] * ROWS})


def ragged():
    data = made().remove_columns("tokens")
    return data.add_column("tokens", [[1] * (1 + row % 3) for row in range(ROWS)])


ARGUMENTS = {"client": "writer", "x": "picture", "y": "letter"}

BAD = {
    "no dataset": (lambda: [1, 2], {}, TypeError, "dataset must be a datasets.Dataset, got list"),
    "all splits": (
        lambda: datasets.DatasetDict(train=made()),
        {},
        TypeError,
        r"dataset must be a datasets.Dataset, got DatasetDict: pass one of its splits, such as \['train'\]",
    ),
    "a stream": (lambda: made().to_iterable_dataset(), {}, TypeError, "got IterableDataset: load it without"),
    "all splits for test": (
        made,
        {"test": datasets.DatasetDict(test=made())},
        TypeError,
        "test must be a datasets.Dataset, got DatasetDict",
    ),
    "no rows": (lambda: made().select([]), {}, ValueError, "dataset must have rows, got none"),
    "unknown client": (made, {"client": "writers"}, ValueError, "got 'writers': did you mean 'writer'"),
    "unknown x": (made, {"x": ["age", "hight"]}, ValueError, "column of dataset must be .* got 'hight'"),
    "no x": (made, {"x": []}, ValueError, "x must list at least one column"),
    "arrays side by side": (
        made,
        {"x": ["picture", "age"]},
        ValueError,
        "x must list columns of one number a row",
    ),
    "text for x": (made, {"x": "writer"}, TypeError, "column 'writer' must hold numbers, got Value"),
    "text for y": (made, {"y": "writer"}, TypeError, "by dataset.class_encode_column"),
    "floats for y": (made, {"y": "height"}, TypeError, "y must hold integer labels"),
    "holes in y": (
        lambda: with_holes("age", Value("int64")),
        {"y": "age"},
        ValueError,
        "column 'age' must have no missing values, got 2, the first in row 3",
    ),
    "holes in x": (
        lambda: with_holes("height", Value("float64")),
        {"x": ["height"]},
        ValueError,
        "column 'height' must have no missing values, got 2, the first in row 3",
    ),
    "holes in client": (
        lambda: with_holes("writer", Value("string")),
        {},
        ValueError,
        "column 'writer' must have no missing values, got 2, the first in row 3",
    ),
    "holes among arrays": (
        lambda: with_holes("tokens", List(Value("int32"))),
        {"x": "tokens"},
        ValueError,
        "column 'tokens' must have no missing values, got 2, the first in row 3",
    ),
    "nobody's row": (
        lambda: made().map(lambda row: {"site": -1 if row["age"] > 80 else 0}),
        {"client": "site"},
        ValueError,
        "column 'site' must name a client in every row, got -1 in train",
    ),
    "ragged": (
        ragged,
        {"x": "tokens"},
        ValueError,
        r"column 'tokens' must have rows of one shape, got \(1,\) in row 0 and \(2,\) in row 1",
    ),
    "ragged inside": (ragged_inside, {"x": "tokens"}, TypeError, "column 'tokens' must hold numbers, got List"),
    "other features": (
        made,
        {"test": made().cast_column("letter", ClassLabel(names=["c", "b", "a"]))},
        ValueError,
        "test must have ClassLabel.* in column 'letter' as dataset has, got ClassLabel",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case):
    make, options, error, message = BAD[case]
    with pytest.raises(error, match=message):
        from_hugging_face(make(), **(ARGUMENTS | options))


def test_pictures_of_several_sizes_are_refused():
    pictures = [Picture.fromarray(np.zeros((2, 2 + row % 2), np.uint8)) for row in range(4)]
    data = Dataset.from_dict(
        {"image": pictures, "label": [0] * 4}, features=Features({"image": Image(), "label": Value("int64")})
    )
    with pytest.raises(
        ValueError,
        match=r"column 'image' must have rows of one shape, got \(2, 2\) in row 0 and \(2, 3\) in row 1",
    ):
        from_hugging_face(data, client="label", x="image", y="label")
