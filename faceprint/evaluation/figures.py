"""Every number of a protocol's own result as a `Figure`, by the names that papers use, with the errors behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from faceprint.evaluation.megaface import among
from faceprint.evaluation.mfr import SET_NAMES
from faceprint.evaluation.result import Figure, Interval

LEVEL, NORMAL_QUANTILE = 0.95, 1.959963984540054
"""A two-sided 95 % interval, and the standard normal quantile of 0.975."""
NEAREST_RULE = ", nearest rule"
"""Behind the name of a TAR whose threshold is the published systems' one: its FAR is the nearest, not at most."""
GROUP_RATES = {"FMR": ("false_matches", "non_mated"), "FNMR": ("false_non_matches", "mated")}
"""Rate of a group -> the keys of its errors and of its trials."""
_NO_FIGURES = {
    "sets",
    "sizes",
    "intervals",
    "threshold",
    "thresholds",
    "images_per_second",
    "mean_norm",
    "far",
    "curves",
}


def figures(result: Mapping[str, Any], title: str) -> Iterator[Figure]:
    """Every number of `result` that is no count; `title` is the test set as papers name it.

    Those of pairs and of analyses come with their errors, those of MegaFace and MFR by the names of the published
    tables, others by the names of their keys.
    """
    yield from _BY_PROTOCOL.get(result["protocol"], _of_sets)(result, title)


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
    drawn = drawn_intervals(result)
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


def drawn_intervals(result: Mapping[str, Any]) -> dict[str, Interval]:
    """Those of the result's `intervals` by name, but for those without width, which say nothing."""
    if (intervals := result.get("intervals")) is None:
        return {}
    method = f"{intervals['draws']:,} bootstrap draws of {intervals['people']:,} people ({intervals['people_rule']})"
    held = dict.fromkeys(intervals.get("held", []), "; at the threshold of the whole set")
    return {
        name: Interval(low=row["low"], high=row["high"], level=intervals["level"], method=method + held.get(name, ""))
        for name, row in intervals["figures"].items()
        if row["low"] < row["high"]
    }


def _tars(result: Mapping[str, Any], title: str) -> Iterator[Figure]:
    """Those of templates: by the exact rule, which alone draws are made of, and, where it is there, by the nearest."""
    same, drawn = result.get("num_same"), drawn_intervals(result)
    for keys, suffix in (
        (("tar_at_far", "false_accepts"), ""),
        (("tar_at_nearest_far", "false_accepts_nearest"), NEAREST_RULE),
    ):
        tars, accepts = (result.get(key, {}) for key in keys)
        for far, tar in tars.items():
            said: dict[str, Any] = {"false_accepts": accepts[far]} if far in accepts else {}
            said |= {
                "rule": str(result.get("flags", "")),
                "interval": None if suffix else drawn.get(f"tar_at_far_{far}"),
            }
            name = f"TAR@FAR={far}{suffix}"
            yield (
                _rate(title, name, tar, round((1 - tar) * same), same, **said)
                if same
                else Figure(set=title, name=name, value=tar, **said)
            )


def _megaface(result: Mapping[str, Any], title: str) -> Iterator[Figure]:
    drawn = drawn_intervals(result)
    for size, each in result["sizes"].items():
        of_size = title + among(int(size))
        for rank, rate in each["rank"].items():
            missed = round((1 - rate) * each["num_searches"])
            interval = drawn.get(f"{size} rank_{rank}")
            yield _rate(of_size, f"rank-{rank}", rate, missed, each["num_searches"], interval=interval)
        for mode, curve in each["verification"].items():
            impostors = "" if mode == "devkit" else f", {mode}"
            missed = round((1 - curve["tpr"]) * each["num_genuine"])
            yield _rate(
                of_size,
                f"TPR@FPR={far_text(result['far'])}{impostors}",
                curve["tpr"],
                missed,
                each["num_genuine"],
                false_accepts=curve["false_accepts"],
                rule=f"{curve['impostors']:,} impostors, mode {mode}",
                interval=drawn.get(f"{size} tpr_{mode}"),
            )


def _mfr(result: Mapping[str, Any], title: str) -> Iterator[Figure]:
    drawn = drawn_intervals(result)
    for name, each in result["sets"].items():
        yield _rate(
            f"{title}-{SET_NAMES.get(name, name.title())}",
            f"TAR@FAR={far_text(each['far'])}",
            each["tar"],
            round((1 - each["tar"]) * each["num_same"]),
            each["num_same"],
            false_accepts=each["false_accepts"],
            rule=f"{each['num_images']:,} images of {each['num_identities']:,} people",
            interval=drawn.get(f"tar_{name}"),
        )
    if "ranking" in result:
        rule, interval = "0.25 MASK + 0.75 ALL", drawn.get("ranking")
        yield Figure(set=title, name="ranking", value=result["ranking"], rule=rule, interval=interval)


def _identification(result: Mapping[str, Any], title: str) -> Iterator[Figure]:
    """By the names of ISO/IEC 19795-1 and NIST."""
    mated, strangers = result["num_mated_searches"], result["num_non_mated_searches"]
    drawn = drawn_intervals(result)
    closed = f"{result['num_enrolled']:,} enrolled, no threshold"
    for rank, rate in result["fnir_at_rank"].items():
        errors, interval = round(rate * mated), drawn.get(f"fnir_at_rank_{rank}")
        yield error_rate(title, f"FNIR at rank {rank}", errors, mated, rule=closed, interval=interval)
    for point in result["identification_det"]:
        yield from _at_fpir(point, mated, strangers, drawn, title)
    for point in result["comparison_det"]:
        errors, interval = round(point["fnmr"] * mated), drawn.get(f"fnmr_at_fmr_{point['fmr']}")
        said = {"false_accepts": point["false_matches"], "rule": f"threshold {point['threshold']:.4f}, all comparisons"}
        yield error_rate(title, f"FNMR@FMR={point['fmr']}", errors, mated, interval=interval, **said)


def _at_fpir(
    point: Mapping[str, Any], mated: int, strangers: int, drawn: Mapping[str, Interval], title: str
) -> Iterator[Figure]:
    """FNIR, and what searches find at the threshold: FPIR itself, and selectivity."""
    fpir, found = point["fpir"], point["false_positives"]
    rule = f"threshold {point['threshold']:.4f}, rank 1, {strangers:,} non-mated"
    missed, interval = round(point["fnir"] * mated), drawn.get(f"fnir_at_fpir_{fpir}")
    yield error_rate(title, f"FNIR@FPIR={fpir}", missed, mated, false_accepts=found, rule=rule, interval=interval)
    interval = drawn.get(f"fpir_at_fpir_{fpir}")
    yield error_rate(title, f"FPIR at T of FPIR={fpir}", found, strangers, rule=rule, interval=interval)
    name, interval = f"selectivity at T of FPIR={fpir}", drawn.get(f"selectivity_at_fpir_{fpir}")
    yield Figure(set=title, name=name, value=point["selectivity"], unit="number", rule=rule, interval=interval)


def _ijb_1n(result: Mapping[str, Any], title: str) -> Iterator[Figure]:
    """As published: ranks over the searches of both galleries, TPIR as the mean of the two; then each by itself."""
    drawn, sides = drawn_intervals(result), result["galleries"]
    hits = {rank: sum(side["hits"][rank] for side in sides.values()) for rank in result["rank"]}
    both = {**result, "hits": hits, "num_mated": sum(side["num_mated"] for side in sides.values())}
    yield from _of_ranks(both, title, f"{result['flags']}, both galleries", drawn)
    for rate, fpir, name in _tpirs(result):
        rule, interval = f"{result['flags']}, mean of both galleries", drawn.get(f"{rate}_{fpir}")
        yield Figure(set=title, name=name, value=result[rate][fpir], rule=rule, interval=interval)
    for gallery, side in sides.items():
        of_side, start = f"{title}, {gallery}", f"{gallery} "
        own = {name.removeprefix(start): each for name, each in drawn.items() if name.startswith(start)}
        yield from _of_ranks(side, of_side, result["flags"], own)
        for rate, fpir, name in _tpirs(side):
            missed, interval = round((1 - side[rate][fpir]) * side["num_mated"]), own.get(f"{rate}_{fpir}")
            said = {"rule": result["flags"], "interval": interval}
            yield _rate(of_side, name, side[rate][fpir], missed, side["num_mated"], **said)


def _of_ranks(side: Mapping[str, Any], title: str, rule: str, drawn: Mapping[str, Interval]) -> Iterator[Figure]:
    for rank, rate in side["rank"].items():
        missed, interval = side["num_mated"] - side["hits"][rank], drawn.get(f"rank_{rank}")
        yield _rate(title, f"rank-{rank}", rate, missed, side["num_mated"], rule=rule, interval=interval)


def _tpirs(side: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Key, FPIR and name of every TPIR that there is, by the exact rule and by the published one."""
    for key, suffix in (("tpir_at_fpir", ""), ("tpir_at_fpir_published", ", published rule")):
        yield from ((key, fpir, f"TPIR@FPIR={fpir}{suffix}") for fpir, rate in side[key].items() if rate is not None)


def _fairness(result: Mapping[str, Any], title: str) -> Iterator[Figure]:
    rule, drawn = f"threshold {result['threshold']:.4f}, one for all groups", drawn_intervals(result)
    for name, group in result["groups"].items():
        for rate, (errors, trials) in GROUP_RATES.items():
            if group[trials]:
                interval = drawn.get(f"{rate.lower()}_{name}")
                yield error_rate(f"{title}, {name}", rate, group[errors], group[trials], interval=interval, rule=rule)
    accuracies = result.get("accuracy", {}).get("by_group", {})
    yield from (Figure(set=f"{title}, {name}", name="accuracy", value=value) for name, value in accuracies.items())
    for name, value in result["summary"].items():
        if name != "alpha" and value is not None:
            shown = name.upper() if name == "garbe" else name.replace("_", " ")
            yield Figure(set=title, name=shown, value=value, unit="number", rule=rule, interval=drawn.get(name))


def _ageing(result: Mapping[str, Any], title: str) -> Iterator[Figure]:
    for row in result["bins"]:
        if row["mated"]:
            errors, trials = row["false_non_matches"], row["mated"]
            name = f"FNMR, {years_text(row)} years apart"
            yield error_rate(title, name, errors, trials, interval=age_band(result, row))


def years_text(row: Mapping[str, Any]) -> str:
    """The span of a bin of years: `0 to 2`, `12+`."""
    start, end = (None if row[key] is None else str(row[key]).removesuffix(".0") for key in ("from_years", "to_years"))
    return f"{start}+" if end is None else f"{start} to {end}"


def age_band(result: Mapping[str, Any], row: Mapping[str, Any]) -> Interval:
    """That of a bin of years that has pairs."""
    low, high = result["band"]
    method = f"{result['draws']:,} bootstrap draws of people ({result['people']})"
    return Interval(low=row["low"], high=row["high"], level=high - low, method=method)


def _quality(result: Mapping[str, Any], title: str) -> Iterator[Figure]:
    rule = f"quality {result['quality']}, threshold {result['threshold']:.4f}"
    yield error_rate(title, "FNMR, none discarded", result["false_non_matches"], result["mated"], rule=rule)
    for limit, area in result["partial_area"].items():
        yield Figure(set=title, name=f"area up to {limit} discarded", value=area, unit="number", rule=rule)


def _robustness(result: Mapping[str, Any], title: str) -> Iterator[Figure]:
    clean: dict[str, Any] = {**result["clean"], "degradation": "", "degraded": "none"}
    for row in (clean, *result["rows"]):
        what = f"{row['degradation']} {row['strength']:g} {row['unit']}, " if row["degradation"] else ""
        for key, name in robustness_rates(result).items():
            yield Figure(set=title, name=f"{name}, {what}{row['degraded']} degraded", value=row[key])


def robustness_rates(result: Mapping[str, Any]) -> dict[str, str]:
    """Key of a row -> name of the rate."""
    return {
        "accuracy": "accuracy",
        "tar": f"TAR@FAR={far_text(result['far'])}, threshold chosen anew",
        "fmr": "FMR, threshold of the clean images",
        "fnmr": "FNMR, threshold of the clean images",
    }


_BY_PROTOCOL: dict[str, Callable[[Mapping[str, Any], str], Iterator[Figure]]] = {
    "megaface": _megaface,
    "mfr": _mfr,
    "identification": _identification,
    "ijb_1n": _ijb_1n,
    "fairness": _fairness,
    "ageing": _ageing,
    "quality": _quality,
    "robustness": _robustness,
}
"""Protocols that need names of their own; the others have those of pairs, or those of their keys."""


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


def error_rate(
    title: str, name: str, errors: int, trials: int, *, interval: Interval | None = None, **said: Any
) -> Figure:
    """A rate that is better the lower it is."""
    if interval is None:
        success = wilson(errors, trials)
        interval = success.model_copy(update={"low": 1 - success.high, "high": 1 - success.low})
    return Figure(set=title, name=name, value=errors / trials, errors=errors, trials=trials, interval=interval, **said)


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
