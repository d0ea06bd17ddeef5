"""Plans that are measured on validation side by side: they enter a pack, and what they scored comes out."""

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
from effft.multi_adapter.bias import can_shift
from effft.multi_adapter.lora import can_share_passes
from effft.multi_adapter.member import Member, frozen_learner
from effft.multi_adapter.trainer import MultiAdapterTrainer
from effft.profiling.resources import ResourceMeter
from effft.runs.experiment import StopCallback, training_items
from effft.runs.plan import Plan, prompt_encoders, threads_of
from effft.strategies.batch import Item
from effft.strategies.parts import BitFit, LoRA, Verbalizer
from effft.training.loop import Step


@dataclass(frozen=True)
class Scored:
    """What came of a plan. value: the primary metric on validation; failure: why there is none.

    resources: its share of what the pack took (docs/packed.md), by the names that a lone run reports.
    """

    key: Hashable
    value: float = float("nan")
    resources: dict[str, float] = field(default_factory=dict)
    failure: Exception | None = None


@dataclass(eq=False)
class _Run:
    """A plan in the pack. best: where epochs are looked at; seconds, tokens: its own and its share so far."""

    key: Hashable
    plan: Plan
    pace: StopCallback | None
    member: Member
    seen: list[Item]
    best: Best
    last: float = float("nan")
    ended: bool = False
    train_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    tokens: int = 0
    company: int = 0

    @property
    def selects(self) -> bool:
        return self.plan.config.selection == "validation"

    def looks(self, step: Step) -> bool:
        """Whether its validation examples are scored after this step."""
        return step.index == step.total or (step.ends_epoch and (self.selects or self.pace is not None))

    def note(self, step: Step, value: float) -> None:
        """What `experiment` does after an epoch: tell the pace, keep the best, and perhaps end."""
        self.last = value
        if self.selects or self.pace is not None:
            self.best.update(step.epoch, value)
        paced = self.pace is not None and self.pace(step.epoch, value)
        self.ended = step.index == step.total or paced or (self.selects and self.best.exhausted)


def packable(plan: Plan) -> bool:
    """Whether the plan can be a member of a pack: BitFit, or LoRA without dropout, whose draws are a lone run's own."""
    part = plan.strategy.trainable
    if plan.config.quantize != "none" or process_group().size > 1:
        return False
    if isinstance(part, BitFit):
        return can_shift(original(plan))
    return isinstance(part, LoRA) and not part.lora_dropout and can_share_passes(original(plan), part.lora_modules)


def kind_of(plan: Plan) -> tuple[object, ...]:
    """What the members of a pack have in common."""
    c, learned = plan.config, plan.strategy
    place = (c.model, c.revision, plan.resolved.device, plan.resolved.precision, c.threads)
    reader, _ = prompt_encoders(learned, plan.task, original(plan), c, plan.demonstrations)
    return (*place, plan.task.name, plan.task.labels, learned.head, reader.label_ids)


def original(plan: Plan) -> Backbone:
    """The backbone that the plan's session keeps."""
    return plan.session.pristine_backbone(plan.config, isinstance(plan.strategy.head, Verbalizer))


def working(plan: Plan) -> Backbone:
    """The backbone that a pack computes with: the original itself, or one bf16 copy of it."""
    found = plan.session.frozen_backbone(
        plan.config, isinstance(plan.strategy.head, Verbalizer), plan.resolved.precision
    )
    if plan.resolved.precision == "bf16":
        use_own_attention(found.model)  # as a lone run does
    return found


class MultiAdapterRuns:
    """Plans of one kind (`kind_of`), `most` of them at a time; where memory is short, half as many, and anew."""

    def __init__(self, backbone: Backbone, most: int) -> None:
        self.backbone, self.most = backbone, most
        self.waiting: deque[tuple[Hashable, Plan, StopCallback | None]] = deque()
        self.runs: list[_Run] = []
        self._pack = MultiAdapterTrainer(backbone)
        self._meter: ResourceMeter | None = None
        self._crowd = 0

    def __len__(self) -> int:
        return len(self.waiting) + len(self.runs)

    def enter(self, key: Hashable, plan: Plan, pace: StopCallback | None = None) -> None:
        """Take a plan in, as soon as there is room. pace: as in `experiment.execute`."""
        self.waiting.append((key, plan, pace))

    def advance(self) -> list[Scored]:
        """One update of all that are in the pack; the plans that ended with it."""
        told: list[Scored] = []
        try:
            self._admit(told)
            told += self._step() if self.runs else []
        except (MemoryShortError, RuntimeError, MemoryError) as error:
            if not isinstance(error, MemoryShortError) and not out_of_memory(error):
                raise
            told += self._halve(error)
        return told

    def _admit(self, failed: list[Scored]) -> None:
        """Take in who waits, as far as there is room; those who cannot even start are put to the `failed`."""
        before = len(self.runs)
        while self.waiting and len(self.runs) < self.most:
            key, plan, pace = self.waiting[0]
            self._open()
            try:
                self.runs.append(self._start(key, plan, pace))
            except Exception as error:
                if out_of_memory(error):
                    raise
                failed.append(Scored(key, failure=error))
            self.waiting.popleft()
        if len(self.runs) > before:
            self._pack.change(enter=[run.member for run in self.runs[before:]])
            self._crowd = max(self._crowd, len(self.runs))

    def _open(self) -> None:
        """Begin to measure memory with the first that enters."""
        if self._meter is None:
            self._meter, self._crowd = ResourceMeter(self.backbone.device), 0
            self._meter.__enter__()

    def _start(self, key: Hashable, plan: Plan, pace: StopCallback | None) -> _Run:
        start, config, rate = time.perf_counter(), plan.config, plan.resolved.learning_rate
        assert isinstance(rate, float)
        torch.set_num_threads(threads_of(config, self.backbone.width))
        reader, teacher = prompt_encoders(plan.strategy, plan.task, self.backbone, config, plan.demonstrations)
        generator = torch.Generator().manual_seed(config.seed)
        learner, own = frozen_learner(plan.strategy, plan.task, self.backbone, reader, generator)
        items = training_items(plan, learner, teacher)
        member = Member(learner, plan.strategy, own, items, config, rate)
        run = _Run(key, plan, pace, member, learner.items(plan.few_shot.validation), Best(config.patience))
        run.train_seconds = time.perf_counter() - start
        return run

    def _step(self) -> list[Scored]:
        """Train, look, and let go whoever ended."""
        start, ended = time.perf_counter(), []
        steps = self._pack.step()
        read = [step.tokens if isinstance(step, Step) else 0 for step in steps]
        shared = (time.perf_counter() - start) / max(1, sum(read))
        looking: dict[int, _Run] = {}
        for at, (run, step, tokens) in enumerate(zip(self.runs, steps, read, strict=True)):
            run.train_seconds += shared * tokens
            run.tokens += tokens
            run.company += len(self.runs)
            if isinstance(step, RunError):
                run.ended = True
                ended.append(Scored(run.key, failure=step))
            elif run.looks(step):
                looking[at] = run
        self._look(looking, steps)
        ended += [self._scored(run) for run in looking.values() if run.ended]
        self._leave()
        return ended

    def _look(self, looking: dict[int, _Run], steps: Sequence[Step | RunError]) -> None:
        """Score the validation examples of all who want to know, in shared passes."""
        start = time.perf_counter()
        scores = self._pack.scores({at: run.seen for at, run in looking.items()}) if looking else {}
        shared = (time.perf_counter() - start) / max(1, sum(len(run.seen) for run in looking.values()))
        for at, run in looking.items():
            step = steps[at]
            assert isinstance(step, Step)
            run.evaluation_seconds += shared * len(run.seen)
            labels = torch.tensor([item.label for item in run.seen]).numpy()
            found = four_metrics(labels, scores[at].argmax(dim=1).numpy(), len(run.plan.task.labels))
            run.note(step, found[run.plan.resolved.metric])

    def _scored(self, run: _Run) -> Scored:
        return Scored(run.key, run.best.value if run.selects else run.last, self._resources(run))

    def _resources(self, run: _Run) -> dict[str, float]:
        """Time by the tokens that were read; memory: the weights, which a lone run would copy, and an equal share."""
        assert self._meter is not None
        weights = sum(p.numel() * p.element_size() for p in self.backbone.model.parameters())
        return {
            "peak_memory_bytes": weights + self._meter.peak() / self._crowd,
            "train_seconds": run.train_seconds,
            "evaluation_seconds": run.evaluation_seconds,
            "trainable_parameters": float(run.member.moving),
            "tokens_per_second": run.tokens / run.train_seconds,
            "pack": run.company / run.member.index,
        }

    def _leave(self) -> None:
        gone = [run.member for run in self.runs if run.ended]
        if gone:
            self.runs = [run for run in self.runs if not run.ended]
            self._pack.change(leave=gone)
        if not self.runs:
            self.close()

    def _halve(self, error: Exception) -> list[Scored]:
        """Memory was short: everybody starts anew, half as many at a time; one who does not fit alone has failed."""
        release_memory(error)
        self.waiting.extendleft((run.key, run.plan, run.pace) for run in reversed(self.runs))
        alone = max(len(self.runs), 1) == 1
        self.most = max(1, min(self.most, len(self.runs)) // 2)
        self.runs, self._pack = [], MultiAdapterTrainer(self.backbone, self._pack.budget)
        self.close()
        return [Scored(self.waiting.popleft()[0], failure=error)] if alone else []

    def abandon(self) -> list[Hashable]:
        """Give up all plans; their keys."""
        keys = [*(run.key for run in self.runs), *(key for key, _, _ in self.waiting)]
        self.runs, self._pack = [], MultiAdapterTrainer(self.backbone)
        self.waiting.clear()
        self.close()
        return keys

    def close(self) -> None:
        """End the measuring of memory."""
        if self._meter is not None:
            self._meter.__exit__()
            self._meter = None
