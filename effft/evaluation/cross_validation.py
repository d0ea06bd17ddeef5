"""The out-of-fold estimate of a task without a test file: every training example scored by models that never saw it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from effft.data.examples import Example
from effft.errors import InputError
from effft.evaluation.evaluate import Evaluation, prediction_table, worst_slice
from effft.evaluation.metric_keys import CROSS_VALIDATED, MetricKey
from effft.evaluation.metrics import Array, probability_metrics, softmax
from effft.evaluation.outcomes import bounds, outcomes_of
from effft.tasks.task import Task

ROW_WEIGHT = 0.7
"""What a row counts in the intervals: less than one, because the folds' models, and the final one, vary with the rows
too, which resampling rows alone leaves out (Bates, Hastie and Tibshirani 2021, arXiv 2104.00673). Set by the coverage
that was measured: with 1, a 95 % interval held the value in 64 of 72 draws of one task (docs/results.md)."""

FEW = 8
"""Rows of a label below which it is named with an interval of its own."""


@dataclass(frozen=True)
class Folds:
    """Stratified k-fold, `repeats` times with other folds and other seeds."""

    folds: int
    repeats: int

    @property
    def fits(self) -> int:
        """Models that are trained for the estimate."""
        return self.folds * self.repeats


def folds_of(setting: str, task: Task, train: Sequence[Example]) -> Folds | None:
    """How the training examples are cross-validated; None where they are not.

    By size: 10 folds 3 times below 100 examples, 5 folds twice below 500, else once. No two rows of a label with fewer
    rows than folds share a fold.

    Args:
        setting: `cross_validation`: 'auto', 'none' or folds x repeats.
        task: `auto` cross-validates where it has no in-domain split.
        train: the examples.

    Raises:
        InputError: a label with one example, or more folds than examples.
    """
    if setting == "none" or (setting == "auto" and task.in_domain):
        return None
    count, of_label = len(train), Counter(label for example in train for label in example.labels)
    for label, name in enumerate(task.labels):
        if of_label[label] < 2:
            ways = ["add rows of it", "raise --rows or --per-label"]
            if setting == "auto":  # a search and a choice know no other way
                ways += ["name a test file (--test, or `in_domain` of a task file)"]
                ways += ["leave it out (--cross-validation none)"]
            raise InputError(
                f"label {name!r} has {of_label[label]} of the {count} training rows; cross-validation needs 2 of every "
                f"label: {', '.join(ways[:-1])}, or {ways[-1]}."
            )
    if setting == "auto":
        folds, repeats = (10, 3) if count < 100 else (5, 2) if count < 500 else (5, 1)
        return Folds(min(folds, count), repeats)
    folds, repeats = map(int, setting.split("x"))
    if folds > count:
        raise InputError(
            f"cross_validation={setting}: {count} training rows make at most {count} folds (flag --cross-validation)."
        )
    return Folds(folds, repeats)


def evaluate_out_of_fold(task: Task, examples: Sequence[Example], scores: Array, resamples: int) -> Evaluation:
    """The metrics of out-of-fold scores with 95 % intervals; the recall of every label as a slice.

    A row that the repeats answer differently counts in part for each answer. What probabilities are worth is the mean
    over repeats too, as of one model: an average of models is surer to be right than each of them.

    Args:
        task: the labels and fields.
        examples: the rows, those of the training split.
        scores: (repeats, rows, *score_shape) log-probabilities or logits.
        resamples: draws for the intervals; 0 computes none.
    """
    labels = np.array([e.label for e in examples])
    found = outcomes_of(task, labels, scores.argmax(axis=-1))
    each = softmax(scores)
    probabilities = each.mean(axis=0)
    draws = found.posterior(ROW_WEIGHT, resamples)
    right, wrong = (found.metrics(half) for half in draws)
    ends = bounds({name: np.stack([right[name], wrong[name]]) for name in right}) if resamples else {}
    metrics = found.values | ends
    worth = [probability_metrics(labels, repeat) for repeat in each]
    metrics |= {name: float(np.mean([one[name] for one in worth])) for name in worth[0]}
    metrics |= found.references | {"examples": float(len(labels))}
    keyed = {str(MetricKey(CROSS_VALIDATED, name)): value for name, value in metrics.items()}
    recalls, notes = found.recalls(found.weights[None])[0], []
    halves = found.posterior(ROW_WEIGHT, resamples, found.spread)
    draws_of_recall = np.stack([found.recalls(half) for half in halves])
    for label, (name, count) in enumerate(zip(task.labels, found.rows_of_labels.tolist(), strict=True)):
        key = MetricKey(CROSS_VALIDATED, "accuracy", (("label", name),))
        recall = float(recalls[label])
        keyed |= {str(key): recall, str(MetricKey(CROSS_VALIDATED, "examples", key.slice)): float(count)}
        if resamples:
            ends = bounds({str(key): draws_of_recall[..., label]})
            keyed |= ends
            if count < FEW:
                low, high = ends.values()
                notes.append(
                    f"label {name!r} has only {count} rows: its recall is {recall:.2f} [{low:.2f}, {high:.2f}], "
                    "out of fold."
                )
    worst = worst_slice(task, examples, scores.argmax(axis=-1), task.train.slices)
    keyed |= {str(MetricKey(CROSS_VALIDATED, name)): value for name, value in worst.items()}
    log_probabilities = np.log(np.maximum(probabilities, 1e-12))
    return Evaluation(keyed, prediction_table(task, examples, log_probabilities), tuple(notes))
