"""What lies where for the reader of one raw row: Python's addresses, the context of a function, its columns.

``row_entry.py`` makes the machine code that reads them, ``runtimes/native_call.py`` writes them.
"""

from __future__ import annotations

from enum import IntEnum


class Python(IntEnum):
    """Addresses in ``edgeml_python``: functions of the C API by their names, then types and constants."""

    PyDict_GetItemWithError = 0
    PyDict_Size = 1
    PyList_GetItem = 2
    PyList_Size = 3
    PyTuple_GetItem = 4
    PyTuple_Size = 5
    PyLong_AsDouble = 6
    PyLong_AsLongLong = 7
    PyLong_AsVoidPtr = 8
    PyErr_Occurred = 9
    PyErr_Clear = 10
    PyObject_CallNoArgs = 11
    PyObject_Vectorcall = 12
    PyDict_Next = 13
    Py_DecRef = 14
    DICT = 15
    LIST = 16
    TUPLE = 17
    FLOAT = 18
    INT = 19
    STR = 20
    NONE = 21  # from here on three objects, not types
    TRUE = 22
    FALSE = 23
    FLOAT64 = 24  # from here on types of NumPy, whose value lies where that of a float lies
    FLOAT32 = 25
    INT64 = 26


class Row(IntEnum):
    """Fields of the context, whose address is ``self[0]``."""

    BUSY = 0
    CALL = 1  # for the machine
    CELLS = 2  # where the first column's cell is written
    SLOW = 3  # called with what the function was called with
    FINISH = 4  # called without arguments, gives the answer
    COLUMNS = 5  # records
    WIDTH = 6  # cells of a list or tuple
    UNUSED = 7  # columns a dict may have and need not
    NAMES = 8  # address of their names
    RECORDS = 9  # address of the first
    # The order of keys that dicts had lately, found again by identity: a third of the time of looking them up.
    ORDER = 10  # how many keys, -1 before any is known: an empty dict has 0
    KEYS = 11  # address of the keys' addresses
    TARGETS = 12  # address of each key's position in a list
    VALUES = 13  # address of room for the cells, by position
    MISSES = 14  # dicts in another order so far
    LEARN = 15  # called with the row at the 1st, 2nd, 4th, 8th … miss, to write down its order
    DUE = 16  # whether it is to be called


class Record(IntEnum):
    """Fields of a column."""

    NAME = 0
    POSITION = 1  # in a list or tuple
    KIND = 2
    CODES = 3  # of a text: a dict of str to int
    UNKNOWN = 4  # of a text: the code of a str that is not in CODES, or -1 for slow
    NONE = 5  # of a text: the code of None


class Kind(IntEnum):
    """How a cell is read."""

    NUMBER = 0  # float64: a float, an integer, a boolean, None as NaN
    INTEGER = 1  # int64: an integer, a float without fraction, a boolean
    BOOLEAN = 2  # int64: True or False
    TEXT = 3  # int64: the code of a str, of None or of NaN


NAN_CODE = 0  # of a NaN among texts, as edgeml/ir/coded.py has it
TYPE_OFFSET = 8  # of an object's type in an object; ``native_call`` makes sure of both
VALUE_OFFSET = 16  # of the value of a float and of NumPy's scalars

# Name -> type of result, types of arguments, in LLVM's words.
SIGNATURES = {
    "PyDict_GetItemWithError": ("ptr", "ptr, ptr"),
    "PyDict_Size": ("i64", "ptr"),
    "PyList_GetItem": ("ptr", "ptr, i64"),
    "PyList_Size": ("i64", "ptr"),
    "PyTuple_GetItem": ("ptr", "ptr, i64"),
    "PyTuple_Size": ("i64", "ptr"),
    "PyLong_AsDouble": ("double", "ptr"),
    "PyLong_AsLongLong": ("i64", "ptr"),
    "PyLong_AsVoidPtr": ("ptr", "ptr"),
    "PyErr_Occurred": ("ptr", ""),
    "PyErr_Clear": ("void", ""),
    "PyObject_CallNoArgs": ("ptr", "ptr"),
    "PyObject_Vectorcall": ("ptr", "ptr, ptr, i64, ptr"),
    "PyDict_Next": ("i32", "ptr, ptr, ptr, ptr"),
    "Py_DecRef": ("void", "ptr"),
}
