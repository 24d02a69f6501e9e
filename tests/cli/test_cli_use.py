"""`faceprint export`, `embed`, `verify`, `gallery` and `identify`: what they print and write, and what mistakes get."""

from __future__ import annotations

import json

import cv2
import numpy as np
import onnx
import pytest
import typer
from onnx import TensorProto, helper
from typer.testing import CliRunner

import faceprint
from faceprint.cli.embed import embed
from faceprint.cli.export import export
from faceprint.cli.gallery import app as gallery_app
from faceprint.cli.identify import identify
from faceprint.cli.verify import verify
from faceprint.errors import UserError
from faceprint.inference import export as export_module

app = typer.Typer()
app.command("export")(export)
app.command("embed")(embed)
app.command("verify")(verify)
app.command("identify")(identify)
app.add_typer(gallery_app, name="gallery")


def run(*arguments):
    """Mistakes come out as `UserError`, which `faceprint.cli.main` prints."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def model(tmp_path):
    """An ONNX file for 8x8 images whose embedding is the mean of each channel, (x - mean) / std."""
    nodes = [helper.make_node("GlobalAveragePool", ["x"], ["p"]), helper.make_node("Flatten", ["p"], ["y"])]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", ["N", 3, 8, 8]), ("y", ["N", 3]))]
    content = helper.make_model(
        helper.make_graph(nodes, "mean", ends[:1], ends[1:]), opset_imports=[helper.make_opsetid("", 13)], ir_version=8
    )
    path = tmp_path / "mean.onnx"
    onnx.save(content, path)
    return path


@pytest.fixture
def photos(tmp_path):
    """Images of one colour (RGB), in a folder and one below."""
    colours = {"red.png": (200, 0, 0), "deep/pink.png": (220, 40, 40), "deep/blue.png": (0, 0, 250)}
    for name, colour in colours.items():
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((8, 8, 3), colour[::-1], np.uint8))
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    (tmp_path / "photos" / ".hidden.png").write_text("no image")
    return tmp_path / "photos"


def cosine(a, b):
    return float(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))


def test_embed_walks_folders_and_keeps_the_order(model, photos, tmp_path):
    output = tmp_path / "new" / "e.npz"
    raw = ["--input", "mean=0", "--input", "std=1"]
    result = run("embed", model, photos / "red.png", photos, "--output", output, *raw, "--json", "-")
    assert json.loads(result.stdout) == {"output": str(output), "num_images": 4, "embedding_dim": 3}
    with np.load(output) as content:
        names = [photos / "red.png", photos / "deep" / "blue.png", photos / "deep" / "pink.png", photos / "red.png"]
        assert content["path"].tolist() == [str(name) for name in names]
        assert content["embedding"].dtype == np.float32
        pink = np.array([220, 40, 40]) / np.linalg.norm([220, 40, 40])
        np.testing.assert_allclose(content["embedding"], [[1, 0, 0], [0, 0, 1], pink, [1, 0, 0]], atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["absent.png"], "no such file or folder"),
        (["EMPTY"], "no images in it"),
        (["PHOTOS", "--input", "mean"], "key=value"),
        (["PHOTOS", "--input", "std=0"], "above 0"),
        (["PHOTOS/notes.txt"], "notes.txt"),
        (["PHOTOS", "--output", "e.npy"], "ends in .npz"),
        (["PHOTOS", "--align", "--detector-model", "MODEL"], "not a YuNet"),
    ],
)
def test_embed_mistakes_write_nothing(model, photos, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    places = {"EMPTY": "empty", "PHOTOS": "photos", "MODEL": str(model)}
    for word, place in places.items():
        arguments = [argument.replace(word, place) for argument in arguments]
    with pytest.raises(UserError, match=words):
        run("embed", model, "--output", "e.npz", *arguments)
    assert sorted(tmp_path.rglob("*")) == before


def test_verify_says_what_it_knows(model, photos):
    red, pink, blue = (photos / name for name in ("red.png", "deep/pink.png", "deep/blue.png"))
    raw = ["--input", "mean=0", "--input", "std=1"]
    similarity = cosine((200, 0, 0), (220, 40, 40))
    answer = json.loads(run("verify", model, red, pink, *raw, "--json", "-").stdout)
    assert answer == {"similarity": pytest.approx(similarity, abs=1e-6), "threshold": None, "same": None}
    answer = json.loads(run("verify", model, red, blue, *raw, "--threshold", "0.5", "--json", "-").stdout)
    assert answer == {"similarity": pytest.approx(0, abs=1e-6), "threshold": 0.5, "same": False}
    printed = run("verify", model, red, pink, *raw, "--threshold", "0.5").stdout
    assert printed == f"similarity {similarity:.4f}, threshold 0.5000: same person\n"
    assert "give --threshold" in run("verify", model, red, pink, *raw).stdout
    assert "different people" in run("verify", model, red, blue, *raw, "--threshold", "0.5").stdout


def test_verify_mistakes(model, photos, tmp_path):
    large = tmp_path / "photo.png"
    cv2.imwrite(str(large), np.zeros((250, 250, 3), np.uint8))
    for arguments, words in (
        ((large, photos / "red.png"), "data align"),
        ((photos / "red.png", photos / "absent.png"), "absent.png"),
        ((photos / "red.png", photos / "red.png", "--threshold", "2"), "-1 to 1"),
        ((photos / "red.png", photos / "red.png", "--input", "color=bgr"), "colour"),
    ):
        with pytest.raises(UserError, match=words):
            run("verify", model, *arguments)


def test_export_prints_how_far_the_file_differs(tmp_path, monkeypatch, model):
    report = export_module.ExportReport(
        output="a.onnx",
        differences={1: 1.5e-7, 2: 2e-7, 7: 3e-7},
        tolerance=1e-4,
        num_bytes=12_345_678,
        opset=18,
        input_shape=(3, 112, 112),
        embedding_dim=24,
    )
    calls = []
    monkeypatch.setattr(
        export_module, "export_onnx", lambda model, output, tolerance: calls.append((model, tolerance)) or report
    )
    result = run("export", "runs/first", "--output", "a.onnx", "--json", tmp_path / "report.json")
    assert calls == [("runs/first", 1e-4)]
    for words in ("12.3 MB", "1.50e-07", "3.00e-07"):
        assert words in result.stdout
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["differences"] == {"1": 1.5e-7, "2": 2e-7, "7": 3e-7}


def test_export_that_differs_exits_with_1(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise export_module.ExportError("a.onnx was not written")

    monkeypatch.setattr(export_module, "export_onnx", fail)
    result = run("export", "runs/first", "--output", "a.onnx")
    assert result.exit_code == 1
    assert "was not written" in result.stderr


def test_similarity_in_python_is_that_of_verify(model, photos):
    pair = photos / "red.png", photos / "deep" / "pink.png"
    embedder = faceprint.load(model, {"colour": "bgr"})
    answer = json.loads(run("verify", model, *pair, "--input", "colour=bgr", "--json", "-").stdout)
    assert answer["similarity"] == embedder.similarity(*pair)


@pytest.fixture
def enrolled(model, photos, tmp_path):
    """A gallery of two people: `photos`, whose one image is red, and `deep`, who has a pink and a blue one."""
    path = tmp_path / "a.gallery"
    assert run("gallery", "add", model, path, photos).exit_code == 0
    return path


def test_identify_says_who_or_nobody(model, photos, enrolled, tmp_path):
    result = run("identify", model, enrolled, photos / "red.png", "--threshold", 0.9, "--top", 2, "--json", "-")
    found = json.loads(result.stdout)
    (image,) = found["images"]
    assert image["person"] == "photos"
    # Colours less 127.5, as the network sees them.
    red, pink = np.array([72.5, -127.5, -127.5]), np.array([92.5, -87.5, -87.5])
    assert [candidate["person"] for candidate in image["candidates"]] == ["photos", "deep"]
    similarities = [candidate["similarity"] for candidate in image["candidates"]]
    assert similarities == pytest.approx([1.0, cosine(red, pink)], abs=1e-5)
    assert image["candidates"][1]["image"].endswith("pink.png")
    green = tmp_path / "green.png"
    cv2.imwrite(str(green), np.full((8, 8, 3), (0, 255, 0), np.uint8))
    done = run("identify", model, enrolled, green, "--threshold", 0.9, "--json", tmp_path / "g.json")
    assert json.loads((tmp_path / "g.json").read_text())["images"][0]["person"] is None
    assert "nobody who is enrolled" in done.stdout
    assert "no threshold" in run("identify", model, enrolled, green).stdout


def test_a_gallery_is_listed_added_to_and_taken_from(model, photos, enrolled):
    run("gallery", "add", model, enrolled, photos / "red.png", "--person", "Red")
    listed = json.loads(run("gallery", "list", enrolled, "--json", "-").stdout)
    assert listed["people"] == {"Red": 1, "deep": 2, "photos": 1}
    assert listed["model"]["content_hash"]
    run("gallery", "remove", enrolled, "deep", "photos")
    assert json.loads(run("gallery", "list", enrolled, "--json", "-").stdout)["people"] == {"Red": 1}
    run("gallery", "remove", enrolled, "Red")
    with pytest.raises(UserError, match="nobody is enrolled"):
        run("identify", model, enrolled, photos)


def test_mistakes_with_galleries(model, photos, enrolled, tmp_path):
    other = tmp_path / "other.onnx"
    graph = onnx.load(model)
    graph.graph.name = "other"
    onnx.save(graph, other)
    before = enrolled.read_bytes()
    for arguments, said in (
        (["gallery", "add", other, enrolled, photos], "another model"),
        (["gallery", "add", model, enrolled, photos, "--flip"], "without --flip"),
        (["gallery", "add", model, enrolled, photos, "--input", "colour=bgr"], "--input"),
        (["gallery", "add", model, tmp_path / "a.npz", photos], r"ends in \.gallery"),
        (["gallery", "remove", enrolled, "Nobody"], "not in the gallery: Nobody"),
        (["identify", other, enrolled, photos], "another model"),
        (["identify", model, tmp_path / "none.gallery", photos], "cannot be read"),
        (["identify", model, enrolled, photos, "--threshold", 2], "a cosine"),
    ):
        with pytest.raises(UserError, match=said):
            run(*arguments)
    assert enrolled.read_bytes() == before
