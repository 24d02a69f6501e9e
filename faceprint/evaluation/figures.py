"""Every number of a protocol's own result as a `Figure`, by the names that papers use, with the errors behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from faceprint.evaluation.result import Figure, Interval

LEVEL, NORMAL_QUANTILE = 0.95, 1.959963984540054
"""A two-sided 95 % interval, and the standard normal quantile of 0.975."""
NEAREST_RULE = ", nearest rule"
"""Behind the name of a TAR whose threshold is the published systems' one: its FAR is the nearest, not at most."""
PUBLISHED_DISTRACTORS = 1_000_000
"""Of MegaFace: tables print the figures among these, and no others (Kemelmacher-Shlizerman et al., 2016)."""
_NO_FIGURES = {"sets", "sizes", "intervals", "threshold", "thresholds", "images_per_second", "mean_norm", "far"}
_MFR_SETS = {"all": "ALL", "mask": "MASK"}


def figures(result: Mapping[str, Any], title: str) -> Iterator[Figure]:
    """Every number of `result` that is no count; `title` is the test set as papers name it.

    Those of pairs come with their errors, those of MegaFace and MFR by the names of the published tables, others by the
    names of their keys.
    """
    if result["protocol"] == "megaface":
        yield from _megaface(result, title)
    elif result["protocol"] == "mfr":
        yield from _mfr(result)
    else:
        yield from _of_sets(result, title)


def _of_sets(result: Mapping[str, Any], title: str) -> Iterator[Figure]:
    for name, each in result.get("sets", {}).items():
        yield from _of_pairs(each, each["title"]) if _is_pairs(each) else _others(each, f"{title}: {name}", ())
    if _is_pairs(result):
        yield from _of_pairs(result, title)
    else:
        yield from _tars(result, title)
        yield from _others(result, "all sets" if "sets" in result else title, ())


def _is_pairs(result: Mapping[str, Any]) -> bool:
    return "accuracy_errors" in result


def _of_pairs(result: Mapping[str, Any], title: str) -> Iterator[Figure]:
    pairs, same, different = result["num_pairs"], result["num_same"], result["num_different"]
    drawn = _drawn(result.get("intervals"))
    wrong = result["accuracy_errors"]
    yield _rate(
        title,
        "accuracy",
        result["accuracy"],
        wrong,
        pairs,
        std=result["accuracy_std"],
        rule=result["accuracy_rule"],
        interval=drawn.get("accuracy"),
    )
    for far, tar in result["tar_at_far"].items():
        accepts = result["false_accepts"][far]
        rejected, interval = round((1 - tar) * same), drawn.get(f"tar_at_far_{far}")
        yield _rate(title, f"TAR@FAR={far}", tar, rejected, same, false_accepts=accepts, interval=interval)
    rule = f"{same:,} same and {different:,} different pairs"
    yield Figure(set=title, name="EER", value=result["eer"], rule=rule, interval=drawn.get("eer"))
    yield Figure(set=title, name="AUC", value=result["auc"], unit="number", rule=rule, interval=drawn.get("auc"))


def _drawn(intervals: Mapping[str, Any] | None) -> dict[str, Interval]:
    """Those of `interval_result`, but for those without width, which say nothing."""
    if intervals is None:
        return {}
    method = f"{intervals['draws']:,} bootstrap draws of {intervals['people']:,} people ({intervals['people_rule']})"
    return {
        name: Interval(low=row["low"], high=row["high"], level=intervals["level"], method=method)
        for name, row in intervals["figures"].items()
        if row["low"] < row["high"]
    }


def _tars(result: Mapping[str, Any], title: str) -> Iterator[Figure]:
    """Those of templates: by the exact rule and, where it is there, by the nearest."""
    same = result.get("num_same")
    for keys, suffix in (
        (("tar_at_far", "false_accepts"), ""),
        (("tar_at_nearest_far", "false_accepts_nearest"), NEAREST_RULE),
    ):
        tars, accepts = (result.get(key, {}) for key in keys)
        for far, tar in tars.items():
            said = {"false_accepts": accepts[far]} if far in accepts else {}
            name = f"TAR@FAR={far}{suffix}"
            yield (
                _rate(title, name, tar, round((1 - tar) * same), same, **said)
                if same
                else Figure(set=title, name=name, value=tar, **said)
            )


def _megaface(result: Mapping[str, Any], title: str) -> Iterator[Figure]:
    for size, each in result["sizes"].items():
        among = title if int(size) == PUBLISHED_DISTRACTORS else f"{title}, {int(size):,} distractors"
        for rank, rate in each["rank"].items():
            missed = round((1 - rate) * each["num_searches"])
            yield _rate(among, f"rank-{rank}", rate, missed, each["num_searches"])
        for mode, curve in each["verification"].items():
            impostors = "" if mode == "devkit" else f", {mode}"
            missed = round((1 - curve["tpr"]) * each["num_genuine"])
            yield _rate(
                among,
                f"TPR@FPR={far_text(result['far'])}{impostors}",
                curve["tpr"],
                missed,
                each["num_genuine"],
                false_accepts=curve["false_accepts"],
                rule=f"{curve['impostors']:,} impostors, mode {mode}",
            )


def _mfr(result: Mapping[str, Any]) -> Iterator[Figure]:
    for name, each in result["sets"].items():
        yield _rate(
            f"MFR-{_MFR_SETS.get(name, name.title())}",
            f"TAR@FAR={far_text(each['far'])}",
            each["tar"],
            round((1 - each["tar"]) * each["num_same"]),
            each["num_same"],
            false_accepts=each["false_accepts"],
            rule=f"{each['num_images']:,} images of {each['num_identities']:,} people",
        )
    if "ranking" in result:
        yield Figure(set="MFR", name="ranking", value=result["ranking"], rule="0.25 MASK + 0.75 ALL")


def far_text(far: float) -> str:
    """As tables write it: 1e-6, not 1e-06."""
    mantissa, _, exponent = f"{far:e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def _rate(
    title: str, name: str, value: float, errors: int, trials: int, *, interval: Interval | None = None, **said: Any
) -> Figure:
    return Figure(
        set=title,
        name=name,
        value=value,
        errors=errors,
        trials=trials,
        interval=interval or wilson(errors, trials),
        **said,
    )


def wilson(errors: int, trials: int) -> Interval:
    """Wilson's interval (1927) of the rate of success, 1 - errors / trials, at 95 %.

    It takes the trials for independent. Pairs that share people are not: true intervals are wider.
    """
    rate, z2 = 1 - errors / trials, NORMAL_QUANTILE**2
    centre = (rate + z2 / (2 * trials)) / (1 + z2 / trials)
    half = NORMAL_QUANTILE * np.sqrt(rate * (1 - rate) / trials + z2 / (4 * trials**2)) / (1 + z2 / trials)
    low, high = max(0.0, float(centre - half)), min(1.0, float(centre + half))
    return Interval(low=low, high=high, level=LEVEL, method="Wilson, trials taken for independent")


def _others(values: Mapping[str, Any], title: str, keys: tuple[str, ...]) -> Iterator[Figure]:
    """Floating-point numbers at any depth, but for those that other figures have: whole ones are counts."""
    for key, value in values.items():
        if key in _NO_FIGURES or (not keys and key in ("tar_at_far", "tar_at_nearest_far")):
            continue
        if isinstance(value, Mapping):
            yield from _others(value, title, (*keys, key))
        elif isinstance(value, float) and np.isfinite(value):
            unit = "fraction" if key.endswith("accuracy") else "number"
            yield Figure(set=title, name=" ".join((*keys, key)), value=value, unit=unit)
