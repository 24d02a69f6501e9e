"""What raw pixels give on verification pairs: the floor under every trained network. Prints JSON.

    python benchmarks/raw_pixels.py CROPS PAIRS [FOLD …]

Cosine of the centred pixel vectors; best threshold over the pairs.
"""

from __future__ import annotations

import json
import sys

import numpy as np

from faceprint.evaluation.metrics import best_threshold_accuracy
from faceprint.evaluation.pairs import file_pairs

images, pairs_file, *folds = sys.argv[1:]
pairs = file_pairs(images, pairs_file, [int(fold) for fold in folds] or None)
pixels = np.stack([pairs.read(number).astype(np.float64).ravel() for number in range(len(pairs.names))])
pixels -= pixels.mean(1, keepdims=True)
pixels /= np.linalg.norm(pixels, axis=1, keepdims=True)
scores = (pixels[pairs.first] * pixels[pairs.second]).sum(1)
best = best_threshold_accuracy(scores, pairs.same)
print(json.dumps({"pairs": len(scores), "accuracy": round(best.accuracy, 4), "threshold": round(best.threshold, 4)}))
