"""A small IJB-C in the published file formats: 1:1 pairs, two galleries, probes, loose crops with a painted eye."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

SUBJECTS = 16
TEMPLATE_PLACES = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))


@dataclass(frozen=True, eq=False)
class SyntheticIjb:
    folder: Path
    names: list[str]
    templates: list[int]
    media: list[int]
    scores: NDArray[np.float64]
    features: NDArray[np.float64]
    pairs: list[tuple[int, int, int]]
    galleries: dict[str, list[tuple[int, int]]]
    probes: list[tuple[int, int]]


def write_ijb(folder: Path) -> SyntheticIjb:
    """Template numbers are not contiguous, and the images of a template do not stand together."""
    rng = np.random.default_rng(3)
    kinds = [(subject, kind) for kind in ("gallery", "one", "two") for subject in range(SUBJECTS)]
    numbers = {kind: 3 + 5 * place for place, kind in enumerate(kinds)}
    images = [kinds[i] for i in range(len(kinds))] + [kinds[i] for i in rng.integers(0, len(kinds), 160 - len(kinds))]
    centres = rng.normal(size=(SUBJECTS, 12))
    features = np.array([centres[subject] + rng.normal(size=12) * 2.2 for subject, _ in images])
    features *= rng.uniform(0.5, 8, (len(images), 1))
    gallery = [(numbers[s, "gallery"], 100 + s) for s in range(SUBJECTS)]
    probes = [(numbers[s, kind], 100 + s) for kind in ("one", "two") for s in range(SUBJECTS)]
    made = SyntheticIjb(
        folder=folder,
        names=[f"{i + 1}.jpg" for i in range(len(images))],
        templates=[numbers[image] for image in images],
        media=[int(medium) for medium in rng.integers(900, 903, len(images))],
        scores=np.array([float(f"{score:.3f}") for score in rng.uniform(0.3, 1, len(images))]),
        features=features,
        pairs=[(g, p, int(a == b)) for g, a in gallery for p, b in probes],
        galleries={"G1": gallery[: SUBJECTS // 2], "G2": gallery[SUBJECTS // 2 :]},
        probes=probes,
    )
    _write(made)
    return made


def _write(ijb: SyntheticIjb) -> None:
    (ijb.folder / "meta").mkdir(parents=True)
    (ijb.folder / "loose_crop").mkdir()
    meta = ijb.folder / "meta"
    rows = zip(ijb.names, ijb.templates, ijb.media, strict=True)
    (meta / "ijbc_face_tid_mid.txt").write_text("".join(f"{name} {t} {m}\n" for name, t, m in rows))
    (meta / "ijbc_template_pair_label.txt").write_text("".join(f"{a} {b} {same}\n" for a, b, same in ijb.pairs))
    points = [(1.5 * x + 20, 1.5 * y + 10) for x, y in TEMPLATE_PLACES]
    marks = " ".join(f"{value:.3f}" for point in points for value in point)
    scored = zip(ijb.names, ijb.scores, strict=True)
    (meta / "ijbc_name_5pts_score.txt").write_text("".join(f"{name} {marks} {score:.3f}\n" for name, score in scored))
    for name, templates in (
        {f"gallery_{k}": v for k, v in ijb.galleries.items()} | {"probe_mixed": ijb.probes}
    ).items():
        lines = [f"{t},{s},x/{t}.jpg\n" * 2 for t, s in templates]  # a line an image
        (meta / f"ijbc_1N_{name}.csv").write_text("TEMPLATE_ID,SUBJECT_ID,FILENAME\n" + "".join(lines))
    x, y = (round(value) for value in points[0])
    for i, name in enumerate(ijb.names):
        crop = np.full((180, 200, 3), 10 + i % 40, np.uint8)
        crop[y - 9 : y + 10, x - 9 : x + 10] = (30, 30, 250)  # BGR
        cv2.imwrite(str(ijb.folder / "loose_crop" / name), crop)
