"""Figures of several models side by side, in the layout of the published tables: a row a model, a column a figure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from faceprint.evaluation.report import accepts_text
from faceprint.evaluation.result import Figure, Interval, Result
from faceprint.files import write_csv, write_whole

MAX_NAME = 60
_HEADLINES = {
    *("accuracy", "rank-1", "FNIR at rank 1", "TPR@FPR=1e-6"),
    *("fairness discrepancy rate", "inequity rate", "GARBE"),
}
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


@dataclass(frozen=True)
class Comparison:
    """`columns` are (set, figure); `rows` have, for each result of `results`, a figure or None under each column."""

    results: Sequence[Result]
    columns: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[Figure | None]]

    @property
    def sets(self) -> list[tuple[str, int]]:
        """The upper head: set, and how many columns it spans."""
        return [(name, len(list(columns))) for name, columns in groupby(self.columns, key=lambda column: column[0])]

    @property
    def names(self) -> list[str]:
        """A short name for each row, numbered, since two models may have one name."""
        return [f"{number}. {short_name(result)}" for number, result in enumerate(self.results, 1)]


def compare(results: Sequence[Result]) -> Comparison:
    """The figures that published tables print, of every result: published ones first, then those measured here.

    Accuracy, TAR at 1e-3 and less, rank-1, FNIR at rank 1, TPR and the summaries of fairness have a column; any other
    figure where a published row has it. Sets come in the order of their first use. A model's results on several sets
    share one row.
    """
    merged = _merge(results)
    printed = {(figure.set, figure.name) for each in merged if each.about_model.published for figure in each.figures}
    found = [(figure.set, figure.name) for each in merged for figure in each.figures]
    chosen = dict.fromkeys(column for column in found if column in printed or _is_headline(column[1]))
    order = list(dict.fromkeys(name for name, _ in chosen))
    columns = sorted(chosen, key=lambda column: order.index(column[0]))
    by_column = [{(figure.set, figure.name): figure for figure in each.figures} for each in merged]
    return Comparison(merged, columns, [[row.get(column) for column in columns] for row in by_column])


def _is_headline(name: str) -> bool:
    return name in _HEADLINES or re.fullmatch(r"TAR@FAR=1e-[3-6]", name) is not None


def _merge(results: Sequence[Result]) -> list[Result]:
    """Results of one model, told by hash or else by name, fed in one way, as one; published ones first.

    A result that is given twice counts once.
    """
    groups: dict[tuple[bool, str, str], list[Result]] = {}
    for result in (each for given in results for each in given.each):
        about = result.about_model
        key = (not about.published, about.content_hash or about.name, json.dumps(about.input, sort_keys=True))
        group = groups.setdefault(key, [])
        if result not in group:
            group.append(result)
    return [_joined(groups[key]) for key in sorted(groups, key=lambda key: key[0])]


def _joined(results: list[Result]) -> Result:
    lists = ("figures", "curves", "series", "histograms", "worst_pairs")
    joined = {name: [item for result in results for item in getattr(result, name)] for name in lists}
    return results[0].model_copy(update=joined)


def short_name(result: Result) -> str:
    """The end of a model's name: its last folders say more than its first."""
    about = result.about_model
    name = " ".join(about.name.split()) or "unnamed"
    short = name if len(name) <= MAX_NAME else f"…{name[-MAX_NAME:]}"
    return f"{short} (published)" if about.published else short


def figure_text(figure: Figure | None) -> str:
    """A figure as tables print it: per cent with two digits, ± its std; a dash where there is none."""
    if figure is None:
        return "–"
    if figure.unit == "number":
        return f"{figure.value:.5g}"
    return f"{100 * figure.value:.2f}" + (f" ± {100 * figure.std:.2f}" if figure.std is not None else "")


def interval_text(figure: Figure) -> str:
    """`99.10 to 99.52`, per cent; empty where no interval is known."""
    if figure.interval is None:
        return ""
    factor, digits = (100, 2) if figure.unit == "fraction" else (1, 5)
    low, high = (f"{factor * end:.{digits}f}" for end in (figure.interval.low, figure.interval.high))
    return f"{low} to {high}"


def interval_methods(figures: Iterable[Figure]) -> dict[str, int]:
    """Each way in which intervals were made, with their level, and its number: the notes below a table."""
    found = dict.fromkeys(method_text(figure) for figure in figures if figure.interval is not None)
    return {text: number for number, text in enumerate(found, 1)}


def method_text(figure: Figure) -> str:
    """`95 %, Wilson …`; empty where no interval is known."""
    return "" if figure.interval is None else interval_method(figure.interval)


def interval_method(interval: Interval) -> str:
    """`95 %, Wilson …`."""
    return f"{100 * interval.level:g} %, {interval.method}"


def errors_text(figure: Figure) -> str:
    """`38 of 6,000`, and the false accepts of the threshold."""
    counted = "" if figure.errors is None else f"{figure.errors:,} of {figure.trials or 0:,}"
    accepted = "" if figure.false_accepts is None else accepts_text(figure.false_accepts)
    return ", ".join(part for part in (counted, accepted) if part)


def write_tables(comparison: Comparison, *, csv: Path | None = None, latex: Path | None = None) -> list[Path]:
    """Write `comparison` and `figures` as `.csv` into the folder `csv`, as `.tex` into `latex`; their paths.

    `figures` has every figure that was measured, with its errors, its interval, and how that was made.

    In CSV rates are fractions with all digits, and a text that a spreadsheet would compute has a ' before it.
    """
    written: list[Path] = []
    if csv is not None:
        written += [csv / "comparison.csv", csv / "figures.csv"]
        heads = [f"{name} {figure}".strip() for name, figure in comparison.columns]
        rows = [
            [name, *("" if figure is None else figure.value for figure in row)]
            for name, row in zip(comparison.names, comparison.rows, strict=True)
        ]
        write_csv(written[0], ["model", *map(_plain, heads)], rows)
        write_csv(written[1], _FIGURE_HEAD, _figure_rows(comparison))
    if latex is not None:
        tables = {"comparison.tex": latex_table(comparison), "figures.tex": latex_figures(comparison)}
        for name, text in tables.items():
            written.append(latex / name)
            write_whole(written[-1], text.encode())
    return written


_FIGURE_HEAD = (
    *("model", "set", "figure", "value", "unit", "std", "low", "high", "level", "method"),
    *("errors", "trials", "false_accepts", "rule"),
)


def _figure_rows(comparison: Comparison) -> list[list[object]]:
    return [
        [
            *map(_plain, (name, figure.set, figure.name)),
            *(figure.value, figure.unit, figure.std),
            *_interval_cells(figure),
            *(figure.errors, figure.trials, figure.false_accepts, _plain(figure.rule)),
        ]
        for name, result in zip(comparison.names, comparison.results, strict=True)
        for figure in result.figures
    ]


def _interval_cells(figure: Figure) -> list[object]:
    """low, high, level and method."""
    found = figure.interval
    return [None] * 4 if found is None else [found.low, found.high, found.level, _plain(found.method)]


def _plain(text: str) -> str:
    return f"'{text}" if text[:1] in "=+-@\t\r" and text else text


def latex_table(comparison: Comparison) -> str:
    """A `tabular` for the package booktabs; every sign that LaTeX reads otherwise is escaped."""
    spans = [rf"\multicolumn{{{count}}}{{c}}{{{_latex(name)}}}" for name, count in comparison.sets]
    heads = [_latex(figure) for _, figure in comparison.columns]
    rows = [
        [_latex(text) for text in (name, *map(figure_text, row))]
        for name, row in zip(comparison.names, comparison.rows, strict=True)
    ]
    lines = [" & ".join(cells) + r" \\" for cells in (["", *spans], ["Model", *heads], *rows)]
    body = "\n".join([*lines[:2], r"\midrule", *lines[2:]])
    columns = "l" + "r" * len(heads)
    return f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{body}\n\\bottomrule\n\\end{{tabular}}\n"


def latex_figures(comparison: Comparison) -> str:
    """A `tabular` of every figure measured, a row each, with notes on how the intervals were made."""
    measured = [
        (name, figure)
        for name, result in zip(comparison.names, comparison.results, strict=True)
        if not result.about_model.published
        for figure in result.figures
    ]
    notes = interval_methods(figure for _, figure in measured)
    rows = [
        " & ".join([*map(_latex, (name, figure.set, figure.name, figure_text(figure))), _noted(figure, notes),
                    _latex(errors_text(figure))])
        for name, figure in measured
    ]  # fmt: skip
    heads = " & ".join(("Model", "Set", "Figure", "Value", "Interval", "Errors"))
    below = [rf"\multicolumn{{6}}{{l}}{{$^{{{number}}}$ {_latex(text)}}}" for text, number in notes.items()]
    lines = [rf"{line} \\" for line in (heads, *rows, *below)]
    body = "\n".join([lines[0], r"\midrule", *lines[1 : len(rows) + 1], r"\midrule", *lines[len(rows) + 1 :]])
    return f"\\begin{{tabular}}{{lllrrl}}\n\\toprule\n{body}\n\\bottomrule\n\\end{{tabular}}\n"


def _noted(figure: Figure, notes: Mapping[str, int]) -> str:
    return f"{_latex(interval_text(figure))}$^{{{notes[method_text(figure)]}}}$" if figure.interval else ""


def _latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text if sign.isprintable())
