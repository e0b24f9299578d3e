"""What treats every patch alike runs some patches at a time.

onnxruntime's matrix product loses a sixth of its speed where its operands outgrow a core's cache.
Between two attentions no patch knows of another, so all that lies there goes through in chunks
(`Scan` of the standard), whose values stay near the core.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CHUNK = 384
"""So many patches at a time, at most."""
_OPERATORS = {"Add", "Sub", "Mul", "Div", "Gelu", "LayerNormalization", "MatMul"}
_CONSTANTS = {"chunk_0": 0, "chunk_1": 1, "chunk_rest": -1}

Rows = tuple[str | int, str | int]
"""Images and patches of a value [image patch dim]: symbols or numbers."""


def run_in_chunks(model: onnx.ModelProto, most: int = CHUNK) -> None:
    """Put the operators that treat every patch alike into loops over chunks of patches, in place.

    Args:
        model: float32, as torch's exporter wrote it, attention being one operator; the shapes of
            what lies between the nodes are noted.
        most: patches of a chunk; all chunks have one length, as near to it as their number allows.
    """
    graph = model.graph
    segments = _segments(graph)
    moved = {node.output[0] for _, nodes in segments for node in nodes}
    outside = [node for node in graph.node if node.output[0] not in moved]
    asked = {name for node in outside for name in node.input} | {one.name for one in graph.output}
    used = [{name for node in nodes for name in node.input} for _, nodes in segments]
    counted: dict[Rows, str] = {}
    chunked: set[str] = set()
    for number, (rows, nodes) in enumerate(segments):
        made = [node.output[0] for node in nodes]
        later = asked.union(*used[number + 1 :])
        taken = [name for name in _inputs(graph, nodes) if name not in made]
        given = [name for name in made if name in later]
        if rows not in counted:
            counted[rows] = f"chunks{len(counted)}"
            outside += _sizes(counted[rows], taken[0])
        for name in taken:
            if name not in chunked:
                outside += _parted(counted[rows], name)
        outside.append(_loop(f"{counted[rows]}_{number}", nodes, taken, given))
        chunked.update(taken, given)
        for name in given:
            if name in asked:
                outside += _joined(counted[rows], name)
    graph.initializer.extend(
        numpy_helper.from_array(np.array([value], np.int64), name)
        for name, value in {**_CONSTANTS, "chunk_most": most}.items()
    )
    ordered = list(_in_order(outside, _known(graph)))
    del graph.node[:]
    graph.node.extend(ordered)


def _segments(graph: onnx.GraphProto) -> list[tuple[Rows, list[onnx.NodeProto]]]:
    """Operators that treat every patch alike, with none of another kind on a way between them."""
    found: dict[tuple[int, Rows], list[onnx.NodeProto]] = {}
    depth: dict[str, tuple[int, bool]] = {}
    shapes, constants = _shapes(graph), {one.name: one for one in graph.initializer}
    for node in graph.node:
        rows = _rows(node, shapes, constants, shapes[graph.input[0].name][0])
        before = [depth[name] for name in node.input if name in depth]
        level = max((at + (alike and rows is None) for at, alike in before), default=0)
        depth.update((name, (level, rows is not None)) for name in node.output)
        if rows is not None:
            found.setdefault((level, rows), []).append(node)
    return [
        (rows, nodes)
        for (_, rows), nodes in sorted(found.items(), key=lambda one: one[0][0])
        if any(node.op_type == "MatMul" for node in nodes)
    ]


def _rows(
    node: onnx.NodeProto,
    shapes: dict[str, list[str | int]],
    constants: dict[str, onnx.TensorProto],
    batch: str | int,
) -> Rows | None:
    """Images and patches of what a node works on; None where it does not treat patches alike."""
    out = shapes.get(node.output[0], [])
    if node.op_type not in _OPERATORS or len(out) != 3 or out[0] != batch:
        return None
    if node.op_type == "LayerNormalization" and _attribute(node, "axis", -1) != -1:
        return None
    for place, name in enumerate(node.input):
        if name in constants:
            most = 2 if node.op_type == "MatMul" and place == 1 else 1
            if len(constants[name].dims) > most:
                return None
        elif len(shapes.get(name, [])) != 3 or shapes[name][:2] != out[:2]:
            return None
    return out[0], out[1]


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((one.i for one in node.attribute if one.name == name), default)


def _shapes(graph: onnx.GraphProto) -> dict[str, list[str | int]]:
    return {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.input, *graph.output)
    }


def _known(graph: onnx.GraphProto) -> set[str]:
    return {"", *(one.name for one in (*graph.initializer, *graph.input))}


def _inputs(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> list[str]:
    """What nodes read, each once, without constants."""
    known = _known(graph)
    return list(dict.fromkeys(n for node in nodes for n in node.input if n not in known))


def _sizes(name: str, of: str) -> list[onnx.NodeProto]:
    """How [image patch dim] becomes [chunk row dim]: as few chunks as do, all of one length."""
    node = helper.make_node
    total, count, length = f"{name}_total", f"{name}_count", f"{name}_length"
    return [
        node("Shape", [of], [f"{name}_rows"], start=0, end=2),
        node("ReduceProd", [f"{name}_rows"], [total], keepdims=1),
        node("Concat", [f"{name}_rows", "chunk_rest"], [f"{name}_whole"], axis=0),
        *_divided_up(total, "chunk_most", count),
        *_divided_up(total, count, length),
        node("Concat", [count, length, "chunk_rest"], [f"{name}_parts"], axis=0),
        node("Mul", [count, length], [f"{name}_padded"]),
        node("Sub", [f"{name}_padded", total], [f"{name}_extra"]),
        node(
            "Concat", ["chunk_0", "chunk_0", f"{name}_extra", "chunk_0"], [f"{name}_pads"], axis=0
        ),
    ]  # fmt: skip


def _divided_up(value: str, by: str, out: str) -> list[onnx.NodeProto]:
    """A quotient of whole numbers, rounded up."""
    return [
        helper.make_node("Add", [value, by], [f"{out}_over"]),
        helper.make_node("Sub", [f"{out}_over", "chunk_1"], [f"{out}_above"]),
        helper.make_node("Div", [f"{out}_above", by], [out]),
    ]


def _parted(sizes: str, name: str) -> list[onnx.NodeProto]:
    """[image patch dim] as chunks, the last one filled up with zeros."""
    return [
        helper.make_node("Flatten", [name], [f"{name}_flat"], axis=2),
        helper.make_node("Pad", [f"{name}_flat", f"{sizes}_pads"], [f"{name}_padded"]),
        helper.make_node("Reshape", [f"{name}_padded", f"{sizes}_parts"], [f"{name}_chunks"]),
    ]


def _joined(sizes: str, name: str) -> list[onnx.NodeProto]:
    """The way back, under the name that it has outside."""
    flat, kept = f"{name}_chunks_flat", f"{name}_kept"
    return [
        helper.make_node("Flatten", [f"{name}_chunks"], [flat], axis=2),
        helper.make_node("Slice", [flat, "chunk_0", f"{sizes}_total", "chunk_0"], [kept]),
        helper.make_node("Reshape", [kept, f"{sizes}_whole"], [name]),
    ]


def _loop(
    name: str, nodes: Sequence[onnx.NodeProto], taken: Sequence[str], given: Sequence[str]
) -> onnx.NodeProto:
    inner = {one: f"{one}_chunk" for one in (*taken, *(node.output[0] for node in nodes))}
    body = []
    for node in nodes:
        copied = onnx.NodeProto()
        copied.CopyFrom(node)
        del copied.metadata_props[:]
        copied.input[:] = [inner.get(one, one) for one in node.input]
        copied.output[:] = [inner.get(one, one) for one in node.output]
        body.append(copied)
    ends = (
        [helper.make_tensor_value_info(inner[one], TensorProto.FLOAT, None) for one in some]
        for some in (taken, given)
    )
    return helper.make_node(
        "Scan", [f"{one}_chunks" for one in taken], [f"{one}_chunks" for one in given], name,
        body=helper.make_graph(body, name, *ends), num_scan_inputs=len(taken),
    )  # fmt: skip


def _in_order(nodes: Sequence[onnx.NodeProto], known: set[str]) -> Iterator[onnx.NodeProto]:
    """Each node after those whose values it reads."""
    waiting = list(nodes)
    while waiting:
        ready = next(k for k, node in enumerate(waiting) if known.issuperset(node.input))
        node = waiting.pop(ready)
        known.update(node.output)
        yield node
