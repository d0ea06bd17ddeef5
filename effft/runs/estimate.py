"""What a run would take, before it: parameters, bytes, floating-point operations, seconds. No weights are loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from effft.config import RunConfig
from effft.data.examples import ExampleSet
from effft.errors import InputError
from effft.evaluation.metric_keys import CROSS_VALIDATED
from effft.models.backbone import Backbone
from effft.models.conversion import explained
from effft.models.description import resolve_device
from effft.models.forward.partial_forward import block_input
from effft.models.forward.shared_prefix import can_share, common_prefix
from effft.models.skeleton import NO_ESTIMATE, skeleton
from effft.profiling.matmul_rate import matmul_rate
from effft.profiling.meta_memory import measure_meta
from effft.runs.plan import Fold, Plan, prepare, prepare_validation
from effft.runs.resolved import threads_of
from effft.runs.session import Session
from effft.strategies.batch import Batch, Item, token_budget
from effft.strategies.learner import Learner
from effft.strategies.parts import DistillKL
from effft.strategies.prompting import EncodedPrompt, PromptEncoder
from effft.training.microbatch import MicroBatches
from effft.training.optimizer import CHUNK

LOOKED_AT = 512  # Prompts of a split whose lengths are looked at.

LIBRARIES = 110_000_000
"""Bytes of code, compiled products and tokenizer that a run adds to the process (measured, OPT-125M: 90 to 130 MB)."""

LAYOUT, LAYOUT_ONE = 2.2, 1.6
"""What activations take of the memory over their own size: malloc keeps the holes that passes of other sizes leave.

Of one pass a step less (measured on four architectures: 1.3 to 1.9) than of several.
"""

REACHED = 0.5  # Share of the matmul rate that training and evaluation reached on OPT-125M (measured: .45 to .6).
UPDATE = 2.2e-9  # Seconds a moving parameter costs an update (measured: 125 million in 0.27 s).


@dataclass(frozen=True)
class Estimate:
    """What one run would take; sizes in bytes.

    weights: as stored while training, with what fp32 masters have beyond bf16 copies. activations: the most that a
    micro-batch holds beyond these.
    peak: of the run, loading included. flops: of training and of evaluating all splits.
    """

    strategy: str
    precision: str
    total: int
    trainable: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    peak: int
    train_flops: float
    evaluation_flops: float
    train_seconds: float
    evaluation_seconds: float


class Skeletons(Session):
    """A session whose backbones have no weights."""

    def loaded_backbone(self, config: RunConfig, lm_head: bool) -> Backbone:
        """Shapes only."""
        key = (config.model, config.revision, str(lm_head), "meta")
        if key not in self._backbones:
            self._backbones[key] = skeleton(config.model, config.revision, lm_head)
        return self._backbones[key]


def estimate(config: RunConfig, session: Skeletons, fold: Fold | None = None) -> Estimate:
    """Run the strategy's own code on the meta device: a micro-batch twice, and an evaluation batch.

    fold: of a training that is validated on this fold of the examples, and opens no split but `train`.
    """
    if config.quantize != "none":
        raise InputError(f"quantize={config.quantize}: an estimate knows fp32 and bf16 alone; leave --quantize out.")
    plan = prepare_validation(config, session, fold) if fold else prepare(config, session)
    if plan.strategy.trainable.virtual_tokens:
        raise InputError(f"strategy {plan.strategy.name!r}: an estimate knows no virtual tokens; `effft run` tells.")
    if plan.expert is not None:
        raise InputError(f"strategy {plan.strategy.name!r}: an estimate knows one model a run; leave '+pet' out.")
    backbone = session.working_backbone(config, plan.strategy.needs_lm_head)
    taught = isinstance(plan.strategy.loss, DistillKL)
    reader = PromptEncoder(plan.strategy, plan.task, backbone, config.max_length, () if taught else plan.demonstrations)
    precision = plan.resolved.precision
    learner = Learner(plan.strategy, plan.task, backbone, reader, torch.Generator(), precision)
    if learner.head is not None:
        learner.head.to("meta")
    held = _held(learner, plan)
    own, fits = ExampleSet("train", plan.draw.train, ""), 1 + (plan.folds.fits if plan.folds else 0)
    scored = plan.evaluated | ({CROSS_VALIDATED: own} if fits > 1 or not plan.evaluated else {})
    evaluated_tokens, (rows, longest) = _lengths(learner, scored)
    with explained(config.model, *NO_ESTIMATE):
        with measure_meta(_weights(learner)) as live, torch.no_grad():
            learner.scores(_blank(learner, [longest] * rows))
        learning = _learning(learner, plan, held.gradients) if plan.strategy.trains else Work(0, 0, 0.0)
    scored_flops = live.flops / (rows * longest)
    teaching = _teaching(plan, backbone) * scored_flops if taught else 0.0
    moved, total = (sum(sizes) for sizes in zip(*learner.groups.values(), strict=True))
    trainings, members = fits * plan.trainings, config.ensemble or 1
    train_flops = trainings * learning.flops + fits * teaching
    evaluation_flops = members * scored_flops * evaluated_tokens
    threads = threads_of(config, backbone.width)
    rate = REACHED * matmul_rate(resolve_device(config.device), learner.precision_type, threads)
    kept = 4 * moved * (1 + (config.soup or 1) + members) if plan.averages else 0
    training = held.weights + held.gradients + held.optimizer + learning.taken
    return Estimate(
        plan.strategy.name, precision, total, moved, held.weights, held.gradients, held.optimizer,
        max(learning.activations, live.peak),
        max(held.loading, LIBRARIES + kept + max(training, held.weights + live.peak)),
        train_flops, evaluation_flops,
        train_flops / rate + trainings * plan.resolved.steps * moved * UPDATE, evaluation_flops / rate,
    )  # fmt: skip


class Held(NamedTuple):
    """Bytes: of weights (remainders of masters included), gradients, optimizer state, and the most while loading."""

    weights: int
    gradients: int
    optimizer: int
    loading: int


class Work(NamedTuple):
    """Of all training: bytes beyond what is held, the same with the holes between them, operations."""

    activations: int
    taken: int
    flops: float


def _held(learner: Learner, plan: Plan) -> Held:
    given = list(learner.backbone.model.parameters())
    moving = list(learner.trainable_parameters.values())
    remainders = sum(2 * p.numel() for p in moving if id(p) in learner.remainders)
    weights = sum(p.numel() * p.element_size() for p in given) + remainders
    read = {token for item in _train_items(learner, plan) for token in item.prompt.ids}
    words = len(read.union(*(learner.label_tokens.ids if learner.label_tokens else ())))
    sizes = [min(len(p), words) * p.shape[1] if id(p) in learner.in_rows else p.numel() for p in moving]
    gradients = sum(size * p.element_size() for size, p in zip(sizes, moving, strict=True))
    gradients += 8 * CHUNK if remainders > 2 * CHUNK else 0
    file = sum(4 * p.numel() for p in given)  # mapped until its last weight is converted
    loading = file + weights if learner.remainders or weights < file else weights
    return Held(weights, gradients, 8 * sum(sizes), loading)


def _train_items(learner: Learner, plan: Plan) -> list[Item]:
    rows = [*learner.encoder.learned(plan.draw.train), *plan.unlabelled]
    return [one for item in learner.items(rows) for one in item.of_patterns]


def _weights(learner: Learner) -> list[Tensor]:
    model = learner.backbone.model
    return [*model.parameters(), *model.buffers(), *(learner.head.parameters() if learner.head else ())]


def _lengths(learner: Learner, evaluated: Mapping[str, ExampleSet]) -> tuple[float, tuple[int, int]]:
    """Tokens that evaluation reads, and the size of a typical batch (rows, length).

    From at most `LOOKED_AT` prompts a split; a start that all share is read once a split.
    """
    tokens, lengths = 0.0, []
    for split in evaluated.values():
        items = learner.items(split.part(LOOKED_AT).examples)
        reads = [read for item in items for read in item.prompt.reads]
        start, rests = _parted(reads, learner.shares_starts)
        tokens += start + sum(rests) / len(items) * len(split)
        lengths += rests
    longest = max(lengths)
    return tokens, (max(1, token_budget(learner.backbone) // longest), longest)


def _parted(reads: Sequence[EncodedPrompt], shares: bool) -> tuple[int, list[int]]:
    """Tokens of the starts, one for each pattern where prompts share it, and of the rest of each prompt."""
    patterns = {read.pattern for read in reads}
    starts = {n: common_prefix([read.ids for read in reads if read.pattern == n]) if shares else 0 for n in patterns}
    return sum(starts.values()), [read.size - starts[read.pattern] for read in reads]


def _blank(learner: Learner, lengths: Sequence[int], states: Tensor | None = None) -> Batch:
    """A batch of prompts for which the model reads so many tokens."""
    label_tokens = learner.label_tokens
    prompts = [label_tokens.prompt_of(length) if label_tokens else length for length in lengths]
    items = [Item(EncodedPrompt((0,) * n, None, n - 1, cut=False, label_tokens=label_tokens), 0) for n in prompts]
    return replace(learner.collate(items), states=states)


def _learning(learner: Learner, plan: Plan, gradients: int) -> Work:
    """The largest micro-batch of a step of typical prompts, forwards and backwards."""
    lengths = sorted(item.length for item in _train_items(learner, plan))
    size = min(plan.config.batch_size, len(lengths)) * plan.strategy.loss.texts
    step = [lengths[(2 * i + 1) * len(lengths) // (2 * size)] for i in range(size)]
    parts = MicroBatches(learner)
    runs = [step[part] for part in parts.cut(step)]
    read = [sum(run) if learner.packs_sequences else len(run) * run[-1] for run in runs]
    most, largest = max(zip(read, runs, strict=True))
    states, below = _frozen(learner, largest)
    with measure_meta(_weights(learner)) as live, learner.training():
        for _ in range(2):
            learner.scores(_blank(learner, largest, states), label_words_only=True).sum().backward()  # type: ignore[no-untyped-call]
    per_token = live.flops / (2 * most)
    activations, layout = max(0, live.peak - gradients), LAYOUT if len(runs) > 1 else LAYOUT_ONE
    flops = plan.resolved.steps * sum(read) * per_token + below * sum(lengths)
    return Work(activations, round(layout * activations), flops)


def _frozen(learner: Learner, lengths: Sequence[int]) -> tuple[Tensor | None, float]:
    """What the frozen part would hand on for a batch, and its operations a token."""
    if not learner.has_frozen_part:
        return None, 0.0
    blank, index = _blank(learner, lengths), learner.frozen_blocks
    with measure_meta(_weights(learner)) as live, torch.no_grad():
        if index == len(learner.backbone.layout.blocks):
            states = torch.empty((len(lengths), learner.backbone.width), dtype=learner.precision_type, device="meta")
            learner.scores(blank)
        else:
            states = block_input(learner.backbone, blank.inputs, index, blank.packing)[0]
    return states, live.flops / blank.inputs["input_ids"].numel()


def _teaching(plan: Plan, backbone: Backbone) -> float:
    """Tokens the teacher reads: the demonstrations once, where its model can."""
    reader = PromptEncoder(plan.strategy, plan.task, backbone, plan.config.max_length, plan.demonstrations)
    prompts = reader.encode([e.texts for e in reader.questions((*plan.draw.train, *plan.unlabelled))])
    start, rests = _parted([read for prompt in prompts for read in prompt.reads], can_share(backbone))
    return start + sum(rests)
