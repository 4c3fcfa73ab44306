"""LEAF's files, as its scripts write them."""

import json
import re

import numpy as np
import pytest
from alike import equal

from fedjax_het.construct import from_clients
from fedjax_het.datasets import from_leaf
from fedjax_het.frames import Names

WRITERS = ("f0001_41", "f0000_14", "f0002_7")
SIZES = (5, 3, 4)


def content(users, **more):
    """A file's content: `data_to_json.py` lists the users, their counts and their data in this order."""
    counts = [len(held["y"]) for held in users.values()]
    return {"users": list(users), **more, "num_samples": counts, "user_data": users}


def write(path, users, **more):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content(users, **more)))
    return path


def images(sizes, seed=0):
    """FEMNIST: a flat image of floats in 0..1 a row, a whole number as label."""
    rng = np.random.default_rng(seed)
    return {
        writer: {"x": (rng.integers(0, 256, (n, 16)) / 255).tolist(), "y": rng.integers(0, 62, n).tolist()}
        for writer, n in zip(WRITERS, sizes)
    }


def pairs(users, x=float, y=int):
    """What `from_clients` takes, in the order that the adapter promises."""
    return {user: (np.array(users[user]["x"], x), np.array(users[user]["y"], y)) for user in sorted(users)}


def split(train, test):
    return {user: {"train": train[user]} | ({"test": test[user]} if user in test else {}) for user in train}


def test_one_file_is_cut(tmp_path):
    users = images(SIZES)
    path = write(tmp_path / "all_data_0.json", users)
    federation, names = from_leaf(path, 0.25, valid=0.25, seed=3, num_classes=62, name="femnist")
    assert names == Names(tuple(sorted(WRITERS)), (), ())
    assert names.client("f0001_41") == 1
    expected = from_clients(pairs(users), test=0.25, valid=0.25, seed=3, num_classes=62, name="femnist")
    equal(federation, expected)
    assert federation.x.dtype == np.float32 and federation.y.dtype == np.int32


def test_a_folder_of_files_with_test_files(tmp_path):
    """LEAF's split by sample: the same file names and users in train and test."""
    train, test = images(SIZES), images((2, 1, 2), seed=1)
    for k, (writer, held) in enumerate(train.items()):
        write(tmp_path / "train" / f"all_data_{k}_niid_0_keep_0_train_9.json", {writer: held})
        write(tmp_path / "test" / f"all_data_{k}_niid_0_keep_0_test_9.json", {writer: test[writer]})
    (tmp_path / "train" / "README.md").write_text("not data")
    federation, names = from_leaf(tmp_path / "train", tmp_path / "test", num_classes=62)
    assert names.clients == tuple(sorted(WRITERS))
    equal(federation, from_clients(split(pairs(train), pairs(test)), num_classes=62, name="leaf"))
    np.testing.assert_array_equal(federation.test.size[0], [1, 2, 2])


def test_all_three_splits_may_be_files(tmp_path):
    """As LEAF's Reddit has them: train, val, test."""
    parts = {name: images(SIZES, seed) for seed, name in enumerate(("train", "val", "test"))}
    paths = {name: write(tmp_path / f"{name}.json", users) for name, users in parts.items()}
    federation, _ = from_leaf(str(paths["train"]), str(paths["test"]), valid=str(paths["val"]))
    held = {name: pairs(users) for name, users in parts.items()}
    expected = {
        user: {"train": held["train"][user], "valid": held["val"][user], "test": held["test"][user]}
        for user in sorted(WRITERS)
    }
    equal(federation, from_clients(expected, name="leaf"))


def test_a_user_without_test_rows_has_none(tmp_path):
    """Nothing is cut from the training rows instead."""
    train, test = images(SIZES), images((2, 1, 0), seed=1)
    federation, names = from_leaf(write(tmp_path / "a.json", train), write(tmp_path / "b.json", test))
    assert int(federation.test.size[0, names.client("f0002_7")]) == 0
    assert int(federation.train.size[0, names.client("f0002_7")]) == 4
    del test["f0002_7"]
    equal(from_leaf(tmp_path / "a.json", write(tmp_path / "b.json", test))[0], federation)


def test_an_empty_user_is_an_empty_client(tmp_path):
    federation, names = from_leaf(write(tmp_path / "a.json", images((5, 0, 4))))
    assert int(federation.train.size[0, names.client("f0000_14")]) == 0


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_the_order_of_users_and_files_does_not_matter(order, tmp_path):
    users = images(SIZES)
    expected, _ = from_leaf(write(tmp_path / "all.json", users))
    for place, k in enumerate(order):
        write(tmp_path / "parts" / f"{place}.json", {WRITERS[k]: users[WRITERS[k]]})
    equal(from_leaf(tmp_path / "parts")[0], expected)


def test_shakespeare(tmp_path):
    """80 characters and the next one; hierarchies name the play, raw may hold the text."""
    letters = "\n abcdefghijklmnopqrstuvwxyz"
    text = "to be or not to be that is the question whether tis nobler in the mind to suffer "
    roles = {
        role: {
            "raw": text,
            "x": [(text * 2)[i : i + 80] for i in range(n)],
            "y": [text[80 + i - 81] for i in range(n)],
        }
        for role, n in (("THE_TRAGEDY_HAMLET", 6), ("ALL_S_WELL_HELENA", 4))
    }
    path = write(tmp_path / "all_data.json", roles, hierarchies=["HAMLET", "ALL_S_WELL"])

    def encode(line):
        return [letters.index(letter) for letter in line]

    facts = {"task": "tokens", "num_classes": len(letters), "name": "shakespeare"}
    federation, names = from_leaf(path, encode=encode, encode_label=letters.index, **facts)
    assert names.clients == ("ALL_S_WELL_HELENA", "THE_TRAGEDY_HAMLET")
    by_hand = {
        role: (np.array([encode(line) for line in roles[role]["x"]]), np.array(encode(roles[role]["y"])))
        for role in names.clients
    }
    equal(federation, from_clients(by_hand, **facts))
    assert federation.x.shape == (10, 80) and federation.x.dtype == np.int32


def test_sent140(tmp_path):
    """An entry is [id, date, query, user, text]; encode gets all of it."""
    tweets = {"ann": ["good day", "bad"], "bob": ["good good bad"]}
    users = {
        user: {"x": [["1", "Mon", "NO_QUERY", user, text] for text in texts], "y": [1, 0][: len(texts)]}
        for user, texts in tweets.items()
    }
    path = write(tmp_path / "all_data.json", users)
    federation, _ = from_leaf(path, test=0, encode=lambda row: [row[4].count("good"), row[4].count("bad")])
    np.testing.assert_array_equal(federation.x, [[1, 0], [0, 1], [2, 1]])
    assert federation.spec.pool.scale == 1.0


def test_celeba_has_floats_for_labels_and_files_for_images(tmp_path):
    users = {"7": {"x": ["1.jpg", "2.jpg"], "y": [0.0, 1.0]}, "9": {"x": ["3.jpg"], "y": [1.0]}}
    path = write(tmp_path / "all_data.json", users)
    federation, _ = from_leaf(path, test=0, encode=lambda name: np.full((2, 2, 3), int(name[0]), np.uint8))
    assert federation.x.dtype == np.uint8 and federation.spec.pool.scale == 1 / 255
    np.testing.assert_array_equal(federation.x[:, 0, 0, 0], [1, 2, 3])
    np.testing.assert_array_equal(federation.y, [0, 1, 1])


def test_whole_numbers_stay_unless_one_is_a_float(tmp_path):
    users = {"a": {"x": [[0, 255]], "y": [0]}, "b": {"x": [[1, 2]], "y": [1]}}
    federation, _ = from_leaf(write(tmp_path / "a.json", users), scale=1 / 255)
    assert federation.x.dtype == np.int32 and federation.spec.pool.scale == 1 / 255
    users["b"]["x"] = [[1, 2.5]]
    federation, _ = from_leaf(write(tmp_path / "a.json", users))
    assert federation.x.dtype == np.float32
    np.testing.assert_array_equal(federation.x, [[0, 255], [1, 2.5]])


def test_regression_keeps_its_targets(tmp_path):
    users = {"a": {"x": [[1.0], [2.0]], "y": [0.5, 1.0]}}
    federation, _ = from_leaf(write(tmp_path / "a.json", users), test=0, task="regression")
    np.testing.assert_array_equal(federation.y, [0.5, 1.0])


def test_counts_that_leaf_gets_wrong(tmp_path):
    """Its split of Shakespeare counts the 79 test rows that it leaves out."""
    test = content(images((1, 2, 2), seed=1))
    test["num_samples"] = [count + 79 for count in test["num_samples"]]
    path, held = tmp_path / "test.json", write(tmp_path / "train.json", images(SIZES))
    path.write_text(json.dumps(test))
    with pytest.raises(ValueError, match=re.escape(f"{path}: user 'f0001_41' must have 80 rows")):
        from_leaf(held, path)
    federation, _ = from_leaf(held, path, counts=False)
    equal(federation, from_clients(split(pairs(images(SIZES)), pairs(images((1, 2, 2), seed=1))), name="leaf"))


def test_counts_may_be_missing(tmp_path):
    """LEAF's reader never looks at them."""
    without = content(images(SIZES))
    del without["num_samples"]
    (tmp_path / "a.json").write_text(json.dumps(without))
    equal(from_leaf(tmp_path / "a.json")[0], from_leaf(write(tmp_path / "b.json", images(SIZES)))[0])


def one(**changed):
    """A file with one user, parts replaced; None drops a part."""
    made = {
        "users": ["u"],
        "num_samples": [2],
        "user_data": {"u": {"x": [[1.0], [2.0]], "y": [0, 1]}},
    } | changed
    return {key: value for key, value in made.items() if value is not None}


def rows(x, y):
    return one(user_data={"u": {"x": x, "y": y}}, num_samples=None)


# content, error, what the message says after the file
BAD = {
    "no users": (
        one(users=None),
        ValueError,
        ' must hold a list "users" and a dict "user_data", got a dict of',
    ),
    "no data": (one(user_data=None), ValueError, ' must hold a list "users"'),
    "a list": ([1, 2], ValueError, ' must hold a list "users" and a dict "user_data", got list'),
    "data as list": (one(user_data=[]), ValueError, ' must hold a list "users"'),
    "wrong count": (
        one(num_samples=[3]),
        ValueError,
        ": user 'u' must have 3 rows, as num_samples says, got 2",
    ),
    "too few counts": (one(num_samples=[]), ValueError, ": num_samples must list one number for each of the 1"),
    "missing user": (one(users=["u", "v"], num_samples=[2, 2]), ValueError, ": user 'v' must have an entry"),
    "user as number": (one(users=[1]), ValueError, ": user 1 must have an entry in user_data"),
    "user twice": (one(users=["u", "u"], num_samples=[2, 2]), ValueError, ": user 'u' must be listed once"),
    "unlisted": (one(users=[], num_samples=[]), ValueError, ": user 'u' must be listed in users"),
    "no y": (
        one(user_data={"u": {"x": [[1.0]]}}),
        ValueError,
        ': user \'u\' must have lists "x" and "y", got a dict',
    ),
    "y for a number": (rows([[1.0]], 0), ValueError, ": user 'u' must have lists"),
    "lengths": (rows([[1.0], [2.0]], [0]), ValueError, ": user 'u' must have one x for each y, got 2 and 1"),
    "ragged": (
        rows([[1.0], [2.0, 3.0]], [0, 1]),
        ValueError,
        ": user 'u' must have rows of one shape for x, got (1,) in row 0, (2,) in row 1",
    ),
    "ragged inside": (
        rows([[[1], [2, 3]]], [0]),
        ValueError,
        ": user 'u' must have rows of one shape for x, got",
    ),
    "text": (
        rows(["to be", "or not"], [0, 1]),
        TypeError,
        ": user 'u' must have numbers for x, got 'to be': pass encode=",
    ),
    "text in lists": (
        rows([["1", "to be"]], [0]),
        TypeError,
        ": user 'u' must have numbers for x, got ['1', 'to be']",
    ),
    "text for y": (
        rows([[1.0]], ["a"]),
        TypeError,
        ": user 'u' must have numbers for y, got 'a': pass encode_label=",
    ),
    "dict for y": (
        rows([[1.0]], [{"tokens": 1}]),
        TypeError,
        ": user 'u' must have numbers for y, got {'tokens'",
    ),
    "null": (rows([[1.0], [None]], [0, 1]), TypeError, ": user 'u' must have numbers for x, got object"),
    "half labels": (
        rows([[1.0], [2.0]], [0, 0.5]),
        ValueError,
        ": user 'u' must have whole numbers for labels, got [0.5]",
    ),
    "huge labels": (
        rows([[1.0]], [1e300]),
        ValueError,
        ": user 'u' must have whole numbers for labels, got [1.e+300]",
    ),
    "nan labels": (
        rows([[1.0]], [float("nan")]),
        ValueError,
        ": user 'u' must have whole numbers for labels, got [nan]",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_malformed_files_are_refused(case, tmp_path):
    made, error, message = BAD[case]
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(made))
    with pytest.raises(error, match=re.escape(f"{path}{message}")):
        from_leaf(path)


def test_a_truncated_file_is_refused(tmp_path):
    path = write(tmp_path / "cut.json", images(SIZES))
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ValueError, match=re.escape(f"{path} must be JSON, got ")):
        from_leaf(path)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "binary.json"
    path.write_bytes(b"\x89HDF\r\n\x1a\n\xff\xfe")
    with pytest.raises(ValueError, match=re.escape(f"{path} must be JSON, got ")):
        from_leaf(path)


def test_a_user_in_two_files_is_refused(tmp_path):
    write(tmp_path / "run" / "a.json", {"u": {"x": [[1.0]], "y": [0]}})
    path = write(tmp_path / "run" / "b.json", {"u": {"x": [[2.0]], "y": [0]}})
    with pytest.raises(ValueError, match=re.escape(f"{path}: user 'u' must be in one file, got another in ")):
        from_leaf(tmp_path / "run")


def test_other_users_in_the_test_files_are_refused(tmp_path):
    """What LEAF's split by user leads to; they make a federation of their own."""
    train, test = write(tmp_path / "a.json", images(SIZES)), tmp_path / "b.json"
    write(test, {"stranger": {"x": [[0.5] * 16], "y": [0]}})
    with pytest.raises(
        ValueError,
        match=re.escape(f"test must hold clients of train only, got 'stranger' and 0 more in {test}"),
    ):
        from_leaf(train, test)
    assert from_leaf(test)[1].clients == ("stranger",)


def test_users_of_different_features_are_refused(tmp_path):
    users = {"a": {"x": [[1.0]], "y": [0]}, "b": {"x": [[1.0, 2.0]], "y": [0]}}
    refused(write(tmp_path / "a.json", users), "b", "x must have rows of shape (1,) as client 'a' train has")
    for user, held in users.items():
        write(tmp_path / "run" / f"{user}.json", {user: held})
    path = tmp_path / "run" / "b.json"
    with pytest.raises(ValueError, match=re.escape(f"{path}: user 'b': x must have rows of shape (1,)")):
        from_leaf(tmp_path / "run")


def refused(path, user, message, **options):
    """The message begins with the file and the user."""
    with pytest.raises(ValueError, match="^" + re.escape(f"{path}: user {user!r}: {message}")):
        from_leaf(path, **options)


def pair(x, y):
    """A file's users: a sound one, and one who is not."""
    return {"a": {"x": [[1.0], [2.0]], "y": [0, 1]}, "b": {"x": x, "y": y}}


# x and y of the second user, what the message says after file and user, options
UNSOUND = {
    "nan": (
        [[1.0], [float("nan")]],
        [0, 1],
        "x must be finite, got 1 NaN or infinite values, the first in row 1",
    ),
    "infinite": ([[float("-inf")]], [0], "x must be finite, got 1 NaN or infinite values"),
    "too large": ([[1e300]], [0], "x must be finite as float32, got 1 values that are too large"),
    "width": ([[1.0, 2.0]], [0], "x must have rows of shape (1,) as client 'a' train has, got (2,)"),
    "width of y": ([[1.0]], [[0, 1]], "y must have rows of shape () as client 'a' train has, got (2,)"),
    "label above": ([[1.0]], [2], "y must hold labels in 0..1, got 2..2", {"num_classes": 2}),
    "large label": ([[1.0]], [2**31], "y must hold labels that int32 can hold, got 2147483648"),
    "target": ([[1.0]], [float("nan")], "y must be finite, got 1 NaN", {"task": "regression"}),
}


@pytest.mark.parametrize("case", UNSOUND)
def test_unsound_numbers_are_refused_with_file_and_user(case, tmp_path):
    x, y, message, *options = UNSOUND[case]
    refused(write(tmp_path / "a.json", pair(x, y)), "b", message, **(options[0] if options else {}))


@pytest.mark.parametrize("users", [{"b"}, {"a", "b"}])
@pytest.mark.parametrize("label", [-1, -1.0])
def test_labels_below_0_are_refused(label, users, tmp_path):
    held = {user: pair([[1.0]], [label])[user] for user in sorted(users)}
    path = write(tmp_path / "a.json", held)
    for options in ({}, {"num_classes": 2}):
        with pytest.raises(
            ValueError, match="^" + re.escape(f"{path}: user 'b' must have labels >= 0, got -1: ")
        ):
            from_leaf(path, **options)


def test_tokens_below_0_are_refused(tmp_path):
    path = write(tmp_path / "a.json", {"u": {"x": [[3, -2]], "y": [1]}})
    with pytest.raises(ValueError, match=re.escape(f"{path}: user 'u' must have tokens >= 0, got -2: ")):
        from_leaf(path, task="tokens")


def test_tokens_that_are_floats_are_refused(tmp_path):
    """The user who has them is named, not the first whose numbers would be cast for their sake."""
    path = write(tmp_path / "a.json", {"t": {"x": [[3]], "y": [1]}, "u": {"x": [[0.5]], "y": [1]}})
    with pytest.raises(ValueError, match=re.escape(f"{path}: user 'u' must have whole numbers for tokens")):
        from_leaf(path, task="tokens")


def test_targets_below_0_are_welcome(tmp_path):
    path = write(tmp_path / "a.json", {"u": {"x": [[3], [4]], "y": [-1, -2.5]}})
    federation, _ = from_leaf(path, test=0, task="regression")
    np.testing.assert_array_equal(federation.y, [-1, -2.5])


def test_the_test_file_is_named_where_it_is_the_unsound_one(tmp_path):
    train, test = write(tmp_path / "a.json", pair([[1.0]], [0])), tmp_path / "b.json"
    for held, message in (
        ({"x": [[float("nan")]], "y": [0]}, "user 'b': x must be finite"),
        ({"x": [[1.0, 2.0]], "y": [0]}, "user 'b': x must have rows of shape (1,)"),
        ({"x": [[1.0]], "y": [-3]}, "user 'b' must have labels >= 0, got -3"),
    ):
        write(test, {"b": held})
        with pytest.raises(ValueError, match="^" + re.escape(f"{test}: {message}")):
            from_leaf(train, test)


def test_an_option_is_not_blamed_on_a_file(tmp_path):
    path = write(tmp_path / "a.json", pair([[1.0]], [0]))
    with pytest.raises(ValueError, match="num_classes must be >= 1, got 0") as caught:
        from_leaf(path, num_classes=0)
    assert str(path) not in str(caught.value)


USER = '{"x": [[1.0]], "y": [0]}'

# text of a file, what the message says after the file
TWICE = {
    "user": (
        f'{{"users": ["v", "u"], "user_data": {{"v": {USER}, "u": {USER}, "u": {USER}}}}}',
        ": user 'u' must be once in user_data, got it twice",
    ),
    "list of a user": (
        '{"users": ["u"], "user_data": {"u": {"x": [[1.0]], "y": [1], "y": [0]}}}',
        ": user 'u' must have each list once, got 'y' twice",
    ),
    "part": (
        f'{{"users": ["u"], "user_data": {{"u": {USER}}}, "user_data": {{"u": {USER}}}}}',
        " must hold each part once, got 'user_data' twice",
    ),
}


@pytest.mark.parametrize("case", TWICE)
def test_what_is_given_twice_is_refused(case, tmp_path):
    text, message = TWICE[case]
    path = tmp_path / "twice.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="^" + re.escape(f"{path}{message}")):
        from_leaf(path)


def test_entries_that_cannot_be_encoded_are_named(tmp_path):
    path = write(tmp_path / "a.json", {"u": {"x": ["ab", "a?"], "y": ["a", "b"]}})
    with pytest.raises(
        ValueError,
        match=re.escape(f"{path}: user 'u' must have entries that encode can turn into numbers for x, got ")
        + "ValueError: .* for 'a\\?' in row 1: ",
    ):
        from_leaf(path, encode=lambda line: ["ab".index(letter) for letter in line], encode_label="ab".index)
    with pytest.raises(
        ValueError, match=r"user 'u' must have entries that encode_label .* for y, got KeyError: 'b'"
    ):
        from_leaf(path, encode=len, encode_label={"a": 0}.__getitem__)


def test_nobody_to_train_on_is_refused(tmp_path):
    path = write(tmp_path / "none.json", {})
    with pytest.raises(ValueError, match=re.escape(f"{path} must list users to train on, got none")):
        from_leaf(path)
    path = write(tmp_path / "empty.json", images((0, 0, 0)))
    with pytest.raises(
        ValueError, match=re.escape(f"train must hold rows, got none for the users of {path}: ")
    ):
        from_leaf(path)


def test_a_file_nested_too_deeply_is_refused(tmp_path):
    path = tmp_path / "deep.json"
    path.write_text("[" * 200_000)
    with pytest.raises(ValueError, match=re.escape(f"{path} must be JSON, got ")):
        from_leaf(path)


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train must name a .json file or a folder of them, got "):
        from_leaf(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"the folder .* without any"):
        from_leaf(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match=r"test must name a .json file"):
        from_leaf(write(tmp_path / "a.json", images(SIZES)), tmp_path / "nowhere")
    with pytest.raises(TypeError, match="test must be a number, got None"):
        from_leaf(tmp_path / "a.json", None)


def test_options_are_refused_before_a_file_is_read(tmp_path):
    path = tmp_path / "bad.json"
    path.write_text("no JSON")
    with pytest.raises(ValueError, match="task must be one of the names below, got 'classify'"):
        from_leaf(path, task="classify")
    with pytest.raises(ValueError, match=r"test must be >= 0 and < 1, got 1\.5"):
        from_leaf(path, 1.5)
    with pytest.raises(TypeError, match="valid must be a number, got None"):
        from_leaf(path, valid=None)


def test_a_fraction_a_user(tmp_path):
    federation, _ = from_leaf(write(tmp_path / "a.json", images((4, 4, 4))), [0.0, 0.25, 0.5])
    np.testing.assert_array_equal(federation.test.size[0], [0, 1, 2])
