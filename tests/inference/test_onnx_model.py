"""Foreign ONNX files: any batch size, stated and overridden input, and what is refused."""

from __future__ import annotations

import os
import sys
import time

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_network import noise
from small_onnx import DIM, mean_network, model, value, weights, write

import faceprint
from faceprint.data.pixels import InputSpec
from faceprint.errors import UserError
from faceprint.inference.onnx_graph import METADATA_KEY
from faceprint.inference.onnx_rewrite import split_prelu

SIZE = (8, 6)


def by_formula(images, mean=127.5, std=127.5, colour="rgb"):
    pixels = images.astype(np.float64).mean(axis=(1, 2))
    pixels = pixels[:, ::-1] if colour == "bgr" else pixels
    raw = ((pixels - mean) / std) @ weights().astype(np.float64).T
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


@pytest.mark.parametrize("batch", [1, 4, "N", None])
def test_fixed_and_open_batches_give_the_same(tmp_path, batch):
    embedder = faceprint.load(write(tmp_path / "a.onnx", mean_network(batch)))
    assert (embedder.embedding_dim, embedder.input) == (DIM, InputSpec(size=SIZE))
    for count in (1, 3, 4, 9):
        images = noise(count, SIZE, seed=count)
        for batch_size in (1, 5, 64):
            np.testing.assert_allclose(embedder.embed(images, batch_size=batch_size), by_formula(images), atol=1e-4)


def test_overrides_say_what_the_file_does_not(tmp_path):
    path = write(tmp_path / "a.onnx", mean_network(1))
    images = noise(3, SIZE)
    overrides = {"colour": "bgr", "mean": "0", "std": "1e0", "size": "8x6"}
    found = faceprint.load(path, overrides)
    assert found.input == InputSpec(size=SIZE, colour="bgr", mean=0.0, std=1.0)
    np.testing.assert_allclose(found.embed(images), by_formula(images, 0, 1, "bgr"), atol=1e-5)


def test_an_open_size_is_112x112_unless_said(tmp_path):
    path = write(tmp_path / "a.onnx", mean_network("N", ["h", "w"]))
    assert faceprint.load(path).input.size == (112, 112)
    assert faceprint.load(path, {"size": "10x12"}).embed(noise(2, (10, 12))).shape == (2, DIM)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"color": "rgb"}, "colour"),
        ({"colour": "RGB "}, "rgb, bgr"),
        ({"mean": "zero"}, "input.mean=zero: 'zero' is not a number"),
        ({"mean": "nan"}, "finite"),
        ({"std": "0"}, "above 0"),
        ({"std": "-1"}, "above 0"),
        ({"size": "112"}, "height x width"),
        ({"size": "0x6"}, "1 to 4096"),
        ({"size": "112x112"}, "takes images of 8x6"),
    ],
)
def test_overrides_that_are_none(tmp_path, overrides, words):
    with pytest.raises(UserError, match=words):
        faceprint.load(write(tmp_path / "a.onnx", mean_network(1)), overrides)


def test_weights_listed_as_inputs_are_weights(tmp_path):
    images = noise(2, SIZE)
    embedder = faceprint.load(write(tmp_path / "a.onnx", mean_network(1, weights_as_inputs=True)))
    np.testing.assert_allclose(embedder.embed(images), by_formula(images), atol=1e-4)


def test_weights_in_a_file_beside_it(tmp_path):
    content = mean_network(1)
    onnx.save(content, tmp_path / "a.onnx", save_as_external_data=True, location="a.data", size_threshold=0)
    assert (tmp_path / "a.data").stat().st_size > 0
    images = noise(2, SIZE)
    np.testing.assert_allclose(faceprint.load(tmp_path / "a.onnx").embed(images), by_formula(images), atol=1e-4)
    before = faceprint.load(tmp_path / "a.onnx").content_hash
    assert before is not None
    told = before()
    content = (tmp_path / "a.data").read_bytes()
    (tmp_path / "a.data").write_bytes(content[::-1])
    assert before() != told  # else the cache would take the embeddings of the old weights
    (tmp_path / "a.data").unlink()
    with pytest.raises(UserError, match="cannot be read"):
        faceprint.load(tmp_path / "a.onnx")


@pytest.mark.parametrize(
    "place",
    [
        {"location": "../secret"},
        {"location": "/etc/hostname"},
        {"location": "link"},
        {"location": ""},
        {"location": "near", "offset": "9" * 30},
        {"location": "near", "length": str(2**40)},
        {"location": "near", "length": "x"},
    ],
)
def test_weights_elsewhere_are_not_read(tmp_path, place):
    folder = tmp_path / "model"
    folder.mkdir()
    for file in (tmp_path / "secret", folder / "near"):
        file.write_bytes(bytes(4 * DIM * 3))
    os.symlink(tmp_path / "secret", folder / "link")
    content = mean_network(1)
    tensor = content.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in place.items():
        tensor.external_data.add(key=key, value=text)
    with pytest.raises(UserError, match="weights in other files"):
        faceprint.load(write(folder / "a.onnx", content))


def two_outputs(*shapes):
    content = mean_network(1)
    del content.graph.output[:]
    content.graph.output.extend(value(name, shape) for name, shape in shapes)
    return content


def bare(shape, kind=TensorProto.FLOAT):
    return model([helper.make_node("Flatten", ["x"], ["y"])], [value("x", shape, kind)], [value("y", ["N", "D"], kind)])


def second_input():
    content = mean_network(1)
    content.graph.input.append(value("age", [1]))
    return content


def expanded(dims):
    shape = numpy_helper.from_array(np.array(dims, np.int64), "shape")
    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["huge"]), helper.make_node("ReduceSum", ["huge"], ["s"])]
    nodes += [helper.make_node("Add", ["x", "s"], ["z"]), helper.make_node("Flatten", ["z"], ["y"])]
    return model(nodes, [value("x", [1, 3, 8, 6])], [value("y", [1, 144])], [shape])


def looped():
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [value("n", [], TensorProto.INT64), value("go", [], TensorProto.BOOL)],
        [value("on", [], TensorProto.BOOL)],
    )
    nodes = [
        helper.make_node("Loop", ["", "yes"], [], body=body, name="for_ever"),
        helper.make_node("Flatten", ["x"], ["y"]),
    ]
    return model(
        nodes, [value("x", [1, 3, 8, 6])], [value("y", [1, 144])], [numpy_helper.from_array(np.array(True), "yes")]
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (bare([1, 112, 112, 3]), r"x float32 \(1, 112, 112, 3\)"),
        (bare([1, 3, 112]), r"x float32 \(1, 3, 112\)"),
        (bare(["N", 1, 112, 112]), r"x float32 \(N, 1, 112, 112\)"),
        (bare([1, 3, 8, 6], TensorProto.UINT8), r"x uint8 \(1, 3, 8, 6\)"),
        (bare([1, 3, 100_000, 100_000]), "100000"),
        (bare([2**62, 3, 2**62, 2**62]), "memory|pixels"),
        (bare([-1, 3, 8, 6]), "x float32"),
        (second_input(), "2 inputs .*age"),
        (two_outputs(("fc1", [1, DIM, 1, 1])), r"fc1 float32 \(1, 5, 1, 1\)"),
        (two_outputs(("fc1", [1, DIM]), ("flat", [1, 3])), "fc1 .*flat"),
        (two_outputs(), "none"),
        (two_outputs(("fc1", [1, 1])), "fc1"),
        (two_outputs(("absent", [1, 9])), "cannot run it"),
        (expanded([10**6, 10**6]), "memory"),
        (expanded([2**60, 2**60]), "memory|shapes"),
        (looped(), "Loop"),
        (
            model([helper.make_node("Magic", ["x"], ["y"])], [value("x", [1, 3, 8, 6])], [value("y", [1, 9])]),
            "cannot run it",
        ),
        (
            model([helper.make_node("PRelu", ["x"], [])], [value("x", [1, 3, 8, 6])], [value("y", [1, 9])]),
            "cannot run|shapes",
        ),
    ],
)
def test_other_graphs_are_refused_in_one_line(tmp_path, content, words):
    started = time.perf_counter()
    with pytest.raises(UserError, match=words) as caught:
        faceprint.load(write(tmp_path / "other.onnx", content))
    assert "\n" not in str(caught.value)
    assert "other.onnx" in str(caught.value)
    assert time.perf_counter() - started < 5


def test_an_embedding_beside_its_norm_is_found(tmp_path):
    """AdaFace's files give (embedding, norm)."""
    content = mean_network("N")
    content.graph.node.append(helper.make_node("ReduceL2", ["fc1"], ["norm"], axes=[1]))
    content.graph.output.append(value("norm", ["N", 1]))
    images = noise(2, SIZE)
    np.testing.assert_allclose(
        faceprint.load(write(tmp_path / "a.onnx", content)).embed(images), by_formula(images), atol=1e-4
    )


def damaged_files():
    good = mean_network(1).SerializeToString()
    random = np.random.default_rng(0)
    yield from (b"", b"no", bytes(1000), random.bytes(5000), good[:-7], good[: len(good) // 2])
    for _ in range(150):
        data = bytearray(good)
        for at in random.integers(0, len(data), 3):
            data[at] = random.integers(0, 256)
        yield bytes(data)


def test_bytes_that_are_no_onnx(tmp_path):
    """A `UserError` that names the file, or, where only a name or a weight was hit, a network that runs."""
    path = tmp_path / "damaged.onnx"
    messages = []
    for data in damaged_files():
        path.write_bytes(data)
        try:
            faceprint.load(path)
        except UserError as error:
            messages.append(str(error))
    assert len(messages) > 50
    assert all(str(path) in message for message in messages)


def test_a_folder_or_an_absent_file_of_that_name(tmp_path):
    (tmp_path / "a.onnx").mkdir()
    with pytest.raises(UserError, match="neither a run folder"):
        faceprint.load(tmp_path / "a.onnx")
    with pytest.raises(UserError, match="no such file"):
        faceprint.load(tmp_path / "b.onnx")


def test_devices(tmp_path):
    path = write(tmp_path / "a.onnx", mean_network(1))
    assert faceprint.load(path, device="cpu").embedding_dim == DIM
    with pytest.raises(UserError, match="available: auto, cpu"):
        faceprint.load(path, device="mps")


def test_without_onnxruntime_the_extra_is_named(tmp_path, monkeypatch):
    path = write(tmp_path / "a.onnx", mean_network(1))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"pip install 'faceprint\[onnx\]'"):
        faceprint.load(path)


@pytest.mark.parametrize("card", ["", "{", "[]", '{"embedding_dim": 5}'])
def test_metadata_in_our_name_must_be_a_card(tmp_path, card):
    content = mean_network(1)
    content.metadata_props.add(key=METADATA_KEY, value=card)
    with pytest.raises(UserError, match="metadata"):
        faceprint.load(write(tmp_path / "a.onnx", content))


def prelu_network(opset):
    slopes = np.array([-0.4, 1.3, 0.25], np.float32).reshape((3, 1, 1))
    return model(
        [helper.make_node("PRelu", ["x", "slope"], ["y"])],
        [value("x", ["N", 3, 8, 6])],
        [value("y", ["N", 3, 8, 6])],
        [numpy_helper.from_array(slopes, "slope")],
        opset,
    )


def test_split_prelu_is_bit_for_bit_the_same():
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 6)).astype(np.float32)
    x[0, 0, 0, :5] = 0, -0.0, 1e-42, -1e-42, 3e38
    content = prelu_network(13)
    results = []
    for _ in range(2):
        session = onnxruntime.InferenceSession(content.SerializeToString(), providers=["CPUExecutionProvider"])
        results.append(session.run(None, {"x": x})[0])
        split_prelu(content)
    assert [node.op_type for node in content.graph.node] == ["Relu", "Sub", "Mul", "Add"]
    assert np.array_equal(*results)
    slope = np.array([-0.4, 1.3, 0.25], np.float32).reshape((3, 1, 1))
    np.testing.assert_array_equal(results[1], np.where(x > 0, x, x * slope))


def test_old_prelu_with_its_own_broadcasting_is_left():
    content = prelu_network(6)
    split_prelu(content)
    assert [node.op_type for node in content.graph.node] == ["PRelu"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.onnx")
    with pytest.raises(UserError, match="cannot be read"):
        faceprint.load(tmp_path / "a.onnx")


def test_names_that_are_no_text(tmp_path, capfd):
    data = mean_network(1).SerializeToString().replace(b"Gemm", b"\xffemm")
    (tmp_path / "a.onnx").write_bytes(data)
    with pytest.raises(UserError, match=r"a\.onnx"):
        faceprint.load(tmp_path / "a.onnx")
    assert capfd.readouterr() == ("", "")
