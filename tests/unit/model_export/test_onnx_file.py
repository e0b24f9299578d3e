"""The exported file, run by the copyable runner, against torch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from fmbseg import runtime
from fmbseg.model_export.attention import fuse_attention
from fmbseg.model_export.graph import OPSET, ModelExportError, labelling_graph
from fmbseg.model_export.measure import drawn, measured
from fmbseg.model_export.positions import axis_weights
from fmbseg.model_export.write import ModelExport, write_model, write_words
from fmbseg.runtime import Runner
from fmbseg.segmenter import Segmenter
from fmbseg.vocabulary import Vocabulary
from tests.support.trained_folder import CLASSES
from tests.unit.model_export.conftest import BLOCKS, WORDS

pytestmark = pytest.mark.weights
SIZES_HW = [(192, 256), (64, 500), (301, 77), (8, 9)]


@pytest.fixture(scope="module")
def segmenter(trained) -> Segmenter:
    return Segmenter.load(trained, device="cpu", precision="float32")


@pytest.mark.parametrize("size_hw", SIZES_HW)
def test_file_and_torch_label_alike_and_are_as_sure(runner, segmenter, size_hw):
    image = drawn(size_hw, 5)
    wanted, found = segmenter.predict(image, WORDS, scores=True), runner(image)
    assert len(np.unique(wanted.labels)) > 1
    assert (found.labels == wanted.labels).mean() >= 0.999
    assert np.abs(found.confidence - wanted.confidence).max() < 1e-4


def test_encoder_and_head_are_fused_attention_whatever_the_number_of_patches(exported):
    """The head's way for few patches, which a small example takes, would be no such node."""
    model = onnx.load(exported / "model.onnx")
    fused = [node for node in model.graph.node if node.op_type == "MultiHeadAttention"]
    assert len(fused) == BLOCKS + 1
    assert all(node.domain == "com.microsoft" for node in fused)


def test_the_standards_own_attention_answers_the_same():
    """[image head patch dim], as the exporter writes it, against the definition."""
    info, shape = onnx.helper.make_tensor_value_info, ["image", 2, "patch", 3]
    names, kind = ("q", "k", "v"), onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["asked"], ["q"]),
         onnx.helper.make_node("Attention", [*names], ["out"])], "attention",
        [info(name, kind, shape) for name in ("asked", "k", "v")], [info("out", kind, shape)],
        value_info=[info("q", kind, shape)],
    )  # fmt: skip
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=11
    )
    q, k, v = np.random.default_rng(0).normal(size=(3, 2, 2, 5, 3)).astype(np.float32)
    scores = np.exp(np.einsum("bhqd,bhkd->bhqk", q, k) / 3**0.5)
    wanted = np.einsum("bhqk,bhkd->bhqd", scores / scores.sum(-1, keepdims=True), v)
    fused = onnx.ModelProto()
    fused.CopyFrom(model)
    fuse_attention(fused)
    assert "Attention" not in {node.op_type for node in fused.graph.node}
    for one in (model, fused):
        session = onnxruntime.InferenceSession(one.SerializeToString())
        (found,) = session.run(None, {"asked": q, "k": k, "v": v})
        assert np.allclose(found, wanted, atol=1e-5)


def test_what_is_interpolated_row_by_row_is_what_the_graph_interpolates(
    runner, segmenter, monkeypatch
):
    image = drawn((150, 400), 6)
    whole = runner(image)
    monkeypatch.setattr(runtime, "MAX_ELEMENTS", 10_000)
    rows = runner(image)
    assert (rows.labels == whole.labels).mean() >= 0.999
    assert np.abs(rows.confidence - whole.confidence).max() < 1e-4


def test_an_image_of_many_patches_goes_through_in_the_segmenters_tiles(
    runner, segmenter, monkeypatch
):
    image = drawn((192, 1500), 7)
    monkeypatch.setitem(runner.metadata, "tile_side_px", 256)
    monkeypatch.setattr(segmenter.segmentation, "tile_side_px", 256)
    wanted = segmenter.predict(image, WORDS).labels
    assert (runner(image).labels == wanted).mean() >= 0.99  # scores are averaged, not features


@pytest.mark.parametrize("count", [1, 7])
def test_a_batch_is_its_images_one_by_one(runner, count):
    images = [drawn((96, 130), seed) for seed in range(count)]
    together = runner.several(images)
    assert len(together) == count
    for image, answer in zip(images, together, strict=True):
        assert (answer.labels == runner(image).labels).mean() >= 0.999


def test_other_words_need_no_other_export(exported, trained, segmenter, tmp_path):
    words = Vocabulary.of(["boat", "tree", "sand"])
    write_words(trained, words, tmp_path / "words.npz")
    runner, image = Runner(exported / "model.onnx", tmp_path / "words.npz"), drawn((96, 130), 8)
    assert runner.classes == words.names
    assert (runner(image).labels == segmenter.predict(image, words).labels).mean() >= 0.999


def test_words_of_another_text_encoder_are_refused(runner, tmp_path):
    path = tmp_path / "words.npz"
    np.savez(path, names=np.array(["a"]), vectors=np.ones((1, 128)), text_encoder=np.array("x"))
    with pytest.raises(ValueError, match="of the text encoder x; wanted"):
        runner.set_words(path)


def test_the_copied_file_runs_without_torch_and_without_this_package(exported, tmp_path):
    Image.fromarray(drawn((96, 130), 9)).save(tmp_path / "photo.png")
    program = (
        "import sys; sys.modules['torch'] = sys.modules['fmbseg'] = None\n"
        "sys.argv = ['runtime.py', 'model.onnx', sys.argv[1], '--words', 'words.npz']\n"
        "import runpy; runpy.run_path('runtime.py', run_name='__main__')\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "photo.png")], cwd=exported,
        capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "photo.labels.png" in ran.stdout
    assert np.asarray(Image.open(tmp_path / "photo.labels.png")).shape == (96, 130)


@pytest.mark.e2e
def test_classes_are_built_in_and_the_file_says_what_it_is(trained, segmenter, tmp_path):
    """One square window; half the bytes."""
    plan = ModelExport("float16", window_px=96)
    facts = write_model(trained, WORDS, plan, tmp_path)
    runner = Runner(tmp_path / "model.onnx")
    assert runner.classes == CLASSES == tuple(runner.metadata["classes"])
    assert runner.metadata["synonyms"][1] == ["lawn"]
    assert {"template", "protocol", "licences", "lineage", "models"} < set(runner.metadata)
    assert json.loads((tmp_path / "model.json").read_text()) == json.loads(json.dumps(facts))
    stored = (tmp_path / "model.onnx").read_bytes()
    assert str(Path.cwd()).encode() not in stored
    assert b"site-packages" not in stored
    assert len(stored) < 5e6
    square = drawn((96, 96), 4)
    assert runner(square).labels.shape == (96, 96)
    assert runner(drawn((200, 500), 4)).labels.shape == (200, 500)


def test_labels_and_confidence_are_the_softmax_of_interpolated_cosines(tmp_path):
    """Three channels stand in for features, two classes for texts."""
    image = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3), dtype=np.uint8)
    texts = torch.nn.functional.normalize(torch.tensor([[1.0, 0.2, 0.0], [0.1, 0.9, 0.4]]), dim=1)
    session = onnxruntime.InferenceSession(
        labelling_graph(channels_graph(), texts, 20.0, 3).SerializeToString()
    )
    feed = {"image": image, "size_hw": np.array([5, 9])}
    labels, confidence, similarities = session.run(None, feed)
    cosines = torch.from_numpy(image).float() @ texts.T
    assert np.allclose(similarities, cosines.permute(0, 3, 1, 2), rtol=1e-5)
    pixels = torch.nn.functional.interpolate(
        cosines.permute(0, 3, 1, 2), size=(5, 9), mode="bilinear", align_corners=False
    )
    assert labels.dtype == np.uint8
    assert (labels == pixels.argmax(1).numpy()).all()
    assert np.allclose(confidence, (pixels / 20).softmax(1).amax(1), atol=1e-5)
    many = labelling_graph(channels_graph(), torch.zeros(256, 3), 20.0, 3)
    assert many.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.UINT16


def channels_graph() -> onnx.ModelProto:
    """The image's channels as features."""
    info, cast = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    shape = ["batch", "rows", "cols", 3]
    return onnx.helper.make_model(
        onnx.helper.make_graph(
            [cast("Cast", ["image"], ["features"], to=onnx.TensorProto.FLOAT)],
            "channels",
            [info("image", onnx.TensorProto.UINT8, shape)],
            [info("features", onnx.TensorProto.FLOAT, shape)],
        ),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=10,
    )


def test_ways_are_measured_on_the_same_labelled_images(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    truth = np.zeros((8, 10), np.uint8)
    truth[:, 5:] = 1
    Image.fromarray(drawn((8, 10), 0)).save(tmp_path / "images" / "a.png")
    Image.fromarray(truth).save(tmp_path / "labels" / "a.png")
    ways = {"right": lambda image: truth, "half": lambda image: np.zeros_like(truth)}
    found = measured(ways, tmp_path, Vocabulary.of(["a", "b"]))
    assert (found["right"]["miou"], found["right"]["agrees"]) == (1.0, 1.0)
    assert (found["half"]["miou"], found["half"]["agrees"]) == (0.25, 0.5)
    assert found["half"]["images"] == 1


def test_what_cannot_be_exported_is_refused_in_words(trained, tmp_path):
    with pytest.raises(ModelExportError, match="wanted at most 65,535"):
        labelling_graph(onnx.ModelProto(), torch.zeros(65_536, 2), 0.1, 2)
    with pytest.raises(ModelExportError, match="wanted a multiple of the patch"):
        write_model(trained, WORDS, ModelExport(window_px=97), tmp_path)


@pytest.mark.parametrize("size", [3, 16, 41])
def test_positions_are_resampled_as_torch_does_it(size):
    learned = torch.randn(16, 5)
    wanted = torch.nn.functional.interpolate(
        learned[None, None], size=(size, 5), mode="bicubic", antialias=True
    )
    assert torch.allclose(axis_weights(16, size) @ learned, wanted[0, 0], atol=1e-5)
