"""The ONNX graph of a trained model: a resized image in, labels and confidence out.

torch's exporter traces encoder and head; what follows them (text matrix, interpolation, the best
class) is a handful of nodes written here, since a wanted size in pixels does not trace.
"""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from jaxtyping import Float
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.export import Dim

from fmbseg.align.head import AlignmentHead
from fmbseg.model_export.attention import fuse_attention
from fmbseg.model_export.chunks import run_in_chunks
from fmbseg.model_export.positions import traceable_positions
from fmbseg.models.vision import TimmVision

OPSET = 23
"""The first with the operator `Attention`; onnxruntime 1.23 and newer have it."""
MAX_CLASSES = 65_535
"""Labels are 16 bits wide at most."""
MAX_BYTES = 2**31 - 2**20
"""One ONNX file holds no more."""

COMPARE = "compare_with_texts"
"""Name of the node that stays float32 in every precision."""


class ModelExportError(ValueError):
    """A model cannot be exported; the text says why and what to do."""


class _EveryPatchAsks(AlignmentHead):
    """The head as it works where all patches of a photograph ask.

    A trace takes one of the head's two ways for every size: that of the small example, where few
    ask, costs three times as much at 1,800 patches.
    """

    _attend_few = AlignmentHead._attend


class AlignedFeatures(nn.Module):
    """Normalisation, vision encoder and head: bytes in, unit-length features out."""

    mean: Tensor
    std: Tensor

    def __init__(self, vision: TimmVision, head: AlignmentHead, *, half: bool = False) -> None:
        """Take the parts; with `half` the encoder's weights are float16 copies."""
        super().__init__()
        encoder, late_norm = vision.model, vision.late_norm
        self.kind = torch.float16 if half else torch.float32
        self.encoder = copy.deepcopy(encoder).to(self.kind) if half else encoder
        self.late_norm = copy.deepcopy(late_norm).to(self.kind) if half else late_norm
        self.head, self.patch_hw = _EveryPatchAsks(**head.config()), vision.patch_hw
        self.head.load_state_dict(head.state_dict())
        self.prefix_tokens: int = encoder.num_prefix_tokens
        mean, std = (torch.tensor(one)[:, None, None] for one in (vision.mean, vision.std))
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, image: Tensor) -> Tensor:
        """Features in the text space, unit length: [image, rows, cols, dim].

        Args:
            image: uint8 [image, height, width, 3], whole patches.
        """
        pixels = (image.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        tokens = self.encoder.forward_features(pixels.to(self.kind))
        patches = self.late_norm(tokens[:, self.prefix_tokens :]).float()
        aligned: Tensor = self.head(patches)
        rows, cols = image.shape[1] // self.patch_hw[0], image.shape[2] // self.patch_hw[1]
        return aligned.reshape(image.shape[0], rows, cols, aligned.shape[-1])


def features_graph(
    vision: TimmVision,
    head: AlignmentHead,
    *,
    window_px: int | None = None,
    half: bool = False,
    standard: bool = False,
) -> onnx.ModelProto:
    """Trace encoder and head: input `image`, output `features`.

    Args:
        vision: on the CPU.
        head: trained for it.
        window_px: side of the one square that the graph takes; None: any whole number of patches.
        half: the encoder in float16; the head stays float32.
        standard: operators of the ONNX standard alone; else attention is onnxruntime's own.

    Raises:
        ModelExportError: the encoder does not trace, the window is no whole number of patches, or
            the file would be too large.
    """
    module = AlignedFeatures(vision, head, half=half).eval()
    size_hw = tuple(patch * 8 if window_px is None else window_px for patch in vision.patch_hw)
    if any(side % patch for side, patch in zip(size_hw, vision.patch_hw, strict=True)):
        raise ModelExportError(
            f"--window: found {window_px}; wanted a multiple of the patch {vision.patch_hw}"
        )
    weights = sum(one.nbytes for one in module.state_dict().values())
    if weights > MAX_BYTES:
        raise ModelExportError(
            f"the model's weights are {weights / 2**30:.1f} GiB; wanted at most 2, which is what "
            "one ONNX file holds; try --precision float16, or a smaller encoder"
        )
    # Two different images: an axis of length 1 would be taken for a constant.
    example = torch.zeros(2, size_hw[0], size_hw[1] if window_px else 2 * size_hw[1], 3)
    dynamic: dict[int, Any] = {0: Dim("batch")}
    if window_px is None:
        dynamic |= {1: vision.patch_hw[0] * Dim("rows"), 2: vision.patch_hw[1] * Dim("cols")}
    try:
        with traceable_positions(), torch.no_grad():
            traced = torch.export.export(
                module, (example.to(torch.uint8),), dynamic_shapes=(dynamic,),
                prefer_deferred_runtime_asserts_over_guards=True,
            )  # fmt: skip
            program = torch.onnx.export(
                traced, dynamo=True, opset_version=OPSET, input_names=["image"],
                output_names=["features"], verbose=False,
            )  # fmt: skip
    except Exception as error:  # torch's exporter raises errors of many kinds
        line = " ".join(str(error).split())[:200]
        raise ModelExportError(
            f"the vision encoder {type(vision.model).__name__} cannot be traced "
            f"({type(error).__name__}: {line}); wanted a ViT of timm without data-dependent steps"
        ) from error
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    if not standard:
        fuse_attention(model)
    return model


def _name_axes(model: onnx.ModelProto) -> None:
    """Axes by words, and no trace of the machine that the file was made on."""
    graph = model.graph
    for value, axes in ((graph.input[0], ("height", "width")), (graph.output[0], ("rows", "cols"))):
        for dim, axis in zip(value.type.tensor_type.shape.dim, ("batch", *axes), strict=False):
            if dim.dim_param:
                dim.dim_param = axis
    del graph.value_info[:]
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]


def labelling_graph(
    features: onnx.ModelProto,
    texts: Float[Tensor, "category dim"] | None,
    temperature: float,
    dim: int,
    *,
    chunks: bool = False,
) -> onnx.ModelProto:
    """The whole graph: the features are compared with texts, and the best class is taken.

    Inputs are `image` (uint8 [image height width 3], whole patches) and `size_hw` (int64 [2]: the
    wanted size of the answers), without built-in classes `texts` too. Outputs are `labels`,
    `confidence` (both [image height width] at that size) and `similarities` (cosine [image class
    rows cols], at the patches); without built-in classes `features` too.

    Args:
        features: of `features_graph`; it is left alone.
        texts: unit-length features of the classes; None leaves them to an input.
        temperature: of the softmax that confidence is a share of.
        dim: of the text space.
        chunks: see `run_in_chunks`: faster on a processor, for float32 alone.

    Raises:
        ModelExportError: more classes than labels can say.
    """
    if texts is not None and len(texts) > MAX_CLASSES:
        raise ModelExportError(
            f"found {len(texts):,} classes; wanted at most {MAX_CLASSES:,}, the most that 16 bits "
            "tell apart"
        )
    model = onnx.ModelProto()
    model.CopyFrom(features)
    if chunks:
        run_in_chunks(model)
    _name_axes(model)
    graph, kept = model.graph, copy.deepcopy(list(model.graph.output))
    constants = {
        "_axes": np.array([1], np.int64),
        "_one": np.array([1], np.int64),
        "_temperature": np.array(temperature, np.float32),
    }
    count: int | str = "class"
    if texts is None:
        graph.input.append(helper.make_tensor_value_info("texts", TensorProto.FLOAT, [count, dim]))
        graph.node.append(helper.make_node("Transpose", ["texts"], ["_texts"], perm=[1, 0]))
    else:
        count = len(texts)
        constants["_texts"] = np.ascontiguousarray(texts.float().numpy().T)
    narrow = texts is not None and len(texts) <= 255
    kind = TensorProto.UINT8 if narrow else TensorProto.UINT16
    size = ["batch", "out_height", "out_width"]
    graph.input.append(helper.make_tensor_value_info("size_hw", TensorProto.INT64, [2]))
    graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in constants.items())
    graph.node.extend(_labelling_nodes(kind))
    del graph.output[:]
    graph.output.extend((
        helper.make_tensor_value_info("labels", kind, size),
        helper.make_tensor_value_info("confidence", TensorProto.FLOAT, size),
        helper.make_tensor_value_info(
            "similarities", TensorProto.FLOAT, ["batch", count, "rows", "cols"]
        ),
        *(kept if texts is None else ()),
    ))  # fmt: skip
    onnx.checker.check_model(model)
    return model


def _labelling_nodes(kind: int) -> list[onnx.NodeProto]:
    node = helper.make_node
    return [
        node("MatMul", ["features", "_texts"], ["_cosines"], name=COMPARE),
        node("Transpose", ["_cosines"], ["similarities"], perm=[0, 3, 1, 2]),
        node("Div", ["similarities", "_temperature"], ["_scaled"]),
        node("Shape", ["similarities"], ["_shape"], start=0, end=2),
        node("Concat", ["_shape", "size_hw"], ["_sizes"], axis=0),
        node(
            "Resize", ["_scaled", "", "", "_sizes"], ["_pixels"], mode="linear",
            coordinate_transformation_mode="half_pixel",
        ),
        node("TopK", ["_pixels", "_one"], ["_best", "_index"], axis=1),
        node("Squeeze", ["_index", "_axes"], ["_label"]),
        node("Cast", ["_label"], ["labels"], to=kind),
        node("Sub", ["_pixels", "_best"], ["_below"]),
        node("Exp", ["_below"], ["_share"]),
        node("ReduceSum", ["_share", "_axes"], ["_total"], keepdims=0),
        node("Reciprocal", ["_total"], ["confidence"]),
    ]  # fmt: skip


def save_model(path: Path, model: onnx.ModelProto, facts: Mapping[str, Any]) -> None:
    """Write a graph with what it says of itself: `fmbseg` (JSON), and `classes` for people."""
    told = {"fmbseg": json.dumps(facts, ensure_ascii=False), "classes": "\n".join(facts["classes"])}
    helper.set_model_props(model, told)
    onnx.save(model, path)
