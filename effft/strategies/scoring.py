"""Scores of many prompts: equal ones once, in batches that suit the machine, a common prefix computed once."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from effft.data.examples import Example
from effft.distributed.process_group import process_group
from effft.errors import DivergedError
from effft.models.forward.batching import by_budget
from effft.models.forward.shared_prefix import SharedPrefix, common_prefix, share_starts
from effft.models.out_of_memory import run_in_parts
from effft.progress import ProgressCallback, silent
from effft.strategies.batch import Item, token_budget
from effft.strategies.learner import Learner
from effft.strategies.prompting import PromptEncoder
from effft.strategies.weights import each_member

PREFIX_BUDGET = 512
"""Tokens of a batch after a shared prefix: attention over the prefix costs its square, so batches stay small."""

FEATURE_BUDGET = 1 << 16
"""Tokens of prompts whose features are held at a time, so that memory does not grow with the evaluation set."""

FrozenFeatures = Callable[[Sequence[Item]], list[Item]]
"""`Learner.frozen_features`, or a cache of it."""


def predict(
    learner: Learner,
    items: Sequence[Item],
    budget: int = 0,
    progress: ProgressCallback = silent,
    stage: str = "score",
    frozen_features: FrozenFeatures | None = None,
    encoder: PromptEncoder | None = None,
) -> Tensor:
    """Scores of all items, (items, *score_shape) fp32 on the CPU, in their order.

    A text in windows has the scores of its windows, one in several patterns the mean of those in each; the scores of an
    ensemble are the mean of its members'.
    Equal prompts are scored once, prompts are sorted by length and batched, a common prefix is computed once, and
    several processes score a share each.

    Args:
        learner: what scores them.
        items: the prompts; their labels are not read.
        budget: padded tokens of a batch; 0 is what suits the machine.
        progress: called with `stage` and the number of prompts scored by this process.
        stage: what is shown as the stage.
        frozen_features: called with some thousand tokens of prompts at a time.
        encoder: what made the prompts, where it is not the learner's own.

    Raises:
        DivergedError: a score is not finite.
    """
    options = (budget, progress, stage, frozen_features, encoder or learner.encoder)
    return torch.stack([_predict(member, items, *options) for member in each_member(learner)]).mean(dim=0)


def _predict(
    learner: Learner,
    items: Sequence[Item],
    budget: int,
    progress: ProgressCallback,
    stage: str,
    frozen_features: FrozenFeatures | None,
    encoder: PromptEncoder,
) -> Tensor:
    """The scores of one model."""
    if items and items[0].prompt.patterns:
        columns = zip(*(item.of_patterns for item in items), strict=True)
        options = (budget, progress, stage, frozen_features, encoder)
        return torch.stack([_predict(learner, column, *options) for column in columns]).mean(dim=0)
    counts = [len(item.prompt.reads) for item in items]
    if sum(counts) > len(items):
        items = [item._replace(prompt=read, state=None) for item in items for read in item.prompt.reads]
        scores = _predict(learner, items, budget, progress, stage, frozen_features, encoder)
        return torch.stack([of_windows(part, encoder.windows) for part in torch.split(scores, counts)])
    group = process_group()
    unique: dict[tuple[tuple[int, ...], int], int] = {}
    places = [unique.setdefault((item.prompt.ids, item.prompt.answer), len(unique)) for item in items]
    first: dict[int, Item] = {}
    for place, item in zip(places, items, strict=True):
        first.setdefault(place, item)
    order = group.share(sorted(first, key=lambda place: first[place].length))
    scores = torch.zeros((len(first), *learner.score_shape), dtype=torch.float32)
    done = 0
    size = common_prefix([item.prompt.ids for item in first.values()]) if learner.shares_starts else 0
    with torch.no_grad() if group.sharded else torch.inference_mode():
        prior = learner.prior(encoder, items[0].prompt.pattern) if items else None
        prefix = SharedPrefix(learner.backbone, first[0].prompt.ids[:size]) if size and order else None
        padded = PREFIX_BUDGET if prefix else budget or token_budget(learner.backbone)
        chunks = by_budget(order, lambda place: first[place].length, FEATURE_BUDGET) if frozen_features else [order]
        batches = [
            (chunk, list(by_budget(chunk, lambda place: first[place].length - size, padded))) for chunk in chunks
        ]
        for _ in range(group.extra_passes(sum(len(parts) for _, parts in batches))):
            _scores(learner, None, prior, [first[0]])
        for chunk, parts in batches:
            if frozen_features:
                first.update(zip(chunk, frozen_features([first[place] for place in chunk]), strict=True))
            for part in parts:
                rows = run_in_parts(partial(_scores, learner, prefix, prior), [first[place] for place in part])
                scores[part] = torch.cat(rows)
                done += len(part)
                progress(stage, done, len(order))
            first.update((place, first[place]._replace(state=None)) for place in chunk if frozen_features)
    scores = group.all_reduce_sum(scores)
    check_finite(scores, learner.backbone.name)
    return scores[places]


def of_windows(scores: Tensor, how: str) -> Tensor:
    """The scores of a text, (labels), from those of its windows, (windows, labels): their mean, or the surest's.

    Where a text can have several labels, (windows, labels, 2), each label has a surest window of its own.
    """
    if how == "mean":
        return scores.mean(dim=0)
    if scores.ndim == 3:
        return torch.stack([of_windows(label, how) for label in scores.unbind(dim=1)])
    return scores[scores.log_softmax(dim=-1).max(dim=-1).values.argmax()]


def predict_apart(
    learner: Learner,
    items: Sequence[Item],
    progress: ProgressCallback = silent,
    stage: str = "score",
    frozen_features: FrozenFeatures | None = None,
) -> Tensor:
    """As `predict`, for prompts whose demonstrations differ: starts that some of them share are computed once."""
    groups = share_starts([item.prompt.ids for item in items]) if learner.shares_starts else [list(range(len(items)))]
    scores, done = torch.empty((len(items), *learner.score_shape)), 0
    for group in groups:
        part = [items[place] for place in group]
        scores[group] = predict(learner, part, 0, silent, stage, frozen_features)
        done += len(group)
        progress(stage, done, len(items))
    return scores


def score_examples(
    learner: Learner,
    examples: Sequence[Example],
    progress: ProgressCallback = silent,
    stage: str = "score",
    frozen_features: FrozenFeatures | None = None,
) -> Tensor:
    """Scores of examples, (examples, labels), or (examples, labels, 2) where one can have several labels.

    The arguments: see `predict`.
    """
    score = predict_apart if learner.encoder.nearest else predict
    items = learner.items(examples)
    scores = score(learner, items, progress=progress, stage=stage, frozen_features=frozen_features)
    return scores.reshape(len(examples), *learner.task.score_shape)


def check_finite(scores: Tensor, model: str) -> None:
    """Refuse to make answers of scores that are no numbers.

    Raises:
        DivergedError: a score is NaN or infinite.
    """
    bad = int((~torch.isfinite(scores).flatten(1).all(dim=1)).sum())
    if bad:
        raise DivergedError(
            f"the scores of {bad} of {len(scores)} prompts are not finite (NaN or infinite), so they are no answers; "
            f"the weights of {model!r} or what was trained on them hold such values, or the precision cannot hold the "
            "activations: train with --precision fp32 or a lower --learning-rate, or take another --model."
        )


def _scores(learner: Learner, prefix: SharedPrefix | None, prior: Tensor | None, items: Sequence[Item]) -> Tensor:
    if prefix:
        return learner.scores_after(prefix, items, prior).float().cpu()
    return learner.scores(learner.collate(items), prior=prior).float().cpu()
