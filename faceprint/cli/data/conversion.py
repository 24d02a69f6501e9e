"""What the commands that write sets have in common: their options, the bar, the table, the JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from faceprint.cli.output import err, print_table, progress_bar, write_json

if TYPE_CHECKING:
    from faceprint.data.name_list import Kind, NameList
    from faceprint.data.source import Source
    from faceprint.data.verify_set import VerifyReport
    from faceprint.data.write_set import SetReport, StagedSet

SourceArgument = Annotated[
    str,
    typer.Argument(metavar="SRC", help="A labelled set: .rec, shards, Parquet, a folder of identities, an image list."),
]
DestinationArgument = Annotated[Path, typer.Argument(metavar="DST", help="The new set.")]
ToOption = Annotated[
    Optional[str],
    typer.Option("--to", metavar="FORMAT", help="Format of DST. Default: what its name ends in, else as SRC."),
]
SeedOption = Annotated[int, typer.Option(metavar="N", help="Another seed, another draw.")]
WorkersOption = Annotated[
    Optional[int],
    typer.Option(metavar="N", help="Threads that read. Default: one for each core.", show_default=False),
]
DecodeOption = Annotated[bool, typer.Option("--decode", help="Decode each image, to find those that cannot be.")]
MaxUnreadableOption = Annotated[
    int, typer.Option(metavar="N", help="Images that may be left out because they cannot be read.")
]
ExcludeOption = Annotated[
    Optional[Path],
    typer.Option(metavar="FILE", help="Leave these images or identities out, such as exclude.csv of check and clean."),
]
MinImagesOption = Annotated[int, typer.Option(metavar="N", help="Leave out identities with fewer images.")]
VerifyOption = Annotated[bool, typer.Option("--verify", help="Read DST again at the end and compare checksums.")]

_NAMES_SHOWN = 5


@dataclass(frozen=True)
class Writing:
    """How sets are written, and where the result goes."""

    workers: int | None
    decode: bool
    max_unreadable: int
    verify: bool
    json_target: str | None

    def run(self, sets: Sequence[tuple[Source, Path, str]]) -> None:
        """Write each source to its destination in its format; print a table, and the result as JSON. Exits with
        status 1 where a set that was read again is not what was written.

        All appear when the last is complete: the same command goes on where it was stopped only while none is there.
        """
        from faceprint.data.staging import check_apart
        from faceprint.data.write_set import staging_of

        check_apart([staging_of(path, kind) for _, path, kind in sets])
        staged = [self._stage(*each) for each in sets]
        for each in staged:
            each.publish()
        reports = [each.report for each in staged]
        checks = [check_again(path, self.workers) for _, path, _ in sets] if self.verify else []
        print_skipped(sets[0][0])  # all are of the source that the command was given
        _print_reports(reports, self.json_target)
        results = [report.as_dict() for report in reports]
        for result, check in zip(results, checks, strict=False):
            result["verified"] = check.same
        write_json(results[0] if len(results) == 1 else {"sets": results}, self.json_target)
        if not all(check.same for check in checks):
            raise typer.Exit(1)

    def _stage(self, source: Source, destination: Path, kind: str) -> StagedSet:
        from faceprint.data.write_set import stage_set

        with progress_bar(f"writing {destination.name}", "images") as progress:
            return stage_set(
                source,
                destination,
                kind=kind,
                workers=self.workers,
                decode=self.decode,
                max_unreadable=self.max_unreadable,
                progress=progress,
            )


def read_names(file: Path | None, kind: Kind | None = None) -> NameList | None:
    """The list that an option names, as `read_name_list` reads it."""
    from faceprint.data.name_list import read_name_list

    return None if file is None else read_name_list(file, kind)


def check_again(path: Path, workers: int | None) -> VerifyReport:
    """Read the set at `path` and compare; what differs goes to standard error."""
    from faceprint.data.verify_set import verify_set

    with progress_bar(f"reading {path.name}", "images") as progress:
        report = verify_set(path, workers=workers, progress=progress)
    if not report.same:
        err.print(f"error: {path}: is not what was written", style="bold red", markup=False)
    print_names("unreadable", report.unreadable)
    print_names(
        "checksum differs", [f"one or more of images {first:,} to {last:,}" for first, last in report.differing]
    )
    return report


def print_skipped(source: Source) -> None:
    """What was passed over where `source` was opened, on standard error."""
    from faceprint.data.passed_over import skipped

    for what, count in skipped(source).items():
        err.print(f"passed over: {count:,} {what}", markup=False)


def print_names(title: str, names: Sequence[str]) -> None:
    """The first few names on standard error, and how many more there are."""
    for name in names[:_NAMES_SHOWN]:
        err.print(f"{title}: {name}", markup=False)
    if len(names) > _NAMES_SHOWN:
        err.print(f"{title}: and {len(names) - _NAMES_SHOWN:,} more", markup=False)


def _print_reports(reports: Sequence[SetReport], json_target: str | None) -> None:
    """A table with a column for each set."""
    for report in reports:
        print_names("left out", [reason for _, reason in report.unreadable])
    columns = [dict(_cells(report)) for report in reports]
    rows = [(name, *(column[name] for column in columns)) for name in columns[0]]
    titles = ["", *(Path(report.destination).name for report in reports)]
    print_table("Written", titles, rows, json_target=json_target)


def _cells(report: SetReport) -> list[tuple[str, str]]:
    new = report.images - report.resumed_from
    return [
        ("format", report.format),
        ("images", f"{report.images:,}"),
        ("identities", f"{report.identities:,}"),
        ("left out, unreadable", f"{len(report.unreadable):,}"),
        ("renamed", f"{report.renamed:,}"),
        ("written by earlier runs", f"{report.resumed_from:,}"),
        ("images per second", f"{new / max(report.seconds, 1e-9):,.0f}"),
        ("checksum", f"{report.content[:16]}…"),
    ]
