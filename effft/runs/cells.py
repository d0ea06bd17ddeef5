"""Runs of a table, measured side by side and kept one by one, so that nothing measured is lost when it is stopped."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from effft import __version__
from effft.config import RunConfig

if TYPE_CHECKING:
    from torch.nn import Module

    from effft.data.examples import Example
    from effft.runs.session import Session

BAG = "bag of words"
"""The row that has no model: a logistic regression on word counts."""

Metrics = dict[str, float]


@dataclass(frozen=True)
class Cell:
    """One run of the table: its row, and what to run. A bag of words has no run of its own, only the draw."""

    row: str
    config: RunConfig


@dataclass(frozen=True)
class Measured:
    """A cell and its metrics: '<split>/<metric>' and '<split>/<slice>/accuracy'."""

    cell: Cell
    metrics: Metrics


def measure(every: Sequence[Cell], workers: int) -> Iterator[Measured]:
    """Run the cells in `workers` processes, one thread each; yield as they end."""
    if workers == 1:
        yield from (Measured(cell, measure_one(cell)) for cell in every)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(measure_one, cell): cell for cell in every}
        try:
            for future in as_completed(waiting):
                yield Measured(waiting[future], future.result())
        finally:
            pool.shutdown(cancel_futures=True)


class Kept:
    """Measured cells in a file, one JSON line each.

    A line serves as long as configuration, weights and version of effft are the same; remove the file to measure anew.
    """

    def __init__(self, path: Path, session: "Session") -> None:
        self.path, self.session = path, session
        self._prints: dict[str, str] = {}
        self.known: dict[str, Metrics] = {}
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if text and not text.endswith("\n"):  # a process was stopped while it wrote
            text = text[: text.rfind("\n") + 1]
            path.write_text(text, encoding="utf-8")
        for line in text.splitlines():
            found = json.loads(line)
            self.known[found["cell"]] = found["metrics"]

    def key(self, cell: Cell) -> str:
        """What the numbers depend on, as 16 hex digits; not where the model lies."""
        config = cell.config
        if config.model not in self._prints:
            self._prints[config.model] = weights_print(self.session.pristine_backbone(config, False).model)
        said = config.model_dump_json(exclude={"model"}) + cell.row + self._prints[config.model] + __version__
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    def add(self, one: Measured) -> None:
        """Write a line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"cell": self.key(one.cell), "row": one.cell.row, "metrics": one.metrics}) + "\n")


def weights_print(model: "Module") -> str:
    """SHA-256 over names and values of all parameters."""
    state = hashlib.sha256()
    for name, value in model.state_dict().items():
        state.update(name.encode())
        state.update(value.detach().cpu().contiguous().view(-1).numpy().tobytes())
    return state.hexdigest()


def measure_kept(every: Sequence[Cell], workers: int, kept: Kept) -> Iterator[Measured]:
    """As `measure`; cells that the file has are not measured again, and the others are added to it as they end."""
    waiting = []
    for cell in every:
        if (known := kept.known.get(kept.key(cell))) is not None:
            yield Measured(cell, known)
        else:
            waiting.append(cell)
    for one in measure(waiting, workers):
        kept.add(one)
        yield one


_sessions: "list[Session]" = []


def measure_one(cell: Cell) -> Metrics:
    """The metrics of one cell; a process reads backbones and splits once."""
    from effft.runs.experiment import execute
    from effft.runs.plan import prepare
    from effft.runs.session import Session
    from effft.tracking.tracker import MemoryTracker

    if not _sessions:
        _sessions.append(Session())
    plan = prepare(cell.config, _sessions[0])
    if cell.row == BAG:
        return bag_of_words(
            plan.few_shot.train, {n: s.examples for n, s in plan.evaluated.items()}, len(plan.task.labels)
        )
    return execute(plan, MemoryTracker()).metrics


def bag_of_words(train: "Sequence[Example]", splits: "Mapping[str, Sequence[Example]]", labels: int) -> Metrics:
    """Logistic regression (C = 1) on the counts of words, each tagged by the text it stands in."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    from effft.evaluation.metrics import four_metrics

    def tagged(examples: "Iterable[Example]") -> list[str]:
        return [" ".join(f"{n}_{w}" for n, t in enumerate(e.texts) for w in t.lower().split()) for e in examples]

    import numpy as np

    counter = CountVectorizer(tokenizer=str.split, token_pattern=None, lowercase=False)
    model = LogisticRegression(max_iter=1000)
    model.fit(counter.fit_transform(tagged(train)), [example.label for example in train])
    metrics: Metrics = {}
    for name, examples in splits.items():
        answers = np.asarray(model.predict(counter.transform(tagged(examples))))
        found = four_metrics(np.array([example.label for example in examples]), answers, labels)
        metrics |= {f"{name}/{key}": value for key, value in found.items()}
    return metrics
