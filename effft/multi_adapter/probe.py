"""Whether a pack pays on this machine: a few steps of it against the same steps alone; and how large it may be."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import psutil
import torch

from effft.config import RunConfig
from effft.models.backbone import Backbone
from effft.models.probe_cache import cached_probe, machine_key
from effft.multi_adapter.batch import adapter_bytes
from effft.multi_adapter.bias import biases_of
from effft.multi_adapter.lora import new_adapter
from effft.multi_adapter.member import Member, frozen_learner
from effft.multi_adapter.runs import original, working
from effft.multi_adapter.trainer import MultiAdapterTrainer
from effft.runs.plan import Plan, prompt_encoders, threads_of
from effft.strategies.learner import Learner
from effft.strategies.parts import BitFit, Verbalizer
from effft.training.loop import train

GAIN = 1.2
"""How many times faster a pack must be to be taken: what is asked side by side knows less of one another."""

PROBES = "packed.json"
"""Where answers are kept (`models/remembered.py`)."""

STEPS, RATE = 3, 1e-4
"""Steps that are timed, of which the best counts, and their learning rate, which does not matter."""

LONG = 2.0
"""Seconds of a lone step from which a CPU is busy with products, so that a pack cannot pay and is not even tried."""

MOST = {"cpu": 8, "cuda": 16}
"""Members of a pack of automatic size: on a CPU more gain nothing, and ask more of the sampler."""

SHARE = 0.25
"""Of the free memory, what the members of a pack may take for what is theirs alone."""


def room(backbone: Backbone, bytes_each: int) -> int:
    """Members of a pack of automatic size, where each takes `bytes_each`; at least one."""
    kind = backbone.device.type
    free = torch.cuda.mem_get_info(backbone.device)[0] if kind == "cuda" else psutil.virtual_memory().available
    return max(1, min(MOST.get(kind, MOST["cpu"]), int(free * SHARE / max(1, bytes_each))))


def bytes_each(plan: Plan, rank: int) -> int:
    """What a trial adds to a pack, LoRA of this rank on all linear maps."""
    if isinstance(plan.strategy.trainable, BitFit):
        return adapter_bytes(biases_of(original(plan)))
    return adapter_bytes(new_adapter(original(plan), rank, "all", torch.Generator()))


def pays(plan: Plan, size: int, gain: Callable[[Plan, int], float] | None = None) -> bool:
    """Whether a pack of `size` is faster by `GAIN` than its members one after another; remembered."""
    backbone, threads = original(plan), threads_of(plan.config, original(plan).width)
    shape = f"pack of {size}, batch {plan.config.batch_size}, {plan.resolved.precision}"
    key = f"{machine_key(backbone, threads)}, {len(backbone.layout.blocks)} blocks, {shape}"
    asked = gain or measured_gain
    return cached_probe(key, lambda: _answer(asked(plan, size))) == "packed"


def _answer(gain: float) -> str:
    return "packed" if gain >= GAIN else "alone"


def measured_gain(plan: Plan, size: int) -> float:
    """Seconds of `size` lone steps over those of one step of a pack; 1 where asking would take too long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(threads_of(plan.config, original(plan).width))
    try:
        alone = seconds_alone(plan)
        if alone > LONG and original(plan).device.type == "cpu":
            return 1.0
        seeds = [replace(plan, config=plan.config.model_copy(update={"seed": seed})) for seed in range(size)]
        return size * alone / seconds_together(seeds)
    finally:
        torch.set_num_threads(threads)


def seconds_alone(plan: Plan, steps: int = STEPS) -> float:
    """Of a lone step: the best of some."""
    backbone = plan.session.working_backbone(plan.config, isinstance(plan.strategy.head, Verbalizer))
    reader, _ = prompt_encoders(plan.strategy, plan.task, backbone, plan.config, plan.demonstrations)
    generator = torch.Generator().manual_seed(plan.config.seed)
    learner = Learner(plan.strategy, plan.task, backbone, reader, generator, plan.resolved.precision)
    order = random.Random(f"order {plan.config.seed}")
    made = train(learner, learner.items(plan.few_shot.train), _long(plan, steps), RATE, order)
    return _best(lambda: next(made), steps)


def seconds_together(plans: Sequence[Plan], steps: int = STEPS) -> float:
    """Of a step of a pack of these: the best of some."""
    backbone = working(plans[0])
    pack = MultiAdapterTrainer(backbone)
    pack.change(enter=[_member(plan, backbone, steps) for plan in plans])
    return _best(pack.step, steps)


def _member(plan: Plan, backbone: Backbone, steps: int) -> Member:
    reader, _ = prompt_encoders(plan.strategy, plan.task, backbone, plan.config, plan.demonstrations)
    generator = torch.Generator().manual_seed(plan.config.seed)
    learner, own = frozen_learner(plan.strategy, plan.task, backbone, reader, generator)
    return Member(learner, plan.strategy, own, learner.items(plan.few_shot.train), _long(plan, steps), RATE)


def _long(plan: Plan, steps: int) -> RunConfig:
    return plan.config.model_copy(update={"steps": steps})


def _best(step: Callable[[], object], steps: int) -> float:
    found = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return min(found)
