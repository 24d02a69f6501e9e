"""`faceprint eval FEATURES PROTOCOL intervals=N` for all that searches, and the report of its result."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from synthetic_ijb import write_ijb
from typer.testing import CliRunner

from faceprint.cli.evaluate import evaluate
from faceprint.cli.report import report
from faceprint.evaluation.feature_files import write_matrix
from faceprint.evaluation.figures import wilson

app = typer.Typer()
app.command("eval")(evaluate)
app.command("report")(report)

METHOD = "30 bootstrap draws of "
HELD = "; at the threshold of the whole set"


def run(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve enrolled people and ten strangers, four images each, as lists of three protocols, and their features."""
    rng = np.random.default_rng(0)
    names = [f"p{person:02}/{image}.png" for person in range(22) for image in range(4)]
    centres = rng.normal(size=(22, 8))
    features = np.repeat(centres, 4, axis=0) + 0.9 * rng.normal(size=(88, 8))
    np.savez(tmp_path / "f.npz", path=np.array(names), embedding=features.astype(np.float32))
    lists = {"gallery": names[:48:4], "probes": [name for row, name in enumerate(names) if row % 4 or row >= 48]}
    for kind, chosen in lists.items():
        (tmp_path / f"{kind}.txt").write_text("".join(f"{name} {name[:3]}\n" for name in chosen))
    rows = [f"{name},{name[:3]},{'oak' if row < 48 else 'elm'},{row % 4 // 3}" for row, name in enumerate(names)]
    (tmp_path / "mfr.csv").write_text("\n".join(["path,identity,group,mask", *rows]))
    people = {"path": names[:48], "id": [name[:3] for name in names[:48]]}
    (tmp_path / "facescrub.json").write_text(json.dumps(people))
    (tmp_path / "distractors.json").write_text(json.dumps({"path": names[48:]}))
    for row, name in enumerate(names):
        kind = "facescrub" if row < 48 else "megaface"
        write_matrix(tmp_path / "devkit" / f"{kind}_features" / f"{name}_net.bin", features[row].astype(np.float32))
    return tmp_path


def measured(folder: Path, model: str, *words: str) -> tuple[dict[str, Any], str]:
    """The result with intervals; without them all other keys are the same, and all intervals Wilson's."""
    shown = run("eval", f"{folder}/{model}", *words, "intervals=30", "--json", f"{folder}/drawn.json")
    run("eval", f"{folder}/{model}", *words, "--json", f"{folder}/plain.json")
    drawn, plain = (json.loads((folder / f"{name}.json").read_text()) for name in ("drawn", "plain"))
    figures, others = drawn.pop("figures"), plain.pop("figures")
    assert drawn.pop("intervals")["draws"] == 30
    for each in drawn.get("sets", {}), plain.get("sets", {}):
        for scored in each.values():  # a sum in another order: see `TIE` of products
            scored["threshold"] = round(scored["threshold"], 13)
    assert drawn == plain
    for one, other in zip(figures, others, strict=True):
        assert {**one, "interval": None} == {**other, "interval": None}
        assert "Wilson" in other.get("interval", {"method": "Wilson"})["method"]
    return json.loads((folder / "drawn.json").read_text()), shown


def methods(result: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {(f["set"], f["name"]): f["interval"]["method"] for f in result["figures"] if "interval" in f}


def test_identification(folder: Path) -> None:
    lists = [f"gallery={folder}/gallery.txt", f"probes={folder}/probes.txt"]
    result, shown = measured(folder, "f.npz", "identification", *lists)
    rows = result["intervals"]["figures"]
    assert "fnir at rank 1, 95 %" in shown
    assert f"{rows['fnir_at_rank_1']['low']:.5f} … {rows['fnir_at_rank_1']['high']:.5f}" in shown
    assert "30 draws of 22 people (labels of the probes; the gallery stays)" in shown
    found = {name: method for (_, name), method in methods(result).items()}
    drawn = f"{METHOD}22 people (labels of the probes; the gallery stays)"
    assert (found["FNIR at rank 1"], found["FNIR@FPIR=1e-1"]) == (drawn, drawn)
    assert found["FPIR at T of FPIR=1e-1"] == found["selectivity at T of FPIR=1e-1"] == drawn + HELD
    assert found["FNMR@FMR=1e-1"] == drawn + HELD
    figures = {figure["name"]: figure for figure in result["figures"]}
    for name, row in (("FNIR@FPIR=1e-1", "fnir_at_fpir_1e-1"), ("FPIR at T of FPIR=1e-1", "fpir_at_fpir_1e-1")):
        interval = figures[name]["interval"]
        assert (interval["low"], interval["high"]) == (rows[row]["low"], rows[row]["high"])
        assert interval["low"] <= figures[name]["value"] <= interval["high"]
    (point,) = (point for point in result["identification_det"] if point["fpir"] == "1e-1")
    assert figures["selectivity at T of FPIR=1e-1"]["value"] == point["selectivity"]
    assert figures["FPIR at T of FPIR=1e-1"]["errors"] == point["false_positives"]
    pytest.importorskip("jinja2")
    run("report", f"{folder}/drawn.json", "--output", f"{folder}/page.html", "--csv", f"{folder}/csv")
    table = {row["figure"]: row["method"] for row in csv.DictReader((folder / "csv" / "figures.csv").open())}
    assert table["FNIR@FPIR=1e-1"] == drawn
    assert f"95 %, {drawn + HELD}" in (folder / "page.html").read_text()


def test_ijb_in_both_galleries(folder: Path) -> None:
    ijb = write_ijb(folder / "ijb")
    np.savez(folder / "ijb.npz", path=np.array(ijb.names), embedding=ijb.features.astype(np.float32))
    words = [f"folder={ijb.folder}", "other_sizes=true"]
    result, shown = measured(folder, "ijb.npz", "ijb_1n", *words)
    assert [curve["set"] for curve in result["curves"]] == [f"IJB-C 1:N, G{n}" for n in (1, 1, 2, 2)]
    assert "G1 tpir at fpir 0.1, 95 %" in shown
    drawn = f"{METHOD}16 people (subjects of the probes; the galleries stay)"
    found = methods(result)
    for side in ("IJB-C 1:N", "IJB-C 1:N, G1", "IJB-C 1:N, G2"):
        assert found[side, "rank-1"] == found[side, "TPIR@FPIR=0.1"] == drawn
        assert (side, "TPIR@FPIR=0.01, published rule") not in found
    figures = {(figure["set"], figure["name"]): figure for figure in result["figures"]}
    for gallery, side in result["galleries"].items():
        figure = figures[f"IJB-C 1:N, {gallery}", "rank-5"]
        assert (figure["value"], figure["trials"]) == (side["rank"]["5"], side["num_mated"])
        row = result["intervals"]["figures"][f"{gallery} rank_5"]
        assert (figure["interval"]["low"], figure["interval"]["high"]) == (row["low"], row["high"])
    both = figures["IJB-C 1:N", "TPIR@FPIR=0.1"]
    assert both["value"] == pytest.approx(result["tpir_at_fpir"]["0.1"])
    result, _ = measured(folder, "ijb.npz", "ijbc", *words)
    found = {name: method for (_, name), method in methods(result).items()}
    assert found["TAR@FAR=1e-1"] == f"{METHOD}16 people (templates joined by genuine pairs)"
    assert "Wilson" in found["TAR@FAR=1e-1, nearest rule"]


def test_mfr(folder: Path) -> None:
    words = [f"list={folder}/mfr.csv", "far=0.01", "mask_far=0.01", "device=cpu"]
    result, shown = measured(folder, "f.npz", "mfr", *words)
    drawn = f"{METHOD}22 people (identities of the list)"
    found = {where.removeprefix("MFR"): method for (where, _), method in methods(result).items()}
    assert found == dict.fromkeys(["-ALL", "-Elm", "-Oak", "-MASK", ""], drawn)
    assert "tar elm, 95 %" in shown
    assert "ranking, 95 %" in shown


@pytest.mark.parametrize("model", ["f.npz", "devkit"])
def test_megaface(folder: Path, model: str) -> None:
    lists = [f"probes={folder}/facescrub.json", f"distractors={folder}/distractors.json", "far=1e-2", "device=cpu"]
    algorithm = ["algorithm=net"] if model == "devkit" else []
    if model == "f.npz":
        stored = np.load(folder / "f.npz")
        kinds = ["facescrub"] * 48 + ["megaface"] * 40
        names = [f"{kind}_features/{path}" for kind, path in zip(kinds, stored["path"], strict=True)]
        np.savez(folder / "f.npz", path=np.array(names), embedding=stored["embedding"])
    result, shown = measured(folder, model, "megaface", *lists, *algorithm)
    found = {name: method for (_, name), method in methods(result).items()}
    drawn = f"{METHOD}12 people (identities of the probes; the distractors stay)"
    assert found["rank-1"] == drawn
    assert found["TPR@FPR=1e-2"] == found["TPR@FPR=1e-2, full"] == drawn + HELD
    assert "40 rank 1, 95 %" in shown
    figure = next(figure for figure in result["figures"] if figure["name"] == "rank-1")
    independent = wilson(figure["errors"], figure["trials"])  # eleven searches share a probe, and more a person
    assert figure["interval"]["high"] - figure["interval"]["low"] > 1.3 * (independent.high - independent.low)
