"""`faceprint eval`."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from faceprint.cli.analyse import analyse
from faceprint.cli.output import JsonOption, err, print_table, progress_bar, write_json
from faceprint.cli.subject import INPUT_KEYS, count, flag, read_options
from faceprint.cli.writable import check_writable
from faceprint.errors import UserError
from faceprint.registry import unknown

if TYPE_CHECKING:
    from faceprint.evaluation.pairs import PairSet
    from faceprint.evaluation.protocols import Evaluation
    from faceprint.evaluation.sources import EmbeddingSource
    from faceprint.evaluation.verification import SetPairs

MODEL_KEYS = ("flip", "batch_size", "device", "cache", "skip_unreadable", *INPUT_KEYS)
COMMON_KEYS = ("plot", "names", "intervals", "hardest", *MODEL_KEYS)


def evaluate(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A run folder, a model folder, an ONNX file, or a file of embeddings."),
    ],
    protocol: Annotated[str, typer.Argument(metavar="PROTOCOL", help="A set of pairs, or an analysis.")],
    assignments: Annotated[
        Optional[list[str]],  # noqa: UP045 - read by typer at run time
        typer.Argument(metavar="key=value", help="Options of the protocol and of the model, as described above."),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Measure how well a model tells people apart.

    [bold]pairs[/bold]: images=DIR, aligned crops; pairs=FILE, pairs.txt of LFW or CSV with path_a,path_b,same,fold, or
    the lists of CFP (Protocol/Split/FP), AgeDB-30, CALFW, CPLFW and RFW; layout=NAME where it is not recognised
    (lfw, csv, rfw, calfw, agedb, cfp); folds=1,2 keeps only these.

    [bold]bin[/bold]: path=FILE, a pickled verification set; folds=1,2.

    [bold]verification[/bold]: folder=DIR, published sets in one table: lfw.bin, cfp_ff.bin, cfp_fp.bin, agedb_30.bin,
    calfw.bin, cplfw.bin, vgg2_fp.bin, African_test.bin and the other three of RFW, or folders of these names with their
    lists; sets=lfw,cfp_fp,rfw (default: all that are there).

    [bold]synthetic[/bold]: num_identities=200 images_per_identity=6 num_pairs=2000 difficulty=0.5 seed=0
    first_identity=0 size=112x112: generated people, which say nothing about photographs.

    [bold]fairness[/bold]: images=DIR pairs=FILE, a CSV with group_a,group_b or BFW's table, or pairs=DIR, RFW's lists.

    [bold]ageing[/bold]: images=DIR pairs=FILE, a CSV with years, date_a,date_b or age_a,age_b; years=0,2,4 are the
    bins; draws=1000.

    [bold]quality[/bold], [bold]robustness[/bold]: any set of pairs, set=pairs|bin|synthetic with its options;
    quality_of=norm, dropout (passes=100) or a FILE of lines 'path quality'; kinds=blur,jpeg,resolution,rotation,mask
    seed=0. These four: far=1e-3 sets the one threshold, or (but for robustness) threshold=T.

    All: flip=true (sum the embeddings of image and mirror image), batch_size=64, device=auto, plot=FILE.png (ROC and
    histograms), skip_unreadable=false, cache=DIR (where embeddings are kept to be used again; none: nowhere; default
    $FACEPRINT_CACHE or the user's cache folder). For an ONNX file that does not say what it takes: input.mean=127.5
    input.std=127.5 input.colour=rgb input.size=112x112.

    Sets of pairs: intervals=1000 (draws of people for 95 % intervals), hardest=FILE.png (the pairs that score most
    wrongly).

    MODEL may be embeddings made elsewhere: .npz as `faceprint embed` writes it, .npy with names=FILE (one a line, in
    the order of the rows), a .bin matrix of the MegaFace devkit. Pairs find their images by name, those of a .bin by
    the number of the row.

    Example: faceprint eval runs/first pairs images=crops pairs=pairs.txt plot=roc.png
    """
    from faceprint.evaluation.analyses import ANALYSES
    from faceprint.evaluation.embeddings import UnreadableImagesError
    from faceprint.evaluation.feature_files import MissingFeaturesError, is_feature_file
    from faceprint.evaluation.pairs import MissingImagesError
    from faceprint.evaluation.protocols import PROTOCOLS, SUITES, protocol_options
    from faceprint.plot_extra import check_plotting

    if protocol in ANALYSES:
        analyse(model, protocol, assignments or [], json_file)
        return
    if protocol not in (*PROTOCOLS, *SUITES):
        raise unknown("protocol", protocol, [*PROTOCOLS, *SUITES, *ANALYSES])
    options = read_options(assignments or [], [*protocol_options(protocol), *COMMON_KEYS], f"eval {protocol}")
    plot, hardest = options.pop("plot", None), options.pop("hardest", None)
    draws = count("intervals", options, 1000, 100_000) if "intervals" in options else 0
    check_writable(json_file, plot, hardest)
    if protocol in SUITES and (draws or hardest):
        raise UserError(f"intervals and hardest are for one set of pairs, {protocol} has several")
    if plot is not None:
        check_plotting()
    if plot is not None and protocol in SUITES:
        raise UserError(f"plot shows one set of pairs, {protocol} has several; evaluate that set alone by pairs or bin")
    score = _score_features if is_feature_file(model) else _score_model
    with _launched():
        try:
            evaluation = score(model, protocol, options)
        except (MissingImagesError, MissingFeaturesError, UnreadableImagesError) as error:
            for line in error.lines():  # the message itself shows the first ones
                err.print(line, markup=False)
            raise
        _show(evaluation, plot, json_file, draws, hardest)


def _score_model(model: str, protocol: str, options: dict[str, str]) -> Evaluation | dict[str, Any]:
    from faceprint.evaluation.embeddings import cache_folder
    from faceprint.evaluation.ranks import current_world
    from faceprint.evaluation.sources import ModelSource

    if "names" in options:
        raise UserError(f"names belongs to embeddings in a file; {model} is a model")
    flip, skip_unreadable = flag("flip", options), flag("skip_unreadable", options, "false")
    batch_size, device = count("batch_size", options, 64), options.pop("device", "auto")
    cache = cache_folder(options.pop("cache", None))
    overrides = {key.removeprefix("input."): options.pop(key) for key in INPUT_KEYS if key in options}
    loaded = _load(protocol, options)

    from faceprint.inference import load

    embedder = load(model, input_overrides=overrides or None, device=device)
    with progress_bar("embedding", "images") as bar:
        progress = None if current_world().rank() else bar
        source = ModelSource(
            embedder, flip, batch_size, cache=cache, skip_unreadable=skip_unreadable, progress=progress
        )
        return _score(source, loaded)


def _score_features(file: str, protocol: str, options: dict[str, str]) -> Evaluation | dict[str, Any]:
    from faceprint.evaluation.feature_files import open_features
    from faceprint.evaluation.sources import FeatureSource

    if wrong := [key for key in ("images", *MODEL_KEYS) if key in options]:
        raise UserError(f"{', '.join(wrong)}: for a model; {file} has embeddings that are made")
    names = options.pop("names", None)
    loaded = _load(protocol, options, no_images=True)
    return _score(FeatureSource(open_features(file, names), file), loaded)


def _score(source: EmbeddingSource, loaded: PairSet | SetPairs) -> Evaluation | dict[str, Any]:
    from faceprint.evaluation.pairs import PairSet
    from faceprint.evaluation.protocols import score_source
    from faceprint.evaluation.verification import summarize_sets

    if isinstance(loaded, PairSet):
        return score_source(source, loaded)
    return summarize_sets({name: score_source(source, load()).result for name, load in loaded.items()})


def _show(
    evaluation: Evaluation | dict[str, Any], plot: str | None, json_file: str | None, draws: int, hardest: str | None
) -> None:
    from faceprint.evaluation.hardest import write_hardest
    from faceprint.evaluation.ranks import current_world
    from faceprint.evaluation.report import SET_COLUMNS, plot_evaluation, set_rows, table_rows
    from faceprint.evaluation.uncertainty import interval_result, interval_rows

    if current_world().rank():
        return
    if isinstance(evaluation, dict):
        print_table("verification", SET_COLUMNS, set_rows(evaluation), json_target=json_file)
        write_json(evaluation, json_file)
        return
    result = evaluation.result
    if plot is not None:
        plot_evaluation(evaluation, plot)
    if hardest is not None:
        write_hardest(Path(hardest), evaluation.pairs, evaluation.scores)
    uncertainty = {"intervals": interval_result(evaluation, evaluation.pairs, draws)} if draws else {}
    rows = [*table_rows(result), *(row for found in uncertainty.values() for row in interval_rows(found))]
    title = f"{result['model']}: {result['protocol']}"
    print_table(title, ("measure", "value"), rows, json_target=json_file)
    write_json({**result, **uncertainty}, json_file)


def _launched() -> AbstractContextManager[None]:
    """The world of processes that a launcher such as torchrun started, if it did."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return nullcontext()
    from faceprint.distributed import world

    return world()


def _load(protocol: str, options: dict[str, str], *, no_images: bool = False) -> PairSet | SetPairs:
    from faceprint.evaluation.protocols import SUITES, load_protocol, load_suite, protocol_options

    if protocol in SUITES:
        return load_suite(protocol, options)
    absent = {"images": None} if no_images and "images" in protocol_options(protocol) else {}
    return load_protocol(protocol, {**options, **absent})
