"""The settings of a run as used: its defaults filled in from the task, the model and the machine."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from effft.config import DATA_FIELDS, DIFFICULTY_FIELDS, PART_FIELDS, RunConfig
from effft.data.draw import Draw
from effft.data.examples import Example, ExampleSet, digest
from effft.distributed.process_group import process_group
from effft.errors import lookup
from effft.models.backbone import Backbone
from effft.models.forward.attention import NARROW
from effft.models.precision import choose_precision
from effft.strategies.parts import Contrastive, Pattern
from effft.strategies.prompting import PromptEncoder
from effft.strategies.strategy import Strategy
from effft.tasks.task import Task
from effft.training.loop import steps_in
from effft.training.pairs import pair_count

MAJORITY = 0.7  # Share of the most frequent label above which macro F1 is the metric of a task that names none.


@dataclass(frozen=True)
class ResolvedSettings:
    """The settings of a run as used, with defaults filled in.

    steps: optimizer updates, 0 where nothing trains. precision: 'bf16' or 'fp32'. settings: all settings by name, those
    before it included, which a tracker records as parameters.
    """

    metric: str
    learning_rate: float
    steps: int
    precision: str
    device: str
    threads: int
    settings: Mapping[str, object]


def resolve(
    config: RunConfig,
    strategy: Strategy,
    encoder: PromptEncoder,
    backbone: Backbone,
    draw: Draw,
    pool: ExampleSet,
    unlabelled: Sequence[Example] = (),
) -> ResolvedSettings:
    """Every setting of a checked run."""
    task = encoder.rows or encoder.task
    threads = threads_of(config, backbone.width)
    metric, device = metric_of(config, task, pool)[0], str(backbone.device)
    learning_rate = config.learning_rate or strategy.default_learning_rate(backbone.width)
    learned = [*encoder.learned(draw.train), *unlabelled]
    examples = len(encoder.questions(learned)) * (1 + len(encoder.others))
    if isinstance(strategy.loss, Contrastive):
        examples = pair_count([example.label for example in learned] * (1 + len(encoder.others)))
    steps = steps_in(config, strategy, examples) if strategy.takes_steps else 0
    never = config.precision == "auto" and strategy.trainable.bf16 == "never"
    precision = choose_precision("fp32" if never else config.precision, backbone)
    settings = config.model_dump(exclude={*PART_FIELDS, *DIFFICULTY_FIELDS, *DATA_FIELDS}, exclude_none=True)
    settings |= {name: value for name in DATA_FIELDS if (value := getattr(config, name)) and name != "data"}
    settings |= {name: value for name, value in strategy.parameters.items() if value is not None} | task.difficulty
    settings |= {"metric": metric, "device": device, "width": backbone.width}
    if isinstance(strategy.input, Pattern):
        settings["pattern"] = strategy.input.pattern or next(iter(task.patterns), "")
        settings["demo_seed"] = config.data_seed if strategy.input.demo_seed is None else strategy.input.demo_seed
    if encoder.label_tokens is not None:
        settings["label_score"] = encoder.label_tokens.score
    settings |= {"learning_rate": learning_rate, "epochs": config.epochs or strategy.loss.epochs}
    settings |= {"steps": steps, "precision": precision}
    settings["model_commit"] = backbone.revision
    if process_group().size > 1:
        kind = "FSDP2" if process_group().sharded else "data parallel"
        settings["processes"] = f"{process_group().size}, {kind}"
    settings |= {"train_digest": digest(draw.train), "validation_digest": digest(draw.validation)}
    return ResolvedSettings(metric, learning_rate, steps, precision, device, threads, settings)


def metric_of(config: RunConfig, task: Task, pool: ExampleSet) -> tuple[str, list[str]]:
    """The primary metric: as asked, else the task's, else macro F1 where one label is most rows; and a note of that."""
    if config.metric or "metric" in task.model_fields_set:
        return lookup(f"metric of task {task.name!r}", config.metric or task.metric, {m: m for m in task.metrics}), []
    if task.multi_label:
        return task.metrics[0], []
    label, count = Counter(place for example in pool.examples for place in example.labels).most_common(1)[0]
    share = count / len(pool)
    if share <= MAJORITY:
        return task.metric, []
    return "macro_f1", [
        f"{100 * share:.0f} % of the training rows are {task.labels[label]!r}, so macro F1 is the metric (--metric)."
    ]


def threads_of(config: RunConfig, width: int) -> int:
    """CPU threads: as asked; else one for a narrow model, OMP_NUM_THREADS or a share of the cores for a wide one."""
    if config.threads:
        return config.threads
    if width < NARROW:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and process_group().size == 1:  # `torchrun` sets it to 1, whatever there is
        cores = min(cores, max(1, int(asked)))
    return max(1, cores // process_group().local_size)
