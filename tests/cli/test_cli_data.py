"""`faceprint data check`, `stats`, `clean`, `overlap` and `pairs make` as commands."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path
from unittest.mock import Mock

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from rich.console import Console
from typer.testing import CliRunner

from faceprint.cli import app, output
from faceprint.data.files import FileSource
from faceprint.data.formats import open_source
from faceprint.data.write_set import write_set
from faceprint.errors import UserError


def run(*arguments: object, code: int = 0):
    result = CliRunner().invoke(app, ["data", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """12 people of 6 images with smooth patterns: each image its person's colours with a little of its own."""
    random = np.random.default_rng(0)
    for person in range(12):
        base = random.integers(60, 200, (2, 2, 3))
        for image in range(6):
            pixels = (base + random.integers(-12, 13, (2, 2, 3))).astype(np.uint8)
            path = tmp_path / "people" / f"p{person:02d}" / f"p{person:02d}_{image + 1:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), cv2.resize(pixels, (16, 16), interpolation=cv2.INTER_LINEAR))
    return tmp_path / "people"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """An ONNX file for 16x16 images: its embedding is the pixels, averaged over 4x4."""
    nodes = [
        helper.make_node("AveragePool", ["x"], ["p"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", ["N", 3, 16, 16]), ("y", ["N", 48]))
    ]
    content = helper.make_model(
        helper.make_graph(nodes, "pool", ends[:1], ends[1:]), opset_imports=[helper.make_opsetid("", 13)], ir_version=8
    )
    onnx.save(content, tmp_path / "pool.onnx")
    return tmp_path / "pool.onnx"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_check_prints_counts_and_warnings(people: Path, tmp_path: Path) -> None:
    (people / "p03" / "p03_0002.png").write_bytes(b"broken")
    result = run("check", people, "--output", tmp_path / "report", "--json", tmp_path / "r.json", "--workers", 1)
    assert "1 images cannot be read" in result.stderr
    assert "p03_0002.png: not an image" in result.stderr
    written = json.loads((tmp_path / "r.json").read_text())
    assert (written["images"], written["identities"], len(written["unreadable"])) == (72, 12, 1)
    assert json.loads((tmp_path / "report" / "stats.json").read_text()) == written


def test_a_log_has_lines_in_place_of_a_bar_and_an_error_stands_alone(
    people: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "err", Console(file=sys.stderr, soft_wrap=True, force_terminal=False))
    monkeypatch.setattr(output, "LINE_SECONDS", 0.0)
    with output.progress_bar("checking", "images") as update:
        update(512, 5120)
    assert "checking: 512 of 5,120 images\n" in capsys.readouterr().err
    with pytest.raises(UserError), output.progress_bar("checking", "images"):
        raise UserError("no such file")
    assert capsys.readouterr().err == ""


def test_check_counts_what_is_passed_over(people: Path) -> None:
    (people / "loose.png").touch()
    result = run("check", people, "--fast")
    assert re.search(r"passed over: images in no folder of an identity .* 1 ", result.stdout)
    assert json.loads(run("stats", people, "--fast").stdout)["skipped"] == {"images in no folder of an identity": 1}


def test_check_exits_1_only_when_asked(people: Path) -> None:
    (people / "p03" / "p03_0002.png").write_bytes(b"broken")
    run("check", people, "--fast")
    run("check", people, "--strict", "--workers", 1, code=1)


def test_results_without_a_place_are_refused_before_the_work(
    people: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file := tmp_path / "file").touch()
    monkeypatch.setattr(FileSource, "encoded", Mock(side_effect=AssertionError("an image was read")))
    monkeypatch.setattr(FileSource, "__getitem__", Mock(side_effect=AssertionError("an image was read")))
    for command in (("check", people), ("clean", people, model), ("overlap", people, people, model)):
        for more in (("--output", file), ("--output", file / "in"), ("--output", tmp_path / "o", "--json", file / "x")):
            with pytest.raises(UserError, match="file"):
                run(*command, *more)
    for command in (("stats", people, "--json", file / "x"), ("pairs", "make", people, "--output", file / "x.csv")):
        with pytest.raises(UserError, match="file"):
            run(*command)
    assert not list(tmp_path.glob("o/*"))


def test_check_does_not_call_whole_sets_wrong(tmp_path: Path) -> None:
    run("synthetic", tmp_path / "faces", "--identities", 4, "--images", 3, "--difficulty", 0.2)
    run("check", tmp_path / "faces", "--strict", "--workers", 1)


def test_names_of_people_are_not_printed(people: Path, model: Path, tmp_path: Path) -> None:
    for result in (
        run("check", people, "--output", tmp_path / "report", "--workers", 1),
        run("clean", people, model, "--output", tmp_path / "review"),
        run("overlap", people, people, model, "--output", tmp_path / "review"),
    ):
        assert "p03" not in result.output


def test_stats_are_json(people: Path) -> None:
    result = run("stats", people, "--fast")
    stats = json.loads(result.stdout)
    assert (stats["images"], stats["images_per_identity"]["max"], stats["crops"]) == (72, 6, None)


def test_clean(people: Path, model: Path, tmp_path: Path) -> None:
    """An image of person 5 under person 3 is listed, with where it belongs."""
    moved = people / "p03" / "p03_0007.png"
    (people / "p05" / "p05_0001.png").rename(moved)
    result = run("clean", people, model, "--output", tmp_path / "new" / "review", "--json", "-")
    assert json.loads(result.stdout)["outliers"] >= 1
    first = rows(tmp_path / "new" / "review" / "outliers.csv")[0]
    assert (first["path"], first["nearest_class"]) == (str(moved), "p05")
    assert str(moved) in {row["path"] for row in rows(tmp_path / "new" / "review" / "exclude.csv")}


def test_overlap(people: Path, model: Path, tmp_path: Path) -> None:
    """The test set holds two of the people, as a folder, as pairs of a folder, and as a .bin."""
    for person in ("p02", "p08"):
        folder = tmp_path / "test" / person
        folder.mkdir(parents=True)
        for image in (5, 6):
            (people / person / f"{person}_{image:04d}.png").rename(folder / f"{person}_{image:04d}.png")
    (tmp_path / "pairs.csv").write_text(
        "path_a,path_b,same\np02/p02_0005,p08/p08_0006,0\np02/p02_0005,p02/p02_0006,1\np08/p08_0005,p08/p08_0006,1\n"
    )
    run("pairs", "make", tmp_path / "test", "--output", tmp_path / "test.csv", "--num-pairs", 2, "--folds", 1)
    common = ["--cosine", 0.98, "--output", tmp_path / "review"]
    for test, more in ((tmp_path / "test", []), (tmp_path / "test", ["--pairs", tmp_path / "pairs.csv"])):
        run("overlap", people, test, model, *common, *more)
        assert {"p02", "p08"} <= {row["identity"] for row in rows(tmp_path / "review" / "exclude.csv")}
        assert len(rows(tmp_path / "review" / "exclude.csv")) < 12


def test_sets_behind_a_url(people: Path, model: Path, tmp_path: Path) -> None:
    """Counts, lists and pairs of shards in fsspec's memory are those of the folder."""
    fsspec = pytest.importorskip("fsspec")
    write_set(open_source(people), tmp_path / "shards", kind="shards")
    fsspec.filesystem("memory").put(str(tmp_path / "shards"), "/people", recursive=True)
    stats = json.loads(run("stats", "memory://people", "--workers", 1).stdout)
    here = json.loads(run("stats", people, "--workers", 1).stdout)
    assert {key: stats[key] for key in ("images", "identities", "bytes", "crops")} == {
        key: here[key] for key in ("images", "identities", "bytes", "crops")
    }
    run("check", "memory://people/00000.tar", "--output", tmp_path / "report", "--workers", 1)
    run("clean", "memory://people", model, "--output", tmp_path / "review")
    run("overlap", people, "memory://people", model, "--output", tmp_path / "overlap")
    assert len(rows(tmp_path / "overlap" / "exclude.csv")) == 12
    with pytest.raises(UserError, match=r"this set has none; write a \.bin"):
        run("pairs", "make", "memory://people", "--output", tmp_path / "pairs.csv")
    run("bench", "memory://people", "--images", 64, "--workers", 1, "--batch-size", 8)


def test_what_a_recipe_trains_on_is_checked_as_one_set(people: Path, model: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mixed.yaml"
    parts = [{"name": name, "source": "folder", "path": str(people), "min_images": 2} for name in ("a", "b")]
    (people / "p00" / "p00_0001.png").rename(tmp_path / "kept.png")
    for image in list((people / "p00").iterdir())[1:]:
        image.unlink()
    recipe.write_text(json.dumps({"base": "quickstart", "data": {"source": "mixed", "parts": parts}}))
    stats = json.loads(run("stats", recipe, "--fast").stdout)
    assert (stats["images"], stats["identities"], stats["duplicates"]["exact"]["groups"]) == (2 * 66, 2 * 11, 66)
    run("clean", recipe, model, "--output", tmp_path / "review")
    assert {"a/p01", "b/p01"} <= {row["identity_a"] for row in rows(tmp_path / "review" / "alike.csv")} | {
        row["identity_b"] for row in rows(tmp_path / "review" / "alike.csv")
    }


@pytest.mark.parametrize("kind", ["folder", "list", "record", "shards"])
def test_lists_of_a_check_are_applied(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Whatever the set is, from wherever it is named, and though its identities are numbers that folders name."""
    for image in sorted((people / "p07").iterdir())[1:]:
        image.unlink()
    (people / "p02" / "p02_0009.png").write_bytes((people / "p02" / "p02_0001.png").read_bytes())
    name = {"folder": "people", "list": "all.lst", "record": "all.rec", "shards": "all"}[kind]
    monkeypatch.chdir(tmp_path)
    if kind == "list":
        run("list", "people", "--output", name)
    elif kind != "folder":
        run("pack", "people", name, "--to", kind)
    run("check", name, "--output", "report", "--workers", 1)
    assert [row["identity"] for row in rows(Path("report/single_image.csv"))] == ["p07"]
    for number, spelled in enumerate((name, tmp_path / name)):
        run("subset", spelled, f"without{number}", "--to", "folder", "--exclude", "report/single_image.csv")
        run("subset", spelled, f"once{number}", "--to", "folder", "--exclude", "report/exclude.csv")
        left = open_source(f"without{number}")
        assert (len(left), len(left.class_names), "p07" in left.class_names) == (67, 11, False)
        assert len(open_source(f"once{number}")) == 67


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.txt", "pairs.bin"])
def test_pairs_make(people: Path, tmp_path: Path, name: str) -> None:
    arguments = ["pairs", "make", people, "--num-pairs", 40, "--folds", 10 if name.endswith("bin") else 2]
    if name.endswith("bin"):  # ten folds of two people each
        for person in range(12, 20):
            source = people / f"p{person - 12:02d}"
            (people / f"p{person:02d}").mkdir()
            for image in source.iterdir():
                (people / f"p{person:02d}" / image.name.replace(source.name, f"p{person:02d}")).write_bytes(
                    image.read_bytes()
                )
    result = run(*arguments, "--output", tmp_path / name, "--json", "-")
    assert json.loads(result.stdout)["num_pairs"] == 40
    first = (tmp_path / name).read_bytes()
    run(*arguments, "--output", tmp_path / name)
    assert (tmp_path / name).read_bytes() == first
    run(*arguments, "--output", tmp_path / name, "--seed", 5)
    assert (tmp_path / name).read_bytes() != first


@pytest.mark.parametrize(
    ("name", "more", "words"),
    [
        ("p.bin", ["--folds", 2, "--num-pairs", 20], "a .bin has 10 folds, the pairs have 2"),
        ("p.txt", ["--folds", 3, "--num-pairs", 20], "needs folds of one size"),
        ("p.csv", ["--folds", 2, "--num-pairs", 4000], "a fold has only [0-9]+ pairs of one person"),
    ],
)
def test_pairs_that_cannot_be_are_refused_before_a_network_is_asked(
    people: Path, tmp_path: Path, name: str, more: list[object], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        run("pairs", "make", people, "--output", tmp_path / name, *more, "--hard", tmp_path / "absent.onnx")


def test_hard_pairs_make(people: Path, model: Path, tmp_path: Path) -> None:
    run("pairs", "make", people, "--output", tmp_path / "hard.csv", "--num-pairs", 20, "--folds", 2, "--hard", model)
    assert len(rows(tmp_path / "hard.csv")) == 20
