"""`data align` beyond folders and YuNet: any set, other detectors, the table of landmarks, stops and clusters."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from toy_anchor_network import expected as anchor_face
from toy_anchor_network import paint as paint_block
from toy_anchor_network import write_network
from toy_detector import landmarks_of, paint, write_toy_detector
from typer.testing import CliRunner

from faceprint.cli.data import app
from faceprint.data.align_folder import align_folder
from faceprint.data.alignment import align
from faceprint.data.detectors import DETECTORS, choose_detector
from faceprint.data.executors import Processes, RayCluster
from faceprint.data.formats import open_source, recognise
from faceprint.data.images import read_image
from faceprint.data.landmark_table import UNFINISHED
from faceprint.data.landmarks import PARQUET, read_table
from faceprint.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return write_toy_detector(tmp_path_factory.mktemp("models") / "toy.onnx")


def photograph(path, place=None, *, seed=0, shape=(96, 120)):
    """A grey, slightly uneven PNG; with the toy face at `place` of the 8-pixel grid."""
    image = np.random.default_rng(seed).integers(80, 100, (*shape, 3), dtype=np.uint8)
    if place:
        paint(image, *place)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1])
    return image


def plain(toy):
    return choose_detector("yunet", toy, refine=False)


def table(folder):
    return {crop: (name, numbers) for crop, name, numbers in read_table(folder / PARQUET)}


PLACES = {"Ann/1.png": (4, 4), "Ann/2.png": (8, 6), "Bob/1.png": (6, 5), "Bob/nobody.png": None}


@pytest.fixture
def people(tmp_path):
    for name, place in PLACES.items():
        photograph(tmp_path / "people" / name, place)
    return tmp_path / "people"


def test_the_table_holds_the_face_of_each_crop(people, tmp_path, toy):
    align_folder(people, tmp_path / "out", detector=plain(toy))
    rows = table(tmp_path / "out")
    assert list(rows) == ["Ann/1.jpg", "Ann/2.jpg", "Bob/1.jpg"]
    for crop, (name, numbers) in rows.items():
        column, row = PLACES[name]
        assert crop == name.replace(".png", ".jpg")
        np.testing.assert_allclose(numbers[:4], (column * 8 - 12, row * 8 - 16, 32, 40), atol=1e-3)
        np.testing.assert_allclose(np.reshape(numbers[4:14], (5, 2)), landmarks_of(column, row), atol=1e-3)
        assert numbers[14] == pytest.approx(1, abs=1e-4)


def test_a_table_beside_crops_makes_them_no_parquet_set(people, tmp_path, toy):
    align_folder(people, tmp_path / "out", detector=plain(toy))
    assert recognise(tmp_path / "out") == "folder"
    assert len(open_source(tmp_path / "out")) == 3


@pytest.mark.parametrize("kind", ["shards", "parquet", "record", "list"])
@pytest.mark.parametrize("workers", [1, 2])
def test_any_set_gives_the_crops_of_its_folder(people, tmp_path, toy, kind, workers):
    align_folder(people, tmp_path / "plain", detector=plain(toy), image_format="png")
    where = {"shards": "set/x.tar", "parquet": "set.parquet", "record": "set/train.rec", "list": "list.csv"}[kind]
    packed = tmp_path / where
    if kind == "list":
        lines = [f"people/{name},{name.split('/')[0]}" for name in PLACES]
        packed.write_text("path,label\n" + "\n".join(lines) + "\n")
    else:
        done = CliRunner().invoke(app, ["pack", str(people), str(packed)])
        assert done.exit_code == 0, done.output
    given = packed if packed.exists() else packed.parent
    report = align_folder(given, tmp_path / "out", detector=plain(toy), image_format="png", executor=Processes(workers))
    assert (report.photographs, report.found, len(report.not_found)) == (4, 3, 1)
    rows = table(tmp_path / "out")
    assert len(rows) == 3
    crops = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png"))
    assert crops == sorted(rows)
    assert len({crop.split("/")[0] for crop in crops}) == 2
    made = sorted((tmp_path / "out" / crop).read_bytes() for crop in crops)
    assert made == sorted(path.read_bytes() for path in (tmp_path / "plain").rglob("*.png"))
    again = align_folder(given, tmp_path / "out", detector=plain(toy), image_format="png")
    assert (again.found, again.already_done) == (0, 3)


def test_identities_of_hostile_names_stay_inside(tmp_path, toy):
    photograph(tmp_path / "1.png", (4, 4))
    (tmp_path / "list.csv").write_text("path,label\n1.png,../../up\n1.png,.hidden\n1.png,a/b\\c\n1.png,a/b/c\n")
    align_folder(tmp_path / "list.csv", tmp_path / "out" / "deep", detector=plain(toy))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.png", "list.csv", "out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["deep"]
    folders = sorted(path.name for path in (tmp_path / "out" / "deep").iterdir() if path.is_dir())
    assert folders == ["%2E.%2F..%2Fup", "%2Ehidden", "a%2Fb%2Fc", "a%2Fb%5Cc"]  # nobody in another's


def test_a_crop_without_its_row_is_done_again_and_the_table_is_complete(people, tmp_path, toy):
    out = tmp_path / "out"
    align_folder(people, out, detector=plain(toy))
    first = table(out)
    (out / PARQUET).unlink()
    report = align_folder(people, out, detector=plain(toy))
    assert (report.found, report.already_done) == (3, 0)
    (out / "Ann" / "1.jpg").unlink()
    report = align_folder(people, out, detector=plain(toy))
    assert (report.found, report.already_done) == (1, 2)
    assert table(out) == first


def test_a_killed_run_is_gone_on_with_and_nothing_is_lost_or_doubled(tmp_path, toy):
    for number in range(150):
        photograph(tmp_path / "in" / f"{number % 7}" / f"{number:03}.png", (5, 5), seed=number)
    command = [sys.executable, "-m", "faceprint", "data", "align", str(tmp_path / "in"), str(tmp_path / "out")]
    command += ["--detector-model", str(toy), "--no-refine", "--workers", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "out").glob("*/*.jpg"))) < 40 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    made = len(list((tmp_path / "out").glob("*/*.jpg")))
    assert 40 <= made < 150
    assert (tmp_path / "out" / UNFINISHED).exists()
    report = align_folder(tmp_path / "in", tmp_path / "out", detector=plain(toy))
    assert 0 < report.already_done <= made
    assert report.found + report.already_done == 150
    crops = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").glob("*/*.jpg"))
    assert list(table(tmp_path / "out")) == crops
    assert len(crops) == 150
    assert not (tmp_path / "out" / UNFINISHED).exists()


def test_landmarks_of_a_file_make_the_same_crops(people, tmp_path, toy):
    first = tmp_path / "first"
    align_folder(people, first, detector=plain(toy), image_format="png")
    lines = []
    for name, numbers in table(first).values():
        lines.append(" ".join([name, *(f"{value:.9g}" for value in numbers[4:])]))
    (tmp_path / "name_5pts_score.txt").write_text("\n".join(lines) + "\n")
    for file in (first / PARQUET, tmp_path / "name_5pts_score.txt"):
        out = tmp_path / file.suffix
        command = ["align", str(people), str(out), "--detector", "landmarks", "--landmarks", str(file)]
        done = CliRunner().invoke(app, [*command, "--format", "png", "--workers", "1", "--json", "-"])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["not_found"] == ["Bob/nobody.png"]
        for crop in first.rglob("*.png"):
            np.testing.assert_array_equal(read_image(out / crop.relative_to(first)), read_image(crop))


def test_scrfd_by_the_command(tmp_path):
    image = photograph(tmp_path / "in" / "1.png", shape=(640, 640))
    paint_block(image, 16, 20, 15)
    cv2.imwrite(str(tmp_path / "in" / "1.png"), image[..., ::-1])
    network = write_network(tmp_path / "det.onnx", "scrfd")
    command = ["align", str(tmp_path / "in"), str(tmp_path / "out"), "--detector", "scrfd", "--format", "png"]
    done = CliRunner().invoke(app, [*command, "--detector-model", str(network), "--workers", "1"])
    assert done.exit_code == 0, done.output
    crop = align(image, anchor_face("scrfd", 16, 20, 15)[1])
    assert np.abs(read_image(tmp_path / "out" / "1.png").astype(int) - crop).max() <= 1


def test_ray_makes_the_same_crops_as_one_process(tmp_path, toy):
    pytest.importorskip("ray")
    for number in range(60):
        photograph(tmp_path / "in" / f"{number % 7}" / f"{number:03}.png", (5, 5), seed=number)
    align_folder(tmp_path / "in", tmp_path / "one", detector=plain(toy))
    command = ["align", str(tmp_path / "in"), str(tmp_path / "ray"), "--detector-model", str(toy), "--no-refine"]
    done = CliRunner().invoke(app, [*command, "--ray", "local", "--workers", "2", "--json", "-"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["found"] == 60
    assert table(tmp_path / "ray") == table(tmp_path / "one")
    for crop in (tmp_path / "one").glob("*/*.jpg"):
        assert (tmp_path / "ray" / crop.relative_to(tmp_path / "one")).read_bytes() == crop.read_bytes()


@dataclass(frozen=True)
class Deadly:
    """A cluster in which the worker that does the photograph 025 first is killed before it can tell of its batch."""

    cluster: RayCluster
    folder: Path
    workers: int = 3

    def map_batches(self, function, batches):
        return self.cluster.map_batches(partial(work_and_die, self.folder, function), batches)


def work_and_die(folder, function, batch):
    outcomes = function(batch)
    with (folder / f"{os.getpid()}.log").open("a") as file:
        file.writelines(f"{photograph.name}\n" for photograph in batch)
    if any(photograph.index == 25 for photograph in batch) and not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return outcomes


def test_a_worker_of_a_cluster_killed_in_the_middle_costs_nothing(ray_cluster, tmp_path, toy):
    names = [f"{number:03}.png" for number in range(60)]
    for number, name in enumerate(names):
        photograph(tmp_path / "in" / name, (5, 5), seed=number)
    (tmp_path / "logs").mkdir()
    align_folder(tmp_path / "in", tmp_path / "one", detector=plain(toy))
    report = align_folder(
        tmp_path / "in", tmp_path / "ray", detector=plain(toy), executor=Deadly(ray_cluster, tmp_path / "logs")
    )
    assert (report.photographs, report.found, report.not_found) == (60, 60, ())
    assert table(tmp_path / "ray") == table(tmp_path / "one")
    logs = list((tmp_path / "logs").glob("*.log"))
    worked_on = [line for log in logs for line in log.read_text().split()]
    assert len(logs) >= 3
    assert sorted(set(worked_on)) == names
    assert len(worked_on) == 65  # 60, and the five of the batch that was lost once more
    for name in names:
        crop = name.replace(".png", ".jpg")
        assert (tmp_path / "ray" / crop).read_bytes() == (tmp_path / "one" / crop).read_bytes()


def test_defaults_of_detectors(tmp_path, toy, monkeypatch):
    assert list(DETECTORS) == ["yunet", "scrfd", "retinaface", "mtcnn", "landmarks"]
    chosen = choose_detector("yunet", toy)
    assert (chosen.refine, chosen.score_threshold) == (True, 0.6)
    chosen = choose_detector("scrfd", toy, refine=True, score_threshold=0.3)
    assert (chosen.refine, chosen.score_threshold) == (True, 0.3)
    assert choose_detector("scrfd", toy).refine is False
    shutil.copy(toy, tmp_path / "face_detection_yunet_2023mar.onnx")
    monkeypatch.setenv("FACEPRINT_MODELS", str(tmp_path))
    assert choose_detector().file == tmp_path / "face_detection_yunet_2023mar.onnx"


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("yumet",), {}, r"unknown detector 'yumet' \(nearest: 'yunet'\)"),
        (("scrfd",), {}, "detector scrfd: give the file that it works from, --detector-model FILE"),
        (("landmarks",), {}, "detector landmarks: give the file that it works from, --landmarks FILE"),
        (("landmarks", __file__), {"refine": True}, "no network to measure landmarks again"),
        (("mtcnn", __file__), {}, "detector mtcnn: brings its own networks"),
        (("scrfd", "/absent/det.onnx"), {}, "no such file"),
    ],
)
def test_choices_that_make_no_sense(arguments, options, message):
    with pytest.raises(UserError, match=message):
        choose_detector(*arguments, **options)


@pytest.mark.parametrize("arguments", [["--detector", "landmarks"], ["--landmarks", "x.txt"]])
def test_landmarks_and_their_file_go_together(people, tmp_path, arguments):
    done = CliRunner().invoke(app, ["align", str(people), str(tmp_path / "out"), *arguments])
    assert isinstance(done.exception, UserError)
    assert "--detector landmarks takes --landmarks FILE" in str(done.exception)
    assert not (tmp_path / "out").exists()
