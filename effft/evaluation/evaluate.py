"""One split, scored: its metrics, its slices, and a row per example."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from effft.data.examples import UNLABELLED, Example
from effft.evaluation.metric_keys import PATTERN_SD, MetricKey, Slice, collect
from effft.evaluation.metrics import WORST_SLICE, Labels, probability_metrics, softmax
from effft.evaluation.outcomes import outcomes_of
from effft.evaluation.remarks import chance_note, cut_note, cut_share, missing_labels_note, unlabelled_note
from effft.progress import ProgressCallback, silent
from effft.strategies.calibration import Calibration
from effft.strategies.learner import Learner
from effft.strategies.scoring import FrozenFeatures, predict, predict_apart
from effft.tasks.task import Task


@dataclass(frozen=True)
class Evaluation:
    """metrics: key (see `metric_keys`) -> value. table: column -> one value per example. notes: for the user.

    calibration: what the scores were calibrated by. patterns: a row for each pattern, where several are read.
    """

    metrics: dict[str, float]
    table: dict[str, list[object]]
    notes: tuple[str, ...]
    calibration: Calibration | None = None
    patterns: Sequence[Mapping[str, object]] = ()


def evaluate(
    learner: Learner,
    split: str,
    examples: Sequence[Example],
    metric: str,
    slices: Sequence[tuple[str, ...]] = (),
    resamples: int = 1000,
    progress: ProgressCallback = silent,
    frozen_features: FrozenFeatures | None = None,
) -> Evaluation:
    """Score `examples`: the four metrics with 95 % intervals, calibration, reference values, slices.

    Examples without labels are answered, and nothing says how well.

    `outside_mass` is the mean probability that a verbalizer gives to words other than the label words (0 for a
    classifier, and for `pmi`, whose scores are no probabilities). A slice with examples of one label has its accuracy
    only.

    Args:
        learner: what scores them.
        split: its name, which the keys begin with.
        examples: those of the split.
        metric: the primary metric, which the notes are about.
        slices: combinations of dimensions; every combination of their values is a slice; those of the training split
            for `validation`.
        resamples: of the bootstrap; 0 computes no intervals.
        progress: called with the examples that are scored.
        frozen_features: as in `predict`.

    Raises:
        RunError: a score is not finite.
    """
    items = learner.items(examples)
    way = predict_apart if learner.encoder.nearest else predict
    score = partial(way, learner, progress=progress, stage=f"evaluate {split}", frozen_features=frozen_features)
    each = torch.stack([score(column) for column in zip(*(item.of_patterns for item in items), strict=True)])
    each = each.reshape(len(each), len(examples), *learner.task.score_shape)
    raw = each.mean(dim=0)
    calibration = learner.calibration_on(raw)
    scores = (calibration(raw) if calibration else raw).double().numpy()
    labels = np.array([e.label for e in examples])
    answers = scores.argmax(axis=-1)
    prompts = [item.prompt for item in items]
    notes, known = cut_note(split, prompts, learner.encoder), {"examples": float(len(examples))}
    known["prompt_tokens"] = float(np.mean([sum(read.size for read in prompt.reads) for prompt in prompts]))
    known["cut_share"] = cut_share(prompts)
    if UNLABELLED in labels:
        notes.append(unlabelled_note(split, [learner.task.written(answer) for answer in answers.tolist()]))
        table = prediction_table(learner.task, examples, scores)
        return Evaluation({str(MetricKey(split, k)): v for k, v in known.items()}, table, tuple(notes), calibration)
    patterns, spread = metrics_of_patterns(learner, split, each, labels)
    outside = learner.label_tokens.outside_mass(raw.flatten(0, -2).double().numpy()) if learner.label_tokens else 0.0
    metrics = metrics_of(learner.task, examples, scores, slices, resamples) | known | {"outside_mass": outside} | spread
    keyed = {str(MetricKey(split, name)): value for name, value in metrics.items()}
    keyed = collect(keyed, metrics_of_slices(learner.task, split, examples, answers, slices))
    if split != "validation":
        notes += missing_labels_note(split, learner.task.labels, {label for e in examples for label in e.labels})
        notes += chance_note(learner, split, metric, metrics, prompts)
    table = prediction_table(learner.task, examples, scores)
    return Evaluation(keyed, table, tuple(notes), calibration, patterns)


def metrics_of(
    task: Task,
    examples: Sequence[Example],
    scores: "np.ndarray",
    slices: Sequence[tuple[str, ...]] = (),
    resamples: int = 1000,
) -> dict[str, float]:
    """The metrics of calibrated scores of labelled examples, (examples, labels), as `evaluate` names them."""
    labels, answers = np.array([e.label for e in examples]), scores.argmax(axis=-1)
    found = outcomes_of(task, labels, answers)
    return {
        **found.values,
        **(found.intervals(resamples) if resamples else {}),
        **probability_metrics(labels, softmax(scores)),
        **found.references,
        **worst_slice(task, examples, answers, slices),
        "examples": float(len(examples)),
    }


def metrics_of_slices(
    task: Task, split: str, examples: Sequence[Example], answers: Labels, slices: Sequence[tuple[str, ...]]
) -> dict[str, float]:
    """Those of every slice, by their keys."""
    labels, groups = np.array([e.label for e in examples]), list[dict[str, float]]()
    for pairs, rows in slice_rows(task.labels, examples, slices).items():
        part = outcomes_of(task, labels[rows], answers[rows]).values
        several = len(np.unique(labels[rows], axis=0)) > 1 or "accuracy" not in part
        shown = part if several else {"accuracy": part["accuracy"]}
        shown |= {"examples": float(len(rows))}
        groups.append({str(MetricKey(split, name, pairs)): value for name, value in shown.items()})
    return collect(*groups)


def metrics_of_patterns(
    learner: Learner, split: str, scores: Tensor, labels: "np.ndarray"
) -> tuple[list[dict[str, object]], dict[str, float]]:
    """The metrics of each pattern, (patterns, rows, labels) before calibration, and their standard deviations."""
    if len(scores) < 2:
        return [], {}
    found = [outcomes_of(learner.task, labels, one.argmax(dim=-1).numpy()).values for one in scores]
    spread = {name + PATTERN_SD: float(np.std([row[name] for row in found], ddof=1)) for name in found[0]}
    return [
        {"split": split, "pattern": n, **row} for n, row in zip(learner.encoder.pattern_names, found, strict=True)
    ], spread


def slice_rows(
    labels: Sequence[str], examples: Sequence[Example], slices: Sequence[tuple[str, ...]]
) -> dict[Slice, list[int]]:
    """The (dimension, value) pairs of every slice, with the numbers of its rows."""
    rows: dict[Slice, list[int]] = {}
    for number, example in enumerate(examples):
        values = dict(example.slices) | dict(zip(("label",), (labels[place] for place in example.labels), strict=False))
        for dimensions in dict.fromkeys(slices):
            rows.setdefault(tuple((name, values[name]) for name in dimensions), []).append(number)
    return dict(sorted(rows.items()))


def worst_slice(
    task: Task, examples: Sequence[Example], answers: Labels, slices: Sequence[tuple[str, ...]]
) -> dict[str, float]:
    """The lowest accuracy of the slices, or of the labels where there are none; {} where rows have several labels.

    answers: (rows,), or (repeats, rows).
    """
    if task.multi_label:
        return {}
    right = (np.atleast_2d(answers) == np.array([e.label for e in examples])).mean(axis=0)
    rows = slice_rows(task.labels, examples, slices or (("label",),))
    return {WORST_SLICE: min(float(right[own].mean()) for own in rows.values())}


def prediction_table(task: Task, examples: Sequence[Example], scores: "np.ndarray") -> dict[str, list[object]]:
    """A row for each example: its place in its source, texts, label, answer, and the scores (examples, labels)."""
    names = task.labels
    answered: dict[str, list[object]] = {
        "label": [task.written(e.label) if e.label != UNLABELLED else "" for e in examples],
        "answer": [task.written(answer) for answer in scores.argmax(axis=-1).tolist()],
    }
    scores = scores[..., 1] if task.multi_label else scores
    answered |= {f"score_{name}": scores[:, i].tolist() for i, name in enumerate(names)}
    table: dict[str, list[object]] = {"row": [e.index for e in examples]}
    for i, column in enumerate(task.fields):
        while column in table or column in answered:  # a field may be called as one of our columns
            column = f"text_{column}"
        table[column] = [e.texts[i] for e in examples]
    return table | answered
