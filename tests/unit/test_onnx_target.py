"""The ONNX model as a file: its inputs, outputs, names, the rows it refuses, and models inlined into it."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeml.errors import FormatError
from edgeml.ir import Builder
from edgeml.schema import Schema
from edgeml.targets.onnx import lower
from edgeml.targets.onnx_graph import MISSING_NAN, MISSING_NONE
from tests.onnx_oracle import ABOUT, INF, NAN, TREE, feeds, session


# --- what the model is --------------------------------------------------------------------------------------
def build(columns, outputs):
    """A program: columns as {name: dtype}, outputs as {method: (function of builder and inputs, form, dtype)}."""
    b = Builder()
    inputs = [b.input(name, dtype) for name, dtype in columns.items()]
    for method, (function, form, dtype) in outputs.items():
        values = function(b, *inputs)
        b.output(method, values if isinstance(values, list) else [values], form, dtype)
    return b.finish()


def proto_of(program, about=ABOUT):
    return onnx.load_from_string(lower(program, about)["model.onnx"])


def io(entries):
    kinds = {1: "float32", 7: "int64", 8: "string", 9: "bool", 11: "float64"}
    return {
        e.name: (
            kinds[e.type.tensor_type.elem_type],
            [d.dim_param or d.dim_value for d in e.type.tensor_type.shape.dim],
        )
        for e in entries
    }


def test_inputs_and_outputs_are_declared():
    columns = {"a": "float64", "b": "string", "unused": "float64", "c": "int64", "d": "bool", "e": "float32"}
    program = build(
        columns,
        {
            "predict": (lambda b, *x: b.take(b.lookup(x[1], ("u", "v")) * 0, ("no", "yes")), "vector", "<U3"),
            "predict_proba": (lambda b, *x: [x[0], x[4].cast("float64")], "matrix", "<f8"),
            "transform": (lambda b, *x: [x[3], x[1], x[5], x[5]], "matrix", "O"),
            "decision_function": (lambda b, *x: x[0], "vector", "<f4"),
        },
    )
    proto = proto_of(program)
    assert io(proto.graph.input) == {n: (k, ["N", 1]) for n, k in columns.items() if n != "unused"}
    assert io(proto.graph.output) == {
        "predict": ("string", ["N"]),
        "predict_proba": ("float64", ["N", 2]),
        "transform_0": ("int64", ["N", 1]),
        "transform_1": ("string", ["N", 1]),
        "transform_2": ("float32", ["N", 2]),
        "decision_function": ("float32", ["N"]),
    }
    facts = {p.key: p.value for p in proto.metadata_props}
    assert json.loads(facts["edgeml.outputs"])["transform"] == ["transform_0", "transform_1", "transform_2"]
    assert json.loads(facts["edgeml.missing_strings"]) == {"None": MISSING_NONE, "NaN": MISSING_NAN}
    assert Schema.from_json(json.loads(facts["edgeml.schema"])) == ABOUT.schema
    assert (facts["edgeml.name"], facts["edgeml.version"], proto.producer_name) == ("small", "3", "edgeml")
    assert {e.domain: e.version for e in proto.opset_import} == {"": 21, "ai.onnx.ml": 5}


def test_bytes_are_deterministic():
    code = (
        "import hashlib; from edgeml.targets.onnx import lower; from tests.onnx_oracle import ABOUT\n"
        "from tests.unit.test_onnx_ops import CASES\n"
        "parts = [lower(cases[-1].program(), ABOUT)['model.onnx'] for cases in CASES.values()]\n"
        "print(hashlib.sha256(b''.join(parts)).hexdigest())"
    )
    digests = set()
    for seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": seed, "PATH": ""}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        digests.add(done.stdout.strip())
    assert len(digests) == 1
    assert len(digests.pop()) == 64


def test_names_that_collide():
    """A column may be called as a method, as an intermediate value, or not at all."""
    columns = {"predict": "float64", "v1": "float64", "": "float64", "c0": "float64"}
    program = build(columns, {"predict": (lambda b, p, v, e, c: p + v + e + c + 1.0, "vector", "<f8")})
    data = lower(program, ABOUT)["model.onnx"]
    facts = session(data).get_modelmeta().custom_metadata_map
    inputs, outputs = json.loads(facts["edgeml.inputs"]), json.loads(facts["edgeml.outputs"])
    values = {inputs[name]: np.full((2, 1), 10.0**i) for i, name in enumerate(columns)}
    assert session(data).run(outputs["predict"], values)[0].tolist() == [1112.0, 1112.0]


def test_a_constant_answer_has_as_many_rows_as_the_input():
    program = build(
        {"a": "string", "b": "float64"},
        {
            "predict": (lambda b, x, y: b.constant([7]), "vector", "<i8"),
            "predict_proba": (lambda b, x, y: [b.constant([0.25, 0.75])], "matrix", "<f8"),
        },
    )
    s = session(lower(program, ABOUT)["model.onnx"])
    predict, proba = s.run(["predict", "predict_proba"], {"a": np.array([["x"]] * 3, dtype=object)})
    assert predict.tolist() == [7, 7, 7]
    assert proba.tolist() == [[0.25, 0.75]] * 3
    assert s.get_modelmeta().custom_metadata_map["edgeml.rows_only"] == "a"


def test_one_value_as_two_outputs():
    program = build(
        {"a": "float64"},
        {name: (lambda b, x: x, "matrix", "<f8") for name in ("predict", "transform")},
    )
    got = session(lower(program, ABOUT)["model.onnx"]).run(None, {"a": np.array([[1.0]])})
    assert [g.tolist() for g in got] == [[[1.0]], [[1.0]]]


@pytest.mark.parametrize("text", [MISSING_NONE, MISSING_NAN, "\ud800"])
@pytest.mark.parametrize(
    "use",
    [
        lambda b, x, t: b.take(b.lookup(x, ("a",)) * 0, (t,)),
        lambda b, x, t: b.lookup(x, ("a", t)),
        lambda b, x, t: x == b.constant((t,)),
    ],
)
def test_strings_that_onnx_cannot_hold_are_refused(text, use):
    with pytest.raises(FormatError, match=r"reserves|valid Unicode"):
        lower(build({"x": "string"}, {"transform": (lambda b, x: use(b, x, text), "matrix", "O")}), ABOUT)


def test_runs_without_edgeml(tmp_path):
    """The README's promise: stock onnxruntime, and nothing of ours."""
    program = build(
        {"color": "string", "size": "float64"},
        {
            "predict": (
                lambda b, c, s: b.take((b.lookup(c, ("red",)) + 1) * (s > 1.0).cast("int64"), ("no", "yes")),
                "vector",
                "<U3",
            )
        },
    )
    (tmp_path / "model.onnx").write_bytes(lower(program, ABOUT)["model.onnx"])
    code = """
import sys
import numpy, onnxruntime
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
color = numpy.array([["red"], ["red"], ["blue"]], dtype=object)
rows = {"color": color, "size": numpy.array([[2.0], [0.5], [3.0]])}
print(session.run(["predict"], rows)[0].tolist())
assert not [m for m in sys.modules if m.startswith("edgeml")]
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "['yes', 'no', 'no']", done.stderr


# --- rows that are refused ----------------------------------------------------------------------------------
@pytest.mark.parametrize("optimise", [True, False])
@pytest.mark.parametrize("used", [True, False])
@pytest.mark.parametrize(("allow_nan", "bad"), [(False, NAN), (False, INF), (True, -INF)])
def test_check_finite_fails_by_name(allow_nan, bad, used, optimise):
    b = Builder()
    x, y = b.input("x", "float64"), b.input("y", "float64")
    checked = b.check_finite(b.concat([x, y]), "fit (LogisticRegression)", allow_nan=allow_nan)
    value = checked.select([0]) if used else y
    b.output("predict", [value], "vector", "<f8")
    b.output("transform", [value], "matrix", "<f8")
    s = session(lower(b.finish(), ABOUT)["model.onnx"], optimise=optimise)
    fine = {"x": np.array([[1.0], [1e308]]), "y": np.array([[-1e308], [0.0]])}
    assert s.run(["predict"], fine)[0].shape == (2,)
    name = "fit_LogisticRegression_input_contains_" + ("infinity" if allow_nan else "NaN_or_infinity")
    for column, outputs in (("x", ["predict"]), ("y", ["transform"])):
        with pytest.raises(Exception, match=f"Name:'{name}'"):
            s.run(outputs, fine | {column: np.array([[1.0], [bad]])})


def test_two_checks_of_one_name():
    b = Builder()
    values = [b.check_finite(b.input("x", "float64"), "fit (Ridge)")]
    values.append(b.check_finite(values[0] * 2.0, "fit (Ridge)"))
    b.output("transform", values, "matrix", "<f8")
    s = session(lower(b.finish(), ABOUT)["model.onnx"])
    names = list(json.loads(s.get_modelmeta().custom_metadata_map["edgeml.checks"]))
    assert names == ["fit_Ridge_input_contains_NaN_or_infinity", "fit_Ridge_input_contains_NaN_or_infinity_2"]
    for bad, name in ((NAN, names[0]), (1e308, names[1])):
        with pytest.raises(Exception, match=f"Name:'{name}'"):
            s.run(None, {"x": np.array([[bad]])})


@pytest.mark.parametrize("used", [True, False])
def test_require_fails_by_name(used):
    def method(b, x):
        checked = b.require(x, ~(b.lookup(x, ("a", None)) < 0), "unknown category", "category")
        return b.lookup(checked if used else x, ("a",))

    with_program = build({"x": "string"}, {"predict": (method, "vector", "<i8")})
    s = session(lower(with_program, ABOUT)["model.onnx"])
    assert s.run(None, feeds({"x": np.array(["a", None, "a"], dtype=object)}))[0].tolist() == [0, -1, 0]
    with pytest.raises(Exception, match="Name:'unknown_category'"):
        s.run(None, feeds({"x": np.array(["a", "b", "a"], dtype=object)}))
    checks = json.loads(s.get_modelmeta().custom_metadata_map["edgeml.checks"])
    assert checks == {
        "unknown_category": {"op": "Require", "width": 1, "message": "unknown category", "kind": "category"}
    }


def test_missing_cells_survive_onnxruntime():
    """The spellings, embedded NUL and characters beyond the basic plane come back as they went in."""
    program = build({"x": "string"}, {"transform": (lambda b, x: x, "matrix", "O")})
    s = session(lower(program, ABOUT)["model.onnx"])
    cells = np.array([MISSING_NONE, MISSING_NAN, "a\0b", "a\0", "\0", "😀\U0010ffff", "", "é"], dtype=object)
    assert s.run(None, {"x": cells[:, None]})[0].ravel().tolist() == cells.tolist()
    # What is not spelled becomes text without a word: the reason for the spellings.
    plain = np.array([["a"], [None], [NAN]], dtype=object)
    assert s.run(None, {"x": plain})[0].ravel().tolist() == ["a", "None", "nan"]


def embedded_model(opset=21):
    """y = x @ [[2], [3]] in float32, and its sign as int64."""
    nodes = [
        helper.make_node("MatMul", ["X", "w"], ["y"]),
        helper.make_node("Sign", ["y"], ["s"]),
        helper.make_node("Cast", ["s"], ["sign"], to=TensorProto.INT64),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [info("X", TensorProto.FLOAT, [None, 2])],
        [info("y", TensorProto.FLOAT, [None, 1]), info("sign", TensorProto.INT64, [None, 1])],
        [helper.make_tensor("w", TensorProto.FLOAT, [2, 1], [2.0, 3.0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return np.frombuffer(model.SerializeToString(), np.uint8)


# --- models made by skl2onnx --------------------------------------------------------------------------------
def graph_op(b, x, output="y", dtype="float32", opset=21):
    return b.op("OnnxGraph", x, model=embedded_model(opset), output=output, width=1, dtype=dtype)


def test_onnx_graph_is_inlined_once():
    def both(b, x, y):
        pair = b.concat([x, y])
        with b.step("scale"):
            return [graph_op(b, pair).cast("float64"), graph_op(b, pair, "sign", "int64").cast("float64")]

    program = build({"x": "float64", "X": "float64"}, {"transform": (both, "matrix", "<f8")})
    data = lower(program, ABOUT)["model.onnx"]
    got = session(data).run(None, {"x": np.array([[1.0], [0.0]]), "X": np.array([[2.0], [-1.0]])})[0]
    assert got.tolist() == [[8.0, 1.0], [-3.0, -1.0]]
    assert [n.op_type for n in onnx.load_from_string(data).graph.node].count("MatMul") == 1


def test_onnx_graph_on_constant_and_with_two_models():
    def method(b, x):
        first = graph_op(b, b.concat([x, x]))
        return [first, graph_op(b, b.constant([1.0, 1.0])), graph_op(b, b.concat([first, first]))]

    data = lower(build({"x": "float64"}, {"transform": (method, "matrix", "<f4")}), ABOUT)["model.onnx"]
    assert session(data).run(None, {"x": np.array([[1.0], [2.0]])})[0].tolist() == [[5, 5, 25], [10, 5, 50]]


def test_onnx_graph_of_another_meaning_is_refused():
    program = build(
        {"x": "float64"},
        {"transform": (lambda b, x: graph_op(b, b.concat([x, x]), opset=12), "matrix", "<f4")},
    )
    with pytest.raises(FormatError, match="opset 12"):
        lower(program, ABOUT)


def test_retired_tree_operators_lower_the_operator_set():
    from skl2onnx import to_onnx
    from sklearn.ensemble import AdaBoostClassifier

    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 2)).astype(np.float32)
    ada = AdaBoostClassifier(n_estimators=3).fit(X, (X[:, 0] > 0).astype(int))
    model = to_onnx(ada, X[:1], options={"zipmap": False}, target_opset={"": 21, "ai.onnx.ml": 3})
    data = np.frombuffer(model.SerializeToString(), np.uint8)

    def plain(b, x):
        return b.op("OnnxGraph", x, model=data, output="probabilities", width=2, dtype="float32")

    def program_of(method):
        b = Builder()
        x = b.input("X", "float32", 2)
        b.output("predict_proba", [method(b, x)], "matrix", "<f4")
        return b.finish()

    lowered = lower(program_of(plain), ABOUT)["model.onnx"]
    assert {e.domain: e.version for e in onnx.load_from_string(lowered).opset_import}["ai.onnx.ml"] == 4
    np.testing.assert_array_equal(
        session(lowered).run(None, {"X": X})[0],
        session(model.SerializeToString()).run(["probabilities"], {"X": X})[0],
    )

    knots = np.array([0.0, 0.2, 0.5, 0.9])

    def calibrated(b, x):
        score = plain(b, x).select([1]).cast("float64")
        return b.op("Interp", score, xs=knots, ys=knots**2).cast("float32")

    got = session(lower(program_of(calibrated), ABOUT)["model.onnx"]).run(None, {"X": X})[0]
    np.testing.assert_allclose(got[:, 0], np.interp(ada.predict_proba(X)[:, 1], knots, knots**2), rtol=1e-5)

    def with_own_trees(b, x):
        return plain(b, x) + b.op("TreeEnsemble", x.cast("float64"), **TREE).cast("float32")

    with pytest.raises(FormatError, match="no model can hold both"):
        lower(program_of(with_own_trees), ABOUT)
