"""One protocol scored, of whatever kind it is: its result, and the tables that show it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from faceprint.evaluation.describe import Scored
from faceprint.evaluation.embeddings import Progress
from faceprint.evaluation.pairs import PairSet
from faceprint.evaluation.protocols import Evaluation, Search, Test, score_source
from faceprint.evaluation.report import SET_COLUMNS, search_rows, set_rows, table_rows
from faceprint.evaluation.result import AboutModel
from faceprint.evaluation.sources import EmbeddingSource
from faceprint.evaluation.tasks import ResultTable, Task, score_task
from faceprint.evaluation.uncertainty import interval_result, interval_rows
from faceprint.evaluation.verification import SETS, SetPairs, summarize_sets

MEASURES = ("measure", "value")


@dataclass(frozen=True, eq=False)
class Outcome:
    """A result, and the tables that show it."""

    scored: Scored
    tables: list[ResultTable]

    @property
    def evaluation(self) -> Evaluation | None:
        """That of a single set of pairs, where it is one."""
        return self.scored.evaluations.get("")


def score_test(
    source: EmbeddingSource,
    test: Test,
    *,
    device: str = "auto",
    about: AboutModel | None = None,
    draws: int = 0,
    comparing: Callable[[], AbstractContextManager[Progress | None]] = nullcontext,
) -> Outcome:
    """The outcome of `test` with the embeddings of `source`, of the model `about`.

    Results get `intervals` (`interval_result` and the like) by so many `draws` of people, 0: none. A search compares on
    `device`, and tells how far it is to what `comparing` makes. Raises `UserError` as the protocols do.
    """
    if isinstance(test, PairSet):
        return _pairs(source, test, about, draws)
    if isinstance(test, Mapping):
        return _several_sets(source, test, about, draws)
    if isinstance(test, Task):
        result = score_task(source, test, draws=draws)
        drawn = [ResultTable(f"{source.name}: intervals", MEASURES, rows) for rows in [interval_rows(result)] if rows]
        return Outcome(Scored(result, {}, about), [*test.tables(result), *drawn])
    return _search(source, test, device, about, draws, comparing)


def _pairs(source: EmbeddingSource, pairs: PairSet, about: AboutModel | None, draws: int) -> Outcome:
    evaluation = _with_intervals(score_source(source, pairs), draws)
    result = evaluation.result
    rows = [*table_rows(result), *interval_rows(result)]
    table = ResultTable(f"{source.name}: {result['protocol']}", MEASURES, rows)
    return Outcome(Scored(result, {"": evaluation}, about), [table])


def _several_sets(source: EmbeddingSource, sets: SetPairs, about: AboutModel | None, draws: int) -> Outcome:
    evaluations = {name: _with_intervals(score_source(source, load()), draws) for name, load in sets.items()}
    results = {name: evaluation.result for name, evaluation in evaluations.items()}
    result = {**summarize_sets(results), "model": source.name}
    titled = {SETS[name].title: each for name, each in evaluations.items()}
    tables = [ResultTable(f"{source.name}: verification", SET_COLUMNS, set_rows(result))]
    if draws:
        rows = [(title, *row) for title, each in titled.items() for row in interval_rows(each.result)]
        tables.append(ResultTable(f"{source.name}: intervals", ("set", *MEASURES), rows))
    return Outcome(Scored(result, titled, about), tables)


def _with_intervals(evaluation: Evaluation, draws: int) -> Evaluation:
    if not draws:
        return evaluation
    found = interval_result(evaluation, evaluation.pairs, draws)
    return replace(evaluation, result={**evaluation.result, "intervals": found})


def _search(
    source: EmbeddingSource,
    search: Search,
    device: str,
    about: AboutModel | None,
    draws: int,
    comparing: Callable[[], AbstractContextManager[Progress | None]],
) -> Outcome:
    with comparing() as progress:
        result = search.score(source, device=device, progress=progress, draws=draws)
    rows = [*search_rows(result), *interval_rows(result)]
    table = ResultTable(f"{source.name}: {result['protocol']}", MEASURES, rows)
    return Outcome(Scored(result, {}, about), [table])
