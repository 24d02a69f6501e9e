"""`faceprint eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from faceprint.cli.analyse import analyse
from faceprint.cli.output import JsonOption, print_table, progress_bar, write_json
from faceprint.cli.subject import INPUT_KEYS, count, flag, load_pairs, open_embedder, read_options
from faceprint.cli.writable import check_writable
from faceprint.registry import unknown

COMMON_KEYS = ("flip", "batch_size", "device", "plot", "intervals", "hardest", *INPUT_KEYS)


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run folder, a model folder or an ONNX file.")],
    protocol: Annotated[
        str, typer.Argument(metavar="PROTOCOL", help="pairs, bin, synthetic, fairness, quality, robustness, ageing.")
    ],
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

    [bold]synthetic[/bold]: num_identities=200 images_per_identity=6 num_pairs=2000 difficulty=0.5 seed=0
    first_identity=0 size=112x112: generated people, which say nothing about photographs.

    [bold]fairness[/bold]: images=DIR pairs=FILE, a CSV with group_a,group_b or BFW's table, or pairs=DIR, RFW's lists.

    [bold]ageing[/bold]: images=DIR pairs=FILE, a CSV with years, date_a,date_b or age_a,age_b; years=0,2,4 are the
    bins; draws=1000.

    [bold]quality[/bold], [bold]robustness[/bold]: any set of pairs, set=pairs|bin|synthetic with its options;
    quality_of=norm, dropout (passes=100) or a FILE of lines 'path quality'; kinds=blur,jpeg,resolution,rotation,mask
    seed=0. These four: far=1e-3 sets the one threshold, or (but for robustness) threshold=T.

    All: flip=true (sum the embeddings of image and mirror image), batch_size=64, device=auto, plot=FILE.png (ROC and
    histograms). Sets of pairs: intervals=1000 (draws of people for 95 % intervals), hardest=FILE.png (the pairs that
    score most wrongly). For an ONNX file that does not say what it takes: input.mean=127.5 input.std=127.5
    input.colour=rgb input.size=112x112.

    Example: faceprint eval runs/first pairs images=crops pairs=pairs.txt plot=roc.png
    """
    from faceprint.evaluation.analyses import ANALYSES
    from faceprint.evaluation.hardest import write_hardest
    from faceprint.evaluation.protocols import PROTOCOLS, evaluate_pairs, protocol_options
    from faceprint.evaluation.report import plot_evaluation, table_rows
    from faceprint.evaluation.uncertainty import interval_result, interval_rows
    from faceprint.plot_extra import check_plotting

    if protocol in ANALYSES:
        analyse(model, protocol, assignments or [], json_file)
        return
    if protocol not in PROTOCOLS:
        raise unknown("protocol", protocol, [*PROTOCOLS, *ANALYSES])
    options = read_options(assignments or [], [*protocol_options(protocol), *COMMON_KEYS], f"eval {protocol}")
    flipped, batch_size = flag("flip", options), count("batch_size", options, 64)
    plot, hardest = options.pop("plot", None), options.pop("hardest", None)
    draws = count("intervals", options, 1000, 100_000) if "intervals" in options else 0
    check_writable(json_file, plot, hardest)
    if plot is not None:
        check_plotting()
    model_options = {key: options.pop(key) for key in ("device", *INPUT_KEYS) if key in options}
    pairs = load_pairs(protocol, options)
    embedder = open_embedder(model, model_options)
    with progress_bar("embedding", "images") as progress:
        evaluation = evaluate_pairs(embedder, pairs, flip=flipped, batch_size=batch_size, progress=progress)
    if plot is not None:
        plot_evaluation(evaluation, plot)
    if hardest is not None:
        write_hardest(Path(hardest), pairs, evaluation.scores)
    uncertainty = {"intervals": interval_result(evaluation, pairs, draws)} if draws else {}
    rows = [*table_rows(evaluation.result), *(row for found in uncertainty.values() for row in interval_rows(found))]
    print_table(f"{evaluation.result['model']}: {protocol}", ("measure", "value"), rows, json_target=json_file)
    write_json({**evaluation.result, **uncertainty}, json_file)
