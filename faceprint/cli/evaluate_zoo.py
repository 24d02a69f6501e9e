"""`faceprint eval RECIPE` and `faceprint eval all`: rows of the zoo, ours beside the published figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from faceprint.cli.output import err, print_table, progress_bar, write_json
from faceprint.cli.subject import count, flag, is_first, launched, read_options
from faceprint.errors import UserError

if TYPE_CHECKING:
    from faceprint.evaluation.embeddings import Progress
    from faceprint.evaluation.sources import EmbeddingSource
    from faceprint.inference import Embedder
    from faceprint.training.pretrained import Measured

KEYS = ("data", "models", "batch_size", "device", "cache", "skip_unreadable", "intervals")
COLUMNS = ("figure", "ours", "published", "note")


def evaluate_zoo(recipe: str, assignments: Sequence[str], json_file: str | None) -> None:
    """Measure one recipe, or "all" of them, with the models and the data that are there; print ours and published."""
    from faceprint.recipe import list_recipes, load_config, unknown_recipe
    from faceprint.training.pretrained import candidates, is_model, measure_row, models_folder, table_result

    options = read_options(list(assignments), list(KEYS), "eval RECIPE")
    data, models = _data(options), models_folder(options.pop("models", None))
    device = options.pop("device", "auto")
    draws = count("intervals", options, 1000, 100_000) if "intervals" in options else 0
    known = list_recipes()
    if recipe not in ("all", *known):
        raise unknown_recipe(recipe, "recipe (and not all)")
    wanted = [name for name in known if load_config(name).published] if recipe == "all" else [recipe]
    if recipe == "all" and is_model(models):
        raise UserError(f"{models} is one model; all rows need a folder of models named after their recipes")
    with launched(), progress_bar("embedding", "images") as bar:
        open_source = _opener(options, bar if is_first() else None)
        rows = [measure_row(name, models, data, open_source, device, draws) for name in wanted]
        if not is_first():
            return
    if recipe != "all" and rows[0].model is None:
        looked = ", ".join(map(str, candidates(recipe, models)))
        raise UserError(f"{models} has no model of {recipe}; looked for {looked}")
    _show(rows, json_file)
    write_json(table_result(rows, data).to_json(), json_file)


def _data(options: dict[str, str]) -> Path:
    if "data" not in options:
        raise UserError("eval RECIPE needs data=FOLDER, the one that holds lfw.bin and other test sets")
    folder = Path(options.pop("data"))
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the one that holds lfw.bin and other test sets")
    return folder


def _opener(options: dict[str, str], progress: Progress | None) -> Callable[[Embedder], EmbeddingSource]:
    from faceprint.evaluation.embeddings import cache_folder
    from faceprint.evaluation.sources import ModelSource

    batch_size, cache = count("batch_size", options, 64), cache_folder(options.pop("cache", None))
    skip = flag("skip_unreadable", options, "false")
    return lambda embedder: ModelSource(
        embedder, True, batch_size, cache=cache, skip_unreadable=skip, progress=progress
    )


def _show(rows: Sequence[Measured], json_file: str | None) -> None:
    for row in rows:
        if row.model is not None:
            about = None if row.result is None else row.result.about_model
            said = f", {about.content_hash}, licence {about.licence or 'not stated'}" if about else ""
            print_table(f"{row.recipe}: {row.model}{said}", COLUMNS, list(_cells(row)), json_target=json_file)
    if absent := [row.recipe for row in rows if row.model is None]:
        err.print(f"no model of {len(absent)} of {len(rows)} rows: {', '.join(absent)}", markup=False)


def _cells(row: Measured) -> Iterator[tuple[str, ...]]:
    from faceprint.training.pretrained import ours_as
    from faceprint.training.zoo import number_text

    for line in row.lines:
        unit = " %" if line.score.unit == "%" else ""
        ours = f"{number_text(ours_as(line.score, line.ours))}{unit}" if line.ours else "–"
        yield (f"{line.score.protocol} {line.score.metric}", ours, f"{number_text(line.score)}{unit}", line.note)
