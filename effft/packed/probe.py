"""Whether a pack pays on this machine: a few steps of it against the same steps alone; and how large it may be."""

import random
import time
from collections.abc import Callable

import psutil
import torch

from effft.config import RunConfig
from effft.models.backbone import Backbone
from effft.models.packed_lora import bytes_of, new_adapter
from effft.models.remembered import machine_key, remembered
from effft.packed.runs import original, working
from effft.plan import Plan, readers, threads_of
from effft.strategies.batch import Item
from effft.strategies.learner import Learner
from effft.strategies.parts import Verbalizer
from effft.training.loop import train
from effft.training.pack import Pack
from effft.training.trainee import Trainee, frozen_learner

GAIN = 1.2
"""How many times faster a pack must be to be taken: what is asked side by side knows less of one another."""

PROBES, STEPS = "packed.json", 3
"""Where answers are kept (`models/remembered.py`), and the steps that are timed; the best counts."""

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
    """What a trial of this rank on all linear maps adds to a pack."""
    return bytes_of(new_adapter(original(plan), rank, "all", torch.Generator()))


def pays(plan: Plan, size: int, gain: Callable[[Plan, int], float] | None = None) -> bool:
    """Whether a pack of `size` is faster by `GAIN` than its members one after another; remembered."""
    backbone, threads = original(plan), threads_of(plan.config, original(plan).width)
    shape = f"pack of {size}, batch {plan.config.batch_size}, {plan.resolved['precision']}"
    key = f"{machine_key(backbone, threads)}, {len(backbone.anatomy.blocks)} blocks, {shape}"
    asked = gain or measured_gain
    return remembered(PROBES, key, ("packed", "alone"), lambda: _answer(asked(plan, size))) == "packed"


def _answer(gain: float) -> str:
    return "packed" if gain >= GAIN else "alone"


def measured_gain(plan: Plan, size: int) -> float:
    """Seconds of `size` lone steps over those of one step of a pack."""
    threads = torch.get_num_threads()
    torch.set_num_threads(threads_of(plan.config, original(plan).width))
    try:
        return size * _alone(plan) / _together(plan, size)
    finally:
        torch.set_num_threads(threads)


def _alone(plan: Plan) -> float:
    backbone = plan.session.backbone(plan.config, isinstance(plan.strategy.head, Verbalizer))
    reader, _ = readers(plan.strategy, plan.task, backbone, plan.config, plan.demonstrations)
    generator = torch.Generator().manual_seed(0)
    learner = Learner(plan.strategy, plan.task, backbone, reader, generator, str(plan.resolved["precision"]))
    steps = train(learner, _items(plan, learner), _long(plan), 1e-4, random.Random(0))
    return _best(lambda: next(steps))


def _together(plan: Plan, size: int) -> float:
    backbone = working(plan)
    pack = Pack(backbone)
    pack.change(enter=[_member(plan, backbone, seed) for seed in range(size)])
    return _best(pack.step)


def _member(plan: Plan, backbone: Backbone, seed: int) -> Trainee:
    reader, _ = readers(plan.strategy, plan.task, backbone, plan.config, plan.demonstrations)
    generator = torch.Generator().manual_seed(seed)
    learner, own = frozen_learner(plan.strategy, plan.task, backbone, reader, generator)
    config = _long(plan).model_copy(update={"seed": seed})
    return Trainee(learner, plan.strategy, own, _items(plan, learner), config, 1e-4)


def _long(plan: Plan) -> RunConfig:
    """Steps enough for the probe."""
    return plan.config.model_copy(update={"steps": STEPS})


def _items(plan: Plan, learner: Learner) -> list[Item]:
    return learner.items(plan.draw.train)


def _best(step: Callable[[], object]) -> float:
    found = []
    for _ in range(STEPS):
        start = time.perf_counter()
        step()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return min(found)
