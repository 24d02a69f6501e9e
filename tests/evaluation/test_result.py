"""Results in one format: what is written is read again, what is hostile is refused, curves keep their corners."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceprint.errors import UserError
from faceprint.evaluation.curves import thin
from faceprint.evaluation.describe import Scored, describe
from faceprint.evaluation.figures import wilson
from faceprint.evaluation.metrics import verification_accuracy
from faceprint.evaluation.page import compare, write_page, write_tables
from faceprint.evaluation.page.tables import interval_text
from faceprint.evaluation.pairs import PairSet
from faceprint.evaluation.protocols import Evaluation, summarize
from faceprint.evaluation.result import MAX_RESULT_BYTES, AboutData, AboutModel, Figure, Result, WorstPair, read_result
from faceprint.evaluation.uncertainty import interval_result
from faceprint.files import write_whole


def scored(num_pairs: int = 200, folds: int = 3) -> Scored:
    random = np.random.default_rng(0)
    same = np.arange(num_pairs) % 2 == 0
    scores = np.clip(random.normal(same * 0.3, 0.2), -1, 1)
    names = [f"P{i}/P{i}_0001.png" for i in range(2 * num_pairs)]
    first = np.arange(num_pairs) * 2
    fold = np.sort(np.arange(num_pairs) % folds)
    pairs = PairSet("pairs", names, lambda i: np.zeros((8, 8, 3), np.uint8), first, first + 1, same, fold, keys=names)
    evaluation = Evaluation({**summarize(scores, pairs), "model": "m"}, scores, same, pairs)
    return Scored(evaluation.result, {"": evaluation})


def test_described_written_and_read_again(tmp_path: Path) -> None:
    given_result = scored()
    result = describe(given_result, data="sets/lfw.bin")
    path = tmp_path / "a.json"
    path.write_text(json.dumps(result.to_json()))
    assert read_result(path) == result
    written = json.loads(path.read_text())
    assert written["schema"] == "faceprint-result/1"
    assert {key: written[key] for key in given_result.result} == given_result.result  # the interface's keys stay
    evaluation = given_result.evaluations[""]
    by_name = {figure.name: figure for figure in result.figures}
    assert {figure.set for figure in result.figures} == {"LFW"}
    tar = by_name["TAR@FAR=1e-1"]
    different = np.sort(evaluation.scores[~evaluation.same])[::-1]
    assert tar.errors == sum(score <= different[10] for score in evaluation.scores[evaluation.same])
    assert tar.false_accepts == 10
    # The worst pairs, by sorting.
    low = [pair.score for pair in result.worst_pairs if pair.same]
    high = [pair.score for pair in result.worst_pairs if not pair.same]
    assert low == sorted(evaluation.scores[evaluation.same])[:12]
    assert high == different[:12].tolist()
    assert sum(result.histograms[0].counts) == sum(result.histograms[1].counts) == 100


def test_errors_of_folds_of_unequal_size() -> None:
    result = describe(scored(num_pairs=200, folds=3), data="x")
    evaluation = scored().evaluations[""]
    assert evaluation.pairs is not None
    limits = verification_accuracy(evaluation.scores, evaluation.same, evaluation.pairs.fold).thresholds
    wrong = (evaluation.scores > limits[evaluation.pairs.fold]) != evaluation.same
    assert result.figures[0].errors == np.count_nonzero(wrong)


def test_figures_of_a_protocol_that_is_not_known() -> None:
    flat = {"protocol": "ijbc", "num_templates": 3, "tar_at_far": {"1e-4": 0.5}, "open_set": {"tpir": 0.25}, "n": 7}
    result = describe(Scored(flat), data="data/x")
    assert [(figure.set, figure.name, figure.value) for figure in result.figures] == [
        ("IJB-C", "TAR@FAR=1e-4", 0.5),
        ("IJB-C", "open_set tpir", 0.25),
    ]
    assert result.to_json()["open_set"] == {"tpir": 0.25}
    assert result.about_data.counts == {"templates": 3}


def test_wilson() -> None:
    # The interval's ends p solve (p - r)^2 = z^2 p (1 - p) / n.
    interval = wilson(8, 400)
    for end in (interval.low, interval.high):
        assert (end - 0.98) ** 2 == pytest.approx(1.959963984540054**2 * end * (1 - end) / 400)
    assert wilson(0, 10).high == pytest.approx(1)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60))
@settings(max_examples=200, deadline=None)
def test_thinning_keeps_the_step_curve(steps: list[tuple[int, int]]) -> None:
    moves = np.array([(0, 0), *steps, (1, 1)], float).cumsum(0)
    x, y = moves.T / moves[-1][:, None]
    thin_x, thin_y = thin(x, y)
    for at in np.linspace(0, 1, 101):  # the highest TAR whose FAR is at most this
        assert thin_y[thin_x <= at].max() == y[x <= at].max()
    assert len(thin_x) <= len(x)


def test_thinning_of_a_long_curve() -> None:
    x = np.arange(1_000_001) / 1_000_000
    far, tar = thin(x, np.sqrt(x))
    assert len(far) <= 4000
    assert (far[0], tar[0], far[-1], tar[-1]) == (0, 0, 1, 1)
    assert set(x[:100]) <= set(far)  # no corner at a low FAR is lost
    assert np.abs(np.interp(x, far, tar) - np.sqrt(x)).max() < 0.005


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "not a result"),
        ("{", "not a result"),
        ("[" * 100_000, "not a result"),
        ('{"schema": "faceprint-result/2"}', "faceprint-result/1"),
        ('{"schema": "faceprint-result/1", "protocol": "x"}', "about_model"),
        ('{"protocol": "x", "about_data": {"name": "d"}, "about_model": {"name": "m", "evil": 1}}', "evil"),
        ('{"curves": [{"kind": "roc", "x": [1e308, -1e308], "y": [0, 1]}]}', "curves.0.x.0"),
        ('{"histograms": [{"label": "a", "edges": [-1e308, 1e308], "counts": [1]}]}', "histograms.0.edges.0"),
        ('{"histograms": [{"label": "a", "edges": [0, 5e-324], "counts": [1]}]}', "edges must rise"),
        (f'{{"protocol": "{"x" * 1001}"}}', "protocol: String should have at most 1000"),
    ],
)
def test_hostile_files(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        read_result(path)


def test_limits(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    with path.open("wb") as file:
        file.truncate(MAX_RESULT_BYTES + 1)
    started = time.perf_counter()
    with pytest.raises(UserError, match="at most"):
        read_result(path)
    assert time.perf_counter() - started < 1
    with pytest.raises(UserError, match="cannot be read"):
        read_result(tmp_path / "absent.json")


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at most"):
        read_result("/dev/zero")
    for folder in (".", "/", tmp_path):
        with pytest.raises(UserError, match=r"is a folder|cannot be written"):
            write_whole(Path(folder), b"")


def test_names_met_here_are_brought_to_fit() -> None:
    long = AboutModel(name="a" * 4000 + "/run")
    assert (len(long.name), long.name[:2], long.name[-4:]) == (1000, "…a", "/run")
    assert AboutModel(name="caf\udce9").name == "caf?"


def result_of(name: str, *, published: bool = False, **values: float) -> Result:
    return Result(
        protocol="x",
        about_model=AboutModel(name=name, published=published),
        about_data=AboutData(name="d"),
        figures=[Figure(set=key, name="accuracy", value=value) for key, value in values.items()],
    )


def test_comparison_in_the_layout_of_the_tables(tmp_path: Path) -> None:
    ours, more = result_of("=cmd|'/c calc'!A0_&%", LFW=0.9912), result_of("=cmd|'/c calc'!A0_&%", CFP=0.5)
    comparison = compare([ours, more, result_of("theirs", published=True, LFW=0.9983)])
    assert comparison.sets == [("LFW", 1), ("CFP", 1)]
    assert comparison.names == ["1. theirs (published)", "2. =cmd|'/c calc'!A0_&%"]
    values = [[None if figure is None else figure.value for figure in row] for row in comparison.rows]
    assert values == [[0.9983, None], [0.9912, 0.5]]
    write_tables(comparison, csv=tmp_path, latex=tmp_path)
    rows = list(csv.reader((tmp_path / "comparison.csv").open()))
    assert rows == [["model", "LFW accuracy", "CFP accuracy"], [comparison.names[0], "0.9983", ""], rows[2]]
    assert r"A0\_\&\%" in (tmp_path / "comparison.tex").read_text()
    assert r"99.83 & –" in (tmp_path / "comparison.tex").read_text()


def test_a_result_that_is_given_twice_counts_once() -> None:
    result = result_of("m", LFW=0.9)
    comparison = compare([result, result_of("m", CFP=0.5), result.model_copy()])
    assert [figure.set for figure in comparison.results[0].figures] == ["LFW", "CFP"]


def test_every_table_says_how_intervals_were_made(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    drawn = interval_result_of(scored())
    result = describe(drawn, data="lfw.bin")
    methods = {figure.name: figure.interval.method for figure in result.figures if figure.interval}
    assert "30 bootstrap draws of " in methods["accuracy"]
    comparison = compare([result, result_of("theirs", published=True, LFW=0.9)])
    write_tables(comparison, csv=tmp_path, latex=tmp_path)
    rows = list(csv.DictReader((tmp_path / "figures.csv").open()))
    assert {row["figure"]: row["method"] for row in rows if row["method"]} == methods
    assert {row["level"] for row in rows if row["method"]} == {"0.95"}
    by_name = {figure.name: figure for figure in result.figures}
    text = (tmp_path / "figures.tex").read_text()
    assert text.count(r"\multicolumn{6}{l}{$^{1}$ 95 \%, 30 bootstrap draws of") == 1
    cell = interval_text(by_name["accuracy"])
    assert f" & {cell}$^{{1}}$ & " in text
    assert "theirs" not in text
    write_page(comparison, [], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert f"<td>{cell}<sup>1</sup></td>" in page
    assert '<p class="note"><sup>1</sup> 95 %, 30 bootstrap draws of ' in page


def interval_result_of(given: Scored) -> Scored:
    (evaluation,) = given.evaluations.values()
    drawn = interval_result(evaluation, evaluation.pairs, 30)
    return Scored({**given.result, "intervals": drawn}, given.evaluations)


def test_thumbnails_come_from_the_folder_alone(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    folder = tmp_path / "images"
    folder.mkdir()
    for path in (folder / "a.png", tmp_path / "secret.png"):
        cv2.imwrite(str(path), np.full((200, 100, 3), 128, np.uint8))
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    result = result_of("m", LFW=1.0).model_copy(
        update={
            "worst_pairs": [
                WorstPair(first="a", second="../secret.png", same=True, score=0.1),
                WorstPair(first=str(tmp_path / "secret.png"), second="link.png", same=True, score=0.1),
            ]
        }
    )
    missing = write_page(compare([result]), [], tmp_path / "page.html", images=folder)
    assert missing == 3
    assert (tmp_path / "page.html").read_text().count("data:image/jpeg") == 1
