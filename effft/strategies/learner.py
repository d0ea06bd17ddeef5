"""A strategy applied to a backbone for a task: it collates, scores, and computes the loss."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from effft.data.examples import UNLABELLED, Example
from effft.distributed.fsdp import apply_fsdp
from effft.distributed.process_group import process_group
from effft.models.backbone import Backbone, can_pack_sequences
from effft.models.forward.attention import use_own_attention
from effft.models.forward.batching import by_budget
from effft.models.forward.partial_forward import block_input, can_start_at_block, start_at_block
from effft.models.forward.rms_norm import use_own_norms
from effft.models.forward.shared_prefix import SharedPrefix, can_share
from effft.models.heads import LinearClassifier, SigmoidClassifier, has_words, pool
from effft.models.out_of_memory import run_in_parts
from effft.models.precision import store_in_bf16
from effft.models.quantization import elements
from effft.strategies import parts
from effft.strategies.batch import Batch, Counts, Item, collate, token_budget
from effft.strategies.calibration import Calibration, without_prior
from effft.strategies.losses import label_loss, pair_loss
from effft.strategies.prompting import PromptEncoder
from effft.strategies.risk import RiskCurve
from effft.strategies.strategy import Strategy
from effft.tasks.task import Task

GROUPS = ("embeddings", "blocks", "final_norm", "lm_head", "other", "adapter", "head")
"""Where a parameter is: five groups of the pre-trained model, then what a strategy adds."""


class Learner:
    """A backbone with what the strategy adds to it; building it changes the backbone in place (LoRA, biases, bf16).

    Args:
        generator: draws every new weight.
        precision: 'bf16' stores the backbone in bf16.

    Attributes:
        groups: group of parameters -> (trainable, total); tied weights count once.
        rate_factors: id of a trainable parameter -> what multiplies its learning rate, where that is not 1.
        remainders: id of a trainable bf16 parameter -> what rounding took from its fp32 value.
        in_rows: ids of those whose gradient is sparse: it has the rows of the words that a pass reads.
        packs_sequences: whether prompts are packed into one row without padding.
        calibration: what maps its scores to those that answer, once it is known; None for none.
        class_weights: of the labels in cross-entropy, `score_shape`; None where all weigh the same.
        members: values of what trains, of each model of an ensemble, whose scores are averaged; () for one model.
        risk_curve: how often its surest answers are wrong, out of fold; None where nothing was cross-validated.
    """

    calibration: Calibration | None = None
    class_weights: Tensor | None = None
    members: Sequence[dict[str, Tensor]] = ()
    risk_curve: RiskCurve | None = None

    def __init__(
        self,
        strategy: Strategy,
        task: Task,
        backbone: Backbone,
        encoder: PromptEncoder,
        generator: torch.Generator,
        precision: str = "fp32",
    ) -> None:
        self.strategy, self.task, self.backbone, self.encoder = strategy, task, backbone, encoder
        given = {id(p) for p in backbone.model.parameters()}
        chosen = strategy.trainable.open(backbone, generator)
        self.head: LinearClassifier | None = None
        if isinstance(strategy.head, parts.ClassifierHead | parts.SolvedHead):
            kind = SigmoidClassifier if task.multi_label else LinearClassifier
            by_cosine = isinstance(strategy.loss, parts.Contrastive)  # which says nothing about lengths
            self.head = kind(backbone.width, len(task.labels), generator, by_cosine).to(backbone.device)
            how = strategy.head.pooling
            self.pooling = ("last" if backbone.decoder else "mean") if how == "auto" else how
        self.label_tokens = encoder.label_tokens
        single = self.label_tokens is not None and len(self.label_tokens.contexts) == 1
        self.label_ids = torch.tensor(
            [ids[0] for ids in self.label_tokens.ids] if self.label_tokens else [], device=backbone.device
        )
        wanted = {id(p) for p in chosen} if strategy.trains else set()
        for parameter in backbone.model.parameters():
            parameter.requires_grad_(id(parameter) in wanted)
        self.groups = self._count(given)
        self.can_project_label_words = (
            single and not (backbone.has_device_map or process_group().sharded) and has_words(backbone.model)
        )
        factors = ((id(p), strategy.trainable.rate_factor(name)) for name, p in self.trainable_parameters.items())
        self.rate_factors = {key: factor for key, factor in factors if factor != 1}
        self.remainders: dict[int, Tensor] = {}
        self.in_rows: set[int] = set()
        rounds = precision == "bf16" and not backbone.has_device_map and not process_group().sharded
        tree = self.label_tokens is not None and self.label_tokens.tree is not None
        plain = not process_group().sharded and not strategy.trainable.virtual_tokens
        self.packs_sequences = can_pack_sequences(backbone) and plain and not tree
        if self.packs_sequences or rounds:
            use_own_attention(backbone.model)
            use_own_norms(backbone.model)
        if process_group().sharded:
            self._shard(precision == "bf16")
        elif rounds:
            beside = backbone.adapter.added if backbone.adapter and strategy.trainable.bf16 == "beside" else ()
            self.remainders = store_in_bf16(backbone.model, {id(p) for p in beside})
            if backbone.adapter:
                backbone.adapter.check_bf16()
            self._keep_gradients_to_rows()
        frozen, sharded = self.frozen_blocks, process_group().sharded
        within = strategy.trains and not sharded and 0 < frozen < len(backbone.layout.blocks)
        self._can_start = within and can_start_at_block(backbone, frozen)

    def _keep_gradients_to_rows(self) -> None:
        """On a CPU, compute and apply the gradients of only those embeddings whose words a pass reads."""
        model: Any = self.backbone.model
        reader: Any = self.backbone.reader
        alone = process_group().size == 1  # several processes add up dense gradients
        needs_vocabulary = self.head is None and not self.can_project_label_words
        if not alone or needs_vocabulary or self.backbone.device.type not in ("cpu", "meta"):
            return
        ends = [reader.get_input_embeddings(), model.get_output_embeddings() if self.can_project_label_words else None]
        self.in_rows = {id(end.weight) for end in ends if end is not None} & self.remainders.keys()
        ends[0].sparse = id(ends[0].weight) in self.in_rows

    def _shard(self, bf16: bool) -> None:
        """Shard the backbone over the processes; the head and the label ids stay whole, on the same device."""
        backbone = self.backbone
        root = backbone.model if self.head is None else backbone.body  # what `scores` calls
        apply_fsdp(root, backbone.layout.blocks, process_group().device, bf16)
        self.label_ids = self.label_ids.to(backbone.device)
        if self.head is not None:
            self.head.to(backbone.device)

    def _count(self, given: set[int]) -> dict[str, tuple[int, int]]:
        """Group -> (trainable, total) parameters; tied weights count once."""
        counts, known = dict.fromkeys(GROUPS, (0, 0)), self.backbone.layout.groups()
        inside = {id(p) for half in (self.backbone.reader, self.backbone.answerer) for p in half.parameters()}

        def group_of(p: nn.Parameter) -> str:
            if id(p) not in given:
                return "adapter"
            return known.get(id(p), "other") if id(p) in inside else "lm_head"

        named = [(group_of(p), p) for p in (*self.backbone.model.parameters(), *self._outside.values())]
        named += [("head", p) for p in (self.head.parameters() if self.head else ())]
        for group, parameter in named:
            moved, total = counts[group]
            size = elements(parameter)
            counts[group] = (moved + size * parameter.requires_grad, total + size)
        return counts

    @property
    def score_shape(self) -> tuple[int, ...]:
        """Of the scores of one item."""
        return self.encoder.task.score_shape

    @property
    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """Name -> trainable parameter, the backbone's first."""
        named = {n: p for n, p in self.backbone.model.named_parameters() if p.requires_grad}
        named |= {f"adapter.{n}": p for n, p in self._outside.items() if p.requires_grad}
        return named | {f"head.{n}": p for n, p in (self.head.named_parameters() if self.head else ())}

    @property
    def _outside(self) -> dict[str, nn.Parameter]:
        """Parameters of an adapter that the model itself does not hold."""
        return self.backbone.adapter.outside if self.backbone.adapter else {}

    @property
    def precision_type(self) -> torch.dtype:
        """The arithmetic of the backbone."""
        return next(self.backbone.model.parameters()).dtype

    @contextmanager
    def training(self) -> Iterator[None]:
        """While open, dropout is active before LoRA and in the blocks that train as a whole, nowhere else."""
        for module in self._active if self.strategy.trains else ():
            module.train()
        try:
            yield
        finally:
            for module in self._active:
                module.eval()

    @cached_property
    def _active(self) -> list[nn.Module]:
        """The modules that are in training mode while it trains; found once, as a walk through the model takes time."""
        self.backbone.model.eval()
        body = self.backbone.body
        whole = [m for m in (body, *self.backbone.layout.blocks) if all(p.requires_grad for p in m.parameters())]
        active = whole + [m for n, m in body.named_modules() if "lora_dropout" in n]
        return active + (self.backbone.adapter.layers if self.backbone.adapter else [])

    def as_backbone(self) -> AbstractContextManager[None]:
        """While open, before the first update, it answers as the frozen backbone does."""
        return self.backbone.adapter.as_backbone() if self.backbone.adapter else nullcontext()

    def after_update(self, index: int, total: int) -> None:
        """What an adapter does after update `index` (from 1) of `total`."""
        if self.backbone.adapter:
            self.backbone.adapter.after_update(index, total)

    def items(self, examples: Sequence[Example], labelled: bool = True, leave_out: bool = False) -> list[Item]:
        """Examples as items, one for each question about them; unlabelled ones get -1.

        leave_out: as in `PromptEncoder.encode`.
        """
        asked = self.encoder.questions(examples)
        prompts = self.encoder.encode([e.texts for e in asked], leave_out)
        return [Item(p, e.label if labelled else UNLABELLED) for p, e in zip(prompts, asked, strict=True)]

    def collate(self, items: Sequence[Item]) -> Batch:
        """One batch, packed where the model supports it; no token ever attends to padding."""
        return collate(items, self.backbone, self.packs_sequences)

    def scores(self, batch: Batch, label_words_only: bool = False, prior: Tensor | None = None) -> Tensor:
        """Label scores, (batch, labels), or (batch, labels, 2) where a row can have several (`Task.score_shape`).

        A classifier gives logits; a verbalizer the log-probabilities of the label words over the whole vocabulary
        at the answer position, of several tokens their sum or mean (`LabelTokens`). label_words_only: over the label
        words where the model can project to them alone; losses are the same, since they depend on the differences
        between scores. prior: as `prior` gives it.
        """
        if self.head is not None:
            return self._classify(self._pooled(batch))
        words = self.label_ids if label_words_only and self.can_project_label_words else None
        with self._from(batch.states):
            answers = batch.answers + (batch.packing.starts if batch.packing else 0)
            logits = self.backbone.answer_logits(batch.inputs, answers, batch.rows, batch.packing, words)
        return self._label_scores(logits, prior, whole_vocabulary=words is None)

    def prior(self, encoder: PromptEncoder, pattern: int = 0, label_words_only: bool = False) -> Tensor | None:
        """What `pmi` subtracts, (1, labels): the sums after a prompt of the encoder without texts; else None."""
        if self.label_tokens is None or self.label_tokens.score != "pmi":
            return None
        without = encoder.without_texts
        item = Item((without.patterns or (without,))[pattern], -1)
        return self.scores(self.collate([item]), label_words_only)

    def scores_after(self, start: SharedPrefix, items: Sequence[Item], prior: Tensor | None = None) -> Tensor:
        """Label scores of prompts that begin with `start`, (items, labels). prior: as in `scores`."""
        rests = [item.prompt.ids[start.size :] for item in items]
        answers = torch.tensor([item.prompt.answer - start.size for item in items], device=self.backbone.device)
        if self.head is None:
            return self._label_scores(start.logits(rests, answers, items[0].prompt.tree), prior)
        return self._classify(start.states(rests, answers))

    def calibration_on(self, scores: Tensor) -> Calibration | None:
        """The calibration of scores, (rows, labels), of one split: its own where these rows are the batch."""
        if not self.strategy.calibrates_batches:
            return self.calibration
        return without_prior(scores).scaled(self.calibration.scale if self.calibration else 1.0)

    @property
    def shares_starts(self) -> bool:
        """Whether a common start of prompts can be computed once: scores depend on one position after it."""
        sharded = process_group().sharded  # sharing calls the body alone, which holds no whole parameters then
        if sharded or self.strategy.trainable.virtual_tokens:
            return False
        return can_share(self.backbone) and (self.head is None or self.pooling == "last")

    def _label_scores(self, logits: Tensor, prior: Tensor | None, whole_vocabulary: bool = True) -> Tensor:
        scores = (logits.float() if logits.dtype == torch.bfloat16 else logits).log_softmax(dim=-1)
        scores = self.label_tokens.combine(scores) if whole_vocabulary and self.label_tokens else scores
        return scores if prior is None else scores - prior

    def _pooled(self, batch: Batch) -> Tensor:
        if batch.states is not None and batch.states.ndim == 2:
            return batch.states
        with self._from(batch.states):
            if batch.packing is None:
                return pool(self.backbone.hidden(batch.inputs), batch.inputs["attention_mask"], self.pooling)
            positions = batch.packing.pooled_positions(self.pooling)
            return batch.packing.pool(self.backbone.hidden(batch.inputs, batch.packing, positions)[0], self.pooling)

    def _classify(self, pooled: Tensor) -> Tensor:
        assert self.head is not None
        scores: Tensor = self.head(pooled.to(self.head.linear.weight.dtype))
        return scores

    def _from(self, states: Tensor | None) -> AbstractContextManager[None]:
        return nullcontext() if states is None else start_at_block(self.backbone, states, self.frozen_blocks)

    @property
    def frozen_blocks(self) -> int:
        """Number of blocks at the bottom whose output never changes: nothing in or below them trains."""
        layout = self.backbone.layout
        if any(p.requires_grad for module in layout.embeddings for p in module.parameters()):
            return 0
        moving = [any(p.requires_grad for p in block.parameters()) for block in layout.blocks]
        if self.backbone.adapter:
            own, inside = self.backbone.adapter, [{*block.parameters()} for block in layout.blocks]
            if any(all(p not in block for block in inside) for p in own.parameters):
                return 0
            layers = {*own.layers}
            moving = [not layers.isdisjoint(block.modules()) for block in layout.blocks]
        return moving.index(True) if any(moving) else len(moving)

    @property
    def has_frozen_part(self) -> bool:
        """Whether `frozen_features` has something to compute."""
        frozen = self.frozen_blocks
        if not self.strategy.trains or frozen == 0 or process_group().sharded:  # shards are gathered in whole passes
            return False
        if self.label_tokens is not None and self.label_tokens.sequences > 1:  # an item has states for one sequence
            return False
        if frozen < len(self.backbone.layout.blocks):
            return self._can_start
        return self.head is not None and not any(p.requires_grad for p in self.backbone.model.parameters())

    def frozen_features(self, items: Sequence[Item]) -> list[Item]:
        """The items with the output of the frozen part as their state; unchanged where nothing is frozen.

        That is the pooled state where the whole body is frozen below a classifier, else the hidden states entering
        the lowest block that trains. It depends on the items as a set only: the same items give the same bits.
        """
        if not self.has_frozen_part:
            return list(items)
        whole = self.frozen_blocks == len(self.backbone.layout.blocks)
        fresh = [item._replace(state=None) for item in items]
        states = self._in_batches(self._pooled_rows if whole else self._entering, fresh)
        return [item._replace(state=state) for item, state in zip(items, states, strict=True)]

    def pooled_states(self, items: Sequence[Item]) -> Tensor:
        """What a classifier reads of each item, (items, width), from the model as it is now."""
        return torch.stack(self._in_batches(self._pooled_rows, items))

    def _in_batches(self, compute: Callable[[Sequence[Item]], list[Tensor]], items: Sequence[Item]) -> list[Tensor]:
        """What `compute` makes of each item, by length in batches."""
        order = sorted(range(len(items)), key=lambda i: (items[i].length, items[i].prompt.ids))
        states: dict[int, Tensor] = {}
        for group in by_budget(order, lambda i: items[i].length, token_budget(self.backbone)):
            parts = run_in_parts(compute, [items[i] for i in group])
            states |= dict(zip(group, (state for part in parts for state in part), strict=True))
        return [states[i] for i in range(len(items))]

    def _pooled_rows(self, items: Sequence[Item]) -> list[Tensor]:
        """The pooled state of each item of one batch."""
        with torch.no_grad():
            return list(self._pooled(self.collate(items)).cpu())

    def _entering(self, items: Sequence[Item]) -> list[Tensor]:
        """The states that enter the lowest block that trains, for each item of one batch."""
        batch = self.collate(items)
        with torch.no_grad():
            states = block_input(self.backbone, batch.inputs, self.frozen_blocks, batch.packing)[0].cpu()
        if batch.packing is not None:
            return batch.packing.unpack(states)
        return [states[row, : item.length].clone() for row, item in enumerate(items)]

    def loss(self, batch: Batch, step_counts: Counts | None = None) -> Tensor:
        """The loss of the strategy on one batch, a scalar: the batch mean.

        Args:
            batch: a whole optimizer step, or a part of one.
            step_counts: the counts of the optimizer step that the batch is a part of. The losses of the batches then
                add up to the loss of the step, however it is cut into batches. Class weights are normalised by their
                mean over the step, as torch's CrossEntropyLoss(weight) does.
        """
        labels = batch.labels
        examples = step_counts.examples if step_counts else len(labels)
        penalty = self.backbone.adapter.penalty() if self.backbone.adapter else None
        extra = 0.0 if penalty is None else penalty * len(labels) / examples
        if isinstance(self.strategy.loss, parts.Contrastive) and self.head is not None:
            return pair_loss(self._pooled(batch).to(self.head.linear.weight.dtype), labels) / examples + extra
        prior = self.prior(self.encoder, label_words_only=True)
        scores = self.scores(batch, label_words_only=True, prior=prior)
        return label_loss(self.strategy.loss, scores, labels, batch.teacher, self.class_weights, step_counts) + extra
