"""Sets without labels in a comparison: where the strategies disagree, and which texts are worth a label.

Nothing here estimates a score: how often models agree out of domain does not say how often they are right.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from statistics import fmean

import pandas as pd

from effft.config import Amount
from effft.reports.blocks import Table
from effft.reports.csv_files import csv_text
from effft.runs.compare import Outcome

MOST_TEXTS = 50


@dataclass(frozen=True)
class Disagreement:
    """How the strategies of a comparison answered one set without labels.

    Two strategies disagree on a text by the share of the pairs of their runs that answer differently.

    Args:
        name: The set.
        rows: Row numbers of its examples.
        answers: Strategy -> the answers of each of its runs, in the order of `rows`.
    """

    name: str
    rows: Sequence[int]
    answers: Mapping[str, Sequence[Sequence[str]]]

    def between(self, one: str, other: str) -> list[float]:
        """For every text the disagreement of two strategies, or of the runs of one."""
        own = combinations(self.answers[one], 2)
        runs = list(own if one == other else product(self.answers[one], self.answers[other]))
        return [fmean(a[place] != b[place] for a, b in runs) for place in range(len(self.rows))]

    @property
    def pairs(self) -> dict[tuple[str, str], float]:
        """The mean over texts for every two strategies."""
        return {pair: fmean(self.between(*pair)) for pair in combinations(self.answers, 2)}

    def most(self, count: int = MOST_TEXTS) -> list[tuple[int, float]]:
        """The places of the texts with the largest mean over all pairs of strategies, and that mean."""
        columns = [self.between(*pair) for pair in combinations(self.answers, 2)]
        means = [(place, fmean(values)) for place, values in enumerate(zip(*columns, strict=True))]
        return sorted((mean for mean in means if mean[1]), key=lambda mean: -mean[1])[:count]

    def answer(self, strategy: str, place: int) -> str:
        """The most frequent answer of a strategy to one text."""
        return Counter(run[place] for run in self.answers[strategy]).most_common(1)[0][0]

    def table(self) -> Table:
        """Strategies against strategies; a strategy against itself where it has several runs."""

        def cell(one: str, other: str) -> str:
            known = one != other or len(self.answers[one]) > 1
            return f"{100 * fmean(self.between(one, other)):.0f} %" if known else "-"

        rows = [[one, *(cell(one, other) for other in self.answers)] for one in self.answers]
        title = f"{self.name} has no labels; on so many of its {len(self.rows):,} texts the answers differ"
        return Table(("strategy", *self.answers), rows, title)


def disagreements(outcomes: Sequence[Outcome]) -> Iterator[Disagreement]:
    """One for every set without labels that two strategies answered."""
    results = [(outcome, outcome.result) for outcome in outcomes if outcome.result is not None]
    amounts = {Amount.of(vars(outcome.config)) for outcome, _ in results}
    for name in dict.fromkeys(name for _, result in results for name in result.tables):
        answers: dict[str, list[list[str]]] = {}
        rows: list[int] = []
        for outcome, result in results:
            if table := result.tables.get(name):
                amount = f" at {Amount.of(vars(outcome.config)).phrase}" if len(amounts) > 1 else ""
                answers.setdefault(outcome.row + amount, []).append([str(answer) for answer in table["answer"]])
                rows = [int(str(row)) for row in table["row"]]
        if len(answers) > 1:
            yield Disagreement(name, rows, answers)


def disagreement_csv(found: Sequence[Disagreement], texts: Mapping[str, Mapping[int, tuple[str, ...]]]) -> str:
    """A line for each of the texts that strategies disagree on most, set by set, the largest first.

    texts: set -> row number -> texts.
    """
    records = [
        {"set": one.name, "row": (row := one.rows[place]), "disagreement": round(mean, 4)}
        | {"text": " | ".join(texts[one.name][row])}
        | {strategy: one.answer(strategy, place) for strategy in one.answers}
        for one in found
        for place, mean in one.most()
    ]
    columns = None if records else ["set", "row", "disagreement", "text"]
    return csv_text(pd.DataFrame.from_records(records, columns=columns))
