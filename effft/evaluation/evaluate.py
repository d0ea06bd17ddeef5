"""One split, scored: its metrics, its slices, and a row per example."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from effft.data.examples import Example
from effft.evaluation.metric_keys import MetricKey, Slice, collect
from effft.evaluation.metrics import calibration_error, four_metrics, intervals, majority, softmax
from effft.strategies.learner import Learner
from effft.strategies.scoring import Recall, predict


@dataclass(frozen=True)
class Evaluation:
    """metrics: key (see `metric_keys`) -> value. table: column -> one value per example. cut: texts that were cut."""

    metrics: dict[str, float]
    table: dict[str, list[object]]
    cut: int


def evaluate(
    learner: Learner,
    split: str,
    examples: Sequence[Example],
    slices: Sequence[tuple[str, ...]] = (),
    resamples: int = 1000,
    watch: Callable[[int, int], None] = lambda done, total: None,
    recall: Recall | None = None,
) -> Evaluation:
    """Score `examples` and summarise: the four metrics with 95 % intervals, calibration, reference rows, slices.

    `outside_mass` is the mean probability that a verbalizer gives to words other than the label words (a
    classifier has none: 0). A slice of one label has accuracy only. recall: as in `predict`.
    """
    items = learner.items(examples)
    scores = predict(learner, items, watch=watch, recall=recall).double().numpy()
    labels = np.array([e.label for e in examples])
    answers = scores.argmax(axis=1)
    count = len(learner.task.labels)
    verbalized = learner.head is None
    metrics = four_metrics(labels, answers, count)
    if resamples:
        metrics |= intervals(labels, answers, count, resamples)
    metrics |= {
        "calibration_error": calibration_error(labels, softmax(scores)),
        "outside_mass": float(1 - np.exp(scores).sum(axis=1).mean()) if verbalized else 0.0,
        "majority": majority(labels, count),
        "chance": 1 / count,
        "examples": float(len(examples)),
    }
    groups = [{str(MetricKey(split, name)): value for name, value in metrics.items()}]
    for pairs, rows in slice_rows(learner.task.labels, examples, slices).items():
        part = four_metrics(labels[rows], answers[rows], count)
        shown = part if len(set(labels[rows])) > 1 else {"accuracy": part["accuracy"]}
        shown |= {"examples": float(len(rows))}
        groups.append({str(MetricKey(split, name, pairs)): value for name, value in shown.items()})
    return Evaluation(collect(*groups), _table(learner, examples, scores, answers), sum(i.prompt.cut for i in items))


def slice_rows(
    labels: Sequence[str], examples: Sequence[Example], slices: Sequence[tuple[str, ...]]
) -> dict[Slice, list[int]]:
    """The (dimension, value) pairs of every slice, with the numbers of its rows."""
    rows: dict[Slice, list[int]] = {}
    for number, example in enumerate(examples):
        values = {**dict(example.slices), "label": labels[example.label]}
        for dimensions in dict.fromkeys(slices):
            rows.setdefault(tuple((name, values[name]) for name in dimensions), []).append(number)
    return dict(sorted(rows.items()))


def _table(
    learner: Learner, examples: Sequence[Example], scores: "np.ndarray", answers: "np.ndarray"
) -> dict[str, list[object]]:
    names = learner.task.labels
    table: dict[str, list[object]] = {"row": [e.index for e in examples]}
    for i, field in enumerate(learner.task.fields):
        table[field] = [e.texts[i] for e in examples]
    table["label"] = [names[e.label] for e in examples]
    table["answer"] = [names[a] for a in answers]
    for i, name in enumerate(names):
        table[f"score_{name}"] = [float(s) for s in scores[:, i]]
    return table
