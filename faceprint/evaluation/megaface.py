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

Intervals draw the probes' people: a search or a genuine pair weighs as often as its person is drawn. Distractors stay,
and so do thresholds: those of mode `devkit` rest on some three people, of whom a draw can say nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator

from faceprint.errors import UserError
from faceprint.evaluation.curves import plain_cmc, plain_curve
from faceprint.evaluation.drawn_rates import HeldRates
from faceprint.evaluation.embeddings import EmbeddingSet, ImageSet, image_files
from faceprint.evaluation.feature_files import matrix_features, write_matrix
from faceprint.evaluation.intervals import PersonDraws, drawn_intervals
from faceprint.evaluation.megaface_counts import Counts, count_megaface, devkit_curves
from faceprint.evaluation.megaface_lists import (
    NoiseMatches,
    match_noises,
    read_distractor_list,
    read_noises,
    read_probe_list,
)
from faceprint.evaluation.products import Ints, Progress, Rows, unit_rows
from faceprint.evaluation.ranks import current_world
from faceprint.evaluation.sources import EmbeddingSource
from faceprint.files import write_whole

FOLDERS = ("facescrub_features", "fgnet_features", "megaface_features")
RANKS = (1, 5, 10, 100)
PUBLISHED_DISTRACTORS = 1_000_000
"""Tables print the figures among these, and no others (Kemelmacher-Shlizerman et al., 2016)."""

Files = Annotated[Sequence[Path], BeforeValidator(lambda value: value.split(",") if isinstance(value, str) else value)]


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
        self, source: EmbeddingSource, *, device: str = "auto", progress: Progress | None = None, draws: int = 0
    ) -> dict[str, Any]:
        """Embed probes and every list of distractors, and count; the result in plain values for JSON.

        `sizes` has an entry for each list of distractors, by its length. With `draws`, of the probes' people, there are
        also `intervals`. Raises `MissingFeaturesError`, and as
        `count_megaface` does.
        """
        made, said = source.embed(self._images(self.probe_paths, self.probe_images, self.probe_folder))
        self._save(made, self.probe_paths, self.probe_folder)
        probes, identity, probe_noises = self._clean_probes(self._rows(made, self.probe_paths))
        people = PersonDraws(int(np.count_nonzero(np.bincount(identity) > 1)), draws) if draws else None
        sizes: dict[str, Any] = {}
        drawn: dict[str, Any] = {}
        curves: list[dict[str, Any]] = []
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
            drawn |= size_intervals(counts, len(paths), people) if people else {}
            curves += _curves(counts, len(paths))
            self._write(counts, len(paths))
        made = people.said("identities of the probes; the distractors stay") if people else {}
        held = [name for name in drawn if " tpr_" in name]
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
            **({"intervals": {**made, "held": held, "figures": drawn}} if people else {}),
            "curves": curves,
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


def size_intervals(counts: Counts, size: int, people: PersonDraws) -> dict[str, Any]:
    """Of the ranks among `size` distractors, and of TPR in both modes at the thresholds of all probes.

    `people` are those who have two images or more.
    """
    numbers, owner = np.unique(counts.owner, return_inverse=True)
    every, genuine = np.ones(len(counts.ranks)), np.ones(counts.num_genuine)
    at_ranks = {f"{size} rank_{k}": (counts.ranks < k, every) for k in RANKS}
    accepted = {f"{size} tpr_{mode}": (found, genuine) for mode, found in counts.accepted.items()}
    ranks = HeldRates(owner, people.people, at_ranks)
    tprs = HeldRates(np.searchsorted(numbers, counts.genuine_owner), people.people, accepted)
    names = [*ranks.names, *tprs.names]
    return drawn_intervals(people, names, lambda times: np.append(ranks(times), tprs(times)))


def among(size: int) -> str:
    """What is said behind the name of the test: nothing for the number of distractors that tables print."""
    return "" if size == PUBLISHED_DISTRACTORS else f", {size:,} distractors"


def _curves(counts: Counts, size: int) -> list[dict[str, Any]]:
    """CMC, and the ROC of mode `devkit`."""
    return [
        plain_cmc(counts.ranks + 1, size + 1, among(size)),
        plain_curve("roc", counts.roc_far, counts.roc_tpr, among(size)),
    ]


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
