"""The teacher is data: its scores are computed once, with demonstrations in context, and ride in the batch."""

from collections.abc import Sequence

from effft.data.examples import Example
from effft.strategies.batch import Item
from effft.strategies.learner import Learner
from effft.strategies.prompting import PromptEncoder
from effft.strategies.scoring import predict


def teach(
    learner: Learner,
    encoder: PromptEncoder,
    labelled: Sequence[Example],
    unlabelled: Sequence[Example],
    demos: set[int],
) -> list[Item]:
    """The student's items: its own prompts, with the frozen model's scores from the prompts of `encoder`.

    A labelled example that is itself a demonstration (its row index in `demos`) has no teacher: the teacher would
    read its answer. Unlabelled examples have no label. Must run before the first update, while the model is still
    the frozen backbone (LoRA starts at zero, so it is; an adapter that does not is turned off).
    """
    asked, more = encoder.questions(labelled), encoder.questions(unlabelled)
    taught = [e for e in asked if e.index not in demos] + more
    with learner.as_backbone():
        prompts = [Item(prompt, -1) for prompt in encoder.encode([e.texts for e in taught])]
        scores = predict(learner, prompts, encoder=encoder)
    known = {id(e): tuple(row) for e, row in zip(taught, scores.tolist(), strict=True)}  # two files share row numbers
    items = learner.items(labelled) + learner.items(unlabelled, labelled=False)
    return [item._replace(teacher=known.get(id(e))) for item, e in zip(items, [*asked, *more], strict=True)]
