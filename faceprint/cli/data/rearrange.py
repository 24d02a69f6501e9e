"""`faceprint data shuffle`, `split`, `merge` and `subset`: other orders and parts of sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from faceprint.cli.data.conversion import (
    DecodeOption,
    DestinationArgument,
    ExcludeOption,
    MaxUnreadableOption,
    MinImagesOption,
    SeedOption,
    SourceArgument,
    ToOption,
    VerifyOption,
    WorkersOption,
    Writing,
    read_names,
)
from faceprint.cli.output import JsonOption
from faceprint.errors import UserError

ListOption = Optional[Path]
CountOption = Optional[int]


def shuffle(
    source: SourceArgument,
    destination: DestinationArgument,
    seed: SeedOption = 0,
    to: ToOption = None,
    decode: DecodeOption = False,
    max_unreadable: MaxUnreadableOption = 0,
    verify: VerifyOption = False,
    workers: WorkersOption = None,
    json_target: JsonOption = None,
) -> None:
    """Write a set in a random order, for readers that take images as they lie.

    A .rec set becomes one of the im2rec flavour with its .lst, as InsightFace's has each identity in one piece.

    Example: faceprint data shuffle train.rec shuffled/train.rec
    """
    from faceprint.data.convert import format_like, open_for
    from faceprint.data.rearrange import shuffled

    kind = format_like(source, destination, to, ordered=True)
    [opened] = open_for([source], [destination])
    parts = [(shuffled(opened, seed), destination, kind)]
    Writing(workers, decode, max_unreadable, verify, json_target).run(parts)


def split(
    source: SourceArgument,
    destinations: Annotated[list[Path], typer.Argument(metavar="DST…", help="The new sets, one for each fraction.")],
    fractions: Annotated[str, typer.Option(metavar="F,F…", help="Share of each DST, with a sum of 1.")],
    by: Annotated[
        str, typer.Option(help="identity: nobody is in two sets. image: everybody's images are dealt out.")
    ] = "identity",
    seed: SeedOption = 0,
    to: ToOption = None,
    decode: DecodeOption = False,
    max_unreadable: MaxUnreadableOption = 0,
    verify: VerifyOption = False,
    workers: WorkersOption = None,
    json_target: JsonOption = None,
) -> None:
    """Deal a set out to several, by identity or by image.

    Stopped, the same command goes on where it was; the sets appear when all are complete.

    Example: faceprint data split crops training validation --fractions 0.9,0.1
    """
    from faceprint.data.convert import format_like, open_for
    from faceprint.data.rearrange import divided

    shares = _numbers(fractions)
    if len(shares) != len(destinations):
        raise UserError(f"--fractions {fractions}: {len(shares)} for {len(destinations)} sets; give one for each DST")
    kinds = [format_like(source, destination, to) for destination in destinations]
    [opened] = open_for([source], destinations)
    parts = divided(opened, shares, by=by, seed=seed)
    sets = list(zip(parts, destinations, kinds, strict=True))
    Writing(workers, decode, max_unreadable, verify, json_target).run(sets)


def merge(
    sources: Annotated[list[str], typer.Argument(metavar="SRC…", help="Labelled sets, of any format each.")],
    destination: DestinationArgument,
    classes: Annotated[
        str,
        typer.Option(help="separate: all identities are different people. by-name: those of one name are one person."),
    ] = "separate",
    to: ToOption = None,
    decode: DecodeOption = False,
    max_unreadable: MaxUnreadableOption = 0,
    verify: VerifyOption = False,
    workers: WorkersOption = None,
    json_target: JsonOption = None,
) -> None:
    """Put several sets into one.

    Where two people have one name, the second becomes NAME~2; so do images. Stopped, the same command goes on where it
    was.

    Example: faceprint data merge casia.rec mine all --classes separate
    """
    from faceprint.data.convert import format_like, open_for
    from faceprint.data.rearrange import merged

    kind = format_like(sources[0], destination, to)
    whole = merged(open_for(sources, [destination]), classes)
    Writing(workers, decode, max_unreadable, verify, json_target).run([(whole, destination, kind)])


def subset(
    source: SourceArgument,
    destination: DestinationArgument,
    identities: Annotated[ListOption, typer.Option(metavar="FILE", help="Keep these identities only.")] = None,
    images: Annotated[ListOption, typer.Option(metavar="FILE", help="Keep these images only.")] = None,
    exclude: ExcludeOption = None,
    min_images: MinImagesOption = 1,
    max_images: Annotated[
        CountOption, typer.Option(metavar="N", help="Keep at most N images of an identity, at random.")
    ] = None,
    first: Annotated[CountOption, typer.Option(metavar="N", help="Of all that, keep the first N images.")] = None,
    seed: SeedOption = 0,
    to: ToOption = None,
    decode: DecodeOption = False,
    max_unreadable: MaxUnreadableOption = 0,
    verify: VerifyOption = False,
    workers: WorkersOption = None,
    json_target: JsonOption = None,
) -> None:
    """Write a part of a set: listed identities or images, without others, within limits.

    Stopped, the same command goes on where it was. A FILE is plain text, one name a line, or CSV with a column path or
    identity.

    Example: faceprint data subset crops clean --exclude report/exclude.csv --min-images 2
    """
    from faceprint.data.convert import format_like, open_for
    from faceprint.data.rearrange import chosen

    kind = format_like(source, destination, to)
    [opened] = open_for([source], [destination])
    part = chosen(
        opened,
        identities=read_names(identities, "identity"),
        images=read_names(images, "image"),
        exclude=read_names(exclude),
        min_images=min_images,
        max_images=max_images,
        first=first,
        seed=seed,
    )
    Writing(workers, decode, max_unreadable, verify, json_target).run([(part, destination, kind)])


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"--fractions {text}: give numbers with commas between, such as 0.9,0.1") from error
