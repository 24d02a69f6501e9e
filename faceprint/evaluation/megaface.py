"""MegaFace: identification among up to a million distractors and verification, as the devkit counts them.

The score of two images is -||x - y||^2, as in the devkit. By default vectors are brought to length 1 first, which makes
its order that of the cosine; with `normalise=False` they stay as they are. **Scores are exact** (`products`), the
devkit's are float32.

- *Identification*: for each ordered pair of images (i, j) of one person, i is the probe, and the gallery is j and all
  distractors; no other image of the person and no other probe is in it. The rank of j, from 0, is the number of
  distractors that score strictly more: ties favour the mate.
- *Verification*: genuine are the unordered pairs of one person. Impostors are probes with distractors, in mode `devkit`
  those of the first 100 probes of the list alone, in mode `full` all. K = floor(FAR impostors + 1e-9) may be accepted:
  the threshold is the (K + 1)-th largest impostor score. (The devkit's own figure is read off a list of points that are
  0.01 of TPR apart, and can lie that much lower.)

Images on the noise lists: distractors are left out, and count as rejected in every FAR, as the devkit counts those that
the published cleaning moves far away. Probes are replaced by the direction of the sum of their person's clean vectors
(`probe_noise=centre`: the published cleaning without its random +-0.001), or left out (`exclude`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BeforeValidator
from torch import Tensor

from faceprint.errors import UserError
from faceprint.evaluation.embeddings import EmbeddingSet, ImageSet, image_files
from faceprint.evaluation.feature_files import matrix_features, write_matrix
from faceprint.evaluation.products import (
    Floats,
    Ints,
    Largest,
    Products,
    Progress,
    Rows,
    Tile,
    allowed_false_accepts,
    unit_rows,
)
from faceprint.evaluation.ranks import current_world
from faceprint.evaluation.sources import EmbeddingSource
from faceprint.files import write_whole

Bools = NDArray[np.bool_]

FIRST_PROBES = 100
"""Probes whose distractor scores are the devkit's impostors."""
FOLDERS = ("facescrub_features", "fgnet_features", "megaface_features")
RANKS = (1, 5, 10, 100)
_STEPS = 100
_MOST_LIST = 1 << 28
_DENSE = 16
_DENSE_ROWS = 64
_FEW = 8

Files = Annotated[Sequence[Path], BeforeValidator(lambda value: value.split(",") if isinstance(value, str) else value)]


@dataclass(frozen=True, eq=False)
class Curve:
    """Impostors of one mode: the `count` of them, the (K + 1)-th largest score, and those strictly above it."""

    impostors: int
    threshold: float
    false_accepts: int
    allowed: int
    tpr: float


@dataclass(frozen=True, eq=False)
class Counts:
    """`ranks` (P,) of the ordered pairs, from 0; the curves of modes `devkit` and `full`.

    `roc_far` and `roc_tpr` (S,) are points of the devkit's ROC.
    """

    ranks: Ints
    devkit: Curve
    full: Curve
    roc_far: Floats
    roc_tpr: Floats
    num_genuine: int

    def rank_k(self, k: int) -> float:
        """The fraction of pairs with a mate among the first k."""
        return float(np.count_nonzero(self.ranks < k) / len(self.ranks))


def count_megaface(
    probes: Rows,
    identity: Ints,
    distractors: Rows,
    *,
    far: float = 1e-6,
    listed: int | None = None,
    normalised: bool = True,
    device: str = "auto",
    progress: Progress | None = None,
) -> Counts:
    """Count as the module says: `probes` (Q, D) and `distractors` (M, D) float32, `identity` (Q,) whole numbers.

    `normalised` says that all are of length 1. `listed` distractors stand behind each FAR (default M). Memory is that
    of the vectors, a tile and K scores; every process must call it, each counts a share. Where every mate is found the
    time is that of the product; mates that are not found cost a comparison for each distractor. Raises `UserError`
    where no person has two images or there are no distractors.
    """
    search = _Search(
        probes, identity, distractors, far, len(distractors) if listed is None else listed, normalised, device
    )
    for tile in search.products.tiles(progress=progress):
        search.take(tile)
    return search.counts()


class _Search:
    """What is counted, tile by tile. Thresholds of probe i are the scores of its mates, rising; those of the devkit's
    probes hold points of the ROC too."""

    def __init__(
        self, probes: Rows, identity: Ints, distractors: Rows, far: float, listed: int, normalised: bool, device: str
    ) -> None:
        first, second = _ordered_pairs(identity)
        if not len(first) or not len(distractors):
            raise UserError(f"{len(first):,} pairs of one person, {len(distractors):,} distractors; both are needed")
        queries, gallery, size = (probes, distractors, None) if normalised else _lifted(probes, distractors)
        self.products = Products(queries, gallery, device=device, magnitude=size)
        mates = probes if normalised else _lifted(probes, probes)[1]
        mate_products = Products(queries, mates, device=device, magnitude=size)
        pairs = [torch.from_numpy(rows).to(self.products.device) for rows in (first, second)]
        scores = mate_products.exact(pairs[0], pairs[1]).cpu().numpy()
        self.pair_scores = scores
        self.genuine = np.sort(scores[first < second])[::-1]
        impostors = {"devkit": min(FIRST_PROBES, len(probes)) * listed, "full": len(probes) * listed}
        self.impostors = impostors
        self.largest = {mode: Largest(allowed_false_accepts(far, count) + 1) for mode, count in impostors.items()}
        steps = np.unique(np.ceil(np.linspace(1, len(self.genuine), min(_STEPS, len(self.genuine)))).astype(np.int64))
        self.roc_ranks = steps
        self._arrange(first, scores, len(probes))

    def _arrange(self, first: Ints, scores: Floats, num_probes: int) -> None:
        """Thresholds by probe, rising. A ROC point counts impostors that reach a genuine score: ties count against."""
        points = self.genuine[self.roc_ranks - 1]
        devkit = min(FIRST_PROBES, num_probes)
        owners = np.concatenate([first, np.repeat(np.arange(devkit), len(points))])
        tie = self.products.tie
        values = np.concatenate([scores + tie, np.tile(points - tie, devkit)])
        self.order = np.lexsort((values, owners))
        self.thresholds = values[self.order]
        self.edges = np.searchsorted(owners[self.order], np.arange(num_probes + 1))
        self.above = np.zeros(len(values), np.int64)
        lowest = np.full(num_probes, np.inf)
        has = self.edges[1:] > self.edges[:-1]
        lowest[has] = self.thresholds[self.edges[:-1][has]]
        self.lowest = torch.from_numpy(lowest - self.products.error).to(self.products.device)

    def take(self, tile: Tile) -> None:
        self.largest["full"].offer(self.products, tile, _all)
        if tile.row < FIRST_PROBES:
            self.largest["devkit"].offer(self.products, tile, lambda rows, _: rows < FIRST_PROBES)
        rows = (tile.peaks > self.lowest[tile.row : tile.row + len(tile.peaks)]).nonzero().flatten()
        near: list[tuple[Ints, Ints, Ints]] = []
        dense: list[int] = []
        for row in rows.tolist():
            found = self._count(tile, row)
            if found is None:
                dense.append(row)
            else:
                near.append(found)
        self._settle(tile, near)
        for start in range(0, len(dense), _DENSE_ROWS):
            self._count_exactly(tile, dense[start : start + _DENSE_ROWS])

    def _own(self, probe: int) -> slice:
        return slice(int(self.edges[probe]), int(self.edges[probe + 1]))

    def _count(self, tile: Tile, row: int) -> tuple[Ints, Ints, Ints] | None:
        """Count one probe's scores; what is too near to say as (threshold, probe, gallery row). None: nearly all is."""
        own = self._own(tile.row + row)
        counts, places, columns = count_above(tile.scores[row].cpu().numpy(), self.thresholds[own], self.products.error)
        if len(columns) * _DENSE > tile.scores.shape[1]:
            return None
        self.above[own] += counts
        return places + own.start, np.full(len(places), tile.row + row), columns + tile.column

    def _settle(self, tile: Tile, near: list[tuple[Ints, Ints, Ints]]) -> None:
        if not near:
            return
        place, probe, column = (np.concatenate(parts) for parts in zip(*near, strict=True))
        pairs = [torch.from_numpy(rows).to(self.products.device) for rows in (probe, column)]
        exact = self.products.exact(pairs[0], pairs[1]).cpu().numpy()
        np.add.at(self.above, place[exact > self.thresholds[place]], 1)

    def _count_exactly(self, tile: Tile, rows: Sequence[int]) -> None:
        columns = slice(tile.column, tile.column + tile.scores.shape[1])
        probes = torch.tensor(rows, device=self.products.device) + tile.row
        exact = self.products.exact_rows(probes, columns).cpu().numpy()
        for probe, scores in zip(probes.tolist(), exact, strict=True):
            own = self._own(probe)
            rising = np.sort(scores)
            self.above[own] += len(rising) - np.searchsorted(rising, self.thresholds[own], "right")

    def counts(self) -> Counts:
        above = np.empty(len(self.above), np.int64)
        above[self.order] = np.sum(current_world().gather_objects(self.above), axis=0)
        pairs = len(self.pair_scores)
        reached = above[pairs:].reshape(-1, len(self.roc_ranks)).sum(0)
        return Counts(
            ranks=above[:pairs],
            devkit=self._curve("devkit"),
            full=self._curve("full"),
            roc_far=reached / self.impostors["devkit"],
            roc_tpr=self.roc_ranks / len(self.genuine),
            num_genuine=len(self.genuine),
        )

    def _curve(self, mode: str) -> Curve:
        largest, tie = self.largest[mode], self.products.tie
        scores = largest.of_all_processes()
        # With noises left out there may be fewer impostors than may be accepted.
        threshold = float(scores[-1]) if len(scores) == largest.count else -np.inf
        return Curve(
            impostors=self.impostors[mode],
            threshold=threshold,
            false_accepts=int(np.count_nonzero(scores > threshold + tie)),
            allowed=largest.count - 1,
            tpr=float(np.count_nonzero(self.genuine > threshold + tie) / len(self.genuine)),
        )


def _all(rows: Tensor, columns: Tensor) -> Tensor:
    return torch.ones_like(rows, dtype=torch.bool)


def count_above(values: NDArray[np.float32], thresholds: Floats, error: float) -> tuple[Ints, Ints, Ints]:
    """How many `values` (C,), each off by at most `error`, are above each of the rising `thresholds` (T,) for certain.

    And which are too near to say, as (threshold, value) numbers (P,), (P,). What is below one threshold for certain is
    not looked at again, so that thresholds above all values cost nothing.
    """
    counts = np.zeros(len(thresholds), np.int64)
    places: list[Ints] = [np.empty(0, np.int64)]
    columns: list[Ints] = [np.empty(0, np.int64)]
    numbers: Ints | None = None  # of the values that are left; None: all are
    for place, threshold in enumerate(thresholds.tolist()):
        possible, certain = values > threshold - error, values > threshold + error
        kept, counts[place] = np.count_nonzero(possible), np.count_nonzero(certain)
        if not kept:
            break
        if counts[place] != kept:
            near = np.flatnonzero(possible ^ certain)
            places.append(np.full(len(near), place))
            columns.append(near if numbers is None else numbers[near])
        if _FEW * kept < len(values):  # to gather many takes longer than to compare them again
            left = np.flatnonzero(possible)
            values, numbers = values[left], left if numbers is None else numbers[left]
    return counts, np.concatenate(places), np.concatenate(columns)


def _ordered_pairs(identity: Ints) -> tuple[Ints, Ints]:
    """All (i, j), i != j, of one person, by i."""
    pairs = [np.flatnonzero(identity == person) for person in np.unique(identity)]
    first = np.concatenate([np.repeat(rows, len(rows)) for rows in pairs] or [np.empty(0, np.int64)])
    second = np.concatenate([np.tile(rows, len(rows)) for rows in pairs] or [np.empty(0, np.int64)])
    keep = first != second
    return first[keep], second[keep]


def _lifted(queries: Rows, gallery: Rows) -> tuple[Rows, Rows, float]:
    """Vectors whose inner product is -||x - y||^2 / 2, and a bound of its terms' sum.

    x becomes (x, 1, 1, a, b) and y (y, c, d, 1, 1), where a + b = -||x||^2 / 2 and c + d = -||y||^2 / 2, each in two
    float32 parts, which together hold 48 bits.
    """
    ones = (np.ones((len(queries), 2), np.float32), np.ones((len(gallery), 2), np.float32))
    halves = [_two_parts(-np.einsum("nd,nd->n", rows, rows, dtype=np.float64) / 2) for rows in (queries, gallery)]
    longest = sum(float(np.sqrt(-2 * half.sum(1, dtype=np.float64).min())) for half in halves)
    lifted = (np.hstack([queries, ones[0], halves[0]]), np.hstack([gallery, halves[1], ones[1]]))
    return lifted[0], lifted[1], longest**2


def _two_parts(values: Floats) -> Rows:
    high = values.astype(np.float32)
    return np.stack([high, (values - high).astype(np.float32)], axis=1)


def devkit_curves(counts: Counts) -> dict[str, Any]:
    """CMC and ROC in the layout of the devkit's result file: `cmc` [ranks from 0, recall], `roc` [FAR, TPR].

    As there, a point of the CMC is kept where recall rose by 0.01 since the last one kept, and the last. The ROC has
    the impostors of mode `devkit`, at every hundredth of TPR. `traditional_cmc` is not made: it is not published.
    """
    ranks, pairs = np.unique(counts.ranks, return_counts=True)
    recall = np.cumsum(pairs) / len(counts.ranks)
    if ranks[0] != 0:
        ranks, recall = np.concatenate([[0], ranks]), np.concatenate([[0.0], recall])
    kept = [0]
    for place in range(1, len(ranks)):
        if recall[place] - recall[kept[-1]] >= 0.01 or place == len(ranks) - 1:
            kept.append(place)
    return {
        "cmc": [ranks[kept].tolist(), recall[kept].tolist()],
        "roc": [counts.roc_far.tolist(), counts.roc_tpr.tolist()],
    }


@dataclass(frozen=True)
class NoiseMatches:
    """Of `lines` in a noise list `found` name an image of the set; `rows` are those images."""

    lines: int
    found: int
    rows: tuple[int, ...]

    def summary(self) -> dict[str, int]:
        return {"lines": self.lines, "matched": self.found, "images": len(self.rows)}


def match_noises(names: Sequence[str], noises: Sequence[str]) -> NoiseMatches:
    """The rows of `names` that a noise list names.

    Names differ between releases of the lists: compared are as many last parts of the path as the noise has, without
    extension, with case ignored, and blanks and `_` the same. FaceScrub's list names files, MegaFace's the last three
    parts of a path.
    """
    wanted = [_normal(noise) for noise in noises]
    rows: dict[tuple[str, ...], list[int]] = {key: [] for key in wanted}
    lengths = {len(key) for key in wanted}
    for row, name in enumerate(names):
        parts = _normal(name)
        for length in lengths & set(range(1, len(parts) + 1)):
            if (found := rows.get(parts[-length:])) is not None:
                found.append(row)
    hit = sorted({row for found in rows.values() for row in found})
    return NoiseMatches(len(wanted), sum(bool(rows[key]) for key in wanted), tuple(hit))


def _normal(name: str) -> tuple[str, ...]:
    path = PurePosixPath(re.sub(r"[\s_]+", "_", name.strip().replace("\\", "/")).casefold())
    return path.with_suffix("").parts if path.suffix in (".png", ".jpg", ".jpeg", ".bmp") else path.parts


def read_noises(path: Path) -> list[str]:
    """The names of a noise list: a line each, of several fields apart by tabs the second; `#` begins a comment."""
    lines = [line.strip() for line in _text(path).splitlines()]
    fields = [line.split("\t") for line in lines if line and not line.startswith("#")]
    names = [each[1].strip() if len(each) > 1 else each[0] for each in fields]
    if not names:
        raise UserError(f"{path}: names no images")
    return names


def read_probe_list(path: Path) -> tuple[list[str], list[str]]:
    """Paths and identities of a list of FaceScrub or FG-NET: {"path": […], "id": […]}. Raises `UserError`."""
    content = _json(path)
    paths, ids = _texts(content.get("path"), path, "path"), _texts(content.get("id"), path, "id")
    if len(paths) != len(ids):
        raise UserError(f"{path}: {len(paths):,} paths and {len(ids):,} ids; each image has both")
    return paths, ids


def read_distractor_list(path: Path) -> list[str]:
    """Paths of the devkit's list of distractors: {"path": […]}. Raises `UserError`."""
    return _texts(_json(path).get("path"), path, "path")


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST_LIST:
            raise UserError(f"{path}: {path.stat().st_size:,} bytes; a list has at most {_MOST_LIST:,}")
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({error})") from error


def _json(path: Path) -> Mapping[str, object]:
    try:
        content: object = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is no JSON ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f'{path}: must be an object with "path"')
    return cast("Mapping[str, object]", content)


def _texts(given: object, path: Path, key: str) -> list[str]:
    values = cast("list[object]", given) if isinstance(given, list) else []
    if not values or not all(isinstance(value, str | int) for value in values):
        raise UserError(f"{path}: {key!r} must be a list of texts, at least one")
    return [str(value) for value in values]


@dataclass(frozen=True, eq=False)
class MegaFace:
    """The lists and options of an evaluation; `load_megaface` says what they are."""

    probe_paths: Sequence[str]
    probe_ids: Sequence[str]
    distractor_paths: Sequence[Sequence[str]]
    probe_folder: str
    probe_images: Path | None
    distractor_images: Path | None
    algorithm: str | None
    facescrub_noises: Sequence[str]
    megaface_noises: Sequence[str]
    probe_noise: str
    far: float
    normalise: bool
    output: Path | None
    save_features: Path | None

    def score(
        self, source: EmbeddingSource, *, device: str = "auto", progress: Progress | None = None
    ) -> dict[str, Any]:
        """Embed probes and every list of distractors, and count; the result in plain values for JSON.

        `sizes` has an entry for each list of distractors, by its length. Raises `MissingFeaturesError`, and as
        `count_megaface` does.
        """
        made, said = source.embed(self._images(self.probe_paths, self.probe_images, self.probe_folder))
        self._save(made, self.probe_paths, self.probe_folder)
        probes, identity, probe_noises = self._clean_probes(self._rows(made, self.probe_paths))
        sizes: dict[str, Any] = {}
        for paths in self.distractor_paths:
            found, _ = source.embed(self._images(paths, self.distractor_images, FOLDERS[2]))
            self._save(found, paths, FOLDERS[2])
            noises = match_noises(paths, self.megaface_noises)
            rows = self._rows(found, paths)
            rows = np.delete(rows, list(noises.rows), axis=0) if noises.rows else rows
            counts = count_megaface(
                probes, identity, rows, far=self.far, listed=len(paths), normalised=self.normalise, device=device,
                progress=progress,
            )  # fmt: skip
            sizes[str(len(paths))] = {**self._summary(counts), "noises": noises.summary()}
            self._write(counts, len(paths))
        return {
            "protocol": "megaface",
            "model": source.name,
            **said,
            "far": self.far,
            "normalised": self.normalise,
            "num_probes": len(probes),
            "num_identities": len(np.unique(identity)),
            "probe_noise": self.probe_noise,
            "probe_noises": probe_noises.summary(),
            "sizes": sizes,
        }

    def _images(self, paths: Sequence[str], folder: Path | None, feature_folder: str) -> ImageSet:
        """Images below `folder`; without one their names are those of the devkit's feature files, less `.bin`."""
        if folder is not None:
            return image_files([folder / path for path in paths], list(paths))
        suffix = f"_{self.algorithm}" if self.algorithm else ""
        return ImageSet([f"{feature_folder}/{path}{suffix}" for path in paths], _unreachable, None, list(paths))

    def _rows(self, made: EmbeddingSet, paths: Sequence[str]) -> Rows:
        unit = unit_rows(made.vectors, paths)  # refuses what is not finite, too
        return unit if self.normalise else made.vectors.astype(np.float32)

    def _clean_probes(self, vectors: Rows) -> tuple[Rows, Ints, NoiseMatches]:
        _, identity = np.unique(np.array(self.probe_ids), return_inverse=True)
        noises = match_noises(self.probe_paths, self.facescrub_noises)
        noisy = np.zeros(len(vectors), np.bool_)
        noisy[list(noises.rows)] = True
        if self.probe_noise == "exclude":
            return vectors[~noisy], identity[~noisy].astype(np.int64), noises
        for row in noises.rows:
            vectors[row] = self._centre(vectors[(identity == identity[row]) & ~noisy], self.probe_ids[row])
        return vectors, identity.astype(np.int64), noises

    def _centre(self, clean: Rows, person: str) -> Rows:
        total = clean.sum(0, dtype=np.float64, keepdims=True)
        if not len(clean):
            raise UserError(f"all images of {person} are noises: nothing to replace them by; give probe_noise=exclude")
        return unit_rows(total, [f"the mean of {person}"])[0]

    def _save(self, made: EmbeddingSet, paths: Sequence[str], folder: str) -> None:
        if self.save_features is None or current_world().rank():
            return
        suffix = f"_{self.algorithm}" if self.algorithm else ""
        for path, vector in zip(paths, made.vectors, strict=True):
            write_matrix(_inside(self.save_features / folder, f"{path}{suffix}.bin"), vector)

    def _write(self, counts: Counts, size: int) -> None:
        if self.output is None or current_world().rank():
            return
        name = self.probe_folder.removesuffix("_features")
        text = json.dumps(devkit_curves(counts)) + "\n"
        write_whole(self.output / f"cmc_{name}_megaface_{size}.json", text.encode())

    def _summary(self, counts: Counts) -> dict[str, Any]:
        return {
            "rank": {str(k): counts.rank_k(k) for k in RANKS},
            "rank_1_misses": int(np.count_nonzero(counts.ranks)),
            "num_searches": len(counts.ranks),
            "num_genuine": counts.num_genuine,
            "verification": {"devkit": asdict(counts.devkit), "full": asdict(counts.full)},
        }


def load_megaface(
    probes: Path,
    distractors: Files,
    probe_images: Path | None = None,
    distractor_images: Path | None = None,
    algorithm: str | None = None,
    facescrub_noises: Path | None = None,
    megaface_noises: Path | None = None,
    probe_noise: Literal["centre", "exclude"] = "centre",
    far: float = 1e-6,
    normalise: bool = True,
    output: Path | None = None,
    save_features: Path | None = None,
) -> MegaFace:
    """The devkit's list of probes (FaceScrub, FG-NET) and its lists of distractors, "a,b" where there are several.

    A model needs `probe_images` and `distractor_images`, the folders that the lists' paths are below. `algorithm` is
    the suffix of feature files in the devkit's layout, `megaface_features/PATH_ALGORITHM.bin`. `output` is a folder for
    the curves as the devkit writes them, `save_features` one for all embeddings in that layout. Raises `UserError`.
    """
    paths, ids = read_probe_list(probes)
    return MegaFace(
        probe_paths=paths,
        probe_ids=ids,
        distractor_paths=[read_distractor_list(path) for path in distractors],
        probe_folder=FOLDERS[1] if "fgnet" in probes.name.lower() else FOLDERS[0],
        probe_images=probe_images,
        distractor_images=distractor_images,
        algorithm=algorithm,
        facescrub_noises=[] if facescrub_noises is None else read_noises(facescrub_noises),
        megaface_noises=[] if megaface_noises is None else read_noises(megaface_noises),
        probe_noise=probe_noise,
        far=far,
        normalise=normalise,
        output=output,
        save_features=save_features,
    )


def is_devkit_folder(path: Path) -> bool:
    """Whether `path` holds feature files in the devkit's layout."""
    return any((path / name).is_dir() for name in FOLDERS)


@dataclass(frozen=True, eq=False)
class DevkitFeatures:
    """Feature files below `folder`, one an image: `facescrub_features/PATH_ALGORITHM.bin` and the like."""

    folder: Path

    @property
    def name(self) -> str:
        return str(self.folder)

    def embed(self, images: ImageSet) -> tuple[EmbeddingSet, dict[str, Any]]:
        """Raises `MissingFeaturesError` with every image whose file is not there."""
        return matrix_features([_inside(self.folder, f"{name}.bin") for name in images.names], images.names), {}


def _inside(folder: Path, name: str) -> Path:
    """A path that a list names, which may be anyone's. Raises `UserError` for one that leads out of `folder`."""
    parts = PurePosixPath(name).parts
    if ".." in parts or PurePosixPath(name).is_absolute():
        raise UserError(f"the list names {name!r}, which leads out of {folder}; paths must lie below it")
    return folder / name


def _unreachable(number: int) -> Any:
    raise UserError("a model needs the images; give probe_images=DIR and distractor_images=DIR")
