"""A process that has NumPy, onnxruntime and LiteRT and nothing of EdgeML: runs models for tests/stock/client.py.

Started as ``python -I -S worker.py SITE_PACKAGES``: no current folder, no environment, no ``.pth`` file and so no
editable install, and ``Only`` refuses every other package that lies in the same folder. Requests come on standard
input, answers leave on standard output; ``send`` and ``receive`` are the format, for both ends.

A message is a length (4 bytes, little-endian), that many bytes of JSON, and the bytes of its model and arrays one
behind the other. Strings travel as JSON lists: NumPy would need pickles for them.
"""

from __future__ import annotations

import json
import os
import struct
import sys

PACKAGES = ("numpy", "onnxruntime", "ai_edge_litert")


class Only:
    """Import hook in front of all others: the standard library and PACKAGES, nothing else."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in PACKAGES and top not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"No module named {name!r}: only {', '.join(PACKAGES)} are here", name=name)


def send(stream, head, arrays=(), model=b""):
    """Write a message: a JSON object, (name, array) pairs and a model's bytes."""
    described, blobs = [], [model]
    for name, x in arrays:
        entry = {"name": name, "shape": x.shape, "dtype": x.dtype.str}
        if x.dtype.kind in "OU":
            entry |= {"dtype": "O", "cells": x.ravel().tolist()}
        else:
            blobs.append(x.tobytes())
        described.append(entry)
    text = json.dumps({"head": head, "arrays": described, "model": len(model)}).encode()
    for part in (struct.pack("<I", len(text)), text, *blobs):
        stream.write(part)
    stream.flush()


def receive(stream):
    """The next message as (head, arrays by name, model). Raises EOFError when the other end has gone."""
    import numpy as np

    message = json.loads(_exactly(stream, struct.unpack("<I", _exactly(stream, 4))[0]))
    model = _exactly(stream, message["model"])
    arrays = {}
    for entry in message["arrays"]:
        dtype, shape = np.dtype(entry["dtype"]), entry["shape"]
        if "cells" in entry:
            x = np.empty(len(entry["cells"]), dtype)
            x[:] = entry["cells"]
        else:
            x = np.frombuffer(_exactly(stream, int(np.prod(shape)) * dtype.itemsize), dtype)
        arrays[entry["name"]] = x.reshape(shape)
    return message["head"], arrays, model


def _exactly(stream, count):
    data = stream.read(count)
    if len(data) < count:
        raise EOFError("the other end has gone")
    return data


def onnx(head, feeds, model):
    """Answers of an ONNX model by output name."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_outputs()]
    results = _in_parts(lambda part: dict(zip(names, session.run(names, part), strict=True)), feeds, head["rows"])
    return {}, results.items()


def tflite(head, feeds, model):
    """Answers of a signature of a TFLite model by output name; LiteRT's own choice of delegate."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_content=model, num_threads=1).get_signature_runner(head["signature"])
    return {}, _in_parts(lambda part: runner(**part), feeds, head["rows"]).items()


def _in_parts(run, feeds, rows):
    """Answers of ``rows`` rows at a time, which bounds the memory of a long batch; of all at once for None."""
    import numpy as np

    count = max((len(x) for x in feeds.values()), default=0)
    if rows is None or count <= rows:
        return run(feeds)
    parts = [run({name: x[i : i + rows] for name, x in feeds.items()}) for i in range(0, count, rows)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def about(head, feeds, model):
    """What can be imported here, what has been, and where from; for the test that this process is what it says."""
    from importlib import import_module

    errors = {}
    for name in head["names"]:
        try:
            errors[name] = None if import_module(name) else ""
        except ImportError as error:
            errors[name] = str(error)
    files = [f for f in (getattr(m, "__file__", None) for m in list(sys.modules.values())) if f]
    return {"errors": errors, "modules": sorted(sys.modules), "files": sorted(files), "pid": os.getpid()}, ()


def die(head, feeds, model):
    """A runtime that takes the process down, for the test of what follows."""
    import faulthandler

    faulthandler.enable()
    faulthandler._sigsegv()


def main():
    sys.path.append(sys.argv[1])
    sys.meta_path.insert(0, Only)
    kinds = {"onnx": onnx, "tflite": tflite, "about": about, "die": die}
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a runtime prints is no answer
    while True:
        try:
            head, arrays, model = receive(requests)
        except EOFError:
            return
        try:
            facts, results = kinds[head["kind"]](head, arrays, model)
            send(answers, {"facts": facts}, results)
        except Exception as error:  # the runtimes have a dozen classes, and the text is all that is asked for
            send(answers, {"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
