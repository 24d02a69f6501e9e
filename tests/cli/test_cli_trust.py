"""`eval` of analyses, intervals and hardest pairs, `compare` and `doctor`, on generated faces and small networks."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import faceprint.inference
from faceprint.cli.compare import compare
from faceprint.cli.doctor import doctor
from faceprint.cli.evaluate import evaluate
from faceprint.data.pixels import InputSpec
from faceprint.data.synthetic import SyntheticFaces
from faceprint.data.write_set import write_set
from faceprint.errors import UserError
from faceprint.evaluation.result import Series, read_result
from faceprint.inference.embedder import Embedder

app = typer.Typer()
app.command("eval")(evaluate)
app.command("compare")(compare)
app.command("doctor")(doctor)

PEOPLE, IMAGES = 8, 3


def small(batch: np.ndarray) -> np.ndarray:
    """Means of 14 x 14 blocks of pixels, 0..255 less 100."""
    pixels = batch * 127.5 + 27.5
    return pixels.reshape(len(batch), 3, 8, 14, 8, 14).mean((3, 5)).reshape(len(batch), -1).astype(np.float32)


def dull(batch: np.ndarray) -> np.ndarray:
    return small(batch)[:, ::40]


@pytest.fixture(autouse=True)
def opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(path: str, input_overrides: dict[str, str] | None = None, device: str = "auto") -> Embedder:
        features = dull if "dull" in str(path) else small
        dim = features(np.zeros((1, 3, 112, 112), np.float32)).shape[1]
        return Embedder(features=features, input=InputSpec(), embedding_dim=dim, name=str(path))

    monkeypatch.setattr(faceprint.inference, "load", load)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crops of eight people, and all pairs of their images with groups, years and qualities."""
    where = tmp_path_factory.mktemp("trust")
    write_set(SyntheticFaces(PEOPLE, IMAGES, difficulty=0.3), where / "crops", kind="folder")
    names = sorted(str(path.relative_to(where / "crops")) for path in (where / "crops").rglob("*.png"))
    with (where / "pairs.csv").open("w") as file:
        rows = csv.writer(file)
        rows.writerow(["path_a", "path_b", "same", "fold", "group_a", "group_b", "years"])
        for i, a in enumerate(names):
            for j, b in enumerate(names[:i]):
                groups = ("oak" if i < 12 else "elm"), ("oak" if j < 12 else "elm")
                rows.writerow([a, b, int(i // IMAGES == j // IMAGES), (i + j) % 2, *groups, abs(i - j) * 1.5])
    (where / "quality.txt").write_text("".join(f"{name} {number}\n" for number, name in enumerate(names)))
    return where


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments), catch_exceptions=True)


def result_of(folder: Path, *arguments: str) -> dict[str, Any]:
    done = run(*arguments, "--json", str(folder / "result.json"))
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads((folder / "result.json").read_text())


def set_of(folder: Path) -> list[str]:
    return [f"images={folder}/crops", f"pairs={folder}/pairs.csv"]


def test_fairness(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    found = result_of(folder, "eval", "m", "fairness", *set_of(folder), "far=0.1", f"plot={folder}/fair.png")
    oak, elm = found["groups"]["oak"], found["groups"]["elm"]
    assert (oak["mated"], elm["mated"], oak["non_mated"], elm["non_mated"]) == (12, 12, 54, 54)
    assert np.sum(found["non_mated_matrix"]) == 54 + 54 + 2 * 144
    matches = oak["false_matches"] + elm["false_matches"] + round(found["fmr_matrix"][0][1] * 144)
    assert matches <= 0.1 * 252
    assert found["summary"]["fairness_discrepancy_rate"] == pytest.approx(
        1 - 0.5 * abs(oak["fmr"] - elm["fmr"]) - 0.5 * abs(oak["fnmr"] - elm["fnmr"])
    )
    assert cv2.imread(str(folder / "fair.png")) is not None
    assert "no column group_a" in str(
        run("eval", "m", "fairness", f"images={folder}", f"pairs={bare(folder)}").exception
    )


def bare(folder: Path) -> Path:
    (folder / "bare.csv").write_text("path_a,path_b,same\na,b,1\n")
    return folder / "bare.csv"


def test_the_table_of_bfw(folder: Path) -> None:
    rows = list(csv.DictReader((folder / "pairs.csv").open()))
    with (folder / "bfw.csv").open("w") as file:
        out = csv.writer(file)
        out.writerow(
            ["fold", "p1", "p2", "label", "id1", "id2", "att1", "att2", "a1", "a2", "g1", "g2", "e1", "e2", "score"]
        )
        for row in rows:
            out.writerow(
                [
                    row["fold"],
                    row["path_a"],
                    row["path_b"],
                    row["same"],
                    0,
                    0,
                    row["group_a"],
                    row["group_b"],
                    *"abcdef",
                    0.5,
                ]
            )
    table = [f"images={folder}/crops", f"pairs={folder}/bfw.csv", "far=0.1"]
    found = result_of(folder, "eval", "m", "fairness", *table)
    same = result_of(folder, "eval", "m", "fairness", *set_of(folder), "far=0.1")
    for key in ("groups", "fmr_matrix", "non_mated_matrix", "summary", "threshold"):
        assert found[key] == same[key]


def test_the_lists_of_rfw(folder: Path) -> None:
    for group in ("Ashes", "Oaks"):
        people = [path.name for path in sorted((folder / "crops").iterdir()) if path.is_dir()]
        mine = people[:4] if group == "Oaks" else people[4:]
        (folder / "data" / group).mkdir(parents=True, exist_ok=True)
        (folder / "txts" / group).mkdir(parents=True, exist_ok=True)
        for name in mine:
            (folder / "data" / group / name).symlink_to(folder / "crops" / name)
        lines = [f"{name}\t1\t2" for name in mine] + [f"{a}\t1\t{b}\t1" for a, b in pairwise(mine)]
        (folder / "txts" / group / f"{group}_pairs.txt").write_text("\n".join(lines) + "\n")
    found = result_of(folder, "eval", "m", "fairness", f"images={folder}/data", f"pairs={folder}/txts", "far=0.5")
    assert (found["groups"]["Oaks"]["mated"], found["groups"]["Ashes"]["non_mated"]) == (4, 3)
    values = list(found["accuracy"]["by_group"].values())
    assert found["accuracy"]["std_between_groups"] == pytest.approx(np.std(values, ddof=1))
    assert found["fmr_matrix"][0][1] is None
    shutil.copytree(folder / "txts", folder / "txts" / "copy")
    twice = run("eval", "m", "fairness", f"images={folder}/data", f"pairs={folder}/txts", "far=0.5").exception
    assert "two lists Ashes_pairs.txt" in str(twice)


def test_ageing(folder: Path) -> None:
    found = result_of(folder, "eval", "m", "ageing", *set_of(folder), "far=0.1", "years=0,2,3", "draws=50")
    assert [(row["from_years"], row["to_years"], row["mated"]) for row in found["bins"]] == [
        (0, 2, 16),
        (2, 3, 0),
        (3, None, 8),
    ]
    missed = sum(row["false_non_matches"] for row in found["bins"])
    every = result_of(folder, "eval", "m", "ageing", *set_of(folder), f"threshold={found['threshold']}", "years=0")
    assert [row["false_non_matches"] for row in every["bins"]] == [missed]
    assert "no column years" in str(run("eval", "m", "ageing", f"images={folder}", f"pairs={bare(folder)}").exception)


@pytest.mark.parametrize("column", [("date_a,date_b", "2010-01-01", "2020-01-01"), ("age_a,age_b", "31", "21")])
def test_ten_years_however_they_are_told(folder: Path, column: tuple[str, str, str]) -> None:
    rows = [f"{row['path_a']},{row['path_b']},{row['same']}" for row in csv.DictReader((folder / "pairs.csv").open())]
    head, a, b = column
    (folder / "told.csv").write_text("\n".join([f"path_a,path_b,same,{head}", *(f"{row},{a},{b}" for row in rows)]))
    told = ["eval", "m", "ageing", f"images={folder}/crops", f"pairs={folder}/told.csv", "years=0,9,11", "far=0.1"]
    assert [row["mated"] for row in result_of(folder, *told)["bins"]] == [0, 24, 0]


@pytest.mark.parametrize("quality_of", ["norm", "quality.txt"])
def test_quality(folder: Path, quality_of: str) -> None:
    given = quality_of if quality_of == "norm" else f"{folder}/{quality_of}"
    found = result_of(folder, "eval", "m", "quality", *set_of(folder), f"quality_of={given}", "far=0.1")
    assert found["mated"] == 24
    assert found["fnmr"]["0.00"] == found["false_non_matches"] / 24
    assert set(found["partial_area"]) == {"0.2", "0.3"}


def test_dropout_needs_a_network_with_dropout(folder: Path) -> None:
    arguments = ["eval", "m.onnx", "quality", *set_of(folder), "quality_of=dropout", "far=0.1"]
    assert "an ONNX file has no dropout" in str(run(*arguments).exception)


def test_robustness(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    keys = ["kinds=blur,mask", "far=0.1", f"plot={folder}/worse.png"]
    found = result_of(folder, "eval", "m", "robustness", *set_of(folder), *keys)
    assert [(row["degradation"], row["degraded"]) for row in found["rows"]] == [
        *[("blur", which) for _ in range(4) for which in ("second", "both")],
        ("mask", "second"),
        ("mask", "both"),
    ]
    assert found["clean"]["fmr"] <= 0.1
    assert cv2.imread(str(folder / "worse.png")) is not None
    assert "unknown degradation 'blurr'" in str(
        run("eval", "m", "robustness", *set_of(folder), "kinds=blurr").exception
    )


def test_intervals_and_hardest_of_a_set(folder: Path) -> None:
    keys = ["intervals=100", f"hardest={folder}/hard.png"]
    found = result_of(folder, "eval", "m", "pairs", *set_of(folder), *keys)
    assert found["intervals"]["people"] == PEOPLE
    auc = found["intervals"]["figures"]["auc"]
    assert auc["low"] <= found["auc"] <= auc["high"]
    assert auc["high"] > auc["low"]
    assert cv2.imread(str(folder / "hard.png")) is not None


def test_compare(folder: Path) -> None:
    found = result_of(folder, "compare", "dull", "m", "pairs", *set_of(folder), "intervals=100")
    assert found["differences"]["auc"]["value"] > 0
    assert found["differences"]["auc"]["b"] == result_of(folder, "eval", "m", "pairs", *set_of(folder))["auc"]
    assert {"only_first", "only_second", "p_value"} == set(found["mcnemar"])
    alike = result_of(folder, "compare", "m", "m", "pairs", *set_of(folder), "intervals=20")
    assert all(row["value"] == 0 and row["p_value"] == 1 for row in alike["differences"].values())


FED: list[int] = []
"""How many images each call of the network had."""


def hashed(path: str, input_overrides: dict[str, str] | None = None, device: str = "auto") -> Embedder:
    def counted(batch: np.ndarray) -> np.ndarray:
        FED.append(len(batch))
        return small(batch)

    return Embedder(
        features=counted, input=InputSpec(), embedding_dim=192, name=path, content_hash=lambda: f"hash of {path}"
    )


@pytest.mark.parametrize(
    "words",
    [
        ["eval", "m", "fairness", "far=0.1"],
        ["eval", "m", "ageing", "far=0.1", "draws=20"],
        ["eval", "m", "quality", "far=0.1"],
        ["eval", "m", "robustness", "far=0.1", "kinds=mask,blur"],
        ["compare", "m", "n", "pairs", "intervals=20"],
        ["doctor", "m", "pairs", "max_pairs=20"],
    ],
    ids=lambda words: words[0] if words[0] != "eval" else words[2],
)
def test_embeddings_are_made_once(
    folder: Path, tmp_path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faceprint.inference, "load", hashed)
    given = [*words, *set_of(folder), f"cache={tmp_path}/cache"]
    FED.clear()
    first = result_of(folder, *given)
    assert sum(FED) > 0
    FED.clear()
    assert result_of(folder, *given) == first
    assert FED == []


def test_degraded_images_are_not_taken_for_others(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faceprint.inference, "load", hashed)
    given = ["eval", "m", "robustness", *set_of(folder), "far=0.1", "kinds=mask", f"cache={tmp_path}"]
    result_of(folder, "eval", "m", "pairs", *set_of(folder), f"cache={tmp_path}")
    FED.clear()
    one, other = result_of(folder, *given), result_of(folder, *given, "seed=1")
    assert sum(FED) == 2 * 2 * PEOPLE * IMAGES  # two views of the masked images, twice; the clean ones were there
    assert one["clean"] == other["clean"]
    monkeypatch.setattr(faceprint.inference, "load", hashed)
    assert result_of(folder, *given[:-1], "cache=none")["rows"] == one["rows"]


@pytest.fixture(scope="module")
def features(folder: Path) -> Path:
    """What `small` gives for every crop, twice, not of length 1."""
    paths = sorted((folder / "crops").rglob("*.png"))
    images = np.stack([cv2.imread(str(path))[..., ::-1] for path in paths])
    batch = (images.transpose(0, 3, 1, 2).astype(np.float32) - 127.5) / 127.5
    np.savez(folder / "m.npz", path=np.array(list(map(str, paths))), embedding=2 * small(batch))
    return folder / "m.npz"


@pytest.mark.parametrize("words", [["fairness"], ["ageing", "draws=20"], ["quality"], ["quality", "quality_of=FILE"]])
def test_analyses_of_embeddings_made_elsewhere(folder: Path, features: Path, words: list[str]) -> None:
    given = [word.replace("FILE", f"{folder}/quality.txt") for word in words]
    pairs = f"pairs={folder}/pairs.csv"
    mine = result_of(folder, "eval", "m", *given, *set_of(folder), "far=0.1", "flip=false")
    theirs = result_of(folder, "eval", str(features), *given, pairs, "far=0.1")
    differing = {"model", "about_model", "threshold"}
    assert {key: value for key, value in mine.items() if key not in {*differing, "figures"}} == {
        key: value for key, value in theirs.items() if key not in {*differing, "figures"}
    }
    assert theirs["threshold"] == pytest.approx(mine["threshold"], abs=1e-6)
    with_images = run("eval", str(features), *given, *set_of(folder), "far=0.1")
    assert "images: for a model" in str(with_images.exception)


def test_what_embeddings_alone_cannot_tell(folder: Path, features: Path, tmp_path: Path) -> None:
    pairs = f"pairs={folder}/pairs.csv"
    for words, message in (
        (["eval", features, "robustness", pairs, "far=0.1"], "robustness needs a network"),
        (["eval", features, "quality", pairs, "far=0.1", "quality_of=dropout"], "quality_of=dropout needs a network"),
        (["doctor", features, "pairs", pairs], "nothing of what the network was fed"),
        (["eval", features, "fairness", pairs, "flip=true"], "flip: for a model"),
        (["compare", features, features, "pairs", pairs, "cache=x"], "cache: for a model"),
        (["eval", "m", "fairness", pairs, "names=a"], "names belongs to embeddings in a file"),
    ):
        assert message in str(run(*map(str, words)).exception)
    whole = np.load(features)
    units = whole["embedding"] / np.linalg.norm(whole["embedding"], axis=1, keepdims=True)
    np.savez(tmp_path / "unit.npz", path=whole["path"], embedding=units)
    refused = run("eval", f"{tmp_path}/unit.npz", "quality", pairs, "far=0.1")
    assert "all embeddings have one length" in str(refused.exception)


def test_a_network_and_embeddings_are_compared(folder: Path, features: Path, tmp_path: Path) -> None:
    found = result_of(folder, "compare", str(features), "m", "pairs", *set_of(folder), "intervals=20", "flip=false")
    assert all(row["value"] == pytest.approx(0, abs=1e-6) for row in found["differences"].values())
    whole = np.load(features)
    np.save(tmp_path / "rows.npy", whole["embedding"])
    (tmp_path / "list.txt").write_text("".join(f"{name}\n" for name in whole["path"]))
    words = ["compare", f"{tmp_path}/rows.npy", str(features), "pairs", f"pairs={folder}/pairs.csv", "intervals=20"]
    both = result_of(folder, *words, f"a.names={tmp_path}/list.txt")
    assert both["mcnemar"] == {"only_first": 0, "only_second": 0, "p_value": 1.0}


def series_of(folder: Path) -> list[Series]:
    return read_result(folder / "result.json").series


def test_an_analysis_is_a_result_for_reports(folder: Path) -> None:
    """What the analysis found stands among the figures, with the errors behind it."""
    given = [*set_of(folder), "far=0.1"]
    plain = result_of(folder, "eval", "m", "fairness", *given)
    figures = {(each.set, each.name): each for each in read_result(folder / "result.json").figures}
    oak = figures["pairs.csv, oak", "FNMR"]
    assert (oak.errors, oak.trials) == (plain["groups"]["oak"]["false_non_matches"], 12)
    assert oak.interval is not None
    assert oak.interval.low <= oak.value <= oak.interval.high
    drawn = {each.measure: {point.at: point for point in each.points} for each in series_of(folder)}
    assert (drawn["FNMR"]["oak"].value, drawn["FNMR"]["oak"].interval) == (oak.value, oak.interval)
    assert drawn["FMR"].keys() == {"oak", "elm"}
    assert figures["pairs.csv", "GARBE"].value == plain["summary"]["garbe"]
    assert "Wilson" in oak.interval.method
    plain = result_of(folder, "eval", "m", "fairness", *given, "intervals=50")
    figures = {(each.set, each.name): each for each in read_result(folder / "result.json").figures}
    oak, found = figures["pairs.csv, oak", "FNMR"].interval, plain["intervals"]["figures"]["fnmr_oak"]
    assert oak is not None
    assert (oak.low, oak.high) == (found["low"], found["high"])
    assert oak.method.startswith("50 bootstrap draws")
    assert oak in [point.interval for each in series_of(folder) for point in each.points]
    result_of(folder, "eval", "m", "ageing", *given, "years=0,2", "draws=50")
    bands = [each.interval for each in read_result(folder / "result.json").figures]
    assert [(band.level, "50 bootstrap draws" in band.method) for band in bands if band] == [(0.98, True)] * 2
    assert [point.at for each in series_of(folder) for point in each.points] == ["0 to 2", "2+"]
    plain = result_of(folder, "eval", "m", "quality", *given)
    (curve,) = read_result(folder / "result.json").curves
    assert (curve.kind, curve.set, curve.y[0]) == ("discard", "pairs.csv, by norm", plain["fnmr"]["0.00"])
    plain = result_of(folder, "eval", "m", "robustness", *given, "kinds=mask")
    named = {each.name: each.value for each in read_result(folder / "result.json").figures}
    assert named["FNMR, threshold of the clean images, mask 1 of the images, both degraded"] == plain["rows"][1]["fnmr"]
    accuracies = [[point.value for point in each.points] for each in series_of(folder) if each.measure == "accuracy"]
    assert accuracies == [[plain["clean"]["accuracy"], row["accuracy"]] for row in plain["rows"]]


def test_names_are_neither_markup_nor_formulas(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    text = (folder / "pairs.csv").read_text()
    (folder / "odd.csv").write_text(text.replace("oak", "[/b]").replace("elm", r"$\frac$ [red]"))
    given = [f"images={folder}/crops", f"pairs={folder}/odd.csv", "far=0.1", f"plot={folder}/odd.png"]
    done = run("eval", r"$\frac$", "fairness", *given)
    assert done.exit_code == 0, done.exception
    assert "[/b]" in done.output
    assert r"$\frac$ [red]" in done.output
    done = run("eval", r"$\frac$", "pairs", *set_of(folder), f"plot={folder}/odd.png")
    assert done.exit_code == 0, done.exception


def test_paths_that_are_no_unicode_are_shown_as_far_as_they_can_be(folder: Path) -> None:
    odd = Path(os.fsdecode(b"caf\xe9.csv"))
    shutil.copy(folder / "pairs.csv", folder / odd)
    found = result_of(folder, "eval", "m", "fairness", f"images={folder}/crops", f"pairs={folder / odd}", "far=0.1")
    assert found["about_data"]["name"] == f"{folder}/caf?.csv"


@pytest.mark.parametrize("kind", ["blank", "people", "long"])
def test_groups_that_are_none(folder: Path, kind: str) -> None:
    with (folder / "pairs.csv").open() as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        row["group_a"], row["group_b"] = {
            "blank": ("", "b") if row["same"] == "0" else ("b", "b"),
            "people": (f"{number}", f"{number}" if row["same"] == "1" else f"x{number}"),
            "long": ("b" * 999,) * 2,
        }[kind]
    with (folder / "none.csv").open("w") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    done = run("eval", "m", "fairness", f"images={folder}/crops", f"pairs={folder}/none.csv", "far=0.1")
    said = {"blank": "a person without a group", "people": "at most 500", "long": "has 999 letters"}[kind]
    assert isinstance(done.exception, UserError)
    assert said in str(done.exception)


def test_a_network_that_gives_one_score_to_all(folder: Path, tmp_path: Path) -> None:
    """Scores that rounding alone tells apart."""
    pytest.importorskip("matplotlib")
    names = sorted(str(path.relative_to(folder / "crops")) for path in (folder / "crops").rglob("*.png"))
    vectors = np.ones((len(names), 2), np.float32)
    vectors[::2, 1] += 1e-7
    np.savez(tmp_path / "one.npz", path=np.array(names), embedding=vectors)
    given = [f"pairs={folder}/pairs.csv", f"plot={tmp_path}/one.png", "--json", f"{tmp_path}/one.json"]
    done = run("eval", str(tmp_path / "one.npz"), "pairs", *given)
    assert done.exit_code == 0, done.exception
    assert sum(read_result(tmp_path / "one.json").histograms[0].counts) == 24


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ageing", "draws=0"], "draws is 0"),
        (["ageing", "draws=-1"], "draws is -1"),
        (["ageing", "draws=99999999999"], "allowed: 1 to 100,000"),
        (["ageing", "years=-inf,3"], "from a finite one"),
        (["ageing", "years=" + ",".join(map(str, range(300)))], "to 200 bins"),
        (["fairness", "threshold=nan"], "threshold is nan"),
        (["robustness", "seed=-1"], "seed is -1"),
        (["quality", "threshold=-inf"], "threshold is -inf"),
        (["quality", "quality_of=absent"], "no such file; quality_of is"),
    ],
)
def test_numbers_that_are_none(folder: Path, words: list[str], message: str) -> None:
    found = run("eval", "m", *words, *set_of(folder), "far=0.1").exception
    assert isinstance(found, UserError)
    assert message in str(found)


def test_qualities_of_no_file_name(folder: Path) -> None:
    (folder / "odd.txt").write_text("/ 0.5\n" + (folder / "quality.txt").read_text())
    found = run("eval", "m", "quality", *set_of(folder), "far=0.1", f"quality_of={folder}/odd.txt").exception
    assert isinstance(found, UserError)
    assert "odd.txt:1: expected 'path quality', got '/ 0.5'" in str(found)


def test_over_the_far_that_was_asked_for_alone(folder: Path) -> None:
    given = result_of(folder, "eval", "m", "fairness", *set_of(folder), "threshold=0.5")
    assert [group["fmr_over_far"] for group in given["groups"].values()] == [None, None]


def test_doctor_says_that_generated_people_say_little(folder: Path) -> None:
    options = ["num_identities=20", "num_pairs=60", "max_pairs=20"]
    done = run("doctor", "m", "synthetic", *options, "--json", str(folder / "doctor.json"))
    assert done.exit_code == 0, (done.output, done.exception)
    assert "generated people" in done.output
    found = json.loads((folder / "doctor.json").read_text())
    assert (found["num_pairs"], found["photographs"]) == (40, False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fairness", "far=0.1"], r"eval fairness needs the option images=…"),
        (["ageing", "images=a", "pairs=b", "draws=x"], "b: no such file|option draws of eval ageing"),
        (["quality", "set=pair"], "unknown protocol 'pair'"),
        (["robustness", "blur=3"], "unknown key of eval robustness 'blur'"),
        (["robustness", "set=synthetic", "far=1e-6", "num_pairs=20"], "which needs at least 1,000,000"),
        (["unfairness"], r"unknown protocol 'unfairness' \(nearest: 'fairness'\)"),
        (["pairs", "intervals=0"], "intervals is '0'"),
        (["pairs", "hardest=a.jpg"], "pictures are written as PNG"),
    ],
)
def test_mistakes(words: list[str], message: str) -> None:
    found = run("eval", "m", *words).exception
    assert isinstance(found, UserError)
    assert re.search(message, str(found)), str(found)
