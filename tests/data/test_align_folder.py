"""The bulk job: what lands where, what is reported, going on after a stop, and what it refuses."""

from __future__ import annotations

import json
import multiprocessing
import os

import cv2
import numpy as np
import pytest
from toy_detector import landmarks_of, paint, write_toy_detector

from faceprint.data import align_folder as bulk
from faceprint.data.alignment import align
from faceprint.data.detectors import choose_detector
from faceprint.data.executors import Processes
from faceprint.data.images import read_image
from faceprint.errors import UserError, WorkerDied


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return write_toy_detector(tmp_path_factory.mktemp("models") / "toy.onnx")


def align_folder(source, destination, *, detector_model, refine=False, score_threshold=None, workers=1, **options):
    """The job without the close-up, in which the toy detector sees many blocks in place of one."""
    detector = choose_detector("yunet", detector_model, score_threshold=score_threshold, refine=refine)
    return bulk.align_folder(source, destination, detector=detector, executor=Processes(workers), **options)


def photograph(path, place=None, *, shape=(96, 120), seed=0):
    """A grey, slightly uneven PNG; with the toy face at `place` of the 8-pixel grid."""
    image = np.random.default_rng(seed).integers(80, 100, (*shape, 3), dtype=np.uint8)
    if place:
        paint(image, *place)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1])
    return image


@pytest.fixture
def source(tmp_path):
    """Six photographs: three with a face, one without, two unreadable; and four other files."""
    folder = tmp_path / "photographs"
    photograph(folder / "Ann" / "1.png", (4, 4))
    photograph(folder / "Ann" / "deep" / "2.PNG", (8, 6))
    photograph(folder / "Bob.v2" / "b.1.png", (6, 5), seed=2)
    photograph(folder / "Bob.v2" / "nobody.png")
    (folder / "Bob.v2" / "text.jpg").write_text("not an image")
    (folder / "Bob.v2" / "torn.png").write_bytes((folder / "Ann" / "1.png").read_bytes()[:500])
    (folder / "pairs.txt").write_text("10\t300\n")
    (folder / "Ann" / "._1.png").write_bytes(b"left by another system")
    os.mkfifo(folder / "Ann" / "pipe.png")  # reading it would wait for ever
    (folder / "Ann" / "gone.png").symlink_to(folder / "absent.png")
    return folder


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_crops_keep_their_paths_and_everything_is_accounted_for(source, tmp_path, toy):
    steps = []
    report = align_folder(
        source, tmp_path / "crops", detector_model=toy, image_format="png", progress=lambda *step: steps.append(step)
    )
    crops = ["Ann/1.png", "Ann/deep/2.png", "Bob.v2/b.1.png"]
    assert files_in(tmp_path / "crops") == [*crops, "align.json", "landmarks.parquet"]
    assert (report.photographs, report.found, report.already_done, report.other_files) == (6, 3, 0, 4)
    assert report.not_found == ("Bob.v2/nobody.png",)
    (text, torn) = report.unreadable
    assert (text[0], torn[0]) == ("Bob.v2/text.jpg", "Bob.v2/torn.png")
    assert "truncated" in torn[1]
    assert str(source / "Bob.v2" / "text.jpg") in text[1]
    assert steps[0] == (0, 6)
    assert steps == sorted(steps)
    assert steps[-1] == (6, 6)

    for name, place in [("Ann/1.png", (4, 4)), ("Ann/deep/2.PNG", (8, 6)), ("Bob.v2/b.1.png", (6, 5))]:
        crop = read_image((tmp_path / "crops" / name).with_suffix(".png")).astype(int)
        expected = align(read_image(source / name), landmarks_of(*place)).astype(int)
        assert np.abs(crop - expected).max() <= 1  # lossless; the detector's landmarks are float32

    written = json.loads((tmp_path / "crops" / "align.json").read_text())
    assert written["report"] == json.loads(json.dumps(report.as_dict()))
    assert written["settings"]["size"] == [112, 112]
    assert report.photographs_per_second == pytest.approx(6 / report.seconds)


def test_jpeg_crops_are_close_to_the_lossless_ones(source, tmp_path, toy):
    align_folder(source, tmp_path / "crops", detector_model=toy, size=(112, 96))
    crop = read_image(tmp_path / "crops" / "Ann" / "1.jpg")
    expected = align(read_image(source / "Ann" / "1.png"), landmarks_of(4, 4), (112, 96))
    assert crop.shape == (112, 96, 3)
    assert np.sqrt(np.mean((crop.astype(float) - expected) ** 2)) < 2.5
    assert np.abs(crop.astype(float) - expected).mean(axis=(0, 1)).max() < 2  # in each channel: the order is kept


def test_the_rule_decides_between_faces(tmp_path, toy):
    image = photograph(tmp_path / "in" / "two.png", (2, 2))
    paint(image, 7, 6)  # the middle of 120 x 96 is (60, 48): block (7, 6)
    cv2.imwrite(str(tmp_path / "in" / "two.png"), image[..., ::-1])
    align_folder(tmp_path / "in", tmp_path / "out", detector_model=toy, image_format="png")
    crop = read_image(tmp_path / "out" / "two.png").astype(int)
    assert np.abs(crop - align(image, landmarks_of(7, 6)).astype(int)).max() <= 1


def test_a_second_run_only_does_what_is_missing(source, tmp_path, toy):
    crops = tmp_path / "crops"
    align_folder(source, crops, detector_model=toy)
    (crops / "Ann" / "1.jpg").write_bytes(b"left as it is")
    (crops / "Bob.v2" / "b.1.jpg").unlink()
    (crops / "Ann" / ".0123.partial").write_bytes(b"torn by a power cut")
    photograph(source / "Bob.v2" / "torn.png", (5, 5))  # mended
    report = align_folder(source, crops, detector_model=toy)
    assert (report.found, report.already_done) == (2, 2)
    assert report.not_found == ("Bob.v2/nobody.png",)
    assert [name for name, _ in report.unreadable] == ["Bob.v2/text.jpg"]
    assert (crops / "Ann" / "1.jpg").read_bytes() == b"left as it is"
    assert read_image(crops / "Bob.v2" / "b.1.jpg").shape == (112, 112, 3)


def test_a_stopped_run_is_gone_on_with(tmp_path, toy):
    for number in range(40):
        photograph(tmp_path / "in" / f"{number:02}.png", (5, 5), seed=number)

    def stop(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        align_folder(tmp_path / "in", tmp_path / "out", detector_model=toy, progress=stop)
    assert json.loads((tmp_path / "out" / "align.json").read_text())["report"] is None
    report = align_folder(tmp_path / "in", tmp_path / "out", detector_model=toy)
    assert report.found + report.already_done == 40
    assert 0 < report.already_done < 40


def test_many_processes_do_the_same_as_one(source, tmp_path, toy, capfd):
    one = align_folder(source, tmp_path / "one", detector_model=toy)
    two = align_folder(source, tmp_path / "two", detector_model=toy, workers=2)
    assert (one.found, one.not_found, one.unreadable) == (two.found, two.not_found, two.unreadable)
    assert files_in(tmp_path / "one") == files_in(tmp_path / "two")
    for name in files_in(tmp_path / "one"):
        if name != "align.json":
            assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert capfd.readouterr() == ("", "")


def test_a_lost_process_is_said_and_the_crops_stay(tmp_path, toy):
    for number in range(64):
        photograph(tmp_path / "in" / f"{number:02}.png", (5, 5), shape=(320, 320))

    def kill(done, total):
        if done:
            for process in multiprocessing.active_children():
                process.kill()

    with pytest.raises(WorkerDied, match="run the same again to go on, with fewer workers than 2"):
        align_folder(tmp_path / "in", tmp_path / "out", detector_model=toy, workers=2, progress=kill)
    report = align_folder(tmp_path / "in", tmp_path / "out", detector_model=toy)
    assert report.found + report.already_done == 64
    assert report.already_done > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": (112, 96)}, r"size: \[112, 112\] then, \[112, 96\] now"),
        ({"choose": "largest"}, 'choose: "central" then, "largest" now'),
        ({"score_threshold": 0.7}, "score_threshold: 0.6 then, 0.7 now"),
        ({"refine": True}, "refine: false then, true now"),
        ({"image_format": "png"}, 'image_format: "jpg" then, "png" now'),
    ],
)
def test_crops_of_other_settings_are_not_mixed(source, tmp_path, toy, change, message):
    align_folder(source, tmp_path / "crops", detector_model=toy)
    before = files_in(tmp_path / "crops"), (tmp_path / "crops" / "align.json").read_bytes()
    with pytest.raises(UserError, match=message):
        align_folder(source, tmp_path / "crops", detector_model=toy, **change)
    assert (files_in(tmp_path / "crops"), (tmp_path / "crops" / "align.json").read_bytes()) == before


def test_another_source_or_detector_is_another_setting(source, tmp_path, toy):
    align_folder(source, tmp_path / "crops", detector_model=toy)
    photograph(tmp_path / "elsewhere" / "Ann" / "1.png", (4, 4))
    with pytest.raises(UserError, match=r"source: .*photographs.* then, .*elsewhere.* now"):
        align_folder(tmp_path / "elsewhere", tmp_path / "crops", detector_model=toy)
    newer = tmp_path / "newer.onnx"
    newer.write_bytes(toy.read_bytes() + b"\x42\x00")  # an empty protobuf field: other bytes, the same network
    with pytest.raises(UserError, match="detector_sha256"):
        align_folder(source, tmp_path / "crops", detector_model=newer)


def test_no_face_at_all_is_an_error_that_leaves_only_the_list(tmp_path, toy):
    photograph(tmp_path / "in" / "a.png")
    photograph(tmp_path / "in" / "b.png")
    with pytest.raises(UserError, match=r"no face was found in any of 2 photographs \(0 unreadable\)"):
        align_folder(tmp_path / "in", tmp_path / "out", detector_model=toy)
    assert files_in(tmp_path / "out") == ["align.json"]
    report = json.loads((tmp_path / "out" / "align.json").read_text())["report"]
    assert report["not_found"] == ["a.png", "b.png"]
    photograph(tmp_path / "in" / "b.png", (5, 5))
    assert align_folder(tmp_path / "in", tmp_path / "out", detector_model=toy, size=(112, 96)).found == 1


def test_links_to_folders_are_followed_and_loops_end(tmp_path, toy):
    photograph(tmp_path / "store" / "1.png", (5, 5))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "Ann").symlink_to(tmp_path / "store")
    (tmp_path / "in" / "Bob").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "loop").symlink_to(tmp_path / "in")
    align_folder(tmp_path / "in", tmp_path / "out", detector_model=toy)
    assert files_in(tmp_path / "out") == ["Ann/1.jpg", "Bob/1.jpg", "align.json", "landmarks.parquet"]


def refused(tmp_path, toy, message, **changes):
    """Check that the job is refused and that nothing was written."""
    arguments = {"source": tmp_path / "in", "destination": tmp_path / "out", "detector_model": toy, **changes}
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=message) as caught:
        align_folder(arguments.pop("source"), arguments.pop("destination"), **arguments)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_refused_before_anything_is_written(tmp_path, toy):
    refused(tmp_path, toy, "in: no such file or folder")
    (tmp_path / "in").mkdir()
    refused(tmp_path, toy, r"no photographs in it or below \(0 other files\)")
    photograph(tmp_path / "in" / "a.png", (5, 5))
    refused(tmp_path, toy, "workers 0", workers=0)
    refused(tmp_path, toy, "crop size 0x5", size=(0, 5))
    refused(tmp_path, toy, "unknown face choice 'middle'", choose="middle")
    refused(tmp_path, toy, "unknown crop format 'jpeg' .*'jpg'", image_format="jpeg")
    refused(tmp_path, toy, "score threshold 2", score_threshold=2)
    refused(tmp_path, toy, "not a YuNet", detector_model=tmp_path / "in" / "a.png")
    refused(tmp_path, toy, "absent: no such file", detector_model=tmp_path / "absent")
    refused(tmp_path, toy, "lies inside", destination=tmp_path / "in")
    refused(tmp_path, toy, "lies inside", destination=tmp_path / "in" / "crops")
    refused(tmp_path, toy, "of no known format", source=tmp_path / "in" / "a.png")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    refused(tmp_path, toy, "lies inside", destination=tmp_path / "link" / "crops")
    photograph(tmp_path / "in" / "a.bmp", (5, 5))
    refused(tmp_path, toy, r"a\.bmp and a\.png would both become one crop, a;")


def test_destinations_that_are_not_ours_are_left_alone(tmp_path, toy):
    photograph(tmp_path / "in" / "a.png", (5, 5))
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.jpg").write_bytes(b"precious")
    refused(tmp_path, toy, r"out: not empty, and no align\.json")
    for content, message in [("{", "not JSON"), ("[]", 'no "settings"'), ("[" * 100_000, "not JSON"), ("\xff", "JSON")]:
        (out / "align.json").write_text(content, encoding="latin-1")
        refused(tmp_path, toy, message)
    assert (out / "a.jpg").read_bytes() == b"precious"


def test_what_cannot_be_written_is_a_user_error(tmp_path, toy):
    photograph(tmp_path / "in" / "Ann" / "a.png", (5, 5))
    (tmp_path / "file").write_text("")
    refused(tmp_path, toy, "file", destination=tmp_path / "file")
    refused(tmp_path, toy, "file", destination=tmp_path / "file" / "crops")
    align_folder(tmp_path / "in", tmp_path / "out", detector_model=toy)
    (tmp_path / "out" / "Ann" / "a.jpg").unlink()
    (tmp_path / "out" / "Ann").rmdir()
    (tmp_path / "out" / "Ann").write_text("a file where a folder should be")
    for workers in (1, 2):
        photograph(tmp_path / "in" / "Ann" / f"{workers}.png", (5, 5))
        with pytest.raises(UserError, match=r"Ann/.*\.jpg: cannot be written"):
            align_folder(tmp_path / "in", tmp_path / "out", detector_model=toy, workers=workers)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_no_write_permission(tmp_path, toy):
    photograph(tmp_path / "in" / "a.png", (5, 5))
    (tmp_path / "closed").mkdir(mode=0o500)
    refused(tmp_path, toy, "cannot be written", destination=tmp_path / "closed" / "out")
