"""How many wrong labels `data clean` finds: python benchmarks/cleaning.py CROPS MODEL.onnx [key=value …]

Of the identities with five images and more, 5 % of the images are put under another identity; and, apart from that, one
in ten identities is cut in two. key=value say what the model takes, such as mean=0 std=1.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

import faceprint
from faceprint.data.folder import image_folder
from faceprint.data.source import Subset, keep_images
from faceprint.evaluation import cleaning
from faceprint.evaluation.source_embeddings import SourceEmbeddings, embed_source


def main(crops: str, model: str, overrides: dict[str, str]) -> None:
    images = image_folder(crops)
    source = keep_images(images, np.flatnonzero(np.bincount(images.labels)[images.labels] >= 5))
    embeddings = embed_source(faceprint.load(model, overrides), source)
    random = np.random.default_rng(0)
    found = {"images": len(source), "identities": len(source.class_names)}
    print(json.dumps({**found, "moved": _moved(source, embeddings, random), "cut": _cut(source, embeddings, random)}))


def _moved(source: Subset, embeddings: SourceEmbeddings, random: np.random.Generator) -> dict[str, int]:
    labels, people = source.labels.copy(), len(source.class_names)
    wrong = random.choice(len(labels), len(labels) // 20, replace=False)
    labels[wrong] = (labels[wrong] + random.integers(1, people, len(wrong))) % people
    outliers = set(_clean(source, embeddings, labels, people).outliers.tolist())
    hits = len(outliers & set(wrong.tolist()))
    return {"wrong": len(wrong), "found": hits, "others_listed": len(outliers) - hits}


def _cut(source: Subset, embeddings: SourceEmbeddings, random: np.random.Generator) -> dict[str, int]:
    labels, people = source.labels.copy(), len(source.class_names)
    cut = random.choice(people, people // 10, replace=False).tolist()
    for number, label in enumerate(cut):
        own = np.flatnonzero(source.labels == label)
        labels[own[len(own) // 2 :]] = people + number
    alike = {tuple(pair) for pair in _clean(source, embeddings, labels, people + len(cut)).alike.tolist()}
    hits = len(alike & {(label, people + number) for number, label in enumerate(cut)})
    return {"cut": len(cut), "found": hits, "others_listed": len(alike) - hits}


def _clean(source: Subset, embeddings: SourceEmbeddings, labels: NDArray[np.int64], people: int) -> cleaning.Cleaning:
    """The embeddings stay, the labels are others."""
    relabelled = replace(source, labels=labels, class_names=[str(label) for label in range(people)])
    return cleaning.find_wrong(relabelled, replace(embeddings, labels=labels))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], dict(argument.split("=", 1) for argument in sys.argv[3:]))
