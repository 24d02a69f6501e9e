"""`faceprint eval MODEL fairness | quality | robustness | ageing`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from faceprint.cli.output import print_table, progress_bar, write_json
from faceprint.cli.subject import INPUT_KEYS, checked, count, flag, load_pairs, open_embedder, parameters, read_options
from faceprint.cli.writable import check_writable

MODEL_KEYS = ("flip", "batch_size", "device", *INPUT_KEYS)


def analyse(model: str, name: str, assignments: list[str], json_file: str | None) -> None:
    """Run the analysis `name` of `ANALYSES` and show it. Options of a set of pairs follow `set=`, pairs by default."""
    from faceprint.evaluation.analyses import ANALYSES, Subject
    from faceprint.evaluation.analysis_tables import TABLES, plot_analysis
    from faceprint.plot_extra import check_plotting

    function = ANALYSES[name]
    any_set = parameters(function, 1)[0] == "chosen"
    words = dict(word.split("=", 1) for word in assignments if "=" in word)
    protocol = words.get("set", "pairs")
    options = read_options(assignments, _allowed(function, any_set, protocol), f"eval {name}")
    options.pop("set", None)
    plot = options.pop("plot", None)
    check_writable(json_file, plot)
    if plot is not None:
        check_plotting()
    flipped, batch_size, device = flag("flip", options), count("batch_size", options, 64), options.get("device", "auto")
    model_options = {key: options.pop(key) for key in ("device", *INPUT_KEYS) if key in options}
    own = {key: options.pop(key) for key in parameters(function, 1) if key in options}
    chosen = [load_pairs(protocol, options)] if any_set else []
    embedder = open_embedder(model, model_options)
    with progress_bar("embedding", "images") as progress:
        subject = Subject(
            embedder=embedder, model=model, flip=flipped, batch_size=batch_size, device=device, progress=progress
        )
        result: dict[str, Any] = checked(function, f"eval {name}", 1)(subject, *chosen, **own)
    columns, rows = TABLES[name](result)
    print_table(f"{model}: {name}, threshold {result['threshold']:.4f}", columns, rows, json_target=json_file)
    if plot is not None:
        plot_analysis(result, Path(plot))
    write_json(result, json_file)


def _allowed(function: Any, any_set: bool, protocol: str) -> list[str]:
    from faceprint.evaluation.protocols import protocol_options

    own = [name for name in parameters(function, 1) if name != "chosen"]
    of_set = ["set", *protocol_options(protocol)] if any_set else []
    return [*own, *of_set, "plot", *MODEL_KEYS]
