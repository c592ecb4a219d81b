"""Rows of several items: FeatureHasher on lists of strings, pairs and dicts, and dicts that are no columns."""

import json

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction import DictVectorizer, FeatureHasher
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import edgeml
from edgeml import errors
from edgeml.ir import ops_items
from edgeml.runtimes.item_rows import item_texts
from edgeml.schema import Column, Schema

TOKENS = [["red", "round"], ["red", "red", "Straße"], [], ["日本", "", "a=b"], ["round"], ["😀", "red"]] * 4
PAIRS = [[("a", 2.5), ("b", "x")], [("a", 1), ("a", -0.25)], [], [("ü", True), (b"a", 0)], [("c", 1e-9)], []] * 4
DICTS = [{"a": 2.5, "b": "x"}, {"b": 7}, {}, {"tags": 1}, {"b": "x", "ü": True}, {"c": "red"}] * 4
LABELS = np.array([0, 1, 0, 1, 1, 0] * 4)
ROWS = {"string": TOKENS, "pair": PAIRS, "dict": DICTS}


def objects(rows):
    cells = np.empty(len(rows), dtype=object)
    for at, row in enumerate(rows):
        cells[at] = row
    return cells


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    made = {}
    for kind, rows in ROWS.items():
        pipeline = make_pipeline(FeatureHasher(32, input_type=kind), LogisticRegression()).fit(rows, LABELS)
        path = tmp_path_factory.mktemp("items") / "m.edgeml"
        edgeml.compile(pipeline, rows, output=path).close()
        made[kind] = pipeline, edgeml.load(path)
    yield made
    for _, model in made.values():
        model.close()


CONTAINERS = {
    "list": list, "tuple": tuple, "tuples": lambda x: [tuple(row) if isinstance(row, list) else row for row in x],
    "array": objects, "Series": lambda x: pd.Series(objects(x), index=range(9, 9 + len(x))),
    "columns": lambda x: {"%": list(x)}, "frame": lambda x: pd.DataFrame({"%": objects(x)}),
    "dicts": lambda x: [{"%": row} for row in x],
}  # fmt: skip


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_items_come_in_any_container(models, kind, container):
    pipeline, model = models[kind]
    given = container(ROWS[kind])
    name = model.schema.names[0]
    if isinstance(given, (dict, pd.DataFrame)):
        given = {name: given["%"]} if isinstance(given, dict) else given.rename(columns={"%": name})
    elif isinstance(given, list) and isinstance(given[0], dict) and "%" in given[0]:
        given = [{name: row["%"]} for row in given]
    np.testing.assert_allclose(model.predict_proba(given), pipeline.predict_proba(ROWS[kind]), rtol=1e-12)


@pytest.mark.parametrize(
    "container",
    [pl.Series, pa.array, lambda x: pa.chunked_array([x[:3], x[3:]]), lambda x: [set(row) for row in x]],
    ids=["polars", "arrow", "chunks", "sets"],
)
def test_tokens_come_in_any_column(models, container):
    pipeline, model = models["string"]
    rows = [["red"], [], ["new", "Straße"], ["a"]]
    np.testing.assert_allclose(model.predict_proba(container(rows)), pipeline.predict_proba(rows), rtol=1e-12)
    block = np.array([["red", "new"], ["a", "b"]])
    np.testing.assert_allclose(model.predict_proba(block), pipeline.predict_proba(block), rtol=1e-12)


def test_structs_are_pairs_and_dicts(models):
    pipeline, model = models["pair"]
    structs = [[{"k": "a", "v": 1.5}, {"k": "z", "v": 2.0}], []]
    pairs = [[("a", 1.5), ("z", 2.0)], []]
    for column in (pl.Series(structs), pa.array(structs)):
        np.testing.assert_allclose(model.predict_proba(column), pipeline.predict_proba(pairs), rtol=1e-12)
    pipeline, model = models["dict"]
    rows = [{"a": 1.5, "n": "x"}, {"a": 3.0}]
    for column in (pl.Series([{"a": 1.5, "n": "x"}, {"a": 3.0, "n": None}]), pa.array(rows)):
        np.testing.assert_allclose(model.predict_proba(column), pipeline.predict_proba(rows), rtol=1e-12)


ONE = {
    "string": [["red", "new"], (), {"red"}, np.array(["a", "b"]), {"tokens": ["red"]}],
    "pair": [[("a", 1)], [["new", "x"]], (), [(b"a", np.float32(0.1))], [(1, "x")], [(None, 0)], {"pairs": [("a", 1)]}],
    "dict": [{"a": 1}, {}, {"never": 2.5, "b": "seen"}, {"b": np.int8(3)}, {1: "x"}, {2: 0}, {"dicts": {"a": 1}}],
}


@pytest.mark.parametrize(("kind", "row"), [(kind, row) for kind, rows in ONE.items() for row in rows])
def test_one_row(models, kind, row):
    pipeline, model = models[kind]
    bare = row[f"{model.schema.names[0]}"] if isinstance(row, dict) and model.schema.names[0] in row else row
    np.testing.assert_allclose(model.predict_proba_one(row), pipeline.predict_proba([bare])[0], rtol=1e-12)
    assert model.predict_one(row) == pipeline.predict([bare])[0]
    np.testing.assert_allclose(model.predict_proba([row]), pipeline.predict_proba([bare]), rtol=1e-12)


REFUSED = {
    "string": ["a text", ["a text"], [None], [["a", None]], [["a", 1]], [["\ud800"]], [[b"\xff"]], [{"a": 1}], [5], []],
    "pair": [[["a"]], [["abc"]], [[("a", None)]], [[("a", [1])]], [[(1, 2.0)]], [[("a", 10**400)]], [[("a", 1j)]],
             [None], [{"a": 1}], [[("a", b"1")]], [[("\udc80", 1)]], [[("a", ["b"])]]],
    "dict": [[{"a": None}], [{"a": ["x"]}], [{"a": {}}], [{1: 2.0}], [[("a", 1)]], [None], ["a"], {"a": 1}],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "X"), [(kind, X) for kind, several in REFUSED.items() for X in several])
def test_what_is_no_row_of_items_is_refused(models, kind, X):
    pipeline, model = models[kind]
    if X not in ([], [[b"\xff"]], [{"a": 1}]):  # of no rows it has no words; other bytes and keys it takes as names
        with pytest.raises((TypeError, ValueError, AttributeError, OverflowError, StopIteration)):
            pipeline.predict(X)
    with pytest.raises(errors.InputError):
        model.predict(X)
    if isinstance(X, list) and X:
        with pytest.raises(errors.InputError):
            model.predict_one(X[0])


def test_the_message_names_row_and_remedy(models):
    with pytest.raises(errors.ColumnTypeError, match=r"'tokens', row 1: 5 is a int(.|\n)*list of strings"):
        models["string"][1].predict([["a"], ["a", 5]])
    with pytest.raises(errors.InputError, match=r"row 0(.|\n)*number or a string"):
        models["dict"][1].predict([{"a": None}])


def test_sums_are_those_of_the_dtype(tmp_path):
    """float32 rounds each number and each sum; an integer dtype cuts off what is behind the point."""
    rows = [[("a", 0.1), ("a", 1e8), ("a", 0.1)], [("a", 1.9), ("b", -1.9)], [("a", 3.0)]]
    for dtype in (np.float32, np.int64, np.int32):
        hasher = FeatureHasher(1, input_type="pair", dtype=dtype)
        edgeml.compile(hasher, rows, output=tmp_path / "m.edgeml", formats=["native"]).close()
        with edgeml.load(tmp_path / "m.edgeml") as model:
            got, want = model.transform(rows), hasher.transform(rows).toarray()
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


def test_columns_of_items_beside_others(tmp_path):
    frame = pd.DataFrame(
        {"tags": TOKENS, "n": np.arange(24.0), "p": objects(PAIRS), "d": objects(DICTS), "c": ["x", "y"] * 12}
    )
    columns = ColumnTransformer(
        [
            ("tags", FeatureHasher(16, input_type="string"), "tags"),
            ("pairs", FeatureHasher(8, input_type="pair"), "p"),
            ("dicts", FeatureHasher(8), "d"),
            ("vectors", DictVectorizer(), "d"),
            ("number", StandardScaler(), ["n"]),
            ("letter", OneHotEncoder(), ["c"]),
        ]
    )
    pipeline = make_pipeline(columns, LogisticRegression()).fit(frame, LABELS)
    edgeml.compile(pipeline, frame, output=tmp_path / "m.edgeml", formats=["native"]).close()
    with edgeml.load(tmp_path / "m.edgeml") as model:
        np.testing.assert_allclose(model.predict_proba(frame), pipeline.predict_proba(frame), rtol=1e-12)
        row = {"tags": ["new"], "n": 3.0, "p": [("a", 1)], "d": {"b": "x"}, "c": "x"}
        one = pd.DataFrame({name: objects([cell]) for name, cell in row.items()}).astype({"n": float})
        np.testing.assert_allclose(model.predict_proba_one(row), pipeline.predict_proba(one)[0], rtol=1e-12)
        with pytest.raises(errors.ColumnTypeError, match="'tags', row 0"):
            model.predict_one({**row, "tags": "new"})


@pytest.mark.parametrize(
    ("step", "given", "message"),
    [
        (OneHotEncoder(handle_unknown="ignore"), ["tags"], "OneHotEncoder is given lists of strings"),
        (FeatureHasher(8, input_type="pair"), "tags", "one column of lists of pairs, and is given .*lists of strings"),
    ],
)
def test_a_column_of_items_is_for_its_hasher(step, given, message, tmp_path):
    frame = pd.DataFrame({"tags": [("ab", "cd"), ("ab",), ("ef", "ab")] * 4})
    columns = ColumnTransformer([("step", step, given)]).fit(frame)
    with pytest.raises(errors.UnsupportedParameterError, match=message):
        edgeml.compile(columns, frame, output=tmp_path / "m.edgeml")


def test_dicts_of_lists_and_of_several_kinds(tmp_path):
    """What scikit-learn counts: every string of a list, a key that holds numbers and strings, keys the sample lacks."""
    rows = [{"tags": ["a", "b", "a"], "n": 1}, {"tags": "b", "n": "one"}, {"n": 2.5}, {"tags": ("c",)}, {"x": None}, {}]
    rows = rows * 3
    asked = [*rows[:6], {"tags": ["a", "new"]}, {5: 1.0}, {"n": True}, {"tags": 3}, {"tags": {"a"}}, {"x": 2}]
    for vectorizer in (DictVectorizer(), DictVectorizer(sparse=False, separator=": ", dtype=np.float32)):
        vectorizer.fit(rows)
        edgeml.compile(vectorizer, rows[:4], output=tmp_path / "m.edgeml", formats=["native"]).close()
        with edgeml.load(tmp_path / "m.edgeml") as model:
            want = vectorizer.transform(asked)
            want = want if isinstance(want, np.ndarray) else want.toarray()
            np.testing.assert_array_equal(model.transform(asked), want)
            for row in ({"tags": [1]}, {"tags": {"a": 1}}, {"tags": [["a"]]}):
                with pytest.raises(TypeError):
                    vectorizer.transform([row])
                with pytest.raises(errors.InputError):
                    model.transform([row])


def test_the_sample_is_refused_in_words(tmp_path):
    hasher = FeatureHasher(8, input_type="string")
    for X in (["a text", "another"], "a text", [[1.0]], pd.DataFrame({"a": [1.0], "b": [2.0]}), 5):
        with pytest.raises(errors.SampleError, match="FeatureHasher takes lists of strings"):
            edgeml.compile(hasher, X, output=tmp_path / "m.edgeml")
    with pytest.raises(errors.SampleError, match="DictVectorizer takes dicts"):
        edgeml.compile(DictVectorizer().fit([{"a": 1}]), ["a"], output=tmp_path / "m.edgeml")


def test_the_schema_says_what_a_cell_holds(models):
    schema = models["pair"][1].schema
    assert (schema.rows, schema.columns) == ("documents", (Column("pairs", "string", items="pairs"),))
    assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema
    for change in ({"items": "pages"}, {"kind": "float64"}):
        data = schema.to_json()
        data["columns"][0].update(change)
        with pytest.raises(errors.ManifestError):
            Schema.from_json(data)


def test_the_profile_holds_no_item(tmp_path):
    rows = TOKENS * 20
    pipeline = make_pipeline(FeatureHasher(8, input_type="string"), LogisticRegression()).fit(rows, list(LABELS) * 20)
    with edgeml.compile(pipeline, rows, output=tmp_path / "m.edgeml", formats=["native"]) as bundle:
        assert bundle.json("profile.json")["features"][0]["categories"] == []


@pytest.mark.parametrize("cell", ["", "{", "5", '[["a"]]', "[[1, 2]]", '[["a", [1]]]', "[" * 9999, "[[[]]]"])
def test_a_text_of_another_form_is_an_error_of_the_input(cell):
    x = np.array([[cell]], dtype=object)
    with pytest.raises(errors.InputError):
        ops_items.hashed_items(x, columns=4, signed=True, dtype="float64")
    if cell not in ("[[1, 2]]", '[["a", [1]]]'):  # of other names than those that count
        with pytest.raises(errors.InputError):
            ops_items.counted_items(x, vocabulary=("b",), separator="=", dtype="float64")


def test_texts_keep_every_bit():
    pairs = [("a", 0.1), ("b", float("nan")), ("c", -np.inf), ("d", 2**70), ("e", 'ü\0\n"'), (1.5, "x")]
    assert json.loads(item_texts([pairs], "p", "pairs")[0])[0] == ["a", 0.1]
    hashed = ops_items.hashed_items(
        item_texts([pairs], "p", "pairs")[:, None], columns=64, signed=True, dtype="float64"
    )
    np.testing.assert_array_equal(hashed.dense(), FeatureHasher(64, input_type="pair").transform([pairs]).toarray())
