"""Results as people read them: rows of a table, and a picture of ROC and scores."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from faceprint.evaluation import metrics
from faceprint.evaluation.curves import bin_edges
from faceprint.evaluation.protocols import Evaluation
from faceprint.plot_extra import check_plotting, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SAME_COLOUR, DIFFERENT_COLOUR, INK = "#0072B2", "#D55E00", "#333333"
"""Blue and vermilion of Okabe and Ito's palette: told apart with any kind of colour vision, and in grey."""


def table_rows(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, value) of a result of `summarize` or `evaluate`, for people: percentages, and counts behind the rates."""
    std = result["accuracy_std"]
    rows = [
        ("accuracy", _percent(result["accuracy"]) + (f" ± {100 * std:.2f}" if std is not None else "")),
        ("", result["accuracy_rule"]),
        ("threshold", f"{result['threshold']:.4f}"),
        ("pairs", f"{result['num_same']:,} same + {result['num_different']:,} different"),
        ("images", f"{result['num_images']:,}"),
    ]
    for far, tar in result["tar_at_far"].items():
        rows.append((f"TAR@FAR={far}", f"{_percent(tar)}  ({accepts_text(result['false_accepts'][far])})"))
    rows += [("EER", _percent(result["eer"])), ("AUC", f"{result['auc']:.5f}")]
    if "flip" in result:
        rows.append(("flip", "embeddings of image and mirror image summed" if result["flip"] else "no"))
        speed = result["images_per_second"]
        rows.append(("images per second", f"{speed:,.0f}" if speed is not None else "all embeddings were in the cache"))
    if "mean_norm" in result:
        rows.append(("XNorm", f"{result['mean_norm']:.4f}  (mean length of the network's outputs)"))
    if "unreadable_images" in result:
        rows.append(("unreadable", f"{result['unreadable_images']:,} images; their pairs are rejected"))
    return rows


SET_COLUMNS = ("set", "pairs", "accuracy ± std of folds", "TAR@FAR=1e-3", "EER", "AUC", "XNorm")


def set_rows(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Rows under `SET_COLUMNS` of a result of `summarize_sets`; pairs beside the published number where it is another.

    ± is the population standard deviation over folds.
    """
    rows = [_set_row(each) for each in result["sets"].values()]
    if len(rows) > 1:
        rows.append(("mean", "", _percent(result["mean_accuracy"]), "", "", "", ""))
    if "rfw" in result:
        groups = result["rfw"]
        std, ratio = 100 * groups["std_of_accuracies_ddof_1"], groups["skewed_error_ratio"]
        shown = "" if ratio is None else f"error ratio {ratio:.2f}"
        rows.append(("RFW, std of groups", "", f"{_percent(groups['mean_accuracy'])} ± {std:.2f}", shown, "", "", ""))
    return rows


def _set_row(result: Mapping[str, Any]) -> tuple[str, ...]:
    pairs, published = result["num_pairs"], result["published_pairs"]
    tar = result["tar_at_far"].get("1e-3")
    return (
        result["title"],
        f"{pairs:,}" + (f" of {published:,}" if published not in (None, pairs) else ""),
        table_rows(result)[0][1],
        "" if tar is None else f"{_percent(tar)} ({accepts_text(result['false_accepts']['1e-3'])})",
        _percent(result["eer"]),
        f"{result['auc']:.5f}",
        f"{result['mean_norm']:.2f}" if "mean_norm" in result else "",
    )


def search_rows(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, value) of a result of `MegaFace.score` or `MfrList.score`, with the counts behind the rates."""
    return _megaface_rows(result) if result["protocol"] == "megaface" else _mfr_rows(result)


def _megaface_rows(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [("probes", f"{result['num_probes']:,} of {result['num_identities']:,} people")]
    rows.append(("probe noises", _noises(result["probe_noises"])))
    for size, each in result["sizes"].items():
        misses = f"{each['rank_1_misses']:,} of {each['num_searches']:,} missed"
        rows.append((f"{int(size):,} distractors", f"rank 1: {_percent(each['rank']['1'])}  ({misses})"))
        rows.append(("", f"rank 10: {_percent(each['rank']['10'])}"))
        for mode, curve in each["verification"].items():
            shown = f"{_percent(curve['tpr'])}  ({accepts_text(curve['false_accepts'])})"
            rows.append(("", f"TPR@FPR={result['far']:g}, {mode}: {shown}"))
        rows.append(("", f"noises: {_noises(each['noises'])}"))
    return rows


def _noises(noises: Mapping[str, int]) -> str:
    return f"{noises['matched']:,} of {noises['lines']:,} names matched, {noises['images']:,} images"


def _mfr_rows(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, each in result["sets"].items():
        rows.append((name, f"TAR@FAR={each['far']:g}: {_percent(each['tar'])}, threshold {each['threshold']:.4f}"))
        rows.append(("", f"{accepts_text(each['false_accepts'])} of {each['allowed_false_accepts']:,} allowed"))
        rows.append(("", f"{each['num_same']:,} same + {each['num_different']:,} different pairs"))
        rows.append(("", f"{each['num_images']:,} images of {each['num_identities']:,} people"))
    if "ranking" in result:
        rows.append(("ranking", f"{_percent(result['ranking'])}  (0.25 mask + 0.75 all)"))
    return rows


def plot_evaluation(evaluation: Evaluation, path: str | os.PathLike[str]) -> None:
    """Write a PNG of two panels: the ROC over a logarithmic FAR, and histograms of the scores with the threshold.

    Raises `UserError` where matplotlib is not installed or `path` cannot be written; the file appears whole or not.
    """
    check_plotting()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained", dpi=150)
    roc_axes, score_axes = figure.subplots(1, 2)
    _plot_roc(roc_axes, evaluation)
    _plot_scores(score_axes, evaluation)
    for axes in (roc_axes, score_axes):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=INK)
    title = _title(evaluation.result)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, color=INK, parse_math=False)
    write_figure(figure, Path(path), dpi=150)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"


def accepts_text(count: int) -> str:
    """`1 false accept`, `12 false accepts`."""
    return f"{count:,} false accept{'' if count == 1 else 's'}"


def _title(result: Mapping[str, Any]) -> str:
    accuracy = table_rows(result)[0][1]
    what = f"{result['protocol']}, {result['num_pairs']:,} pairs: accuracy {accuracy}"
    return f"{Path(result['model']).name}, {what}" if "model" in result else what


def _plot_roc(axes: Axes, evaluation: Evaluation) -> None:
    result, curve = evaluation.result, metrics.roc(evaluation.scores, evaluation.same)
    # FAR 0 has no place on a logarithmic axis: what is reached without a false accept is drawn left of the lowest
    # FAR that so many pairs can show.
    left = 0.2 / result["num_different"]
    start = np.flatnonzero(curve.far == 0)[-1]
    axes.step(np.maximum(curve.far, left)[start:], curve.tar[start:], where="post", color=SAME_COLOUR, linewidth=2)
    lowest = max(0.0, np.floor(10 * curve.tar[start] - 0.5) / 10)
    for far, tar in result["tar_at_far"].items():
        axes.plot(float(far), tar, "o", color=SAME_COLOUR, markersize=6, clip_on=False, zorder=3)
        # The curve rises: there is room below on the right and above on the left.
        below = tar > (1 + lowest) / 2
        axes.annotate(
            f"{_percent(tar)}\n{accepts_text(result['false_accepts'][far])}",
            (float(far), tar),
            (5, -8) if below else (-5, 8),
            textcoords="offset points",
            ha="left" if below else "right",
            va="top" if below else "bottom",
            fontsize=8,
            color=INK,
        )
    axes.set(xscale="log", xlim=(left, 1), ylim=(lowest, 1 + 0.01 * (1 - lowest)))
    axes.set_xlabel("FAR: fraction of different pairs accepted", color=INK)
    axes.set_ylabel("TAR: fraction of same pairs accepted", color=INK)
    title = f"ROC: EER {_percent(result['eer'])}, AUC {result['auc']:.5f}"
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.grid(visible=True, which="major", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)


def _plot_scores(axes: Axes, evaluation: Evaluation) -> None:
    result, scores, same = evaluation.result, evaluation.scores, evaluation.same
    bins = bin_edges(scores, 60).tolist()
    for label, chosen, colour in (("different", ~same, DIFFERENT_COLOUR), ("same", same, SAME_COLOUR)):
        values = scores[chosen]
        axes.hist(values, bins, density=True, color=colour, alpha=0.35, label=f"{label}: {len(values):,}")
        axes.hist(values, bins, density=True, color=colour, linewidth=1.5, histtype="step")
    threshold = result["threshold"]
    axes.axvline(threshold, color=INK, linestyle="--", linewidth=1.2, label=f"threshold {threshold:.3f}")
    axes.set_xlabel("score: cosine of the two embeddings", color=INK)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_title("Scores", loc="left", fontsize=10, color=INK)
    place: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1.0, 0.98), "ncols": 3}
    axes.legend(**place, frameon=False, fontsize=8, labelcolor=INK, handlelength=1.5, columnspacing=1.2)
