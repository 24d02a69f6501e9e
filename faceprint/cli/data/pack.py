"""`faceprint data pack` and `unpack`: one set as another kind of set."""

from __future__ import annotations

from pathlib import Path

from faceprint.cli.data.conversion import (
    DecodeOption,
    DestinationArgument,
    MaxUnreadableOption,
    SourceArgument,
    ToOption,
    VerifyOption,
    WorkersOption,
    Writing,
)
from faceprint.cli.output import JsonOption


def pack(
    source: SourceArgument,
    destination: DestinationArgument,
    to: ToOption = None,
    decode: DecodeOption = False,
    max_unreadable: MaxUnreadableOption = 0,
    verify: VerifyOption = False,
    workers: WorkersOption = None,
    json_target: JsonOption = None,
) -> None:
    """Pack images into few large files, byte for byte: a .rec set, unless DST or --to says otherwise.

    Stopped, the same command goes on where it was; DST appears when it is complete.

    Example: faceprint data pack crops packed/train.rec
    """
    _convert(source, destination, to, "record", Writing(workers, decode, max_unreadable, verify, json_target))


def unpack(
    source: SourceArgument,
    destination: DestinationArgument,
    decode: DecodeOption = False,
    max_unreadable: MaxUnreadableOption = 0,
    verify: VerifyOption = False,
    workers: WorkersOption = None,
    json_target: JsonOption = None,
) -> None:
    """Unpack a set into DST/IDENTITY/IMAGE, byte for byte, under the names that it keeps.

    Stopped, the same command goes on where it was; DST appears when it is complete.

    Example: faceprint data unpack packed/train.rec crops
    """
    _convert(source, destination, "folder", None, Writing(workers, decode, max_unreadable, verify, json_target))


def _convert(source: str, destination: Path, to: str | None, otherwise: str | None, writing: Writing) -> None:
    from faceprint.data.convert import format_of, open_for

    kind = format_of(destination, to, otherwise)
    [opened] = open_for([source], [destination])
    writing.run([(opened, destination, kind)])
