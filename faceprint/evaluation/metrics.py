"""Verification metrics: NumPy in, plain results out.

Conventions, the same in every function:

- `scores` is one number a pair, (P,), higher = more alike; `same` is (P,) bool or 0/1, true where both images
  show one person. A pair is *accepted* where `score > threshold`, strictly; pairs of equal score are accepted
  or rejected together.
- FAR is the fraction of different pairs accepted, TAR the fraction of same pairs accepted.
- In identification `scores` (Q, G) compares Q probes with G entries of a gallery; conventions are those above.
- Everything is counted in integers and divided in float64.
- NaN or infinite scores, other lengths, no pairs, or only one kind of pair raise `UserError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from faceprint.errors import UserError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

Ties = Literal["against_mate", "for_mate"]

DISTANCE_GRID = np.arange(0, 4, 0.01)
"""The 400 published thresholds on the squared distance of unit vectors, ||a - b||^2 = 2 - 2 cos."""


@dataclass(frozen=True, eq=False)
class VerificationAccuracy:
    """`mean` and population `std` (ddof = 0) of `accuracies` (F,); fold i was measured at `thresholds[i]`."""

    mean: float
    std: float
    thresholds: Floats
    accuracies: Floats


@dataclass(frozen=True)
class BestThreshold:
    """The `threshold` that suits these very pairs best, and the `accuracy` there: an optimistic figure."""

    accuracy: float
    threshold: float


@dataclass(frozen=True)
class TarAtFar:
    """`tar` at `threshold`, and the count of `false_accepts` that the threshold rests on."""

    tar: float
    threshold: float
    false_accepts: int


@dataclass(frozen=True, eq=False)
class Roc:
    """ROC corners from (0, 0) to (1, 1), (T,) each: FAR and TAR of accepting `score > thresholds[i]`."""

    far: Floats
    tar: Floats
    thresholds: Floats


@dataclass(frozen=True, eq=False)
class Det:
    """DET corners from (0, 1) to (1, 0), (T,) each: FMR and FNMR of accepting `score > thresholds[i]`."""

    fmr: Floats
    fnmr: Floats
    thresholds: Floats


@dataclass(frozen=True)
class TpirAtFpir:
    """`tpir` at `threshold`, and the count of `false_positives` that the threshold rests on."""

    tpir: float
    threshold: float
    false_positives: int


def verification_accuracy(
    scores: ArrayLike,
    same: ArrayLike,
    folds: int | ArrayLike = 10,
    *,
    rule: Literal["grid", "exact"] = "grid",
) -> VerificationAccuracy:
    """Cross-validated accuracy: each fold is measured at the threshold that is best on all the other folds.

    `folds` is a number F of contiguous blocks (the first P mod F of them one pair longer), or (P,) integers
    that name the fold of each pair. `rule` says which thresholds are tried; of equally good ones the
    strictest wins.

    - "grid": the published rule for cosine scores, 400 thresholds 0, 0.01, ... 3.99 on the squared distance
      2 - 2 cos, accepted where strictly below (insightface `verification.py`). Scores beyond [-1, 1] by more
      than 1e-6 raise `UserError`; smaller excess is rounding and clipped.
    - "exact": every threshold between two distinct scores of the other folds; any scale.

    `thresholds` are in units of the scores. Under "grid" they are 1 - distance / 2, moved by rounding error
    where `score > threshold` would otherwise not accept exactly the pairs that the distance rule accepts.

    >>> result = verification_accuracy([0.8123, 0.2, 0.8111, 0.1], [1, 0, 1, 0], folds=2)
    >>> result.mean, result.std, result.thresholds.round(3).tolist()
    (1.0, 0.0, [0.81, 0.81])
    """
    values, labels = _checked(scores, same)
    fold = _fold_numbers(folds, len(values))
    if rule == "exact":
        return _exact_accuracy(values, labels, fold)
    return _grid_accuracy(values, labels, fold)


def best_threshold_accuracy(scores: ArrayLike, same: ArrayLike) -> BestThreshold:
    """The highest accuracy that any one threshold reaches on these pairs, and that threshold.

    Chosen on the pairs it is measured on, so it flatters: use `verification_accuracy` where there are folds.
    Of equally good thresholds the strictest wins; it lies midway between the two scores that it separates.

    >>> best_threshold_accuracy([0.9, 0.4, 0.6, 0.0], [1, 1, 0, 0])
    BestThreshold(accuracy=0.75, threshold=0.75)
    """
    return _best_threshold(*_checked(scores, same))


def tar_at_far(scores: ArrayLike, same: ArrayLike, far: float) -> TarAtFar:
    """TAR at the lowest threshold whose FAR does not exceed `far`, a number in [0, 1].

    With N different pairs, K = floor(far N + 1e-9) of them may be accepted: the threshold is the (K + 1)-th
    largest score of a different pair, and TAR the fraction of same pairs strictly above it. `false_accepts`
    counts the different pairs strictly above it: K, or fewer where scores tie. With K = 0 the figure rests on
    no false accept: N pairs can't measure such a FAR. With K = N everything is accepted: threshold -inf.

    >>> tar_at_far([0.9, 0.7, 0.2, 0.8, 0.3, 0.1, 0.0], [1, 1, 1, 0, 0, 0, 0], far=0.25)
    TarAtFar(tar=0.6666666666666666, threshold=0.3, false_accepts=1)
    """
    return tar_at_fars(scores, same, [far])[0]


def tar_at_fars(scores: ArrayLike, same: ArrayLike, fars: Sequence[float]) -> list[TarAtFar]:
    """`tar_at_far` at each of `fars`, in little more time than at one.

    >>> [point.tar for point in tar_at_fars([0.9, 0.7, 0.2, 0.8, 0.3], [1, 1, 1, 0, 0], [0, 0.5])]
    [0.3333333333333333, 0.6666666666666666]
    """
    if wrong := [far for far in fars if not 0 <= far <= 1]:
        raise UserError(f"far must be a fraction between 0 and 1, got {wrong[0]}")
    values, labels = _checked(scores, same)
    genuine, impostor = values[labels], values[~labels]
    return [
        TarAtFar(
            tar=float(np.count_nonzero(genuine > threshold) / len(genuine)),
            threshold=threshold,
            false_accepts=int(np.count_nonzero(impostor > threshold)),
        )
        for threshold in _thresholds(impostor, fars)
    ]


def tar_at_nearest_far(scores: ArrayLike, same: ArrayLike, fars: Sequence[float]) -> list[TarAtFar]:
    """TAR at the corner of the ROC whose FAR is nearest to each of `fars`: the rule of published IJB tables.

    **It may exceed the FAR asked for**; `tar_at_far` does not. The rule as insightface's `ijb_11.py` has it: corners
    are those of scikit-learn's `roc_curve` with its defaults, which leaves out a point between two in a line with it;
    of two equally near the later one, of higher TAR. `threshold` is such that `score > threshold` accepts the same.

    >>> tar_at_nearest_far([0.9, 0.7, 0.2, 0.8, 0.3, 0.1, 0.0], [1, 1, 1, 0, 0, 0, 0], [0.3])
    [TarAtFar(tar=0.6666666666666666, threshold=0.3, false_accepts=1)]
    """
    values, labels = _checked(scores, same)
    num_same = int(np.count_nonzero(labels))
    num_different = len(labels) - num_same
    # The corner (0, 0) is nearer to a FAR than any above twice that FAR: scores below those are never looked at.
    reached = values >= _thresholds(values[~labels], [min(1.0, 2 * max(fars))])[0]
    values, labels = values[reached], labels[reached]
    cuts = np.unique(values)[::-1]
    accepted_different, accepted_same = (_at_least(values[kind], cuts) for kind in (~labels, labels))
    bends = np.diff(accepted_different, 2).astype(np.bool_) | np.diff(accepted_same, 2).astype(np.bool_)
    kept = np.flatnonzero(np.concatenate([[True], bends, [True]])) if len(cuts) > 1 else np.array([0])
    corners = np.concatenate([[0], accepted_different[kept]])
    found: list[TarAtFar] = []
    for far in fars:
        distance = np.abs(corners / num_different - far)
        place = len(corners) - 1 - int(np.argmin(distance[::-1]))
        corner = kept[place - 1] if place else -1
        tar = float(accepted_same[corner] / num_same) if place else 0.0
        below = cuts[corner + 1] if corner + 1 < len(cuts) else -np.inf
        found.append(TarAtFar(tar, float(below), int(corners[place])))
    return found


def roc(scores: ArrayLike, same: ArrayLike) -> Roc:
    """The exact ROC: one corner for each distinct score; thresholds fall from the highest to -inf.

    >>> curve = roc([0.9, 0.5, 0.5, 0.1], [1, 1, 0, 0])
    >>> curve.far.tolist(), curve.tar.tolist(), curve.thresholds.tolist()
    ([0.0, 0.0, 0.5, 1.0], [0.0, 0.5, 1.0, 1.0], [0.9, 0.5, 0.1, -inf])
    """
    accepted_same, accepted_different, cuts = _steps(*_checked(scores, same))
    return Roc(accepted_different / accepted_different[-1], accepted_same / accepted_same[-1], cuts)


def eer(scores: ArrayLike, same: ArrayLike) -> float:
    """Equal error rate: where the ROC, its corners joined by straight lines, meets FAR = 1 - TAR.

    >>> eer([0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0])
    0.5
    """
    accepted_same, accepted_different, _ = _steps(*_checked(scores, same))
    false_accept = accepted_different / accepted_different[-1]
    false_reject = (accepted_same[-1] - accepted_same) / accepted_same[-1]
    gap = false_accept - false_reject  # rises strictly from -1 to 1: every corner moves at least one of the rates
    after = int(np.searchsorted(gap, 0.0))
    before = after - 1
    share = -gap[before] / (gap[after] - gap[before])
    return float(false_accept[before] + share * (false_accept[after] - false_accept[before]))


def auc(scores: ArrayLike, same: ArrayLike) -> float:
    """Area under the ROC: the chance that a same pair outscores a different one, ties counting half.

    >>> auc([0.9, 0.5, 0.5, 0.1], [1, 1, 0, 0])
    0.875
    """
    accepted_same, accepted_different, _ = _steps(*_checked(scores, same))
    twice = np.sum(np.diff(accepted_different) * (accepted_same[1:] + accepted_same[:-1]))
    return float(twice / (2 * int(accepted_same[-1]) * int(accepted_different[-1])))


def det(scores: ArrayLike, same: ArrayLike) -> Det:
    """The detection error trade-off: FMR and FNMR (ISO/IEC 19795-1) at every distinct score.

    The corners are those of `roc`: FMR = FAR, and FNMR = 1 - TAR, divided from the count of same pairs rejected.

    >>> curve = det([0.9, 0.5, 0.5, 0.1], [1, 1, 0, 0])
    >>> curve.fmr.tolist(), curve.fnmr.tolist()
    ([0.0, 0.0, 0.5, 1.0], [1.0, 0.5, 0.0, 0.0])
    """
    accepted_same, accepted_different, cuts = _steps(*_checked(scores, same))
    rejected_same = accepted_same[-1] - accepted_same
    return Det(accepted_different / accepted_different[-1], rejected_same / accepted_same[-1], cuts)


def mate_ranks(scores: ArrayLike, probe_ids: ArrayLike, gallery_ids: ArrayLike, *, ties: Ties = "against_mate") -> Ints:
    """Rank of each probe's own identity among those of the gallery, from 1, (Q,); 0 for a probe that has none there.

    `scores` (Q, G) compares probes with gallery entries; `probe_ids` (Q,) and `gallery_ids` (G,) are whole numbers. Of
    an identity with several entries the best one counts. The rank is one more than the number of other identities that
    score higher, and, with ties "against_mate", of those that score the same; "for_mate" is the rule of the MegaFace
    devkit. Against the mate, a network that gives all images one embedding comes last and not first.

    >>> mate_ranks([[0.9, 0.1], [0.5, 0.5], [0.2, 0.3]], [7, 7, 9], [7, 8]).tolist()
    [1, 2, 0]
    """
    if ties not in ("against_mate", "for_mate"):
        raise UserError(f"ties is {ties!r}; allowed: against_mate, for_mate")
    best, column = _by_identity(*_checked_search(scores, probe_ids, gallery_ids))
    found = np.flatnonzero(column >= 0)
    own = best[found, column[found]][:, None]
    ahead = best[found] > own if ties == "for_mate" else best[found] >= own
    ranks = np.zeros(len(best), np.int64)
    ranks[found] = np.count_nonzero(ahead, axis=1) + (ties == "for_mate")
    return ranks


def cmc(scores: ArrayLike, probe_ids: ArrayLike, gallery_ids: ArrayLike, *, ties: Ties = "against_mate") -> Floats:
    """Cumulative match characteristic: element k - 1 is the fraction of probes whose identity has rank k or better.

    As long as the gallery has identities; the last is 1. Arguments and ranks are those of `mate_ranks`. Closed set:
    probes of identities that are not in the gallery raise `UserError`.

    >>> cmc([[0.9, 0.1, 0.0], [0.5, 0.4, 0.2]], [7, 8], [7, 8, 9]).tolist()
    [0.5, 1.0, 1.0]
    """
    ranks = mate_ranks(scores, probe_ids, gallery_ids, ties=ties)
    if not ranks.all():
        absent = int(np.count_nonzero(ranks == 0))
        raise UserError(
            f"{absent} of {len(ranks)} probes have no mate in the gallery; a closed set is needed here, an open one is"
            " measured by tpir_at_fpir"
        )
    identities = len(np.unique(np.asarray(gallery_ids)))
    return np.cumsum(np.bincount(ranks - 1, minlength=identities)) / len(ranks)


def rank_k(
    scores: ArrayLike, probe_ids: ArrayLike, gallery_ids: ArrayLike, k: int = 1, *, ties: Ties = "against_mate"
) -> float:
    """The fraction of probes whose identity is among the first k; `cmc` at k, which says what the arguments are.

    >>> rank_k([[0.9, 0.1], [0.5, 0.4]], [7, 8], [7, 8]), rank_k([[0.9, 0.1], [0.5, 0.4]], [7, 8], [7, 8], 2)
    (0.5, 1.0)
    """
    if k < 1:
        raise UserError(f"k is {k}; ranks count from 1")
    curve = cmc(scores, probe_ids, gallery_ids, ties=ties)
    return float(curve[min(k, len(curve)) - 1])


def tpir_at_fpir(
    scores: ArrayLike, probe_ids: ArrayLike, gallery_ids: ArrayLike, fpir: float, *, rank: int = 1
) -> TpirAtFpir:
    """Open set: TPIR at the lowest threshold whose FPIR does not exceed `fpir`, a number in [0, 1].

    Arguments are those of `mate_ranks`. A probe without mate in the gallery is a false positive where its highest score
    is above the threshold. With N such probes K = floor(fpir N + 1e-9) may be: the threshold is the (K + 1)-th largest
    of these highest scores (-inf for K = N). TPIR is the fraction of the other probes whose mate scores strictly above
    the threshold and has `rank` or better, ties counting against it; NIST's FNIR(N, R, T) is 1 - TPIR. Raises
    `UserError` where all probes are of one kind.

    >>> tpir_at_fpir([[0.9, 0.1], [0.3, 0.4], [0.2, 0.5], [0.6, 0.0]], [7, 8, 1, 2], [7, 8], fpir=0.5)
    TpirAtFpir(tpir=0.5, threshold=0.5, false_positives=1)
    """
    if not 0 <= fpir <= 1:
        raise UserError(f"fpir must be a fraction between 0 and 1, got {fpir}")
    if rank < 1:
        raise UserError(f"rank is {rank}; ranks count from 1")
    ranks = mate_ranks(scores, probe_ids, gallery_ids)
    best, column = _by_identity(*_checked_search(scores, probe_ids, gallery_ids))
    mated = column >= 0
    if mated.all() or not mated.any():
        raise UserError(f"all {len(mated)} probes are of one kind; an open set has some with and some without a mate")
    highest = best[~mated].max(axis=1)
    (threshold,) = _thresholds(highest, [fpir])
    own = best[mated, column[mated]]
    hits = np.count_nonzero((own > threshold) & (ranks[mated] <= rank))
    return TpirAtFpir(float(hits / len(own)), threshold, int(np.count_nonzero(highest > threshold)))


def contiguous_folds(num_pairs: int, num_folds: int) -> Ints:
    """Fold 1 .. F of each pair, (P,): contiguous blocks, the first P mod F of them one pair longer.

    >>> contiguous_folds(5, 2).tolist()
    [1, 1, 1, 2, 2]
    """
    sizes = np.full(num_folds, num_pairs // num_folds)
    sizes[: num_pairs % num_folds] += 1
    return np.repeat(np.arange(1, num_folds + 1, dtype=np.int64), sizes)


def _at_least(values: Floats, cuts: Floats) -> Ints:
    """How many of `values` reach each of the `cuts`, which fall."""
    return len(values) - np.searchsorted(np.sort(values), cuts, side="left")


def _thresholds(scores: Floats, fractions: Sequence[float]) -> list[float]:
    """For each fraction the lowest threshold with at most floor(fraction N + 1e-9) of N scores strictly above.

    -inf where all may be.
    """
    places = [len(scores) - 1 - int(np.floor(fraction * len(scores) + 1e-9)) for fraction in fractions]
    parted = np.partition(scores, sorted({place for place in places if place >= 0} or {0}))
    return [float(parted[place]) if place >= 0 else -np.inf for place in places]


def _checked_search(scores: ArrayLike, probe_ids: ArrayLike, gallery_ids: ArrayLike) -> tuple[Floats, Ints, Ints]:
    values, probes, gallery = np.asarray(scores, np.float64), np.asarray(probe_ids), np.asarray(gallery_ids)
    if values.ndim != 2 or values.shape != (*probes.shape, *gallery.shape):
        raise UserError(
            f"scores must be probes x gallery, got shapes {values.shape} for {probes.shape} and {gallery.shape}"
        )
    if not values.size:
        raise UserError("there are no probes, or nobody is in the gallery")
    if not np.isfinite(values).all():
        probe, entry = np.argwhere(~np.isfinite(values))[0].tolist()
        raise UserError(f"scores must be finite numbers; probe {probe} has {values[probe, entry]} with entry {entry}")
    if probes.dtype.kind not in "iu" or gallery.dtype.kind not in "iu":
        raise UserError(f"identities must be whole numbers, got {probes.dtype} and {gallery.dtype}")
    return values, probes.astype(np.int64), gallery.astype(np.int64)


def _by_identity(values: Floats, probes: Ints, gallery: Ints) -> tuple[Floats, Ints]:
    """Each probe's best score with each identity, (Q, I), and the column of its own, -1 where it has none, (Q,)."""
    order = np.argsort(gallery, kind="stable")
    identities, starts = np.unique(gallery[order], return_index=True)
    best = np.maximum.reduceat(values[:, order], starts, axis=1)
    column = np.minimum(np.searchsorted(identities, probes), len(identities) - 1)
    return best, np.where(identities[column] == probes, column, -1)


def _checked(scores: ArrayLike, same: ArrayLike) -> tuple[Floats, Bools]:
    values, labels = np.asarray(scores, np.float64), np.asarray(same)
    if values.ndim != 1 or labels.shape != values.shape:
        raise UserError(f"scores and same must be equally long lists, got shapes {values.shape} and {labels.shape}")
    if not len(values):
        raise UserError("there are no pairs to score")
    if not np.isfinite(values).all():
        where = int(np.flatnonzero(~np.isfinite(values))[0])
        raise UserError(f"scores must be finite numbers; pair {where} has {values[where]}")
    if labels.dtype != np.bool_:
        if not np.isin(labels, (0, 1)).all():
            raise UserError("same must hold true/false or 1/0 only")
        labels = labels.astype(np.bool_)
    if labels.all() or not labels.any():
        raise UserError(f"all {len(labels)} pairs are of one kind; scoring needs both same and different pairs")
    return values, labels


def _fold_numbers(folds: int | ArrayLike, num_pairs: int) -> Ints:
    """The fold of each pair as 0 .. F - 1, (P,); F >= 2."""
    given = np.asarray(folds)
    if given.dtype.kind not in "iu":
        raise UserError(f"folds must be a whole number or one whole number a pair, got {given.dtype}")
    if given.ndim == 0:
        if not 2 <= given <= num_pairs:
            raise UserError(f"{num_pairs} pairs can't be split into {given} folds; 2 to {num_pairs} are allowed")
        return contiguous_folds(num_pairs, int(given)) - 1
    if given.shape != (num_pairs,):
        raise UserError(f"folds must name the fold of each of {num_pairs} pairs, got shape {given.shape}")
    names, numbers = np.unique(given, return_inverse=True)
    if len(names) < 2:
        raise UserError("all pairs are in one fold: there is no other to choose the threshold on")
    return numbers.reshape(-1).astype(np.int64)


def _grid_accuracy(values: Floats, labels: Bools, fold: Ints) -> VerificationAccuracy:
    if np.abs(values).max() > 1 + 1e-6:
        raise UserError(
            f"scores run from {values.min():g} to {values.max():g}, which are no cosines;"
            ' for other scales use rule="exact"'
        )
    distance = 2 - 2 * np.clip(values, -1, 1)
    # distance < grid[j] holds from j = first on: one look-up a pair instead of one comparison a threshold.
    first = np.searchsorted(DISTANCE_GRID, distance, side="right")
    num_folds, bins = int(fold.max()) + 1, len(DISTANCE_GRID) + 1
    counts = np.bincount((fold * 2 + labels) * bins + first, minlength=num_folds * 2 * bins)
    accepted = counts.reshape(num_folds, 2, bins).cumsum(axis=2)
    rejected_different = accepted[:, 0, -1:] - accepted[:, 0, :-1]
    correct = rejected_different + accepted[:, 1, :-1]
    best = np.argmax(correct.sum(axis=0) - correct, axis=1)
    accuracies = correct[np.arange(num_folds), best] / np.bincount(fold)
    thresholds = np.array([_score_threshold(float(DISTANCE_GRID[j]), values, distance) for j in best])
    return VerificationAccuracy(float(accuracies.mean()), float(accuracies.std()), thresholds, accuracies)


def _score_threshold(limit: float, values: Floats, distance: Floats) -> float:
    """The score that accepts what `distance < limit` does: 1 - limit / 2, but for rounding at the limit."""
    accepted = distance < limit
    highest_rejected = values[~accepted].max(initial=-np.inf)
    lowest_accepted = values[accepted].min(initial=np.inf)
    return float(np.clip(1 - limit / 2, highest_rejected, np.nextafter(lowest_accepted, -np.inf)))


def _exact_accuracy(values: Floats, labels: Bools, fold: Ints) -> VerificationAccuracy:
    thresholds, accuracies = np.empty(fold.max() + 1), np.empty(fold.max() + 1)
    for held_out in range(len(thresholds)):
        test = fold == held_out
        thresholds[held_out] = _best_threshold(values[~test], labels[~test]).threshold
        accuracies[held_out] = np.mean((values[test] > thresholds[held_out]) == labels[test])
    return VerificationAccuracy(float(accuracies.mean()), float(accuracies.std()), thresholds, accuracies)


def _best_threshold(values: Floats, labels: Bools) -> BestThreshold:
    accepted_same, accepted_different, cuts = _steps(values, labels)
    correct = accepted_same - accepted_different  # plus all different pairs, the same number for every cut
    best = int(np.argmax(correct))
    num_correct = int(correct[best] + np.count_nonzero(~labels))
    return BestThreshold(num_correct / len(labels), _between(cuts, best))


def _steps(values: Floats, labels: Bools) -> tuple[Ints, Ints, Floats]:
    """Accepted same pairs and accepted different pairs, (T,) each, above each of the falling `cuts` (T,).

    The cuts are the distinct scores and -inf, so the counts run from none to all.
    """
    order = np.argsort(-values, kind="stable")
    values, labels = values[order], labels[order]
    block_ends = np.append(np.flatnonzero(np.diff(values)), len(values) - 1)  # the last pair of each tie
    accepted_same = np.concatenate([[0], np.cumsum(labels, dtype=np.int64)[block_ends]])
    accepted = np.concatenate([[0], block_ends + 1])
    return accepted_same, accepted - accepted_same, np.append(values[block_ends], -np.inf)


def _between(cuts: Floats, index: int) -> float:
    """A finite threshold that accepts what `cuts[index]` accepts, midway to the next higher score."""
    if index == 0:
        return float(cuts[0])
    higher, lower = cuts[index - 1], cuts[index]
    if lower == -np.inf:
        return float(np.nextafter(higher, -np.inf))
    middle = lower / 2 + higher / 2
    return float(middle if lower <= middle < higher else lower)
