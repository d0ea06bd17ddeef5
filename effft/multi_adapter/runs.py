"""Plans that are trained and validated side by side: they enter a group, and their results come out."""

import time
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import torch

from effft.distributed.process_group import process_group
from effft.errors import MemoryShortError, RunError
from effft.evaluation.metrics import four_metrics
from effft.evaluation.selection import Best
from effft.models.backbone import Backbone
from effft.models.forward.attention import use_own_attention
from effft.models.out_of_memory import out_of_memory, release_memory
from effft.multi_adapter.adapters import can_share_biases, can_share_lora
from effft.multi_adapter.member import Member, new_member
from effft.multi_adapter.trainer import MultiAdapterTrainer
from effft.profiling.resources import ResourceMeter, megabytes
from effft.runs.experiment import StopCallback, training_items
from effft.runs.plan import Plan, prompt_encoders
from effft.strategies.batch import Item
from effft.strategies.parts import BitFit, LoRA, Verbalizer
from effft.strategies.scoring import check_finite
from effft.training.loop import Step


@dataclass(frozen=True)
class RunResult:
    """The outcome of a plan.

    Attributes:
        value: the primary metric on validation.
        resources: its share of what the group took (docs/packed.md), by the names that a lone run reports.
        failure: why there is no value.
    """

    key: Hashable
    value: float = float("nan")
    resources: dict[str, float] = field(default_factory=dict)
    failure: Exception | None = None


@dataclass(frozen=True)
class _Waiting:
    key: Hashable
    plan: Plan
    should_stop: StopCallback | None


@dataclass(eq=False)
class _Run:
    """A plan in training. Seconds and tokens are its share so far; `neighbours` adds up the group's size by step."""

    waiting: _Waiting
    member: Member
    validation: list[Item]
    best: Best
    last: float = float("nan")
    ended: bool = False
    train_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    tokens: int = 0
    neighbours: int = 0

    @property
    def selects(self) -> bool:
        return self.waiting.plan.config.selection == "validation"

    def validates_after(self, step: Step) -> bool:
        scores_epochs = self.selects or self.waiting.should_stop is not None
        return step.index == step.total or (step.ends_epoch and scores_epochs)

    def validated(self, step: Step, value: float) -> None:
        """What `runs.experiment` does after an epoch: keep the best, ask the callback, and perhaps end."""
        self.last, should_stop = value, self.waiting.should_stop
        if self.selects or should_stop is not None:
            self.best.update(step.epoch, value)
        stops = should_stop is not None and should_stop(step.epoch, value)
        self.ended = step.index == step.total or stops or (self.selects and self.best.exhausted)


def can_share_passes(plan: Plan) -> bool:
    """Whether the plan can be packed: BitFit, or LoRA without dropout (dropout masks depend on how batches are cut)."""
    part, config = plan.strategy.trainable, plan.config
    if config.quantize != "none" or process_group().size > 1:
        return False
    backbone = plan.session.pristine_backbone(config, isinstance(plan.strategy.head, Verbalizer))
    if isinstance(part, BitFit):
        return can_share_biases(backbone)
    return isinstance(part, LoRA) and not part.lora_dropout and can_share_lora(backbone, part.lora_modules)


def shared_backbone(plan: Plan) -> Backbone:
    """The backbone that a group computes with: the pristine one, or one bf16 copy of it."""
    lm_head = isinstance(plan.strategy.head, Verbalizer)
    backbone = plan.session.frozen_backbone(plan.config, lm_head, plan.resolved.precision)
    if plan.resolved.precision == "bf16":
        use_own_attention(backbone.model)  # as a lone run does
    return backbone


def group_key(plan: Plan) -> tuple[object, ...]:
    """What the plans of a group have in common."""
    c, head = plan.config, plan.strategy.head
    backbone = plan.session.pristine_backbone(c, isinstance(head, Verbalizer))
    encoder, _ = prompt_encoders(plan.strategy, plan.task, backbone, c, plan.demonstrations)
    backbone_key = (c.model, c.revision, plan.resolved.device, plan.resolved.precision, c.threads)
    return (*backbone_key, plan.task.name, plan.task.labels, head, encoder.label_ids)


class MultiAdapterRuns:
    """Runs plans of one `group_key`, `width` at a time; where memory is short, half as many, started again."""

    def __init__(self, backbone: Backbone, width: int) -> None:
        self.backbone, self.width = backbone, width
        self.waiting: deque[_Waiting] = deque()
        self.runs: list[_Run] = []
        self._trainer = MultiAdapterTrainer(backbone)
        self._meter: ResourceMeter | None = None
        self._most = 0

    def __len__(self) -> int:
        return len(self.waiting) + len(self.runs)

    def enter(self, key: Hashable, plan: Plan, should_stop: StopCallback | None = None) -> None:
        """Queue a plan. should_stop: as in `runs.experiment.execute`."""
        self.waiting.append(_Waiting(key, plan, should_stop))

    def advance(self) -> list[RunResult]:
        """Let plans in where there is room, and make one update of all; the results of those that ended."""
        results: list[RunResult] = []
        try:
            self._admit(results)
            results += self._step() if self.runs else []
        except (MemoryShortError, RuntimeError, MemoryError) as error:
            if not isinstance(error, MemoryShortError) and not out_of_memory(error):
                raise
            results += self._restart_with_half(error)
        return results

    def _admit(self, results: list[RunResult]) -> None:
        """Start waiting plans where there is room; those that cannot even start have failed."""
        while self.waiting and len(self.runs) < self.width:
            if self._meter is None:
                self._meter, self._most = ResourceMeter(self.backbone.device), 0
                self._meter.__enter__()
            try:
                self.runs.append(self._start(self.waiting[0]))
            except Exception as error:
                if out_of_memory(error):
                    raise
                results.append(RunResult(self.waiting[0].key, failure=error))
            self.waiting.popleft()
        self._most = max(self._most, len(self.runs))

    def _start(self, waiting: _Waiting) -> _Run:
        start, plan = time.perf_counter(), waiting.plan
        torch.set_num_threads(plan.resolved.threads)
        encoder, teacher = prompt_encoders(plan.strategy, plan.task, self.backbone, plan.config, plan.demonstrations)
        member = new_member(
            plan.strategy, plan.task, self.backbone, encoder, plan.config, plan.resolved.learning_rate,
            lambda learner: training_items(plan, learner, teacher),
        )  # fmt: skip
        validation = member.learner.items(plan.few_shot.validation)
        run = _Run(waiting, member, validation, Best(plan.config.patience))
        run.train_seconds = time.perf_counter() - start
        return run

    def _step(self) -> list[RunResult]:
        """Train, validate whoever ends an epoch, and let go whoever ended."""
        start, results = time.perf_counter(), []
        self._trainer.members = [run.member for run in self.runs]
        steps = self._trainer.step()
        tokens = [step.tokens if isinstance(step, Step) else 0 for step in steps]
        seconds_per_token = (time.perf_counter() - start) / max(1, sum(tokens))
        validating: dict[int, tuple[_Run, Step]] = {}
        for index, (run, step, read) in enumerate(zip(self.runs, steps, tokens, strict=True)):
            run.train_seconds += seconds_per_token * read
            run.tokens += read
            run.neighbours += len(self.runs)
            if isinstance(step, RunError):
                run.ended = True
                results.append(RunResult(run.waiting.key, failure=step))
            elif run.validates_after(step):
                validating[index] = (run, step)
        results += self._validate(validating)
        self.runs = [run for run in self.runs if not run.ended]
        if not self.runs:
            self.close()
        return results

    def _validate(self, validating: dict[int, tuple[_Run, Step]]) -> list[RunResult]:
        """Score the validation examples of all these runs in shared passes; the results of those that end with it."""
        if not validating:
            return []
        start = time.perf_counter()
        scores = self._trainer.scores({index: run.validation for index, (run, _) in validating.items()})
        examples = sum(len(run.validation) for run, _ in validating.values())
        seconds_per_example = (time.perf_counter() - start) / max(1, examples)
        results = []
        for index, (run, step) in validating.items():
            plan = run.waiting.plan
            run.evaluation_seconds += seconds_per_example * len(run.validation)
            try:
                check_finite(scores[index], self.backbone.name)
            except RunError as error:
                run.ended = True
                results.append(RunResult(run.waiting.key, failure=error))
                continue
            labels = torch.tensor([item.label for item in run.validation]).numpy()
            metrics = four_metrics(labels, scores[index].argmax(dim=1).numpy(), len(plan.task.labels))
            run.validated(step, metrics[plan.resolved.metric])
            results += [self._result(run)] if run.ended else []
        return results

    def _result(self, run: _Run) -> RunResult:
        """Its share of the time by its tokens, and of the memory above the weights, which a lone run would copy."""
        assert self._meter is not None
        weights = sum(p.nbytes for p in self.backbone.model.parameters())
        resources = {
            "peak_memory_mb": megabytes(weights + self._meter.peak() / self._most),
            "train_seconds": run.train_seconds,
            "evaluation_seconds": run.evaluation_seconds,
            "trainable_parameters": float(run.member.trainable),
            "tokens_per_second": run.tokens / run.train_seconds,
            "pack": run.neighbours / run.member.index,
        }
        return RunResult(run.waiting.key, run.best.value if run.selects else run.last, resources)

    def _restart_with_half(self, error: Exception) -> list[RunResult]:
        """Memory was short: start all again, half as many at a time; one that does not fit alone has failed."""
        release_memory(error)
        alone, budget = len(self.runs) <= 1, self._trainer.budget
        self.width = max(1, min(self.width, len(self.runs)) // 2)
        self.waiting.extendleft(run.waiting for run in reversed(self.runs))
        self.runs, self._trainer = [], MultiAdapterTrainer(self.backbone, budget)
        self.close()
        return [RunResult(self.waiting.popleft().key, failure=error)] if alone else []

    def abandon(self) -> Sequence[Hashable]:
        """Give up all plans; returns their keys."""
        keys = [*(run.waiting.key for run in self.runs), *(waiting.key for waiting in self.waiting)]
        self.runs.clear()
        self.waiting.clear()
        self.close()
        return keys

    def close(self) -> None:
        """End the measuring of memory."""
        if self._meter is not None:
            self._meter.__exit__()
            self._meter = None
