"""Runs beside each other: a picture, or a page with all figures, tables of results and of keys that differ."""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faceprint.assignments import flatten, parse_yaml
from faceprint.errors import UserError
from faceprint.files import write_whole
from faceprint.plot_extra import check_plotting, write_figure
from faceprint.training.logging.jsonl import read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Record = Mapping[str, Any]
COLOURS = (
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd"),
    *("#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"),
)
"""One a run, again from the start after ten: matplotlib's own."""
GREY = "#999999"


@dataclass(frozen=True)
class Logged:
    """What one run has logged."""

    name: str
    colour: str
    training: Sequence[Record]
    evaluations: Sequence[Record]
    config: dict[str, Any]

    def protocols(self) -> list[str]:
        return sorted({record["protocol"] for record in self.evaluations})

    def scored(self, protocol: str) -> list[Record]:
        return [record for record in self.evaluations if record["protocol"] == protocol]


def plot_runs(run_folders: Sequence[Path], path: Path, *, every_figure: bool = False) -> None:
    """Compare runs in a file: `.png` with loss and accuracy, or `every_figure`; `.html`, a page with everything.

    The page needs no other file and no network. Raises `UserError` for another kind of file, where a run has logged
    nothing, and where matplotlib is not installed.
    """
    check_plotting()
    runs = read_runs(run_folders)
    if path.suffix.lower() == ".html":
        write_whole(path, page(runs).encode())
    elif path.suffix.lower() == ".png":
        write_figure(picture(runs, list(PANELS) if every_figure else ["loss", "accuracy"]), path)
    else:
        raise UserError(f"{path}: a comparison is written as .png or .html")


def read_runs(folders: Sequence[Path]) -> list[Logged]:
    """The runs in `folders`, named as short as can be."""
    names = [folder.name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    return [
        _read(folder, name, COLOURS[place % len(COLOURS)])
        for place, (folder, name) in enumerate(zip(folders, names, strict=True))
    ]


def _read(folder: Path, name: str, colour: str) -> Logged:
    records = list(read_metrics(folder))
    training = [record for record in records if record["kind"] == "train"]
    if not training:
        raise UserError(f"{folder}: has no metrics.jsonl with training figures; give a run folder")
    config = folder / "config.yaml"
    values = parse_yaml(config.read_text(encoding="utf-8"), name=str(config)) if config.exists() else {}
    evaluations = [record for record in records if record["kind"] == "evaluation"]
    return Logged(name, colour, training, evaluations, dict(flatten(values)))


def draw_figure(key: str, label: str) -> Callable[[Axes, list[Logged]], None]:
    """A panel of one figure of the training records over steps."""

    def draw(axes: Axes, runs: list[Logged]) -> None:
        for run in runs:
            _line(axes, run.training, key, run.name, run.colour)
        axes.set_ylabel(label)
        axes.set_xlabel("step")

    return draw


def draw_accuracy(axes: Axes, runs: list[Logged]) -> None:
    """Accuracy of every protocol, a marker each; of a single run that of its training batches too."""
    alone = len(runs) == 1
    for run in runs:
        for number, protocol in enumerate(run.protocols()):
            colour = COLOURS[(number + 1) % len(COLOURS)] if alone else run.colour
            label = f"{protocol}: accuracy" if alone else f"{run.name}, {protocol}"
            _line(axes, run.scored(protocol), "accuracy", label, colour, marker="os^v"[number % 4])
        if alone:
            _line(axes, run.training, "train_accuracy", "training batches, without margin", GREY)
    axes.set_ylim(0 if alone else None, 1.02)
    axes.set_ylabel("accuracy")
    axes.set_xlabel("step")


def draw_cosines(axes: Axes, runs: list[Logged]) -> None:
    """How the cosines in the last tenth of the training are distributed: with the own class, and with the most similar
    other one (dashed)."""
    for run in runs:
        late = run.training[-max(1, len(run.training) // 10) :]
        for key, style, whose in (("target_cosine_counts", "-", "own"), ("other_cosine_counts", "--", "nearest other")):
            counts = [sum(column) for column in zip(*(record[key] for record in late if key in record), strict=True)]
            if sum(counts):
                edges = [2 * place / len(counts) - 1 for place in range(len(counts) + 1)]
                share = [100 * number / sum(counts) for number in counts]
                axes.stairs(share, edges, color=run.colour, linestyle=style, label=f"{run.name}: {whose} class")
    axes.set_ylabel("% of images")
    axes.set_xlabel("cosine with class centres, last tenth of the training")


PANELS: dict[str, Callable[[Axes, list[Logged]], None]] = {
    "loss": draw_figure("loss", "loss"),
    "accuracy": draw_accuracy,
    "learning_rate": draw_figure("learning_rate", "learning rate"),
    "samples_per_second": draw_figure("samples_per_second", "images per second"),
    "gradient_norm": draw_figure("gradient_norm", "length of the gradient"),
    "embedding_norm": draw_figure("embedding_norm", "mean length of embeddings"),
    "target_cosine": draw_figure("target_cosine", "mean cosine with the own class"),
    "cosines": draw_cosines,
}
"""Name -> what draws it."""


def _line(axes: Axes, records: Sequence[Record], key: str, label: str, colour: str, **style: Any) -> None:
    points = [(record["step"], record[key]) for record in records if key in record]
    if points:  # an older run may not have logged it
        axes.plot(*zip(*points, strict=True), label=label, color=colour, **style)


def picture(runs: list[Logged], panels: list[str]) -> Figure:
    """Some `PANELS`, up to four in a row."""
    from matplotlib.figure import Figure

    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(5.0 * columns, 3.8 * rows), layout="constrained")
    for name, axes in zip(panels, figure.subplots(rows, columns, squeeze=False).flat, strict=True):
        _panel(axes, name, runs)
    return figure


def _panel(axes: Axes, name: str, runs: list[Logged]) -> None:
    PANELS[name](axes, runs)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:  # a run may have had no evaluation
        axes.legend(frameon=False, fontsize="small")


def svg(name: str, runs: list[Logged]) -> str:
    """One of `PANELS` as an SVG element to stand in a page; the same runs give the same text."""
    import matplotlib
    from matplotlib.figure import Figure

    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):  # names inside one page must not meet
        figure = Figure(figsize=(6.0, 3.8), layout="constrained")
        _panel(figure.subplots(), name, runs)
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


STYLE = """body { font: 15px/1.5 system-ui, sans-serif; margin: 2em; color: #333 }
table { border-collapse: collapse; margin: 0 0 2em } td, th { padding: .2em 1em .2em 0; text-align: left }
th { border-bottom: 1px solid #999 } svg { max-width: 100%; height: auto }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(24em, 1fr)); gap: 1em }
.run { display: inline-block; width: 1em; height: .3em; margin-right: .5em; vertical-align: middle }"""


def page(runs: list[Logged]) -> str:
    """The whole comparison as one HTML document."""
    title = "Comparison of runs: " if len(runs) > 1 else "Run "
    title = html.escape(title + ", ".join(run.name for run in runs))
    figures = "".join(f"<figure>{svg(name, runs)}</figure>" for name in PANELS)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head><body><h1>{title}</h1>{results_table(runs)}{keys_table(runs)}"
        f"<div class=figures>{figures}</div></body></html>\n"
    )


def results_table(runs: list[Logged]) -> str:
    """A row a run: steps, last loss, speed, and the best accuracy of each protocol."""
    protocols = sorted({protocol for run in runs for protocol in run.protocols()})
    head = ["run", "steps", "loss", "images per second", *(f"best accuracy, {protocol}" for protocol in protocols)]
    rows = [[run.name, *_results(run), *(_best(run, protocol) for protocol in protocols)] for run in runs]
    return _table(head, rows, [run.colour for run in runs])


def _results(run: Logged) -> list[str]:
    last = run.training[-1]
    speeds = [record["samples_per_second"] for record in run.training if "samples_per_second" in record]
    speed = f"{sum(speeds) / len(speeds):,.0f}" if speeds else ""
    return [f"{last['step']:,}", f"{last['loss']:.4g}", speed]


def _best(run: Logged, protocol: str) -> str:
    scored = run.scored(protocol)
    if not scored:
        return ""
    best = max(scored, key=lambda record: record["accuracy"])
    return f"{best['accuracy']:.4f} (step {best['step']:,})"


def keys_table(runs: list[Logged]) -> str:
    """The configuration keys in which the runs differ; nothing for a single one."""
    keys = [key for key in dict.fromkeys(key for run in runs for key in run.config) if key != "out"]
    different = [key for key in keys if len({str(run.config.get(key)) for run in runs}) > 1]
    if not different:
        return ""
    rows = [[key, *(str(run.config.get(key, "")) for run in runs)] for key in different]
    return _table(["key", *(run.name for run in runs)], rows, [None] * len(rows))


def _table(head: list[str], rows: list[list[str]], colours: Sequence[str | None]) -> str:
    marks = [f'<span class=run style="background:{colour}"></span>' if colour else "" for colour in colours]
    cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    lines = [
        f"<tr><td>{mark}" + "</td><td>".join(html.escape(cell) for cell in row) + "</td></tr>"
        for mark, row in zip(marks, rows, strict=True)
    ]
    return f"<table><tr>{cells}</tr>{''.join(lines)}</table>"
