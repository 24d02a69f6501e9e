"""ICCV2021-MFR from a list of one's own: all-to-all and mask to non-mask, TAR at an exact FAR.

The protocol is that of InsightFace's `challenges/mfr` (README, "Testsets for insightface track"): ALL and the groups
African, Caucasian, South Asian, East Asian at FAR 1e-6, Children at FAR 1e-4, each all images against all of its own
and with its own threshold; Mask at FAR 1e-4, masked against non-masked images. Pairs are counted once; the published
numbers of negatives are of ordered pairs, less the positives, which gives the same TAR.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from faceprint.errors import UserError
from faceprint.evaluation.curves import accept_counts, plain_curve
from faceprint.evaluation.embeddings import ImageSet, image_files
from faceprint.evaluation.products import (
    Floats,
    Ints,
    Largest,
    Products,
    Progress,
    Rows,
    allowed_false_accepts,
    unit_rows,
)
from faceprint.evaluation.ranks import current_world, share_of
from faceprint.evaluation.sources import EmbeddingSource

Bools = NDArray[np.bool_]

CHILDREN, MASK, ALL = "children", "mask", "all"
SET_NAMES = {ALL: "ALL", MASK: "MASK"}
"""As the published tables write them, behind MFR-; other sets have their names with a capital."""
_YES, _NO = ("1", "true", "yes"), ("0", "false", "no", "")
_MASK_WEIGHT = 0.25  # of the challenge's ranking: 0.25 Mask + 0.75 MR-All


@dataclass(frozen=True, eq=False)
class MfrList:
    """N images: `identity` (N,) numbers of people, `group` (N,) names in lower case ("" where none), `masked` (N,).

    `images` is where they are, None for embeddings that are there. FARs as in the challenge.
    """

    paths: Sequence[str]
    identity: Ints
    group: NDArray[np.str_]
    masked: Bools
    images: Path | None = None
    far: float = 1e-6
    mask_far: float = 1e-4
    children_far: float = 1e-4

    def score(
        self, source: EmbeddingSource, *, device: str = "auto", progress: Progress | None = None
    ) -> dict[str, Any]:
        """Embed all images, then `score_mfr`; with `model` and what the source says. Raises as both do."""
        names = list(self.paths)
        there = ImageSet(names, _unreachable, None, names) if self.images is None else self._files(self.images)
        embeddings, said = source.embed(there)
        vectors = unit_rows(embeddings.vectors, names)
        return {**score_mfr(vectors, self, device=device, progress=progress), "model": source.name, **said}

    def _files(self, folder: Path) -> ImageSet:
        return image_files([folder / path for path in self.paths], list(self.paths))

    def sets(self) -> Iterator[tuple[str, Ints, float]]:
        """(name, images, FAR) of every all-to-all set: ALL, then each group."""
        plain = ~self.masked
        everyone = np.flatnonzero(plain & (self.group != CHILDREN) & (self.group != MASK))
        if len(everyone):
            yield ALL, everyone, self.far
        groups = sorted({str(name) for name in np.unique(self.group[plain])} - {"", MASK})
        for name in groups:
            far = self.children_far if name == CHILDREN else self.far
            yield name, np.flatnonzero(plain & (self.group == name)), far

    def mask_set(self) -> tuple[Ints, Ints]:
        """Masked images, and the non-masked ones of the groups that have masked ones."""
        return np.flatnonzero(self.masked), np.flatnonzero(
            ~self.masked & np.isin(self.group, np.unique(self.group[self.masked]))
        )


def load_mfr(
    list: Path,
    images: Path | None = None,
    far: float = 1e-6,
    mask_far: float = 1e-4,
    children_far: float = 1e-4,
) -> MfrList:
    """The images that the CSV file `list` names: path, identity and, where wanted, group and mask (1 or 0).

    Groups may have any names. `children` is measured at `children_far`, and neither it nor `mask` is in ALL. Paths are
    below the folder `images`, or name embeddings. Raises `UserError` that names file and line.
    """
    try:
        with list.open(newline="", encoding="utf-8-sig") as file:
            rows = [*_read(csv.reader(file, strict=True), list)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{list}: cannot be read as CSV in UTF-8 ({error})") from error
    if len({path for path, *_ in rows}) != len(rows):
        raise UserError(f"{list}: names an image twice; each may stand there once")
    if len(rows) < 2:
        raise UserError(f"{list}: {len(rows)} images; two at least are compared")
    _, identity = np.unique(np.array([row[1] for row in rows]), return_inverse=True)
    return MfrList(
        paths=[row[0] for row in rows],
        identity=identity.astype(np.int64),
        group=np.array([row[2] for row in rows]),
        masked=np.array([row[3] for row in rows], np.bool_),
        images=images,
        far=far,
        mask_far=mask_far,
        children_far=children_far,
    )


def _read(lines: Iterator[list[str]], path: Path) -> Iterator[tuple[str, str, str, bool]]:
    header = [name.strip().lower() for name in next(lines, [])]
    if not {"path", "identity"} <= set(header) <= {"path", "identity", "group", "mask"}:
        raise UserError(f"{path}: the header is {','.join(header)!r}; allowed: path,identity and also group, mask")
    for number, line in enumerate(lines, 2):
        if len(line) != len(header):
            raise UserError(f"{path}, line {number}: {len(line)} fields; the header has {len(header)}")
        row = dict(zip(header, (field.strip() for field in line), strict=True))
        if not row["path"] or not row["identity"]:
            raise UserError(f"{path}, line {number}: path and identity must not be empty")
        mask = row.get("mask", "").lower()
        if mask not in (*_YES, *_NO):
            raise UserError(f"{path}, line {number}: mask is {mask!r}; allowed: 1, 0")
        yield row["path"], row["identity"], row.get("group", "").lower(), mask in _YES


def _unreachable(number: int) -> Any:
    raise UserError("a model needs the images; give images=DIR")


def score_mfr(
    vectors: Rows, listed: MfrList, *, device: str = "auto", progress: Progress | None = None
) -> dict[str, Any]:
    """The result, plain values for JSON, of `vectors` (N, D) float32, of length 1, row i of image i.

    `sets` maps ALL, each group and, where there are masked images, `mask` to a result of `tar_at_far`. Where both are
    there `ranking` is the challenge's 0.25 Mask + 0.75 ALL. Every process must call it; all return the same.
    """
    results: dict[str, Any] = {}
    for name, images, far in listed.sets():
        rows, identity = vectors[images], listed.identity[images]
        results[name] = all_to_all(rows, identity, far, device=device, progress=progress)
    if listed.masked.any():
        masked, plain = listed.mask_set()
        results[MASK] = one_to_other(
            vectors[masked], vectors[plain], listed.identity[masked], listed.identity[plain], listed.mask_far,
            device=device, progress=progress,
        )  # fmt: skip
    curves = [{**each.pop("roc"), "set": f"-{SET_NAMES.get(name, name.title())}"} for name, each in results.items()]
    result: dict[str, Any] = {"protocol": "mfr", "num_images": len(vectors), "sets": results, "curves": curves}
    if {ALL, MASK} <= set(results):
        result["ranking"] = _MASK_WEIGHT * results[MASK]["tar"] + (1 - _MASK_WEIGHT) * results[ALL]["tar"]
    return result


def all_to_all(
    vectors: Rows, identity: Ints, far: float, *, device: str = "auto", progress: Progress | None = None
) -> dict[str, Any]:
    """TAR at FAR over all unordered pairs of `vectors` (N, D) float32 of length 1; `identity` (N,) are whole numbers.

    With M pairs of different people K = floor(far M + 1e-9) may be accepted: the threshold is the (K + 1)-th largest of
    their scores, exactly, and TAR the fraction of same pairs strictly above. `false_accepts` are the different pairs
    strictly above; fewer than K + 1 and, where K is 0, none: so few pairs can't measure that FAR. Memory grows as N and
    K, time as N^2. Every process must call it; each computes a share of the tiles. Raises `UserError` where all pairs
    are of one kind.
    """
    order = np.argsort(identity, kind="stable")  # a person's pairs then lie in few tiles
    vectors, identity = vectors[order], identity[order]
    _, starts, counts = np.unique(identity, return_index=True, return_counts=True)
    total = len(vectors) * (len(vectors) - 1) // 2
    positives = int((counts * (counts - 1) // 2).sum())
    products = Products(vectors, vectors, device=device)
    number = torch.from_numpy(identity).to(products.device)
    largest = Largest(_checked(far, total - positives, positives) + 1)
    for tile in products.tiles(triangle=True, progress=progress):
        largest.offer(products, tile, lambda i, j: (i < j) & (number[i] != number[j]))
    pairs = _pairs_within(starts, counts)
    return _summary(products, largest, pairs, far, total - positives, images=len(vectors), people=len(counts))


def one_to_other(
    queries: Rows,
    gallery: Rows,
    query_identity: Ints,
    gallery_identity: Ints,
    far: float,
    *,
    device: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """`all_to_all` over the pairs of a query (Q, D) and a gallery row (G, D)."""
    order = np.argsort(gallery_identity, kind="stable")
    gallery, gallery_identity = gallery[order], gallery_identity[order]
    starts = np.searchsorted(gallery_identity, query_identity, "left")
    mates = np.searchsorted(gallery_identity, query_identity, "right") - starts
    positives, total = int(mates.sum()), len(queries) * len(gallery)
    products = Products(queries, gallery, device=device)
    own = torch.from_numpy(query_identity).to(products.device)
    other = torch.from_numpy(gallery_identity).to(products.device)
    largest = Largest(_checked(far, total - positives, positives) + 1)
    for tile in products.tiles(progress=progress):
        largest.offer(products, tile, lambda i, j: own[i] != other[j])
    people = len(np.union1d(query_identity, gallery_identity))
    pairs = _with_runs(np.arange(len(queries)), starts, mates)
    images = len(queries) + len(gallery)
    return _summary(products, largest, pairs, far, total - positives, images=images, people=people)


def _checked(far: float, negatives: int, positives: int) -> int:
    if not negatives or not positives:
        raise UserError(f"{positives:,} pairs of one person and {negatives:,} of two; both kinds are needed")
    return allowed_false_accepts(far, negatives)


def _summary(
    products: Products,
    largest: Largest,
    pairs: tuple[Ints, Ints],
    far: float,
    negatives: int,
    *,
    images: int,
    people: int,
) -> dict[str, Any]:
    scores = largest.of_all_processes()
    threshold = float(scores[-1])
    genuine = _genuine(products, pairs)
    accepted = int(np.count_nonzero(genuine > threshold + products.tie))
    cuts = accept_counts(len(scores) - 1)
    above = [int(np.count_nonzero(scores > scores[cut] + products.tie)) for cut in cuts.tolist()]
    tars = [float(np.mean(genuine > scores[cut] + products.tie)) for cut in cuts.tolist()]
    return {
        "tar": accepted / len(genuine),
        "far": far,
        "threshold": threshold,
        "false_accepts": int(np.count_nonzero(scores > threshold + products.tie)),
        "allowed_false_accepts": largest.count - 1,
        "num_images": images,
        "num_identities": people,
        "num_same": len(genuine),
        "num_different": negatives,
        "roc": plain_curve("roc", np.array(above) / negatives, tars),
    }


def _genuine(products: Products, pairs: tuple[Ints, Ints]) -> Floats:
    """The scores of the same pairs; each process computes a share."""
    world = current_world()
    share = share_of(len(pairs[0]), world)
    first, second = (torch.from_numpy(rows[share.start : share.stop]).to(products.device) for rows in pairs)
    return np.concatenate(world.gather_objects(products.exact(first, second).cpu().numpy()))


def _pairs_within(starts: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """All pairs i < j within runs of rows."""
    rows = np.arange(counts.sum())
    ends = np.repeat(starts + counts, counts)
    return _with_runs(rows, rows + 1, ends - rows - 1)


def _with_runs(rows: Ints, starts: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """Each row with the `counts` rows from `starts` on, as two columns of pairs."""
    first = np.repeat(rows, counts)
    within = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
    return first, np.repeat(starts, counts) + within
