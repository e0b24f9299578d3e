"""Attention as onnxruntime's own operator, which never holds all pairs of patches at once."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

DOMAIN = "com.microsoft"
"""Of onnxruntime's operators beyond the standard; every build of it knows this one."""


def fuse_attention(model: onnx.ModelProto) -> None:
    """Replace each `Attention` of the standard by onnxruntime's `MultiHeadAttention`, in place.

    Both compute the same. The standard one, as onnxruntime runs it on a processor, writes the
    scores of all pairs of patches to memory; this one goes through them in blocks.

    Args:
        model: as torch's exporter wrote it: queries, keys and values are [image head patch dim],
            and the shapes of what lies between the nodes are noted.
    """
    heads = {
        value.name: value.type.tensor_type.shape.dim[1].dim_value
        for value in model.graph.value_info
        if len(value.type.tensor_type.shape.dim) == 4
    }
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        count = heads.get(node.input[0], 0) if node.op_type == "Attention" else 0
        nodes += _own(model.graph, node, count) if count else [node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))


def _own(graph: onnx.GraphProto, node: onnx.NodeProto, heads: int) -> list[onnx.NodeProto]:
    """The nodes for one: [image head patch dim] to [image patch head * dim] and back."""
    out = node.output[0]
    joined, parted = f"{out}_joined", f"{out}_parted"
    shapes = {joined: [0, 0, -1], parted: [0, 0, heads, -1]}
    graph.initializer.extend(
        numpy_helper.from_array(np.array(shape, np.int64), name) for name, shape in shapes.items()
    )
    nodes, inputs = [], []
    for given, name in zip(node.input[:3], ("query", "key", "value"), strict=True):
        turned = f"{out}_{name}"
        nodes += [
            helper.make_node("Transpose", [given], [f"{turned}_turned"], perm=[0, 2, 1, 3]),
            helper.make_node("Reshape", [f"{turned}_turned", joined], [turned]),
        ]
        inputs.append(turned)
    return [
        *nodes,
        helper.make_node(
            "MultiHeadAttention", inputs, [f"{out}_mixed"], node.name, domain=DOMAIN,
            num_heads=heads,
        ),
        helper.make_node("Reshape", [f"{out}_mixed", parted], [f"{out}_split"]),
        helper.make_node("Transpose", [f"{out}_split"], [out], perm=[0, 2, 1, 3]),
    ]  # fmt: skip
