"""The zoo measured again: a pretrained model is found by its name, ours stands beside the published figure."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from faceprint.cli.evaluate import evaluate
from faceprint.cli.report import report
from faceprint.data import write_bin
from faceprint.errors import UserError
from faceprint.evaluation.ijb import ijbc
from faceprint.evaluation.pairs import synthetic_pairs
from faceprint.evaluation.result import read_result
from faceprint.evaluation.sources import ModelSource
from faceprint.evaluation.tasks import score_task
from faceprint.inference.model_folder import ModelCard, save_model
from faceprint.models import create_model
from faceprint.recipe import load_config
from faceprint.training.pretrained import find_pretrained, measure_row, open_pretrained

RECIPE = "pytorch_face_recognition/mobilefacenet"
app = typer.Typer()
app.command("eval")(evaluate)
app.command("report")(report)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`lfw.bin` of generated people, and a tiny network in the place of the recipe's model."""
    folder = tmp_path_factory.mktemp("zoo")
    pairs = synthetic_pairs(10, 2, 20, difficulty=0.2)
    numbers = [int(i) for pair in zip(pairs.first, pairs.second, strict=True) for i in pair]
    images = [cv2.imencode(".png", cv2.cvtColor(pairs.read(i), cv2.COLOR_RGB2BGR))[1].tobytes() for i in numbers]
    (folder / "data").mkdir()
    write_bin(folder / "data" / "lfw.bin", images, pairs.same)
    torch.manual_seed(0)
    network = create_model("mbf", embedding_dim=16, image_size=(112, 112), scale=1, width=0.125)
    options = {"scale": 1, "width": 0.125}
    card = ModelCard(architecture="mbf", options=options, embedding_dim=16, licence="CC0-1.0")
    save_model(folder / "models" / RECIPE, network.eval(), card)
    return folder


def test_ours_beside_the_published_figures(folder: Path) -> None:
    keys = [f"data={folder}/data", f"models={folder}/models"]
    done = run("eval", RECIPE, *keys, "--json", f"{folder}/one.json")
    assert done.exit_code == 0, done.output
    assert "99.3333 %" in done.stdout
    assert "CC0-1.0" in done.stdout
    alone = run("eval", f"{folder}/models/{RECIPE}", "bin", f"path={folder}/data/lfw.bin", "--json", f"{folder}/b.json")
    assert alone.exit_code == 0, alone.output
    expected = read_result(folder / "b.json").figures[0]
    (row,) = json.loads((folder / "one.json").read_text())["rows"]
    assert row["content_hash"].startswith("sha256:")
    by_test = {f"{score['protocol']} {score['metric']}": score for score in row["scores"]}
    lfw = by_test["LFW accuracy"]
    assert (lfw["published"], lfw["ours"]) == (99.3333, pytest.approx(100 * expected.value))
    assert by_test["CFP-FP accuracy"]["note"] == "no data"
    assert by_test["MegaFace rank-1"]["note"] == "no data"


def png(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).integers(0, 256, (112, 112, 3), np.uint8)
    cv2.imwrite(str(path), image)


@pytest.fixture
def searched(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of IJB-C, MegaFace and MFR as `eval RECIPE` looks for them, each of a few images."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "evaluation"))
    from synthetic_ijb import write_ijb

    data = tmp_path / "searched"
    write_ijb(data / "ijbc")
    probes = [f"P{person}/{number}.png" for person in range(3) for number in range(2)]
    others = [f"0/{number}.png" for number in range(40)]
    listed = {"path": probes, "id": [path.split("/")[0] for path in probes]}
    (data / "megaface").mkdir()
    (data / "megaface" / "facescrub_features_list.json").write_text(json.dumps(listed))
    (data / "megaface" / "megaface_features_list.json_1000000_1").write_text(json.dumps({"path": others}))
    (data / "megaface" / "facescrub_noises.txt").write_text("P2_1.png\n")
    for place, path in enumerate(
        [f"facescrub_images/{path}" for path in probes] + [f"megaface_images/{p}" for p in others]
    ):
        png(data / "megaface" / path, place)
    rows = [f"{number}.png,{number // 3},{int(number % 3 == 0)}" for number in range(12)]
    for number in range(12):
        png(data / "mfr" / "images" / f"{number}.png", number)
    (data / "mfr" / "list.csv").write_text("path,identity,mask\n" + "\n".join(rows) + "\n")
    return data


def test_searches_and_templates_beside_the_published_figures(
    folder: Path, searched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("faceprint.evaluation.ijb.check_counts", lambda *_, **__: {})
    monkeypatch.setattr("faceprint.evaluation.megaface.PUBLISHED_DISTRACTORS", 40)
    model, models = folder / "models" / RECIPE, searched.parent
    for recipe in ("arcface_torch/r50", RECIPE):
        shutil.copytree(model, models / recipe)
        done = run("eval", recipe, f"data={searched}", f"models={models}", "--json", f"{folder}/row.json")
        assert done.exit_code == 0, done.output
        (row,) = json.loads((folder / "row.json").read_text())["rows"]
        ours = {(score["protocol"], score["metric"]): score for score in row["scores"]}
        for protocol, keys, title in (
            ("ijbc", [f"folder={searched}/ijbc"], "IJB-C"),
            ("mfr", [f"list={searched}/mfr/list.csv", f"images={searched}/mfr/images"], "MFR"),
            ("megaface", megaface_options(searched / "megaface"), "MegaFace"),
        ):
            alone = run("eval", str(model), protocol, *keys, "--json", f"{folder}/alone.json")
            assert alone.exit_code == 0, alone.output
            expected = expected_figures(json.loads((folder / "alone.json").read_text()))
            shown = [key for key in ours if key[0].startswith(title) and key in expected]
            assert shown or title != ("MegaFace" if recipe == RECIPE else "MFR")
            for key in shown:
                assert ours[key]["ours"] == pytest.approx(100 * expected[key])
    assert ours["MegaFace", "rank-1"]["note"] == ""


def test_what_a_figure_is_on_is_said(folder: Path, searched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faceprint.evaluation.ijb.check_counts", lambda *_, **__: {})
    shutil.copytree(folder / "models" / RECIPE, searched.parent / "arcface_torch" / "r100")
    keys = [f"data={searched}", f"models={searched.parent}"]
    done = run("eval", "arcface_torch/r100", *keys, "--json", f"{folder}/n.json")
    assert done.exit_code == 0, done.output
    (row,) = json.loads((folder / "n.json").read_text())["rows"]
    notes = {f"{score['protocol']} {score['metric']}": score["note"] for score in row["scores"]}
    assert notes["MFR-ALL TAR@FAR=1e-6"] == "your list: 8 images of 4 people; published: 1,624,305 images"
    assert notes["IJB-C TAR@FAR=1e-4"] == "no data"  # so few pairs don't show it


def test_templates_stand_there_by_the_published_rule(
    folder: Path, searched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("faceprint.evaluation.ijb.check_counts", lambda *_, **__: {})
    config = load_config(RECIPE)
    assert config.published is not None
    score = config.published.scores[0].model_copy(update={"protocol": "IJB-C", "metric": "TAR@FAR=1e-2", "unit": "%"})
    published = config.published.model_copy(update={"scores": [score]})
    monkeypatch.setattr(
        "faceprint.training.pretrained.load_config", lambda _: config.model_copy(update={"published": published})
    )
    opened: list[Any] = []

    def open_source(embedder: Any) -> ModelSource:
        opened.append(ModelSource(embedder))
        return opened[-1]

    row = measure_row(RECIPE, folder / "models", searched, open_source, "cpu")
    expected = score_task(opened[0], ijbc(searched / "ijbc"))
    (line,) = row.lines
    assert line.ours is not None
    assert line.ours.value == expected["tar_at_nearest_far"]["1e-2"]
    assert line.note == "nearest rule"


def megaface_options(folder: Path) -> list[str]:
    return [
        f"probes={folder}/facescrub_features_list.json",
        f"distractors={folder}/megaface_features_list.json_1000000_1",
        f"probe_images={folder}/facescrub_images",
        f"distractor_images={folder}/megaface_images",
        f"facescrub_noises={folder}/facescrub_noises.txt",
    ]


def expected_figures(result: dict[str, Any]) -> dict[tuple[str, str], float]:
    """What the protocols' own keys say, by the names of the tables."""
    if result["protocol"] == "ijbc":
        return {("IJB-C", f"TAR@FAR={far}"): tar for far, tar in result["tar_at_nearest_far"].items()}
    if result["protocol"] == "mfr":
        names = {"all": ("MFR-ALL", "TAR@FAR=1e-6"), "mask": ("MFR-MASK", "TAR@FAR=1e-4")}
        return {names[name]: each["tar"] for name, each in result["sets"].items()}
    (size,) = result["sizes"].values()
    return {
        ("MegaFace", "rank-1"): size["rank"]["1"],
        ("MegaFace", "TPR@FPR=1e-6"): size["verification"]["devkit"]["tpr"],
    }


def test_the_model_itself_in_the_place_of_a_folder(folder: Path) -> None:
    """As a hub gives it; with intervals over people."""
    keys = [f"data={folder}/data", f"models={folder}/models/{RECIPE}", "intervals=20", "skip_unreadable=true"]
    done = run("eval", RECIPE, *keys, "--json", f"{folder}/own.json")
    assert done.exit_code == 0, done.output
    drawn = [figure.interval.method for figure in read_result(folder / "own.json").each[0].figures if figure.interval]
    assert any("20 bootstrap draws" in method for method in drawn)
    with pytest.raises(UserError, match="is one model; all rows need a folder"):
        raise run("eval", "all", *keys[:2]).exception


def test_all_rows_with_what_is_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEPRINT_MODELS", str(folder / "models"))
    done = run("eval", "all", f"data={folder}/data", "--json", f"{folder}/all.json")
    assert done.exit_code == 0, done.output
    assert "arcface_torch/r50" in done.stderr
    result = read_result(folder / "all.json")
    assert [each.recipe for each in result.each] == [RECIPE]
    made = run("report", f"{folder}/all.json", "--latex", f"{folder}/paper")
    assert made.exit_code == 0, made.output
    text = (folder / "paper" / "comparison.tex").read_text()
    assert "99.33" in text
    assert "(published)" in text


def test_mistakes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FACEPRINT_MODELS", raising=False)
    data, models = f"data={folder}/data", f"models={folder}/models"
    for arguments, said in (
        ([RECIPE, models], "needs data="),
        ([RECIPE, data], "set FACEPRINT_MODELS"),
        (["arcface_torch/r50", data, models], r"no model of arcface_torch/r50; looked for .*r50\.onnx"),
        (["arcface_torch/r5", data, models], "unknown recipe"),
        ([RECIPE, data, models, "sets=lfw"], "unknown key"),
    ):
        with pytest.raises(UserError, match=said):
            raise run("eval", *arguments).exception


def test_bare_weights_go_into_the_network_of_the_recipe(tmp_path: Path) -> None:
    config = load_config("arcface_torch/mobilefacenet")
    network = create_model(config.network.name, embedding_dim=config.network.embedding_dim, image_size=(112, 112))
    path = tmp_path / "arcface_torch_mobilefacenet.pt"
    torch.save(network.state_dict(), path)
    assert find_pretrained("arcface_torch/mobilefacenet", tmp_path) == path
    embedder = open_pretrained(config, path, "cpu")
    assert embedder.name == str(path)
    assert embedder.card is not None
    assert embedder.card.licence == config.licence
