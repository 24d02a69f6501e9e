"""The page of results in a real browser: it shows, runs nothing, and asks nobody for anything."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from faceprint.evaluation.page import compare, write_page
from faceprint.evaluation.page.pictures import pictures
from faceprint.evaluation.result import (
    AboutData,
    AboutModel,
    Curve,
    Figure,
    Interval,
    Point,
    Result,
    Series,
    WorstPair,
)

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = "<script>console.error('run');document.title='taken'</script>"

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome in PATH"),
    pytest.mark.filterwarnings("ignore:Glyph"),
]


def browse(page: Path, folder: Path, *options: str) -> tuple[str, str, list[str]]:
    """Standard output, console messages, and the requests that the page (not the browser itself) made."""
    log, profile = folder / "net.json", folder / "profile"
    command = [
        *(str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
        *("--disable-background-networking", f"--user-data-dir={profile}", "--enable-logging=stderr"),
        *(f"--log-net-log={log}", "--window-size=1280,1600", *options, page.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    console = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    events: list[dict[str, Any]] = json.loads(log.read_text())["events"]
    asked = [event.get("params", {}) for event in events]
    # The browser's own requests, such as looking for updates, have no origin.
    urls = [
        str(each["url"])
        for each in asked
        if each.get("initiator", "not an origin") != "not an origin" and "url" in each
    ]
    return done.stdout, console, [url for url in urls if url.startswith("http")]


def hostile_result() -> Result:
    return Result(
        protocol="pairs",
        about_model=AboutModel(
            name=HOSTILE, licence=HOSTILE, provenance={HOSTILE: "<img src=http://127.0.0.1:9/x.png>"}
        ),
        about_data=AboutData(name='"><img src="http://127.0.0.1:9/y.png">'),
        figures=[Figure(set=HOSTILE, name="accuracy", value=0.75, errors=25, trials=100)],
        curves=[Curve(set=r"$\frac$ <b>", kind="roc", x=[0, 0.01, 1], y=[0, 0.5, 1])],
        series=[
            Series(set=HOSTILE, kind="strength", axis=HOSTILE, measure=HOSTILE, line=HOSTILE, points=[at_hostile()])
        ],
        worst_pairs=[WorstPair(set="x", first="../../etc/passwd", second="javascript:alert(1)", same=True, score=0.1)],
    )


def at_hostile() -> Point:
    return Point(at=HOSTILE, value=0.1, interval=Interval(low=0, high=1, method=HOSTILE))


def test_a_page_with_hostile_names(tmp_path: Path) -> None:
    comparison = compare([hostile_result()])
    write_page(comparison, pictures(comparison), tmp_path / "report.html", images=tmp_path)
    dom, console, requests = browse(tmp_path / "report.html", tmp_path, "--dump-dom")
    assert console == ""
    assert requests == []
    assert "<title>Results</title>" in dom
    assert "<script" not in dom
    for table in ('id="comparison"', 'class="figures"', 'id="provenance"'):
        assert f"<table {table}" in dom
    assert "75.00" in dom
    shot = tmp_path / "page.png"
    browse(tmp_path / "report.html", tmp_path, f"--screenshot={shot}")
    pixels = cv2.imread(str(shot))
    assert pixels is not None
    assert pixels.shape[:2] == (1600, 1280)
    assert 0.01 < np.mean(pixels < 200) < 0.5  # neither blank nor black


def test_the_checks_see_what_they_look_for(tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text("<!doctype html><img src='http://127.0.0.1:9/x.png'><script>console.error('run')</script>")
    _, console, requests = browse(page, tmp_path, "--dump-dom")
    assert "run" in console
    assert set(requests) == {"http://127.0.0.1:9/x.png"}
