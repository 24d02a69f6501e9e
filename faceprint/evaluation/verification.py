"""The verification sets of the published tables, several at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator

from faceprint.errors import UserError
from faceprint.evaluation.pairs import PairSet, bin_pairs, file_pairs
from faceprint.registry import Table

SetPairs = Mapping[str, Callable[[], PairSet]]

SetNames = Annotated[
    Sequence[str], BeforeValidator(lambda value: value.split(",") if isinstance(value, str) else value)
]
"""Names of sets; as an option also "lfw,cfp_fp"."""


@dataclass(frozen=True)
class PublishedSet:
    """`title` as papers have it, the number of `pairs` (None: not established), and where its files are.

    `bins` are names of its `.bin` file, `lists` of its list of pairs; both below the folder of sets, a list's also
    below a folder with the set's own name. `images` are folders that a list's images may be in, below the list's.
    """

    title: str
    pairs: int | None
    bins: tuple[str, ...]
    lists: tuple[str, ...]
    images: tuple[str, ...] = ("images", ".")


_CFP = ("Data/Images", "images", ".")


def _rfw(group: str) -> PublishedSet:
    lists = (f"{group}_pairs.txt", f"txts/{group}/{group}_pairs.txt")
    return PublishedSet(f"RFW {group}", 6000, (f"{group}_test.bin",), lists, (f"data/{group}", group, "images", "."))


SETS: Table[PublishedSet] = Table(
    "verification set",
    [
        ("lfw", PublishedSet("LFW", 6000, ("lfw.bin",), ("pairs.txt",))),
        ("cfp_ff", PublishedSet("CFP-FF", 7000, ("cfp_ff.bin",), ("Protocol/Split/FF",), _CFP)),
        ("cfp_fp", PublishedSet("CFP-FP", 7000, ("cfp_fp.bin",), ("Protocol/Split/FP",), _CFP)),
        ("agedb_30", PublishedSet("AgeDB-30", 6000, ("agedb_30.bin",), ("agedb_30.txt", "pairs.txt"))),
        ("calfw", PublishedSet("CALFW", 6000, ("calfw.bin",), ("pairs_CALFW.txt", "pairs.txt"))),
        ("cplfw", PublishedSet("CPLFW", 6000, ("cplfw.bin",), ("pairs_CPLFW.txt", "pairs.txt"))),
        ("vgg2_fp", PublishedSet("VGG2-FP", None, ("vgg2_fp.bin",), ("pairs.txt",))),
        ("rfw_african", _rfw("African")),
        ("rfw_asian", _rfw("Asian")),
        ("rfw_caucasian", _rfw("Caucasian")),
        ("rfw_indian", _rfw("Indian")),
    ],
)
"""Sizes: InsightFace's description of its data sets (LFW, CFP, AgeDB-30, CALFW, CPLFW); RFW: Wang et al., 2019."""

RFW = tuple(name for name in SETS if name.startswith("rfw_"))


def verification_sets(folder: Path, sets: SetNames | None = None) -> SetPairs:
    """The published sets (`SETS`) that lie in `folder`, each with a function that loads its pairs.

    A set is a file such as `lfw.bin` (`African_test.bin` for RFW), or a folder of its name with aligned images and the
    list that it comes with: `lfw/pairs.txt`, `cfp_fp/Protocol/Split/FP`, `agedb_30/agedb_30.txt`,
    `calfw/pairs_CALFW.txt`, `rfw/txts/African/African_pairs.txt`. `sets` names those wanted, "rfw" its four groups;
    None: all that are there. Raises `UserError` for a set that is not there, and for an unknown name.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the one that holds lfw.bin and others")
    wanted = list(SETS) if sets is None else [name for given in sets for name in (RFW if given == "rfw" else (given,))]
    found = {name: _find(folder, name, SETS[name]) for name in wanted}
    missing = [name for name, load in found.items() if load is None]
    loaders = {name: load for name, load in found.items() if load is not None}
    if (missing and sets is not None) or not loaders:
        looked = "; ".join(f"{name}: {', '.join(_places(name, SETS[name]))}" for name in missing[:4])
        raise UserError(f"{folder}: lacks {', '.join(missing)} (looked for {looked})")
    return loaders


def _own_folders(name: str) -> tuple[str, ...]:
    return (name, name.split("_")[0])


def _places(name: str, row: PublishedSet) -> list[str]:
    return [*row.bins, *(f"{own}/{listed}" for own in dict.fromkeys(_own_folders(name)) for listed in row.lists)]


def _find(folder: Path, name: str, row: PublishedSet) -> Callable[[], PairSet] | None:
    for file in row.bins:
        if (folder / file).is_file():
            return lambda: bin_pairs(folder / file)
    for own in _own_folders(name):
        for listed in row.lists:
            if (folder / own / listed).exists():
                images = next(folder / own / place for place in row.images if (folder / own / place).is_dir())
                return lambda: file_pairs(images, folder / own / listed)
    return None


def summarize_sets(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One result of several sets: each set's own under `sets`, with `title` and `published_pairs`.

    `mean_accuracy` is the plain mean over sets. Where all four groups of RFW are there `rfw` has the mean and the
    sample standard deviation (ddof = 1) of their accuracies, as TFace prints it, and the skewed error ratio: largest by
    smallest error (Wang and Deng, 2020), null where the smallest is nought.
    """
    named = {
        name: {"title": SETS[name].title, "published_pairs": SETS[name].pairs, **result}
        for name, result in results.items()
    }
    mean = float(np.mean([result["accuracy"] for result in results.values()]))
    summary: dict[str, Any] = {"protocol": "verification", "sets": named, "mean_accuracy": mean}
    if all(name in results for name in RFW):
        summary["rfw"] = _groups([results[name]["accuracy"] for name in RFW])
    return summary


def _groups(accuracies: list[float]) -> dict[str, float | None]:
    errors = 1 - np.array(accuracies)
    ratio = float(errors.max() / errors.min()) if errors.min() > 0 else None
    return {
        "mean_accuracy": float(np.mean(accuracies)),
        "std_of_accuracies_ddof_1": float(np.std(accuracies, ddof=1)),
        "skewed_error_ratio": ratio,
    }
