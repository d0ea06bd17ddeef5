"""The demonstrations of a run: how many there can be, and which examples they are."""

from bisect import bisect_right
from collections.abc import Sequence
from functools import partial

from effft.config import Amount, RunConfig
from effft.data.draw import draw_demonstrations
from effft.data.examples import Example
from effft.distributed.process_group import process_group
from effft.errors import InputError
from effft.models.backbone import Backbone
from effft.strategies.parts import DistillKL, Pattern
from effft.strategies.prompting import PromptEncoder
from effft.strategies.strategy import Strategy
from effft.strategies.trainable_parts import Nothing
from effft.tasks.task import Task


def capped_shots(strategy: Strategy, config: RunConfig, labelled: int) -> tuple[Strategy, list[str]]:
    """The strategy with demonstrations capped by the labelled examples, and a note when capped."""
    name, shots = strategy.shots_name, strategy.shots
    if shots <= labelled or strategy.parameters.get("demonstrations") == "all":
        return strategy, []
    if getattr(config, name) is not None:
        raise InputError(
            f"{name}={shots}: only {labelled} labelled examples are drawn ({Amount.of(vars(config)).examples}); "
            f"lower --{name.replace('_', '-')} or raise --{'per-label' if config.per_label else 'rows'}."
        )
    note = f"{name} is {labelled}, not {shots}: there are no more labelled examples."
    return strategy.with_parameters({name: labelled}), [note]


def choose_demonstrations(
    strategy: Strategy, task: Task, backbone: Backbone, config: RunConfig, labelled: Sequence[Example]
) -> tuple[Strategy, tuple[Example, ...], list[str]]:
    """The demonstrations, or those to choose from; the strategy with their number, and notes."""
    part = strategy.input
    if not isinstance(part, Pattern) or not strategy.shots:
        usual = Pattern()
        for name in ("demonstrations", "demo_order", "demo_seed") if isinstance(part, Pattern) else ():
            if (value := getattr(part, name)) != getattr(usual, name):
                raise InputError(f"{name}={value}: strategy {strategy.name!r} shows no demonstrations; give --shots.")
        return strategy, (), []
    seed = config.data_seed if part.demo_seed is None else part.demo_seed
    labelled = task.questions(labelled)
    draw = partial(draw_demonstrations, labelled, len(task.question.labels), seed=seed, order=part.demo_order)
    if "nearest" in (part.demonstrations, part.demo_order.partition("-")[0]):
        changes = strategy.trains and not isinstance(strategy.loss, DistillKL)
        if changes and not isinstance(strategy.trainable, Nothing):
            raise InputError(
                f"demonstrations are chosen by the states of the frozen model, but strategy {strategy.name!r} changes "
                "it; take icl, or --demonstrations balanced with --demo-order random."
            )
        if process_group().sharded:
            raise InputError(
                "demonstrations=nearest: a model in pieces (FSDP2) gives no states of its own; run one process."
            )
    if part.demonstrations == "nearest":
        return strategy, draw(len(labelled)), []
    if part.demonstrations != "all":
        return strategy, draw(strategy.shots, which=part.demonstrations), []
    bare = PromptEncoder(strategy, task, backbone, config.max_length)
    longest = max(len(prompt.ids) for prompt in bare.encode([e.texts for e in labelled]))
    room = bare.positions - (longest - bare.tokens_around(()))
    fitting = bisect_right(range(1, len(labelled) + 1), room, key=lambda shots: bare.tokens_around(draw(shots)))
    if not fitting:
        raise InputError(
            f"demonstrations=all: none fits into the {backbone.max_positions} tokens that {backbone.name!r} reads."
        )
    note = (
        f"{fitting} of {len(labelled)} labelled examples are shown: so many fit into the {backbone.max_positions} "
        f"tokens that {backbone.name} reads."
    )
    return strategy.with_parameters({strategy.shots_name: fitting}), draw(fitting), [note]
