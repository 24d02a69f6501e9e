"""ICCV2021-MFR from a list of one's own: all-to-all and mask to non-mask, TAR at an exact FAR.

The protocol is that of InsightFace's `challenges/mfr` (README, "Testsets for insightface track"): ALL and the groups
African, Caucasian, South Asian, East Asian at FAR 1e-6, Children at FAR 1e-4, each all images against all of its own
and with its own threshold; Mask at FAR 1e-4, masked against non-masked images. Pairs are counted once; the published
numbers of negatives are of ordered pairs, less the positives, which gives the same TAR.

Intervals draw the people of the whole list, the same for every set: a pair of one person weighs as often as they come,
a pair of two the product (`intervals`), and each draw has its own exact threshold. That lies among the largest scores
of different pairs, of which more are kept than the FAR allows (`kept_for_draws`). So pairs are compared once, and a
draw costs a sum over those kept and the same pairs.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from faceprint.errors import UserError
from faceprint.evaluation.curves import accept_counts, plain_curve
from faceprint.evaluation.drawn_rates import DrawnRate, allowed, kept_for_draws
from faceprint.evaluation.embeddings import ImageSet, image_files
from faceprint.evaluation.intervals import PersonDraws, quantiles
from faceprint.evaluation.products import (
    Chosen,
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
T = TypeVar("T", float, Floats)

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
        self, source: EmbeddingSource, *, device: str = "auto", progress: Progress | None = None, draws: int = 0
    ) -> dict[str, Any]:
        """Embed all images, then `score_mfr`; with `model` and what the source says. Raises as both do."""
        names = list(self.paths)
        there = ImageSet(names, _unreachable, None, names) if self.images is None else self._files(self.images)
        embeddings, said = source.embed(there)
        vectors = unit_rows(embeddings.vectors, names)
        return {**score_mfr(vectors, self, device=device, progress=progress, draws=draws), "model": source.name, **said}

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
    vectors: Rows, listed: MfrList, *, device: str = "auto", progress: Progress | None = None, draws: int = 0
) -> dict[str, Any]:
    """The result, plain values for JSON, of `vectors` (N, D) float32, of length 1, row i of image i.

    `sets` maps ALL, each group and, where there are masked images, `mask` to a result of `tar_at_far`. Where both are
    there `ranking` is the challenge's 0.25 Mask + 0.75 ALL. With `draws`, of people, also `intervals`. Every process
    must call it; all return the same.
    """
    people = PersonDraws(int(listed.identity.max()) + 1, draws) if draws else None
    results: dict[str, Any] = {}
    for name, images, far in listed.sets():
        rows, identity = vectors[images], listed.identity[images]
        results[name] = all_to_all(rows, identity, far, device=device, progress=progress, draws=people)
    if listed.masked.any():
        masked, plain = listed.mask_set()
        results[MASK] = one_to_other(
            vectors[masked], vectors[plain], listed.identity[masked], listed.identity[plain], listed.mask_far,
            device=device, progress=progress, draws=people,
        )  # fmt: skip
    curves = [{**each.pop("roc"), "set": f"-{SET_NAMES.get(name, name.title())}"} for name, each in results.items()]
    result: dict[str, Any] = {"protocol": "mfr", "num_images": len(vectors), "sets": results, "curves": curves}
    if {ALL, MASK} <= set(results):
        result["ranking"] = _ranking(results[MASK]["tar"], results[ALL]["tar"])
    if people:
        drawn = {name: each.pop("drawn") for name, each in results.items()}
        result["intervals"] = {**people.said("identities of the list"), "figures": _intervals(drawn)}
    return result


def _ranking(mask: T, everyone: T) -> T:
    return _MASK_WEIGHT * mask + (1 - _MASK_WEIGHT) * everyone


def _intervals(drawn: dict[str, Floats]) -> dict[str, dict[str, Any]]:
    """Of each set's TAR, and of the ranking, from the TARs of each draw (B,)."""
    figures = {f"tar_{name}": tars for name, tars in drawn.items()}
    if {ALL, MASK} <= set(drawn):
        figures["ranking"] = _ranking(drawn[MASK], drawn[ALL])
    return {name: asdict(quantiles(tars)) for name, tars in figures.items() if not np.isnan(tars).all()}


def all_to_all(
    vectors: Rows,
    identity: Ints,
    far: float,
    *,
    device: str = "auto",
    progress: Progress | None = None,
    draws: PersonDraws | None = None,
) -> dict[str, Any]:
    """TAR at FAR over all unordered pairs of `vectors` (N, D) float32 of length 1; `identity` (N,) are whole numbers.

    With M pairs of different people K = floor(far M + 1e-9) may be accepted: the threshold is the (K + 1)-th largest of
    their scores, exactly, and TAR the fraction of same pairs strictly above. `false_accepts` are the different pairs
    strictly above; fewer than K + 1 and, where K is 0, none: so few pairs can't measure that FAR. Memory grows as N and
    K, time as N^2. Every process must call it; each computes a share of the tiles. Raises `UserError` where all pairs
    are of one kind.

    With `draws` of people numbered by `identity` from 0 there is `drawn`: TAR at the FAR in each draw (B,), as
    `DrawnRate` has it.
    """
    order = np.argsort(identity, kind="stable")  # a person's pairs then lie in few tiles
    vectors, identity = vectors[order], identity[order]
    _, starts, counts = np.unique(identity, return_index=True, return_counts=True)
    behind = np.arange(1, len(identity) + 1)
    mates = np.repeat(starts + counts, counts) - behind
    sides = _Sides(Products(vectors, vectors, device=device), identity, identity, behind, mates, triangle=True)
    return _tar_at_far(sides, far, progress, draws)


def one_to_other(
    queries: Rows,
    gallery: Rows,
    query_identity: Ints,
    gallery_identity: Ints,
    far: float,
    *,
    device: str = "auto",
    progress: Progress | None = None,
    draws: PersonDraws | None = None,
) -> dict[str, Any]:
    """`all_to_all` over the pairs of a query (Q, D) and a gallery row (G, D)."""
    order = np.argsort(gallery_identity, kind="stable")
    gallery, gallery_identity = gallery[order], gallery_identity[order]
    starts = np.searchsorted(gallery_identity, query_identity, "left")
    mates = np.searchsorted(gallery_identity, query_identity, "right") - starts
    products = Products(queries, gallery, device=device)
    sides = _Sides(products, query_identity, gallery_identity, starts, mates, triangle=False)
    return _tar_at_far(sides, far, progress, draws)


@dataclass(frozen=True, eq=False)
class _Sides:
    """The people of queries (Q,) and of gallery rows (G,).

    A query's person has `mates` (Q,) rows of the gallery, from `starts` (Q,) on. With `triangle` both sides are one,
    and pairs are those of a row with a later one.
    """

    products: Products
    first: Ints
    second: Ints
    starts: Ints
    mates: Ints
    triangle: bool

    @property
    def positives(self) -> int:
        return int(self.mates.sum())

    @property
    def negatives(self) -> int:
        pairs = len(self.first) * (len(self.first) - 1) // 2 if self.triangle else len(self.first) * len(self.second)
        return pairs - self.positives

    def same(self) -> tuple[Ints, Ints]:
        """The pairs of one person, as two columns of row numbers."""
        first = np.repeat(np.arange(len(self.first)), self.mates)
        within = np.arange(len(first)) - np.repeat(np.cumsum(self.mates) - self.mates, self.mates)
        return first, np.repeat(self.starts, self.mates) + within

    def chosen(self) -> Chosen:
        """Which pairs are of two people."""
        own, other = (torch.from_numpy(people).to(self.products.device) for people in (self.first, self.second))
        if self.triangle:
            return lambda i, j: (i < j) & (own[i] != other[j])
        return lambda i, j: own[i] != other[j]

    def drawn_negatives(self, people: int) -> Callable[[Ints], int]:
        """What the pairs of two people weigh: sum over i != j of times_i a_i times_j b_j, of both sides' images."""
        images = [np.bincount(side, minlength=people) for side in (self.first, self.second)]

        def weigh(times: Ints) -> int:
            a, b = (times * each for each in images)
            return int(a.sum() * b.sum() - a @ b) // (2 if self.triangle else 1)

        return weigh


def _tar_at_far(sides: _Sides, far: float, progress: Progress | None, draws: PersonDraws | None) -> dict[str, Any]:
    accepts = _checked(far, sides.negatives, sides.positives)
    kept = kept_for_draws(accepts, sides.negatives) if draws else accepts + 1
    largest, chosen = Largest(kept, paired=draws is not None), sides.chosen()
    for tile in sides.products.tiles(triangle=sides.triangle, progress=progress):
        largest.offer(sides.products, tile, chosen)
    scores, pairs = largest.of_all_processes()
    same = sides.same()
    genuine = _genuine(sides.products, same)
    result = _summary(sides, scores[: accepts + 1], genuine, far)
    if draws:
        owner, first, second = sides.first[same[0]], sides.first[pairs[:, 0]], sides.second[pairs[:, 1]]
        complete, tie = kept == sides.negatives, sides.products.tie
        rate = DrawnRate(genuine, owner, scores, first, second, tie=tie, complete=complete)
        weigh = sides.drawn_negatives(draws.people)
        result["drawn"] = draws.measured(lambda times: rate(times, allowed([far], weigh(times))))[:, 0]
    return result


def _checked(far: float, negatives: int, positives: int) -> int:
    if not negatives or not positives:
        raise UserError(f"{positives:,} pairs of one person and {negatives:,} of two; both kinds are needed")
    return allowed_false_accepts(far, negatives)


def _summary(sides: _Sides, scores: Floats, genuine: Floats, far: float) -> dict[str, Any]:
    """Of the K + 1 largest `scores` of different pairs, falling, and those of all same pairs."""
    threshold, tie = float(scores[-1]), sides.products.tie
    cuts = accept_counts(len(scores) - 1)
    above = [int(np.count_nonzero(scores > scores[cut] + tie)) for cut in cuts.tolist()]
    tars = [float(np.mean(genuine > scores[cut] + tie)) for cut in cuts.tolist()]
    return {
        "tar": int(np.count_nonzero(genuine > threshold + tie)) / len(genuine),
        "far": far,
        "threshold": threshold,
        "false_accepts": int(np.count_nonzero(scores > threshold + tie)),
        "allowed_false_accepts": len(scores) - 1,
        "num_images": len(sides.first) + (0 if sides.triangle else len(sides.second)),
        "num_identities": len(np.union1d(sides.first, sides.second)),
        "num_same": len(genuine),
        "num_different": sides.negatives,
        "roc": plain_curve("roc", np.array(above) / sides.negatives, tars),
    }


def _genuine(products: Products, pairs: tuple[Ints, Ints]) -> Floats:
    """The scores of the same pairs; each process computes a share."""
    world = current_world()
    share = share_of(len(pairs[0]), world)
    first, second = (torch.from_numpy(rows[share.start : share.stop]).to(products.device) for rows in pairs)
    return np.concatenate(world.gather_objects(products.exact(first, second).cpu().numpy()))
