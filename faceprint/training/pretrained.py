"""The zoo's rows measured again: pretrained models found by name, their published figures beside ours."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from faceprint.config import Config, Score
from faceprint.data.model_files import FOLDER_VARIABLE
from faceprint.errors import UserError
from faceprint.evaluation.describe import about_source, describe
from faceprint.evaluation.figures import NEAREST_RULE
from faceprint.evaluation.outcome import score_test
from faceprint.evaluation.protocols import Test, load_test
from faceprint.evaluation.result import AboutData, AboutModel, Figure, Result
from faceprint.evaluation.sources import EmbeddingSource
from faceprint.evaluation.verification import SETS, SetPairs, verification_sets
from faceprint.inference import Embedder, load
from faceprint.inference.hub import local_model
from faceprint.inference.model_folder import CARD
from faceprint.inference.published import import_weights
from faceprint.recipe import load_config

WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
FOLDERS = {"IJB-B": "ijbb", "IJB-C": "ijbc", "MegaFace": "megaface", "MFR-ALL": "mfr", "MFR-MASK": "mfr"}
"""Published test -> the folder below the user's data that is looked for, which is also its protocol's name."""
PROBES, DISTRACTORS = "facescrub_features_list.json", "megaface_features_list.json_1000000_1"
"""The devkit's lists (`templatelists`) that the tables' figures of MegaFace are on: 3,530 images, a million others."""
MFR_IMAGES = {"MFR-ALL": 1_624_305, "MFR-MASK": 6964 + 13_928}
"""Images behind the published figures (InsightFace, challenges/mfr); they are not public, lists of others are."""
NO_DATA, NO_MODEL = "no data", "no model"


@dataclass(frozen=True)
class Line:
    """A published `score` and what was measured; `ours` is None where `note` says why there is nothing."""

    score: Score
    ours: Figure | None
    note: str = ""


@dataclass(frozen=True)
class Measured:
    """A row of the zoo: its `lines`, and the `result` behind them, None without a model or without data."""

    recipe: str
    model: Path | None
    lines: Sequence[Line]
    result: Result | None = None


def models_folder(given: str | None) -> Path:
    """`given`, which may be on a hub (`local_model`), or the folder that FACEPRINT_MODELS names.

    Raises `UserError` where there is none.
    """
    named = given or os.environ.get(FOLDER_VARIABLE)
    if not named:
        raise UserError(f"no folder of pretrained models: give models=FOLDER, or set {FOLDER_VARIABLE}")
    place = local_model(named)
    if not place.exists():
        raise UserError(f"{named}: no such folder; name the one that holds the pretrained models")
    return place


def candidates(recipe: str, folder: Path) -> list[Path]:
    """Where the model of a recipe may lie, in the order they are tried.

    Of `arcface_torch/r50`: the run or model folder `arcface_torch/r50`, `arcface_torch/r50.onnx`, then weights in a
    published layout, `.safetensors`, `.pth`, `.pt`, `.ckpt`; then the same with `arcface_torch_r50`.
    """
    stems = dict.fromkeys((recipe, recipe.replace("/", "_")))
    return [folder / f"{stem}{suffix}" for stem in stems for suffix in ("", ".onnx", *WEIGHT_SUFFIXES)]


def find_pretrained(recipe: str, folder: Path) -> Path | None:
    """The first of `candidates` that is there."""
    places = candidates(recipe, folder)
    return next((path for path in places if (path.is_file() if path.suffix else path.is_dir())), None)


def is_model(path: Path) -> bool:
    """Whether `path` is one model, and no folder of models of several recipes."""
    return path.is_file() or (path / CARD).is_file() or (path / "model" / CARD).is_file()


def open_pretrained(config: Config, path: Path, device: str = "auto") -> Embedder:
    """The model in `path`; bare weights are put into the recipe's network, in the recipe's licence.

    Raises `UserError` as `load` and `import_weights` do.
    """
    if path.suffix not in WEIGHT_SUFFIXES:
        return load(path, device=device)
    network = config.network
    with TemporaryDirectory() as folder:
        import_weights(
            path,
            Path(folder) / "model",
            network=network.name,
            embedding_dim=network.embedding_dim,
            options=network.options,
            licence=config.licence,
        )
        return replace(load(Path(folder) / "model", device=device), name=str(path))


def measure_row(
    recipe: str,
    models: Path,
    data: Path,
    open_source: Callable[[Embedder], EmbeddingSource],
    device: str = "auto",
    draws: int = 0,
) -> Measured:
    """Run the tests of the published figures of `recipe` on what is in `data`; `draws` are those of `score_test`.

    `models` is its model, as `open_pretrained` takes it, or a folder of those of several recipes (`find_pretrained`).

    `lfw.bin`, `cfp_fp.bin` and the like as `verification_sets` finds them, others in the folders of `FOLDERS`: `ijbb`
    and `ijbc` with `meta` and `loose_crop`; `megaface` with the lists `PROBES` and `DISTRACTORS`, `facescrub_images`,
    `megaface_images` and, where wanted, `facescrub_noises.txt` and `megaface_noises.txt`; `mfr` with `list.csv` and
    `images`. A model or data that are not there are said in the lines. Raises `UserError` for a model or data that are
    broken.
    """
    config = load_config(recipe)
    scores = config.published.scores if config.published else []
    path = models if is_model(models) else find_pretrained(recipe, models)
    if path is None:
        return Measured(recipe, None, [Line(score, None, NO_MODEL) for score in scores])
    tests = list(_tests_of(scores, data))
    if not tests:
        return Measured(recipe, path, [Line(score, None, NO_DATA) for score in scores])
    embedder = open_pretrained(config, path, device)
    source = open_source(embedder)
    results = [
        describe(
            score_test(source, test, device=device, about=about_source(source), draws=draws).scored,
            data=where,
            recipe=recipe,
        )
        for where, test in tests
    ]
    result = _together(results, data)
    return Measured(recipe, path, list(_lines(scores, result)), result)


def _tests_of(scores: Sequence[Score], data: Path) -> Iterator[tuple[str, Test]]:
    """Where it lies, and each test that the scores name and `data` has: the verification sets together are one."""
    wanted = {score.protocol for score in scores}
    if sets := _sets_of(wanted, data):
        yield str(data), sets
    for protocol in dict.fromkeys(FOLDERS[name] for name in FOLDERS if name in wanted):
        folder = data / protocol
        if folder.is_dir():
            yield str(folder), load_test(protocol, _options_in(protocol, folder))


def _sets_of(titles: Container[str], data: Path) -> SetPairs:
    names = [name for name, row in SETS.items() if row.title in titles]
    try:
        there = verification_sets(data)
    except UserError:  # none of them is there
        return {}
    return {name: there[name] for name in names if name in there}


def _options_in(protocol: str, folder: Path) -> dict[str, Path | list[Path]]:
    """Where a protocol's own layout has its lists and images."""
    if protocol == "megaface":
        noises = {f"{name}_noises": folder / f"{name}_noises.txt" for name in ("facescrub", "megaface")}
        return {
            "probes": folder / PROBES,
            "distractors": [folder / DISTRACTORS],
            "probe_images": folder / "facescrub_images",
            "distractor_images": folder / "megaface_images",
            **{option: file for option, file in noises.items() if file.is_file()},
        }
    if protocol == "mfr":
        return {"list": folder / "list.csv", "images": folder / "images"}
    return {"folder": folder}


def _together(results: Sequence[Result], data: Path) -> Result:
    """One result; of several the first, with figures and evidence of all, and the others' own keys by protocol."""
    first, *others = results
    if not others:
        return first
    parts = {
        name: [part for result in results for part in getattr(result, name)]
        for name in ("figures", "curves", "histograms", "worst_pairs")
    }
    whole = first.model_copy(update={**parts, "about_data": AboutData(name=str(data))})
    return Result.model_validate({**whole.to_json(), **{each.protocol: each.model_extra for each in others}})


def _lines(scores: Sequence[Score], result: Result) -> Iterator[Line]:
    measured = {(figure.set, figure.name): figure for figure in result.figures}
    for score in scores:
        # A TAR of templates stands beside the published one by the rule it was published by.
        names = (score.metric + NEAREST_RULE, score.metric)
        ours = next((measured[score.protocol, name] for name in names if (score.protocol, name) in measured), None)
        yield Line(score, ours, NO_DATA if ours is None else _note(ours))


def _note(ours: Figure) -> str:
    """What the figure is on or by, where that is not what the published one is."""
    if ours.name.endswith(NEAREST_RULE):
        return NEAREST_RULE.strip(", ")
    published = MFR_IMAGES.get(ours.set)
    return f"your list: {ours.rule}; published: {published:,} images" if published else ""


def ours_as(score: Score, ours: Figure) -> Score:
    """What was measured, in the unit of the published score."""
    factor = 100 if score.unit == "%" else 1
    std = None if score.std is None or ours.std is None else factor * ours.std
    return score.model_copy(update={"value": factor * ours.value, "std": std})


def published_result(recipe: str, config: Config) -> Result:
    """What was published of a recipe, as a result to stand beside ours. Raises `UserError` where nothing was."""
    published = config.published
    if published is None:
        raise UserError(f"{recipe}: this recipe has no published figures")
    return Result(
        protocol="published",
        recipe=recipe,
        about_model=AboutModel(
            name=recipe,
            architecture=config.network.name,
            licence=config.licence,
            provenance={"source": published.source, "row": published.row, "trained on": published.dataset},
            published=True,
        ),
        about_data=AboutData(name=", ".join(dict.fromkeys(score.protocol for score in published.scores)) or "none"),
        figures=[_published_figure(score) for score in published.scores],
    )


def _published_figure(score: Score) -> Figure:
    whole = 100 if score.unit == "%" else 1
    std = None if score.std is None else score.std / whole
    return Figure(set=score.protocol, name=score.metric, value=score.value / whole, std=std)


def table_result(rows: Sequence[Measured], data: Path) -> Result:
    """The rows as one result of protocol `zoo`; the key `rows` has published and ours side by side."""
    result = Result(
        protocol="zoo",
        about_model=AboutModel(name="zoo"),
        about_data=AboutData(name=str(data)),
        results=[row.result for row in rows if row.result is not None],
    )
    return Result.model_validate({**result.to_json(), "rows": [_plain(row) for row in rows]})


def _plain(row: Measured) -> dict[str, object]:
    lines = [
        {
            **line.score.model_dump(mode="json", exclude={"value", "std"}),
            "published": line.score.value,
            "ours": None if line.ours is None else ours_as(line.score, line.ours).value,
            "note": line.note,
        }
        for line in row.lines
    ]
    about = AboutModel(name="") if row.result is None else row.result.about_model
    model = {"model": row.model and str(row.model), "content_hash": about.content_hash, "licence": about.licence}
    return {"recipe": row.recipe, **model, "scores": lines}
