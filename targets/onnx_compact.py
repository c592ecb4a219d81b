"""Makes a written graph small without changing what it computes: drops what nothing reads, shortens names, and packs
lists of integers.

Comes in: the nodes, constants and outputs of a graph, then its protobuf message; goes out: fewer and shorter ones, and
the bytes of the file. Called by targets/onnx.py.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterator, Sequence, Set
from functools import cache
from typing import Any

import onnx
import onnx_ir as ir
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


# --- the graph ----------------------------------------------------------------------------------------------
def needed(nodes: Sequence[ir.Node], outputs: Sequence[ir.Value]) -> tuple[list[ir.Node], set[ir.Value]]:
    """The nodes that some output depends on, in their order, and all values they read."""
    wanted = set(outputs)
    kept = []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.outputs):
            kept.append(node)
            wanted.update(_reads(node))
    return kept[::-1], wanted


def _reads(node: ir.Node) -> Iterator[ir.Value]:
    """What a node reads, the nodes in its loop bodies and branches included."""
    yield from (value for value in node.inputs if value is not None)
    for attribute in node.attributes.values():
        for body in bodies(attribute):
            yield from body.outputs
            for inner in body:
                yield from _reads(inner)


def bodies(attribute: Any) -> list[ir.Graph]:
    """Loop bodies and branches that an attribute holds."""
    if attribute.type == ir.AttributeType.GRAPH:
        return [attribute.as_graph()]
    return list(attribute.as_graphs()) if attribute.type == ir.AttributeType.GRAPHS else []


def shorten_names(values: Sequence[ir.Value], taken: Set[str]) -> None:
    """Call the values a, b, c, …, in their order. No name of another value is that short, but for those ``taken``."""
    names = (name for name in _short_names() if name not in taken)
    for value in values:
        if value.name:
            value.name = next(names)
            if value.const_value is not None:
                value.const_value.name = value.name


def _short_names() -> Iterator[str]:
    for length in itertools.count(1):
        yield from map("".join, itertools.product(string.ascii_letters, repeat=length))


# --- the message --------------------------------------------------------------------------------------------
def strip(proto: onnx.ModelProto) -> None:
    """Leave out what a reader derives: the types of inner values."""
    del proto.graph.value_info[:]


def packed(proto: onnx.ModelProto) -> bytes:
    """The message with integer attributes packed: one length in front of a list instead of a tag at every entry.

    ONNX's schema is of protobuf 2, where lists are not packed unless it says so, and it does not. Every reader must
    take both (protobuf.dev, "Encoding"), and the trees of a forest, which are lists of integers, shrink by a third.
    """
    message = _packing_model().FromString(proto.SerializeToString())
    return bytes(message.SerializeToString(deterministic=True))


@cache
def _packing_model() -> Any:
    """The class ModelProto of a schema that differs from ONNX's in this one option."""
    schema = descriptor_pb2.FileDescriptorProto()
    onnx.ModelProto.DESCRIPTOR.file.CopyToProto(schema)
    attribute = next(message for message in schema.message_type if message.name == "AttributeProto")
    for field in attribute.field:
        if field.name in ("ints", "floats"):
            field.options.packed = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(schema)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{schema.package}.ModelProto"))
