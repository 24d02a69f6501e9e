"""From one pass over a set to its numbers, and to what looks wrong in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceprint.data.check.crops import ALIGNED_SCORE
from faceprint.data.check.detector import MAX_OFFSET, landmark_offsets
from faceprint.data.check.fingerprints import equal_groups, similar_groups
from faceprint.data.check.known_sets import nearest_known
from faceprint.data.check.scan import ENCODINGS, Scan, scan
from faceprint.data.passed_over import skipped
from faceprint.data.path_names import with_names
from faceprint.data.source import Source

Ints = NDArray[np.int64]

MAX_UNALIGNED = 0.4
"""Share of images that look un-aligned above which the set does: one in twenty does so in aligned sets."""
MAX_BLUE = 0.1
"""Share of the coloured images in which skin is blue above which channels look swapped."""
HISTOGRAM_EDGES = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500)
_SIZES_SHOWN = 20


@dataclass(frozen=True)
class Check:
    """What `scan` found in `source`, summed up. `labels` is the `label_range` of the set, `offsets` what
    `landmark_offsets` returned, None without detector."""

    source: Source
    scan: Scan
    labels: dict[str, int] | None = None
    offsets: tuple[int, list[float]] | None = None

    @cached_property
    def counts(self) -> Ints:
        """Images of each identity."""
        return np.bincount(self.source.labels, minlength=len(self.source.class_names))

    @cached_property
    def copies(self) -> list[Ints]:
        """Groups of images that are the same to the byte."""
        known = np.flatnonzero(self.scan.facts["bytes"] > 0)
        return [known[group] for group in equal_groups(self.scan.facts["content"][known])]

    @cached_property
    def lookalikes(self) -> list[Ints]:
        """Groups of images that are one picture, encoded or resized anew; of equal files only the first is in."""
        facts = self.scan.facts
        use = facts["decoded"] & ~facts["blank"]
        for group in self.copies:
            use[group[1:]] = False
        indices = np.flatnonzero(use)
        return [indices[group] for group in similar_groups(facts["look"][indices], facts["detail"][indices])]

    @cached_property
    def sizes(self) -> list[dict[str, int]]:
        """All image sizes, most images first; those that are not known are left out."""
        facts = self.scan.facts
        known = facts[facts["readable"] & (facts["height"] > 0)]
        both = known["height"].astype(np.uint64) << np.uint64(32) | known["width"].astype(np.uint64)
        sizes, counts = np.unique(both, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return [
            {"height": size >> 32, "width": size & 0xFFFFFFFF, "images": count}
            for size, count in zip(sizes[order].tolist(), counts[order].tolist(), strict=True)
        ]

    @cached_property
    def unaligned(self) -> NDArray[np.bool_]:
        """(N,), true where the image was decoded and does not look like an aligned face."""
        facts = self.scan.facts
        return facts["decoded"] & ~(facts["alignment"] >= ALIGNED_SCORE)

    @cached_property
    def blue(self) -> NDArray[np.bool_]:
        """(N,), true for coloured images with more blue than red in the face."""
        facts = self.scan.facts
        return facts["decoded"] & ~facts["grey"] & (facts["redness"] < 0)

    def is_across(self, group: Ints) -> bool:
        """Whether a group of images is of several identities."""
        return len(np.unique(self.source.labels[group])) > 1

    @cached_property
    def result(self) -> dict[str, Any]:
        """Every number, as plain values for JSON. What needs pixels is null where they were not decoded."""
        facts, decoded = self.scan.facts, self.scan.decoded
        return {
            "images": len(self.source),
            "identities": len(self.source.class_names),
            "skipped": dict(skipped(self.source)),
            "known_set": self._known_set(),
            "labels": self.labels,
            "images_per_identity": images_per_identity(self.counts),
            "bytes": int(facts["bytes"].sum()),
            "encodings": _encodings(facts),
            "num_sizes": len(self.sizes),
            "sizes": self.sizes[:_SIZES_SHOWN],
            "unreadable": self._named(self.scan.unreadable),
            "damaged": None if self.scan.damaged is None else self._named(self.scan.damaged),
            "grey": int(facts["grey"].sum()) if decoded else None,
            "blank": int(facts["blank"].sum()) if decoded else None,
            "duplicates": {
                "exact": self._duplicates(self.copies),
                "similar": self._duplicates(self.lookalikes) if decoded else None,
            },
            "crops": self._crops() if decoded else None,
            "detector": self._detector(),
            "warnings": self.warnings,
        }

    @cached_property
    def warnings(self) -> list[str]:
        """What looks wrong, one line each."""
        single = int((self.counts == 1).sum())
        num_sizes = len(self.sizes)
        found = [
            (len(self.scan.unreadable), "{:,} images cannot be read"),
            (len(self.scan.damaged or []), "{:,} images are damaged, though they can be decoded"),
            (single, "{:,} identities have a single image"),
            (self.labels["missing"] if self.labels else 0, "{:,} numbers are missing among the labels"),
            (num_sizes if num_sizes > 1 else 0, "{:,} different image sizes"),
            (int(self.scan.facts["blank"].sum()), "{:,} images are blank"),
            *self._duplicate_counts("file", self.copies),
            *self._duplicate_counts("picture", self.lookalikes if self.scan.decoded else []),
        ]
        lines = [text.format(count) for count, text in found if count]
        return lines + self._known_warnings() + self._crop_warnings()

    def _named(self, problems: list[tuple[int, str]]) -> list[dict[str, Any]]:
        return [{"index": index, "path": self.source.name(index), "reason": reason} for index, reason in problems]

    def _duplicate_counts(self, what: str, groups: list[Ints]) -> list[tuple[int, str]]:
        across = sum(self.is_across(group) for group in groups)
        return [
            (sum(len(group) - 1 for group in groups), f"{{:,}} images are the same {what} as another"),
            (across, f"{{:,}} times several identities have the same {what}"),
        ]

    def _duplicates(self, groups: list[Ints]) -> dict[str, int]:
        return {
            "groups": len(groups),
            "images": sum(map(len, groups)),
            "groups_across_identities": sum(self.is_across(group) for group in groups),
        }

    def _known_set(self) -> dict[str, Any] | None:
        known = nearest_known(len(self.source), len(self.source.class_names))
        return known and known._asdict()

    def _known_warnings(self) -> list[str]:
        known = nearest_known(len(self.source), len(self.source.class_names))
        here = len(self.source), len(self.source.class_names)
        if known is None or here == (known.images, known.identities):
            return []
        return [
            f"looks like {known.name}, which has {known.images:,} images of {known.identities:,} identities:"
            f" here are {here[0] - known.images:+,} and {here[1] - known.identities:+,}"
        ]

    def _crops(self) -> dict[str, Any]:
        facts = self.scan.facts
        scores = facts["alignment"][facts["decoded"]].astype(np.float64)
        return {
            "median_alignment_score": round(float(np.nanmedian(scores)), 3) if np.isfinite(scores).any() else None,
            "unaligned_share": _share(self.unaligned, facts["decoded"]),
            "blue_share": _share(self.blue, facts["decoded"] & ~facts["grey"]),
        }

    def _detector(self) -> dict[str, Any] | None:
        if self.offsets is None:
            return None
        looked_at, offsets = self.offsets
        return {
            "looked_at": looked_at,
            "faces_found": len(offsets),
            "median_offset": round(float(np.median(offsets)), 4) if offsets else None,
            "misplaced_share": round(float((np.array(offsets) > MAX_OFFSET).mean()), 4) if offsets else None,
        }

    def _crop_warnings(self) -> list[str]:
        lines: list[str] = []
        crops, detector = self._crops() if self.scan.decoded else None, self._detector()
        if crops and crops["blue_share"] > MAX_BLUE:
            lines.append(f"red and blue look swapped in {crops['blue_share']:.1%} of the coloured images")
        if detector and not (detector["misplaced_share"] is not None and detector["misplaced_share"] < 0.5):
            lines.append(
                f"faces are not on the alignment template: found in {detector['faces_found']:,} of"
                f" {detector['looked_at']:,} images, median offset {detector['median_offset']} of the eye distance;"
                " crop them by `faceprint data align`"
            )
        if crops and not detector and crops["unaligned_share"] > MAX_UNALIGNED:
            lines.append(
                f"{crops['unaligned_share']:.1%} of the images do not look like aligned crops; crop them by"
                " `faceprint data align`, or ask a detector: --detector-model"
            )
        return lines


def check_source(
    source: Source,
    *,
    decode: bool = True,
    workers: int = 1,
    detector_model: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Check:
    """`scan` and sum up. A `detector_model` (YuNet) is asked about 500 of the images. Raises as `scan` does."""
    offsets = landmark_offsets(source, detector_model) if detector_model else None
    named = with_names(source)  # lists are applied by `data subset`, which calls identities so
    found = scan(named, decode=decode, workers=workers, progress=progress)
    return Check(named, found, label_range(source.class_names), offsets)


def label_range(class_names: Sequence[str]) -> dict[str, int] | None:
    """Smallest and largest identity number and how many between are missing; None unless all names are numbers."""
    if not all(name.isascii() and name.isdecimal() and len(name) < 19 for name in class_names):
        return None
    numbers = np.fromiter(map(int, class_names), np.int64, len(class_names))
    low, high = int(numbers.min()), int(numbers.max())
    return {"min": low, "max": high, "missing": high - low + 1 - len(np.unique(numbers))}


def images_per_identity(counts: Ints) -> dict[str, Any]:
    """Spread of the images over identities, with a histogram in classes that widen."""
    edges = [edge for edge in HISTOGRAM_EDGES if edge <= counts.max()]
    per_class = np.histogram(counts, [*edges, np.inf])[0].tolist()
    return {
        "min": int(counts.min()),
        "median": float(np.median(counts)),
        "mean": round(float(counts.mean()), 2),
        "max": int(counts.max()),
        "single": int((counts == 1).sum()),
        "histogram": [
            {"from": low, "to": high, "identities": number}
            for low, high, number in zip(
                edges, [*(edge - 1 for edge in edges[1:]), int(counts.max())], per_class, strict=True
            )
        ],
    }


def _encodings(facts: NDArray[Any]) -> dict[str, int]:
    counts = np.bincount(facts["encoding"][facts["bytes"] > 0], minlength=len(ENCODINGS)).tolist()
    return {name: count for name, count in zip(ENCODINGS, counts, strict=True) if count}


def _share(chosen: NDArray[np.bool_], among: NDArray[np.bool_]) -> float:
    return round(float(chosen.sum() / max(1, among.sum())), 4)
