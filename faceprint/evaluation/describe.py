"""A protocol's own result made into a `Result`: its figures in one form, and the evidence behind them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceprint import __version__
from faceprint.evaluation.curves import plain_roc
from faceprint.evaluation.embeddings import Embeds
from faceprint.evaluation.figures import figures
from faceprint.evaluation.hardest import hardest
from faceprint.evaluation.ijb_files import EDITIONS
from faceprint.evaluation.pairs import PairSet
from faceprint.evaluation.protocols import Evaluation
from faceprint.evaluation.result import AboutData, AboutModel, Curve, Histogram, Result, WorstPair
from faceprint.evaluation.sources import EmbeddingSource, ModelSource
from faceprint.evaluation.verification import SETS

Floats = NDArray[np.float64]

NUM_BINS = 60
NUM_WORST = 12
"""Worst pairs kept of each kind."""
TITLES = {
    "ijbb": "IJB-B",
    "ijbc": "IJB-C",
    "megaface": "MegaFace",
    "mfr": "MFR",
    **{Path(name).stem: row.title for key, row in SETS.items() for name in (key, *row.bins)},
}
"""Protocol, or name of a set's file -> the set as papers name it."""


@dataclass(frozen=True, eq=False)
class Scored:
    """A protocol's own `result`, and what it rests on.

    `evaluations` are the scored pairs by title of their set ("": the only one), from which curves, histograms and worst
    pairs are taken; `about` is the model's, None where it has none.
    """

    result: Mapping[str, Any]
    evaluations: Mapping[str, Evaluation] = field(default_factory=dict[str, Evaluation])
    about: AboutModel | None = None


def describe(scored: Scored, *, data: str, part: str = "", recipe: str | None = None) -> Result:
    """The result with everything that `faceprint-result/1` asks for; its own keys stay as they are.

    `data` names what was tested on, `part` what part of it, `recipe` the row of the zoo that the model is of.
    """
    result = scored.result
    title = _title(result, data) + (f", {part}" if part else "")
    sets = [(name or title, evaluation) for name, evaluation in scored.evaluations.items()]
    return Result(
        protocol=result["protocol"],
        program=f"faceprint {__version__}",
        recipe=recipe,
        about_model=scored.about or AboutModel(name=str(result.get("model", ""))),
        about_data=AboutData(name=data, counts=_counts(result)),
        figures=list(figures(result, title)),
        curves=[*(roc_curve(evaluation, name) for name, evaluation in sets), *_own_curves(result, title)],
        histograms=[bins for name, evaluation in sets for bins in histograms(evaluation, name)],
        worst_pairs=[pair for name, evaluation in sets for pair in worst_pairs(evaluation, name)],
        **{key: value for key, value in result.items() if key not in Result.model_fields},
    )


def _own_curves(result: Mapping[str, Any], title: str) -> Iterator[Curve]:
    """Those that the protocol gave; the names of their sets go on where `title` ends."""
    for each in result.get("curves", []):
        yield Curve.model_validate({**each, "set": title + each["set"]})


def about_source(source: EmbeddingSource) -> AboutModel | None:
    """Of a network; None for embeddings made elsewhere."""
    if not isinstance(source, ModelSource):
        return None
    return about_network(source.embedder, flip=source.flip)


def about_network(embedder: Embeds, *, flip: bool) -> AboutModel:
    """What the card says, where there is one; the hash of the file where that says none; and what it is fed."""
    card, content_hash = embedder.card, embedder.content_hash
    fed: dict[str, Any] = {**asdict(embedder.input), "size": list(embedder.input.size), "flip": flip}
    about = AboutModel(name=embedder.name, input=fed)
    own_hash = f"sha256:{content_hash()}" if content_hash is not None else None
    if card is None:
        return about.model_copy(update={"content_hash": own_hash})
    said = {
        "content_hash": card.content_hash or own_hash,
        "licence": card.licence,
        "architecture": card.architecture,
        "provenance": card.provenance,
    }
    return about.model_copy(update=said)


def _title(result: Mapping[str, Any], data: str) -> str:
    """That of 1:N tells itself from that of 1:1 on the same images: the figures are not comparable."""
    if result["protocol"] == "ijb_1n":
        return f"{EDITIONS[result['set']].title} 1:N"
    return set_title(str(result["protocol"]), data)


def set_title(protocol: str, data: str) -> str:
    """The test set as papers name it, where it is known by its file or its protocol; else the data's name."""
    return TITLES.get(Path(data).stem) or TITLES.get(protocol) or Path(data).name


def _counts(result: Mapping[str, Any]) -> dict[str, int]:
    """The numbers of pairs, images and so on, over all sets."""
    parts = [result, *result.get("sets", {}).values()]
    names = {key for part in parts for key, value in part.items() if key.startswith("num_") and isinstance(value, int)}
    return {name.removeprefix("num_"): sum(int(part.get(name, 0)) for part in parts) for name in sorted(names)}


def roc_curve(evaluation: Evaluation, title: str) -> Curve:
    """The ROC of scored pairs, thinned by `thin`."""
    return Curve.model_validate(plain_roc(evaluation.scores, evaluation.same, title))


def histograms(evaluation: Evaluation, title: str) -> list[Histogram]:
    """Scores of same and of different pairs in the same `NUM_BINS` bins."""
    edges = np.histogram_bin_edges(evaluation.scores, NUM_BINS)
    return [
        Histogram(
            set=title,
            label=label,
            edges=edges.tolist(),
            counts=np.histogram(evaluation.scores[chosen], edges)[0].tolist(),
        )
        for label, chosen in (("same", evaluation.same), ("different", ~evaluation.same))
    ]


def worst_pairs(evaluation: Evaluation, title: str) -> Iterator[WorstPair]:
    """The `NUM_WORST` lowest same pairs and the highest different ones, worst first."""
    pairs = evaluation.pairs
    different, same = hardest(evaluation.scores, evaluation.same, NUM_WORST)
    for row in (*same.tolist(), *different.tolist()):
        first, second = (_pair_name(pairs, int(numbers[row])) for numbers in (pairs.first, pairs.second))
        score = float(evaluation.scores[row])
        yield WorstPair(set=title, first=first, second=second, same=bool(evaluation.same[row]), score=score)


def _pair_name(pairs: PairSet, number: int) -> str:
    """As the list of pairs has it; the number of the image in a `.bin`."""
    key = pairs.keys[number] if len(pairs.keys) else pairs.names[number]
    return f"image {key}" if isinstance(key, int) else key
