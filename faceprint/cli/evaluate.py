"""`faceprint eval`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from faceprint.cli.analyse import analyse
from faceprint.cli.output import JsonOption, err, print_table, progress_bar, write_json
from faceprint.cli.subject import (
    SOURCE_KEYS,
    count,
    data_name,
    is_first,
    is_made,
    launched,
    read_options,
    source_opener,
    without_images,
)
from faceprint.cli.writable import check_writable
from faceprint.errors import UserError
from faceprint.registry import unknown

if TYPE_CHECKING:
    from faceprint.evaluation.embeddings import Progress
    from faceprint.evaluation.outcome import Outcome
    from faceprint.inference.embedder import Embedder


COMMON_KEYS = ("plot", "intervals", "hardest", *SOURCE_KEYS)


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A run folder, a model folder, an ONNX file, a file of embeddings; a recipe, or all."
        ),
    ],
    protocol: Annotated[
        Optional[str],
        typer.Argument(metavar="PROTOCOL", help="A set of pairs, a search, or an analysis; none for a recipe."),
    ] = None,
    assignments: Annotated[
        Optional[list[str]],
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

    [bold]megaface[/bold]: probes=FILE and distractors=FILE,FILE, the devkit's JSON lists; for a model probe_images=DIR
    distractor_images=DIR; facescrub_noises=FILE megaface_noises=FILE probe_noise=centre (or exclude) far=1e-6
    normalise=true output=DIR (curves as the devkit writes them) save_features=DIR algorithm=SUFFIX (of feature files).

    [bold]mfr[/bold]: list=FILE, CSV with path,identity and also group,mask; images=DIR for a model; far=1e-6
    mask_far=1e-4 children_far=1e-4. ALL, mask to non-mask and each group, with exact thresholds.
    [bold]ijbb, ijbc[/bold]: folder=DIR, with meta/ and loose_crop/: templates of IJB-B and IJB-C 1:1, aligned by their
    landmarks; norm=true and detector_score=true are the published flags N and D; size=112x112; other_sizes=true takes
    sets that are not the published ones, and says so.

    [bold]ijb_1n[/bold]: folder=DIR, the same templates searched in both galleries (1:N); set=ijbb or ijbc.

    [bold]identification[/bold]: gallery=FILE probes=FILE, lists of `path label`, images=DIR (default: each list's
    folder): search each probe among the people enrolled, in the terms of NIST and ISO/IEC 19795-1.

    [bold]synthetic[/bold]: num_identities=200 images_per_identity=6 num_pairs=2000 difficulty=0.5 seed=0
    first_identity=0 size=112x112: generated people, which say nothing about photographs.

    [bold]fairness[/bold]: images=DIR pairs=FILE, a CSV with group_a,group_b or BFW's table, or pairs=DIR, RFW's lists;
    intervals=1000.

    [bold]ageing[/bold]: images=DIR pairs=FILE, a CSV with years, date_a,date_b or age_a,age_b; years=0,2,4 are the
    bins; draws=1000.

    [bold]quality[/bold], [bold]robustness[/bold]: any set of pairs, set=pairs|bin|synthetic with its options;
    quality_of=norm, dropout (passes=100) or a FILE of lines 'path quality'; kinds=blur,jpeg,resolution,rotation,mask
    seed=0. These four: far=1e-3 sets the one threshold, or (but for robustness) threshold=T.

    All: flip=true (sum the embeddings of image and mirror image), batch_size=64, device=auto, plot=FILE.png (ROC and
    histograms), skip_unreadable=false, cache=DIR (where embeddings are kept to be used again; none: nowhere; default
    $FACEPRINT_CACHE or the user's cache folder). For an ONNX file that does not say what it takes: input.mean=127.5
    input.std=127.5 input.colour=rgb input.size=112x112.

    All but the other analyses: intervals=1000, so many draws of people for 95 % intervals. Sets of pairs:
    hardest=FILE.png (the pairs that score most wrongly).

    MODEL may be embeddings made elsewhere: .npz as `faceprint embed` writes it, .npy with names=FILE (one a line, in
    the order of the rows), a .bin matrix of the MegaFace devkit; for megaface also a folder with facescrub_features and
    megaface_features. megaface and mfr take device=auto with embeddings, too. Pairs find their images by name, those of
    a .bin by the number of the row.

    MODEL may be on the Hugging Face hub: hf://owner/name, also @revision or /file behind it.

    [bold]A recipe, without a protocol[/bold], data=DIR models=DIR: the pretrained model of a row of the zoo (for
    arcface_torch/r50 a folder models/arcface_torch/r50, r50.onnx, r50.pth there, or arcface_torch_r50.pth; default
    $FACEPRINT_MODELS; models may also be that model itself, or hf://owner/name) on the test sets of its published
    figures that are in data (lfw.bin …, folders ijbb, ijbc, megaface, mfr), ours beside theirs. all: every row, with
    whatever models and data are there. intervals, cache, batch_size, device and skip_unreadable as above.

    Example: faceprint eval runs/first pairs images=crops pairs=pairs.txt plot=roc.png
    """
    if protocol is None or "=" in protocol:
        from faceprint.cli.evaluate_zoo import evaluate_zoo

        evaluate_zoo(model, [*([protocol] if protocol else []), *(assignments or [])], json_file)
        return
    from faceprint.evaluation.analyses import ANALYSES

    measure = analyse if protocol in ANALYSES else _measure
    measure(model, protocol, assignments or [], json_file)


def _measure(model: str, protocol: str, assignments: list[str], json_file: str | None) -> None:
    """One model on one protocol."""
    from faceprint.evaluation.embeddings import UnreadableImagesError
    from faceprint.evaluation.feature_files import MissingFeaturesError
    from faceprint.evaluation.intervals import MAX_DRAWS
    from faceprint.evaluation.megaface import is_devkit_folder
    from faceprint.evaluation.pairs import MissingImagesError

    options = parse_options(protocol, assignments)
    plot, hardest = options.pop("plot", None), options.pop("hardest", None)
    draws = count("intervals", options, 1000, MAX_DRAWS) if "intervals" in options else 0
    check_writable(json_file, plot, hardest)
    _check_extras(protocol, plot, hardest)
    devkit, data = protocol == "megaface" and is_devkit_folder(Path(model)), data_name(protocol, options)
    with launched():
        try:
            scored = _score_devkit(model, options, draws) if devkit else _score(model, protocol, options, draws)[1]
        except (MissingImagesError, MissingFeaturesError, UnreadableImagesError) as error:
            for line in error.lines():  # the message itself shows the first ones
                err.print(line, markup=False)
            raise
        _show(scored, data, plot, json_file, hardest)


def _check_extras(protocol: str, plot: str | None, hardest: str | None) -> None:
    """Raise `UserError` for what is asked for besides the figures, and this protocol does not have."""
    from faceprint.evaluation.protocols import PROTOCOLS
    from faceprint.plot_extra import check_plotting

    if hardest and protocol not in PROTOCOLS:
        raise UserError(f"hardest is for one set of pairs: {', '.join(PROTOCOLS)}")
    if plot is not None:
        check_plotting()
    if plot is not None and protocol not in PROTOCOLS:
        raise UserError(f"plot shows one set of pairs, and {protocol} is none; it is for {', '.join(PROTOCOLS)}")


def score_model(model: str, protocol: str, options: dict[str, str]) -> tuple[Embedder, Outcome]:
    """The network, opened, and its result. Raises `UserError`, also for embeddings in a file."""
    if is_made(model):
        raise UserError(f"{model}: embeddings that are made; give a model")
    embedder, outcome = _score(model, protocol, options)
    assert embedder is not None
    return embedder, outcome


def _score(model: str, protocol: str, options: dict[str, str], draws: int = 0) -> tuple[Embedder | None, Outcome]:
    from faceprint.evaluation.describe import about_source
    from faceprint.evaluation.outcome import score_test
    from faceprint.evaluation.protocols import SEARCHES, load_test

    made = is_made(model)
    compares = made and protocol in SEARCHES  # these take a device without a network, too
    device = options.pop("device", "auto") if compares else options.get("device", "auto")
    opened = source_opener(model, options)
    test = load_test(protocol, without_images(protocol, options) if made else options)
    with progress_bar("embedding", "images") as bar:
        source, embedder = opened(bar if is_first() else None)
        return embedder, score_test(
            source, test, device=device, about=about_source(source), draws=draws, comparing=_comparing
        )


def _score_devkit(folder: str, options: dict[str, str], draws: int) -> Outcome:
    """A folder of features in the layout of the MegaFace devkit."""
    from faceprint.evaluation.megaface import DevkitFeatures
    from faceprint.evaluation.outcome import score_test
    from faceprint.evaluation.protocols import load_test

    device = options.pop("device", "auto")
    if wrong := [key for key in SOURCE_KEYS if key in options]:
        raise UserError(f"{', '.join(wrong)}: for a model; {folder} has embeddings that are made")
    source, test = DevkitFeatures(Path(folder)), load_test("megaface", options)
    return score_test(source, test, device=device, draws=draws, comparing=_comparing)


def _comparing() -> AbstractContextManager[Progress]:
    return progress_bar("comparing", "tiles")


def _show(
    outcome: Outcome, data: tuple[str, str], plot: str | None, json_file: str | None, hardest: str | None
) -> None:
    from faceprint.evaluation.describe import describe
    from faceprint.evaluation.hardest import write_hardest
    from faceprint.evaluation.report import plot_evaluation

    if not is_first():
        return
    for table in outcome.tables:
        print_table(table.title, table.columns, table.rows, json_target=json_file)
    if json_file is not None:
        write_json(describe(outcome.scored, data=data[0], part=data[1]).to_json(), json_file)
    evaluation = outcome.evaluation
    if plot is not None and evaluation is not None:
        plot_evaluation(evaluation, plot)
    if hardest is not None and evaluation is not None:
        write_hardest(Path(hardest), evaluation.pairs, evaluation.scores)


def parse_options(protocol: str, assignments: list[str]) -> dict[str, str]:
    """The options given, by key. Raises `UserError` for an unknown protocol, or a key that it has not."""
    from faceprint.evaluation.analyses import ANALYSES
    from faceprint.evaluation.protocols import PROTOCOLS, SEARCHES, SUITES, TASKS, protocol_options

    known = [*PROTOCOLS, *SUITES, *SEARCHES, *TASKS]
    if protocol not in known:
        raise unknown("protocol", protocol, [*known, *ANALYSES])
    return read_options(assignments, [*protocol_options(protocol), *COMMON_KEYS], f"eval {protocol}")
