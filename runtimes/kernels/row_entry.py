"""The reader of one raw row, as LLVM text: ``PyObject *edgeml_row(self, args, nargs, kwnames)``, a function of CPython.

In comes a dict, list or tuple of plain cells; each is written into scratch as the column's ``Record`` says, the
machine runs, and ``finish()`` makes the answer. Whatever else it meets it hands to ``slow(row)``, with nothing left
behind. ``build.py`` links the text into the object, ``native_call.py`` makes functions of it.

It has no symbol of Python: addresses of Python's functions and types are in a table that ``edgeml_python`` returns
and ``native_call`` fills, so that the object links anywhere and needs no headers. It runs under the GIL, keeps no
reference to a cell and calls no code of a cell: a cell's type is compared, and only its own bytes are read. Code of
the application, or another thread, runs in a few places only, all with nothing of ours half done: a key of the row
whose hash equals that of a column's name (its ``__eq__``), ``learn``, ``finish`` and ``slow``. The field ``BUSY``
stands while the scratch is in use, and a call that meets it, from another thread or from within, goes to ``slow``.
"""

from __future__ import annotations

from edgeml.runtimes.kernels.row_layout import (
    NAN_CODE,
    Kind,
    Python,
    Record,
    Row,
)
from edgeml.runtimes.kernels.row_text import Text


def row_text() -> str:
    """``edgeml_row`` and the table ``edgeml_python``, zeros until someone fills it."""
    t = Text()
    _start(t)
    _cell(t)
    _number(t)
    _integer(t)
    _boolean(t)
    _text(t)
    _end(t)
    body = "\n".join(t.lines)
    return f"""
declare i64 @edgeml_run(ptr)
@python = internal global [{len(Python)} x i64] zeroinitializer

define ptr @edgeml_python() {{
  ret ptr @python
}}

define ptr @edgeml_value(ptr %values, i64 %at) {{
  %place = getelementptr ptr, ptr %values, i64 %at
  %value = load ptr, ptr %place
  ret ptr %value
}}

define ptr @edgeml_row(ptr %self, ptr %args, i64 %nargs, ptr %kwnames) {{
{body}
}}
"""


def _start(t: Text) -> None:
    """Which kind of row it is, and whether its number of cells is right."""
    t.label("entry")
    for name in ("next", "key", "value"):  # of PyDict_Next
        t.line(f"%{name} = alloca ptr")
    context = t.call(Python.PyLong_AsVoidPtr, f"ptr {t.call(Python.PyTuple_GetItem, 'ptr %self, i64 0')}")
    t.line(f"%context = getelementptr i8, ptr {context}, i64 0")
    one, plain = t.value("icmp eq i64 %nargs, 1"), t.value("icmp eq ptr %kwnames, null")
    idle = t.value(f"icmp eq i64 {t.field('%context', Row.BUSY, 'i64')}, 0")
    t.branch(f"and i1 {t.value(f'and i1 {one}, {plain}')}, {idle}", "begin", "hand_over")
    t.label("begin")
    t.line("store i64 1, ptr %context")
    t.line("%row = load ptr, ptr %args")
    for at in (Row.CELLS, Row.COLUMNS, Row.WIDTH, Row.UNUSED, Row.NAMES, Row.RECORDS, Row.VALUES):
        name, kind = at.name.lower(), "i64" if at in (Row.COLUMNS, Row.WIDTH, Row.UNUSED) else "ptr"
        t.line(f"%{name}_at = getelementptr i64, ptr %context, i64 {at}")
        t.line(f"%{name} = load {kind}, ptr %{name}_at")
    t.line(f"%due = getelementptr i64, ptr %context, i64 {Row.DUE}")
    t.line("store i64 0, ptr %due")
    kind = t.type_of("%row")
    t.same(kind, Python.DICT, "dict", "no_dict")
    t.label("no_dict")
    t.same(kind, Python.LIST, "list", "no_list")
    t.label("no_list")
    t.same(kind, Python.TUPLE, "tuple", "give_up")
    for label, size, get in (
        ("list", Python.PyList_Size, Python.PyList_GetItem),
        ("tuple", Python.PyTuple_Size, Python.PyTuple_GetItem),
    ):
        t.label(label)
        length = t.call(size, "ptr %row")
        t.line(f"%{label}_get = bitcast ptr {t.python(get)} to ptr")
        t.branch(f"icmp eq i64 {length}, %width", "loop", "give_up")
    t.label("dict")
    t.line(f"%size = add i64 {t.call(Python.PyDict_Size, 'ptr %row')}, 0")
    _order(t)
    t.label("any_order")
    t.branch("icmp eq i64 %size, %columns", "loop", "with_unused")
    # More cells than columns: every other one must be a column that is not used.
    t.label("with_unused")
    t.branch("icmp sgt i64 %size, %columns", "unused_loop", "give_up")
    t.label("unused_loop")
    t.line("%u = phi i64 [ 0, %with_unused ], [ %u_next, %unused_counted ]")
    t.line("%found = phi i64 [ %columns, %with_unused ], [ %found_next, %unused_counted ]")
    t.branch("icmp slt i64 %u, %unused", "unused_look", "unused_done")
    t.label("unused_look")
    name = t.value(f"load ptr, ptr {t.value('getelementptr i64, ptr %names, i64 %u')}")
    there = t.call(Python.PyDict_GetItemWithError, f"ptr %row, ptr {name}")
    t.line(f"%absent = icmp eq ptr {there}, null")
    t.line("br i1 %absent, label %unused_absent, label %unused_counted")
    t.label("unused_absent")
    t.branch(f"icmp eq ptr {t.call(Python.PyErr_Occurred, '')}, null", "unused_counted", "fail")
    t.label("unused_counted")
    t.line("%more = phi i64 [ 1, %unused_look ], [ 0, %unused_absent ]")
    t.lines += ["  %found_next = add i64 %found, %more", "  %u_next = add i64 %u, 1"]
    t.to("unused_loop")
    t.label("unused_done")
    t.branch("icmp eq i64 %found, %size", "loop", "give_up")


def _order(t: Text) -> None:
    """Cells of a dict whose keys are, one by one, the very objects that were learnt: no key is hashed or compared.

    The cells are borrowed, and nothing until the machine runs could free one: no code of the row is called.
    """
    t.branch(f"icmp eq i64 %size, {t.field('%context', Row.ORDER, 'i64')}", "ordered", "other_order")
    t.label("ordered")
    t.line(f"%keys = getelementptr i8, ptr {t.field('%context', Row.KEYS)}, i64 0")
    t.line(f"%targets = getelementptr i8, ptr {t.field('%context', Row.TARGETS)}, i64 0")
    t.line("store i64 0, ptr %next")
    t.to("key_loop")
    t.label("key_loop")
    t.line("%k = phi i64 [ 0, %ordered ], [ %k_next, %key_known ]")
    t.branch("icmp slt i64 %k, %size", "key_look", "loop")
    t.label("key_look")
    there = t.call(Python.PyDict_Next, "ptr %row, ptr %next, ptr %key, ptr %value")
    t.branch(f"icmp eq i32 {there}, 0", "other_order", "key_compare")
    t.label("key_compare")
    known = t.value(f"load ptr, ptr {t.value('getelementptr i64, ptr %keys, i64 %k')}")
    t.branch(f"icmp eq ptr {t.value('load ptr, ptr %key')}, {known}", "key_known", "other_order")
    t.label("key_known")
    target = t.value(f"load i64, ptr {t.value('getelementptr i64, ptr %targets, i64 %k')}")
    place = t.value(f"getelementptr i64, ptr %values, i64 {target}")
    t.line(f"store ptr {t.value('load ptr, ptr %value')}, ptr {place}")
    t.line("%k_next = add i64 %k, 1")
    t.to("key_loop")
    t.label("other_order")
    t.line(f"%misses_at = getelementptr i64, ptr %context, i64 {Row.MISSES}")
    t.lines += ["  %misses = load i64, ptr %misses_at", "  %missed = add i64 %misses, 1"]
    t.line("store i64 %missed, ptr %misses_at")
    # Powers of two only: who gives new keys with every row, as JSON does, is not slowed down by learning them.
    power = t.value(f"icmp eq i64 {t.value('and i64 %missed, %misses')}, 0")
    t.line(f"store i64 {t.value(f'zext i1 {power} to i64')}, ptr %due")
    t.to("any_order")


def _cell(t: Text) -> None:
    """The loop over columns: the cell, and which way it is read."""
    t.label("loop")
    ways = {"any_order": "null", "unused_done": "null", "list": "%list_get", "tuple": "%tuple_get"}
    ways |= {"key_loop": "@edgeml_value", "stored": "%get"}
    sources = dict.fromkeys(ways, "%row") | {"key_loop": "%values", "stored": "%source"}
    starts = dict.fromkeys(ways, "0") | {"stored": "%i_next"}
    for name, kind, found in (("get", "ptr", ways), ("source", "ptr", sources), ("i", "i64", starts)):
        t.line(f"%{name} = phi {kind} " + ", ".join(f"[ {value}, %{block} ]" for block, value in found.items()))
    t.branch("icmp slt i64 %i, %columns", "look", "run")
    t.label("look")
    t.line(f"%record_at = mul i64 %i, {len(Record)}")
    t.line("%record = getelementptr i64, ptr %records, i64 %record_at")
    t.branch("icmp eq ptr %get, null", "by_name", "by_position")
    t.label("by_name")
    named = t.call(Python.PyDict_GetItemWithError, f"ptr %row, ptr {t.field('%record', Record.NAME)}")
    t.line(f"%named = getelementptr i8, ptr {named}, i64 0")
    t.branch("icmp eq ptr %named, null", "missing", "cell")
    t.label("missing")
    t.branch(f"icmp eq ptr {t.call(Python.PyErr_Occurred, '')}, null", "give_up", "fail")
    t.label("by_position")
    position = t.field("%record", Record.POSITION, "i64")
    t.line(f"%placed = call ptr %get(ptr %source, i64 {position})")
    t.branch("icmp eq ptr %placed, null", "lost", "cell")
    t.label("cell")
    t.line("%x = phi ptr [ %named, %by_name ], [ %placed, %by_position ]")
    t.line(f"%type = getelementptr i8, ptr {t.type_of('%x')}, i64 0")
    kind = t.field("%record", Record.KIND, "i64")
    cases = " ".join(f"i64 {kind.value}, label %{kind.name.lower()}" for kind in Kind)
    t.line(f"switch i64 {kind}, label %give_up [ {cases} ]")
    # A list cannot have become shorter meanwhile; if it has, an IndexError is set.
    t.label("lost")
    t.call(Python.PyErr_Clear, "")
    t.to("give_up")


def _number(t: Text) -> None:
    """A cell of float64: what NumPy makes of it in a batch."""
    t.label("number")
    t.same("%type", Python.FLOAT, "number_float", "number_no_float")
    t.label("number_float")
    t.line(f"%float = bitcast double {t.at_value('%x', 'double')} to i64")
    t.to("stored")
    t.label("number_no_float")
    t.same("%type", Python.INT, "number_int", "number_no_int")
    t.label("number_int")
    number = t.call(Python.PyLong_AsDouble, "ptr %x")
    t.line(f"%number_bits = bitcast double {number} to i64")
    t.branch(f"fcmp oeq double {number}, -1.0", "maybe_too_large", "stored")
    t.label("maybe_too_large")
    t.branch(f"icmp eq ptr {t.call(Python.PyErr_Occurred, '')}, null", "stored", "too_large")
    t.label("too_large")
    t.call(Python.PyErr_Clear, "")
    t.to("give_up")
    t.label("number_no_int")
    t.same("%x", Python.NONE, "stored", "number_no_none")
    t.label("number_no_none")
    t.same("%type", Python.FLOAT64, "number_float", "number_no_float64")
    t.label("number_no_float64")
    t.same("%x", Python.TRUE, "stored", "number_no_true")
    t.label("number_no_true")
    t.same("%x", Python.FALSE, "stored", "number_no_false")
    t.label("number_no_false")
    t.same("%type", Python.FLOAT32, "number_float32", "number_no_float32")
    t.label("number_float32")
    wide = t.value(f"fpext float {t.at_value('%x', 'float')} to double")
    t.line(f"%wide = bitcast double {wide} to i64")
    t.to("stored")
    t.label("number_no_float32")
    t.same("%type", Python.INT64, "number_int64", "give_up")
    t.label("number_int64")
    number = t.value(f"sitofp i64 {t.at_value('%x', 'i64')} to double")
    t.line(f"%converted = bitcast double {number} to i64")
    t.to("stored")


def _integer(t: Text) -> None:
    """A cell of int64."""
    t.label("integer")
    t.same("%type", Python.INT, "integer_int", "integer_no_int")
    t.label("integer_int")
    t.line(f"%integer_bits = add i64 {t.call(Python.PyLong_AsLongLong, 'ptr %x')}, 0")
    t.branch("icmp eq i64 %integer_bits, -1", "maybe_too_long", "stored")
    t.label("maybe_too_long")
    t.branch(f"icmp eq ptr {t.call(Python.PyErr_Occurred, '')}, null", "stored", "too_large")
    t.label("integer_no_int")
    t.same("%type", Python.INT64, "integer_int64", "integer_no_int64")
    t.label("integer_int64")
    t.line(f"%same = add i64 {t.at_value('%x', 'i64')}, 0")
    t.to("stored")
    t.label("integer_no_int64")
    t.same("%type", Python.FLOAT, "integer_float", "integer_no_float")
    t.label("integer_no_float")
    t.same("%type", Python.FLOAT64, "integer_float", "integer_no_float64")
    t.label("integer_float")  # without fraction and within int64; not for NaN
    fraction = t.at_value("%x", "double")
    low, high = (
        t.value(f"fcmp {c} double {fraction}, {v}")
        for c, v in (("oge", "0xC3E0000000000000"), ("olt", "0x43E0000000000000"))
    )
    t.branch(f"and i1 {low}, {high}", "integer_within", "give_up")
    t.label("integer_within")
    t.line(f"%whole = fptosi double {fraction} to i64")
    t.branch(f"fcmp oeq double {t.value('sitofp i64 %whole to double')}, {fraction}", "stored", "give_up")
    t.label("integer_no_float64")
    t.same("%x", Python.TRUE, "stored", "integer_no_true")
    t.label("integer_no_true")
    t.same("%x", Python.FALSE, "stored", "give_up")


def _boolean(t: Text) -> None:
    t.label("boolean")
    t.same("%x", Python.TRUE, "stored", "boolean_no_true")
    t.label("boolean_no_true")
    t.same("%x", Python.FALSE, "stored", "give_up")


def _text(t: Text) -> None:
    """A cell of text. Looking up a str in our dict of str runs no code but Python's."""
    t.label("text")
    t.same("%type", Python.STR, "text_str", "text_no_str")
    t.label("text_str")
    code = t.call(Python.PyDict_GetItemWithError, f"ptr {t.field('%record', Record.CODES)}, ptr %x")
    t.branch(f"icmp eq ptr {code}, null", "text_unknown", "text_known")
    t.label("text_known")
    t.line(f"%known = add i64 {t.call(Python.PyLong_AsLongLong, f'ptr {code}')}, 0")
    t.to("stored")
    t.label("text_unknown")
    t.line(f"%unknown = add i64 {t.field('%record', Record.UNKNOWN, 'i64')}, 0")
    t.branch(f"icmp eq ptr {t.call(Python.PyErr_Occurred, '')}, null", "text_new", "fail")
    t.label("text_new")
    t.branch("icmp sge i64 %unknown, 0", "stored", "give_up")
    t.label("text_no_str")
    t.same("%x", Python.NONE, "text_none", "text_no_none")
    t.label("text_none")
    t.line(f"%none = add i64 {t.field('%record', Record.NONE, 'i64')}, 0")
    t.to("stored")
    t.label("text_no_none")
    t.same("%type", Python.FLOAT, "text_float", "text_no_float")
    t.label("text_no_float")
    t.same("%type", Python.FLOAT64, "text_float", "give_up")
    t.label("text_float")
    number = t.at_value("%x", "double")
    t.branch(f"fcmp uno double {number}, {number}", "stored", "give_up")


_ONE, _NAN = "4607182418800017408", "9221120237041090560"  # bits of 1.0 and of NaN
# What is stored, by the block it comes from.
_STORED = {
    "number_float": "%float", "number_int": "%number_bits", "maybe_too_large": "%number_bits", "number_no_int": _NAN,
    "number_no_float64": _ONE, "number_no_true": "0", "number_float32": "%wide", "number_int64": "%converted",
    "integer_int": "%integer_bits", "maybe_too_long": "%integer_bits", "integer_int64": "%same",
    "integer_within": "%whole", "integer_no_float64": "1", "integer_no_true": "0", "boolean": "1",
    "boolean_no_true": "0",
    "text_known": "%known", "text_new": "%unknown", "text_none": "%none", "text_float": str(NAN_CODE),
}  # fmt: skip


def _end(t: Text) -> None:
    """Storing a cell; the machine and the answer; the ways out."""
    t.label("stored")
    t.line("%bits = phi i64 " + ", ".join(f"[ {value}, %{block} ]" for block, value in _STORED.items()))
    t.line(f"store i64 %bits, ptr {t.value('getelementptr i64, ptr %cells, i64 %i')}")
    t.line("%i_next = add i64 %i, 1")
    t.to("loop")
    t.label("run")
    refused = t.value(f"call i64 @edgeml_run(ptr {t.field('%context', Row.CALL)})")
    t.branch(f"icmp eq i64 {refused}, 0", "run_well", "give_up")
    t.label("run_well")
    t.branch(f"icmp eq i64 {t.value('load i64, ptr %due')}, 0", "finish", "learn")
    t.label("learn")
    learnt = t.call(Python.PyObject_Vectorcall, f"ptr {t.field('%context', Row.LEARN)}, ptr %args, i64 1, ptr null")
    t.branch(f"icmp eq ptr {learnt}, null", "fail", "learnt")
    t.label("learnt")
    t.call(Python.Py_DecRef, f"ptr {learnt}")
    t.to("finish")
    t.label("finish")
    t.line(f"%answer = call ptr {t.python(Python.PyObject_CallNoArgs)}(ptr {t.field('%context', Row.FINISH)})")
    t.line("store i64 0, ptr %context")
    t.line("ret ptr %answer")
    t.label("fail")  # what a key of the row raised, or an interrupt while learning
    t.line("store i64 0, ptr %context")
    t.line("ret ptr null")
    t.label("give_up")
    t.line("store i64 0, ptr %context")
    t.to("hand_over")
    t.label("hand_over")
    slow = t.field("%context", Row.SLOW)
    t.line(f"%given = call ptr {t.python(Python.PyObject_Vectorcall)}(ptr {slow}, ptr %args, i64 %nargs, ptr %kwnames)")
    t.line("ret ptr %given")
