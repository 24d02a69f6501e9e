"""From what a set calls its people to labels without gaps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def number_identities(
    codes: NDArray[np.int64], names: list[str], *, in_order: bool
) -> tuple[NDArray[np.int64], list[str]]:
    """Labels and class names from `names[codes[i]]`, who image i shows; names that nobody has go.

    Labels follow the order of `names` where that order means something (`in_order`), else the sorted names.
    """
    present = np.unique(codes)
    order = present if in_order else np.array(sorted(present.tolist(), key=lambda code: names[code]), np.int64)
    label_of = np.zeros(len(names), np.int64)
    label_of[order] = np.arange(len(order))
    return label_of[codes], [names[code] for code in order]
