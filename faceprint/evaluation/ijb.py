"""IJB-B and IJB-C: 1:1 verification of templates, and 1:N search in two galleries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceprint.data.alignment import align
from faceprint.data.fingerprint import bytes_fingerprint, files_fingerprint
from faceprint.data.images import read_image
from faceprint.errors import UserError
from faceprint.evaluation import metrics
from faceprint.evaluation.curves import open_set_scores, plain_cmc, plain_open_set, sampled_roc
from faceprint.evaluation.embeddings import EmbeddingSet, ImageSet
from faceprint.evaluation.ijb_draws import GallerySearches, gallery_intervals, pair_intervals
from faceprint.evaluation.ijb_files import (
    EDITIONS,
    Enrolled,
    Faces,
    Landmarks,
    TemplatePairs,
    check_counts,
    read_enrolled,
    read_faces,
    read_landmarks,
    read_template_pairs,
)
from faceprint.evaluation.pairs import Size
from faceprint.evaluation.tasks import ResultTable
from faceprint.evaluation.templates import Templates, image_weights, pool_templates, template_scores

Differences = Mapping[str, Mapping[str, int]]

FARS = ("1e-6", "1e-5", "1e-4", "1e-3", "1e-2", "1e-1")
FPIRS = ("0.01", "0.1")
RANKS = (1, 5, 10)


@dataclass(frozen=True, eq=False)
class FaceSet:
    """The crops of one edition, and how they become templates.

    `norm` (flag N of `ijb_11.py`): each image counts by the length of its raw embedding; without, all are brought to
    length 1. `detector_score` (flag D): each counts by the detector's score. The third flag, F, is `flip`, the sum of
    the embeddings of image and mirror image: that of the model. `differences` are those of `check_counts`.
    """

    edition: str
    folder: Path
    faces: Faces
    norm: bool
    detector_score: bool
    size: tuple[int, int]
    differences: Differences

    @property
    def images(self) -> ImageSet:
        """The crops, aligned by their landmarks."""
        paths = [self.folder / "loose_crop" / name for name in self.faces.names]
        marks = self._landmarks
        return ImageSet(
            self.faces.names,
            lambda i: align(read_image(paths[i]), marks.points[i], self.size),
            lambda: bytes_fingerprint(
                [files_fingerprint(paths).encode(), marks.points.tobytes(), repr(self.size).encode()]
            ),
            self.faces.names,
        )

    @cached_property
    def _landmarks(self) -> Landmarks:
        return read_landmarks(_meta(self.folder, f"{self.edition}_name_5pts_score.txt"), self.faces)

    def templates(self, embeddings: EmbeddingSet) -> Templates:
        """Mean over the images of a template's medium, sum over its media, brought to length 1."""
        scores = _lengths(embeddings) if self.norm else _inverse_lengths(embeddings)
        if self.detector_score:
            scores = scores * self._landmarks.scores
        weights = image_weights(self.faces.templates, self.faces.media, scores)
        return pool_templates(embeddings.vectors, self.faces.templates, weights)

    def described(self, embeddings: EmbeddingSet, templates: Templates) -> dict[str, Any]:
        """The flags, and what was found."""
        flip = embeddings.origin.get("flip")
        flags = f"N{self.norm:d}D{self.detector_score:d}" + (f"F{flip:d}" if isinstance(flip, bool) else "")
        return {
            "flags": flags,
            "norm_weighting": self.norm,
            "detector_score_weighting": self.detector_score,
            "flip": flip,
            "num_images": len(self.faces),
            "num_templates": len(templates),
            "empty_templates": int(np.count_nonzero(templates.empty)),
            "not_as_published": {name: dict(each) for name, each in self.differences.items()},
        }


@dataclass(frozen=True, eq=False)
class TemplateVerification:
    """1:1: a `Task` whose result has TAR by the exact rule (`tar_at_far`) and by the nearest (`tar_at_nearest_far`)."""

    faces: FaceSet
    pairs: TemplatePairs

    @property
    def images(self) -> ImageSet:
        return self.faces.images

    def score(self, embeddings: EmbeddingSet, *, draws: int = 0) -> dict[str, Any]:
        """With `draws` also `intervals` (`pair_intervals`). Raises `UserError` for embeddings that are not finite."""
        templates = self.faces.templates(embeddings)
        scores = template_scores(templates, self.pairs.first, self.pairs.second)
        tars = tar_by_both_rules(scores, self.pairs.same)
        fars = list(tars["tar_at_far"])
        drawn = {"intervals": pair_intervals(scores, self.pairs, fars, draws)} if draws and fars else {}
        return {
            "protocol": self.faces.edition,
            **self.faces.described(embeddings, templates),
            "num_pairs": len(scores),
            "num_same": int(np.count_nonzero(self.pairs.same)),
            "num_different": int(np.count_nonzero(~self.pairs.same)),
            **tars,
            **drawn,
            "curves": [sampled_roc(scores, self.pairs.same)],
        }

    def tables(self, result: Mapping[str, Any]) -> list[ResultTable]:
        exact, nearest = result["tar_at_far"], result["tar_at_nearest_far"]
        rows = [
            (
                far,
                *_tar(exact[far], result["false_accepts"][far]),
                *_tar(nearest[far], result["false_accepts_nearest"][far]),
            )
            for far in exact
        ]
        columns = ("FAR", "TAR, exact rule", "false accepts", "TAR, nearest rule", "false accepts")
        title = f"{result['model']}: {EDITIONS[self.faces.edition].title} 1:1, {_flags(result)}"
        return [ResultTable(title, columns, rows), *_notes(result)]


@dataclass(frozen=True, eq=False)
class TemplateSearch:
    """1:N: a `Task` that searches the probes in each gallery by itself; a probe has its mate in one of them."""

    faces: FaceSet
    galleries: Mapping[str, Enrolled]
    probes: Enrolled

    @property
    def images(self) -> ImageSet:
        return self.faces.images

    def score(self, embeddings: EmbeddingSet, *, draws: int = 0) -> dict[str, Any]:
        """With `draws` also `intervals` (`gallery_intervals`).

        Raises `UserError` for embeddings that are not finite, and listed templates without image.
        """
        templates = self.faces.templates(embeddings)
        found = {name: search_gallery(templates, gallery, self.probes) for name, gallery in self.galleries.items()}
        curves = [{**curve, "set": f", {name}"} for name, each in found.items() for curve in each.pop("curves")]
        searches = {name: each.pop("searches") for name, each in found.items()}
        drawn = {"intervals": gallery_intervals(self.probes.subjects, searches, RANKS, FPIRS, draws)} if draws else {}
        return {
            "protocol": "ijb_1n",
            "set": self.faces.edition,
            **self.faces.described(embeddings, templates),
            "num_probes": len(self.probes.templates),
            "galleries": found,
            **_over_galleries(list(found.values())),
            **drawn,
            "curves": curves,
        }

    def tables(self, result: Mapping[str, Any]) -> list[ResultTable]:
        columns = ("", *result["galleries"], "both")
        sides = [*result["galleries"].values(), result]
        rows = [(f"rank {rank}", *(_percent(side["rank"][str(rank)]) for side in sides)) for rank in RANKS]
        for key, rule in (("tpir_at_fpir", "exact rule"), ("tpir_at_fpir_published", "published rule")):
            rows += [(f"TPIR@FPIR={fpir}, {rule}", *(_percent(side[key][fpir]) for side in sides)) for fpir in FPIRS]
        counts = [f"{side['num_mated']:,} + {side['num_non_mated']:,}" for side in result["galleries"].values()]
        rows.append(("searches with + without mate", *counts, ""))
        title = f"{result['model']}: {EDITIONS[result['set']].title} 1:N, {_flags(result)}"
        return [ResultTable(title, columns, rows), *_notes(result)]


def ijbb(
    folder: Path, norm: bool = True, detector_score: bool = True, size: Size = (112, 112), other_sizes: bool = False
) -> TemplateVerification:
    """IJB-B 1:1 from `folder`/meta and `folder`/loose_crop. Raises `UserError` as `ijbc` does."""
    return _verification("ijbb", folder, norm, detector_score, size, other_sizes)


def ijbc(
    folder: Path, norm: bool = True, detector_score: bool = True, size: Size = (112, 112), other_sizes: bool = False
) -> TemplateVerification:
    """IJB-C 1:1 from `folder`/meta and `folder`/loose_crop; crops are aligned to `size` when they are read.

    Raises `UserError` for files that are absent or malformed, and for other counts of faces, templates, pairs and
    genuine pairs than published, unless `other_sizes`, which puts the differences into the result.
    """
    return _verification("ijbc", folder, norm, detector_score, size, other_sizes)


def ijb_1n(
    folder: Path,
    set: str | None = None,
    norm: bool = True,
    detector_score: bool = True,
    size: Size = (112, 112),
    other_sizes: bool = False,
) -> TemplateSearch:
    """1:N of the `set` "ijbb" or "ijbc" (None: the one whose files are in `folder`). Raises `UserError` as `ijbc`."""
    there = [name for name in EDITIONS if (folder / "meta" / f"{name}_face_tid_mid.txt").is_file()]
    if set is None and len(there) != 1:
        raise UserError(f"{folder}: has the files of {' and '.join(there) or 'no IJB set'}; give set=ijbb or set=ijbc")
    edition = there[0] if set is None else set
    lists = [f"gallery_{name}" for name in EDITIONS[edition].galleries]
    *galleries, probes = (read_enrolled(_meta(folder, f"{edition}_1N_{name}.csv")) for name in [*lists, "probe_mixed"])
    listed = read_faces(_meta(folder, f"{edition}_face_tid_mid.txt"))
    searched = zip(("first_gallery", "second_gallery", "probes"), [*galleries, probes], strict=True)
    found = {name: len(each.templates) for name, each in searched}
    found |= {"faces": len(listed), "templates": len(np.unique(listed.templates))}
    differences = check_counts(edition, found, other_sizes=other_sizes)
    faces = FaceSet(edition, folder, listed, norm, detector_score, size, differences)
    return TemplateSearch(faces, dict(zip(EDITIONS[edition].galleries, galleries, strict=True)), probes)


def tar_by_both_rules(scores: NDArray[np.floating[Any]], same: NDArray[np.bool_]) -> dict[str, Any]:
    """TAR at `FARS` by `metrics.tar_at_far` and by `metrics.tar_at_nearest_far`, and the false accepts of both.

    A FAR that the exact rule can reach with no false accept only is left out: so many pairs don't show it.
    """
    different = int(np.count_nonzero(~same))
    fars = [far for far in FARS if different * float(far) >= 1]
    numbers = [float(far) for far in fars]
    exact = dict(zip(fars, metrics.tar_at_fars(scores, same, numbers), strict=True))
    nearest = dict(zip(fars, metrics.tar_at_nearest_far(scores, same, numbers), strict=True))
    return {
        "tar_at_far": {far: point.tar for far, point in exact.items()},
        "false_accepts": {far: point.false_accepts for far, point in exact.items()},
        "thresholds": {far: point.threshold for far, point in exact.items()},
        "tar_at_nearest_far": {far: point.tar for far, point in nearest.items()},
        "false_accepts_nearest": {far: point.false_accepts for far, point in nearest.items()},
    }


def search_gallery(templates: Templates, gallery: Enrolled, probes: Enrolled) -> dict[str, Any]:
    """Ranks, TPIR@FPIR, curves and `searches` of `probes` in one `gallery`; a score with an empty template is -1.

    Ranks are fractions of the probes with a mate. The published threshold (`ijb_evals.py`) is element int(n FPIR) - 1
    of the n falling highest scores of probes without a mate: one false positive fewer than the exact rule allows.
    """
    rows, columns = templates.rows(probes.templates), templates.rows(gallery.templates)
    scores = templates.vectors[rows] @ templates.vectors[columns].T
    scores[templates.empty[rows]] = -1
    scores[:, templates.empty[columns]] = -1
    ranks = metrics.mate_ranks(scores, probes.subjects, gallery.subjects)
    mated = int(np.count_nonzero(ranks))
    strangers = len(ranks) - mated
    if not mated:
        raise UserError("no probe has its subject in this gallery; the lists are not of one set")

    def tpir(false_positives: int) -> float | None:
        if false_positives < 0 or not strangers:
            return None
        allowed = false_positives / strangers
        return metrics.tpir_at_fpir(scores, probes.subjects, gallery.subjects, allowed).tpir

    allowed = {fpir: int(float(fpir) * strangers + 1e-9) for fpir in FPIRS}
    mates = probes.subjects[:, None] == gallery.subjects
    hits = {str(rank): int(np.count_nonzero((ranks > 0) & (ranks <= rank))) for rank in RANKS}
    return {
        "num_gallery": len(columns),
        "num_mated": mated,
        "num_non_mated": strangers,
        "hits": hits,
        "rank": {rank: count / mated for rank, count in hits.items()},
        "false_positives": allowed,
        "tpir_at_fpir": {fpir: tpir(count) for fpir, count in allowed.items()},
        "tpir_at_fpir_published": {fpir: tpir(int(strangers * float(fpir)) - 1) for fpir in FPIRS},
        "curves": [
            plain_cmc(ranks[ranks > 0], len(np.unique(gallery.subjects))),
            *filter(None, [plain_open_set(scores, mates, ranks)]),
        ],
        "searches": GallerySearches(ranks, *open_set_scores(scores, mates, ranks)),
    }


def _over_galleries(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Ranks over the searches of all galleries, and plain means of TPIR: both as published."""
    mated = sum(each["num_mated"] for each in found)
    means: dict[str, Any] = {
        "rank": {str(rank): sum(each["hits"][str(rank)] for each in found) / mated for rank in RANKS}
    }
    for key in ("tpir_at_fpir", "tpir_at_fpir_published"):
        values = {fpir: [each[key][fpir] for each in found] for fpir in FPIRS}
        means[key] = {fpir: None if None in each else float(np.mean(each)) for fpir, each in values.items()}
    return means


def _verification(
    edition: str, folder: Path, norm: bool, detector_score: bool, size: tuple[int, int], other_sizes: bool
) -> TemplateVerification:
    faces = read_faces(_meta(folder, f"{edition}_face_tid_mid.txt"))
    templates = np.unique(faces.templates)
    pairs = read_template_pairs(_meta(folder, f"{edition}_template_pair_label.txt"), templates)
    counts = {"pairs": len(pairs.same), "genuine": int(np.count_nonzero(pairs.same))}
    found = {"faces": len(faces), "templates": len(templates), **counts}
    differences = check_counts(edition, found, other_sizes=other_sizes)
    return TemplateVerification(FaceSet(edition, folder, faces, norm, detector_score, size, differences), pairs)


def _meta(folder: Path, name: str) -> Path:
    path = folder / "meta" / name
    if not path.is_file():
        raise UserError(f"{path}: no such file; give folder=DIR with meta/ and loose_crop/ in it")
    return path


def _lengths(embeddings: EmbeddingSet) -> NDArray[np.float64]:
    """What brings `vectors` back to the raw embeddings; those made elsewhere are as they were found."""
    return np.ones(len(embeddings)) if embeddings.norms is None else embeddings.norms.astype(np.float64)


def _inverse_lengths(embeddings: EmbeddingSet) -> NDArray[np.float64]:
    """What brings `vectors` to length 1; 0 for those of length 0."""
    squares = np.einsum("nd,nd->n", embeddings.vectors, embeddings.vectors, dtype=np.float64)
    return np.divide(1, np.sqrt(squares), out=np.zeros(len(squares)), where=squares > 0)


def _flags(result: Mapping[str, Any]) -> str:
    flip = {None: "flip as in the file", True: "flip", False: "no flip"}[result["flip"]]
    norm = "norm kept" if result["norm_weighting"] else "unit length"
    score = "times detector score" if result["detector_score_weighting"] else "no detector score"
    return f"{result['flags']} ({norm}, {score}, {flip})"


def _notes(result: Mapping[str, Any]) -> list[ResultTable]:
    """What a reader must know before comparing."""
    rows = [(name, f"{each['found']:,}", f"{each['published']:,}") for name, each in result["not_as_published"].items()]
    if result["empty_templates"]:
        rows.append(("templates without a readable image: score -1", f"{result['empty_templates']:,}", "0"))
    return [ResultTable("not as published: the figures are not comparable", ("", "here", "published"), rows)] * bool(
        rows
    )


def _tar(tar: float, false_accepts: int) -> tuple[str, str]:
    return _percent(tar), f"{false_accepts:,}"


def _percent(fraction: float | None) -> str:
    return "too few" if fraction is None else f"{100 * fraction:.2f} %"
