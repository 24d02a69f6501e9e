"""`faceprint eval MODEL fairness | quality | robustness | ageing`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from faceprint.cli.output import print_table, progress_bar, write_json
from faceprint.cli.subject import (
    SOURCE_KEYS,
    checked,
    data_name,
    is_first,
    is_made,
    launched,
    load_pairs,
    parameters,
    read_options,
    source_opener,
)
from faceprint.cli.writable import check_writable
from faceprint.errors import UserError

if TYPE_CHECKING:
    from faceprint.evaluation.describe import Scored


def analyse(model: str, name: str, assignments: list[str], json_file: str | None) -> None:
    """Run the analysis `name` of `ANALYSES` and show it. Options of a set of pairs follow `set=`, pairs by default."""
    from faceprint.evaluation.analyses import ANALYSES
    from faceprint.plot_extra import check_plotting

    words = dict(word.split("=", 1) for word in assignments if "=" in word)
    protocol = words.get("set", "pairs")
    options = read_options(assignments, _allowed(ANALYSES[name], protocol), f"eval {name}")
    options.pop("set", None)
    data = data_name(protocol, options)
    plot = options.pop("plot", None)
    check_writable(json_file, plot)
    if plot is not None:
        check_plotting()
    with launched():
        scored = _analysed(model, name, protocol, options)
        if is_first():
            _show(scored, name, data, plot, json_file)


def _analysed(model: str, name: str, protocol: str, options: dict[str, str]) -> Scored:
    from faceprint.evaluation.analyses import ANALYSES, Network, Subject
    from faceprint.evaluation.describe import Scored, about_source

    function, device, made = ANALYSES[name], options.get("device", "auto"), is_made(model)
    opened = source_opener(model, options)
    own: dict[str, Any] = {key: options.pop(key) for key in parameters(function, 1) if key in options}
    if made and "images" in parameters(function, 1):
        if "images" in own:
            raise UserError(f"images: for a model; {model} has embeddings that are made")
        own["images"] = None
    chosen = [load_pairs(protocol, options, no_images=made)] if _any_set(function) else []
    with progress_bar("embedding", "images") as bar:
        source, embedder = opened(bar if is_first() else None)
        network = embedder and Network(embedder=embedder, model=model, device=device)
        subject = Subject(source=source, network=network)
        result: dict[str, Any] = checked(function, f"eval {name}", subject, *chosen)(**own)
    return Scored(result, about=about_source(source))


def _show(scored: Scored, name: str, data: tuple[str, str], plot: str | None, json_file: str | None) -> None:
    from faceprint.evaluation.analysis_tables import TABLES, plot_analysis
    from faceprint.evaluation.describe import describe

    result = scored.result
    columns, rows = TABLES[name](result)
    title = f"{result['model']}: {name}, threshold {result['threshold']:.4f}"
    print_table(title, columns, rows, json_target=json_file)
    write_json(describe(scored, data=data[0], part=data[1]).to_json(), json_file)
    if plot is not None:
        plot_analysis(result, Path(plot))


def _any_set(function: Any) -> bool:
    """Whether an analysis takes any set of pairs."""
    return parameters(function, 1)[0] == "chosen"


def _allowed(function: Any, protocol: str) -> list[str]:
    from faceprint.evaluation.protocols import protocol_options

    own = [name for name in parameters(function, 1) if name != "chosen"]
    of_set = ["set", *protocol_options(protocol)] if _any_set(function) else []
    return [*own, *of_set, "plot", *SOURCE_KEYS]
