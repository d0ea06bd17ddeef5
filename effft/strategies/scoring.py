"""Scores of many prompts: equal ones once, in batches that suit the machine, a common start read once."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from effft.distributed.process_group import process_group
from effft.models.forward.batching import by_budget
from effft.models.forward.shared_prefix import SharedPrefix, common_prefix
from effft.models.out_of_memory import run_in_parts
from effft.strategies.batch import Item, token_budget
from effft.strategies.learner import Learner

PACKED = 512
"""Tokens of one packed row: attention over a row costs its square, so rows stay short."""

RECALLED = 1 << 16
"""Tokens of prompts whose kept states are held at a time: a large evaluation set needs no more memory than a small."""

Recall = Callable[[Sequence[Item]], list[Item]]
"""`Learner.recall`, or one that remembers."""


def _scores(learner: Learner, start: SharedPrefix | None, items: Sequence[Item]) -> Tensor:
    found = learner.scores_after(start, items) if start else learner.scores(learner.collate(items))
    return found.float().cpu()


def predict(
    learner: Learner,
    items: Sequence[Item],
    budget: int = 0,
    watch: Callable[[int, int], None] = lambda done, total: None,
    recall: Recall | None = None,
) -> Tensor:
    """Scores of all items, (items, labels) fp32 on the CPU, in their order.

    Equal prompts are scored once; prompts are sorted by length and batched up to `budget` padded tokens (0: what
    suits the machine), so little is spent on padding; a start common to all is read once. Several processes score a
    share each. watch: called with (prompts done, prompts in all) of this process. recall: called with some thousand
    tokens of prompts at a time.
    """
    here = process_group()
    unique: dict[tuple[tuple[int, ...], int], int] = {}
    where = [unique.setdefault((item.prompt.ids, item.prompt.answer), len(unique)) for item in items]
    first: dict[int, Item] = {}
    for place, item in zip(where, items, strict=True):
        first.setdefault(place, item)
    order = here.share(sorted(first, key=lambda place: first[place].length))
    scores = torch.zeros((len(first), len(learner.task.labels)), dtype=torch.float32)
    done = 0
    size = common_prefix([item.prompt.ids for item in first.values()]) if learner.shares_starts else 0
    with torch.no_grad() if here.sharded else torch.inference_mode():
        start = SharedPrefix(learner.backbone, first[0].prompt.ids[:size]) if size and order else None
        padded = PACKED if start else budget or token_budget(learner.backbone)
        holds = by_budget(order, lambda place: first[place].length, RECALLED) if recall else [order]
        cut = [(held, list(by_budget(held, lambda place: first[place].length - size, padded))) for held in holds]
        for _ in range(here.extra_passes(sum(len(groups) for _, groups in cut))):
            _scores(learner, None, [first[0]])
        for held, groups in cut:
            if recall:
                first.update(zip(held, recall([first[place] for place in held]), strict=True))
            for group in groups:
                found = run_in_parts(partial(_scores, learner, start), [first[place] for place in group])
                scores[group] = torch.cat(found)
                done += len(group)
                watch(done, len(order))
            first.update((place, first[place]._replace(state=None)) for place in held if recall)
    return here.all_reduce_sum(scores)[where]
