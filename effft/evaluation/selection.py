"""Which epoch is kept: the best on a validation draw, or the last."""

from collections.abc import Callable, Mapping, Sequence

import torch

from effft.evaluation.metrics import WORST_SLICE, Labels
from effft.evaluation.outcomes import outcomes_of
from effft.strategies.batch import Item
from effft.strategies.learner import Learner
from effft.strategies.scoring import FrozenFeatures, predict
from effft.strategies.weights import Weights, set_weights, weights_of


class BestEpoch:
    """Scores the validation items after an epoch and keeps the best epoch's trained parameters in memory.

    A later epoch must be better, not equal.

    Args:
        items: without any, every epoch is as good as another, and the last is kept.
        metric: the metric that decides.
        patience: epochs without a better one after which `exhausted` is true; 0 never.
        frozen_features: as in `predict`; a cache, as the items are scored after every epoch.
        worst: gives the worst slice of answers, which counts where it is the metric.
    """

    def __init__(
        self,
        learner: Learner,
        items: Sequence[Item],
        metric: str,
        patience: int,
        frozen_features: FrozenFeatures,
        worst: Callable[[Labels], Mapping[str, float]],
    ) -> None:
        self.worst = worst
        self.learner, self.items, self.metric, self.frozen_features = learner, items, metric, frozen_features
        self.patience, self.value, self.epoch, self.exhausted = patience, float("-inf"), 0, False
        self.labels = torch.tensor([item.label for item in items]).numpy()
        self.weights: Weights = {}

    def evaluate_epoch(self, epoch: int) -> dict[str, float]:
        """The validation metrics of the epoch that just ended; {} without items."""
        if not self.items:
            return {}
        answers = predict(self.learner, self.items, frozen_features=self.frozen_features).argmax(dim=-1).numpy()
        task, rows = self.learner.task, (-1, *self.learner.task.score_shape[:-1])  # of several questions a row
        metrics = outcomes_of(task, self.labels.reshape(rows), answers.reshape(rows)).values
        if self.metric == WORST_SLICE:
            metrics = {**metrics, **self.worst(answers)}
        if metrics[self.metric] > self.value:
            self.value, self.epoch = metrics[self.metric], epoch
            self.weights = weights_of(self.learner)
        self.exhausted = 0 < self.patience <= epoch - self.epoch
        return metrics

    def restore(self) -> None:
        """Put the best epoch's parameters back."""
        if self.weights:
            set_weights(self.learner, self.weights)
