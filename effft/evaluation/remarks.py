"""Sentences about a split's result: texts that were cut, labels that do not occur, why a score is at chance."""

from collections import Counter
from collections.abc import Mapping, Sequence

from effft.data.table import listed
from effft.evaluation.statistics import chance_remark, reference_scores
from effft.strategies.learner import Learner
from effft.strategies.prompting import MANY_UNKNOWN, EncodedPrompt, PromptEncoder

MANY_CUT = 0.5
"""Share of cut texts above which the cuts are a likely cause of a score at chance."""

SMALL_MODEL = 20_000_000
"""Parameters below which a model may be too small for natural text."""


def cut_share(prompts: Sequence[EncodedPrompt]) -> float:
    """Share of the texts that do not fit."""
    return sum(prompt.cut for prompt in prompts) / max(1, len(prompts))


def cut_note(split: str, prompts: Sequence[EncodedPrompt], encoder: PromptEncoder) -> list[str]:
    """How many texts did not fit, and what became of them; training reads no windows."""
    whole = encoder.windows != "none" and split != "train"
    fate = f"were read in windows ({encoder.windows} of their scores)" if whole else f"lost their {encoder.cut}"
    count, share = sum(prompt.cut for prompt in prompts), f"{100 * cut_share(prompts):.2g} %"
    return [f"{count} texts of {split} ({share}) were longer than max_length and {fate}."] if count else []


def missing_labels_note(split: str, labels: Sequence[str], present: set[int]) -> list[str]:
    """Which labels a split has no example of."""
    missing = [name for number, name in enumerate(labels) if number not in present]
    if not missing:
        return []
    named = listed([*map(repr, missing)], 5)
    return [f"{split} has no example of {named}; its means over labels are over the others."]


def unlabelled_note(split: str, answers: Sequence[str]) -> str:
    """What was answered where nothing says what is right."""
    counts = Counter(answers).most_common(5)
    shares = ", ".join(f"{answer} {100 * count / len(answers):.0f} %" for answer, count in counts)
    return f"{split} has no labels: its {len(answers)} texts are answered ({shares}), and nothing says how well."


def chance_note(
    learner: Learner, split: str, metric: str, metrics: Mapping[str, float], prompts: Sequence[EncodedPrompt]
) -> list[str]:
    """Why a score that is not above chance may be there; [] for one above, and where no cause is known.

    metrics: those of the whole split, with intervals or without. prompts: what the model read.
    """

    def bounds(name: str) -> tuple[float, float]:
        return metrics.get(f"{name}_low", metrics[name]), metrics.get(f"{name}_high", metrics[name])

    known = reference_scores(metric, metrics.get)
    remark = chance_remark(metrics[metric], *bounds(metric), *known) if known else ""
    if remark not in ("at chance", "below chance"):
        return []
    unknown = learner.encoder.unknown_share(prompts)
    cut = cut_share(prompts) if learner.encoder.windows == "none" else 0.0
    if _is_reversed(metrics):
        shortcut = ", or what was learned in training fails on it" if split.startswith("ood/") else ""
        cause = f"its labels may be swapped (the label map of the task, the order of --label-words){shortcut}"
    elif unknown > MANY_UNKNOWN:
        cause = f"the model does not know {100 * unknown:.0f} % of its tokens; take a --model that reads this text"
    elif cut > MANY_CUT:
        longer = learner.encoder.limit < learner.encoder.max_positions
        remedy = "raise --max-length" if longer else "take a --model that reads longer texts"
        cause = f"{100 * cut:.0f} % of its texts were cut; {remedy}"
    elif (parameters := sum(total for _, total in learner.groups.values())) < SMALL_MODEL:
        cause = f"the model may be too small ({parameters / 1e6:.1f} million parameters); try another --model"
    else:
        return []
    return [f"{split} {metric} is {remark}. A likely cause: {cause}."]


def _is_reversed(metrics: Mapping[str, float]) -> bool:
    """Whether the answers to a set with every label are wrong beyond doubt, and not from always answering the same.

    Where no answer is right the bootstrap has no width; then the bound is 3 / examples (Hanley and Lippman-Hand 1983).
    """
    if "accuracy_high" not in metrics or metrics["labels"] * metrics["chance"] < 1:
        return False
    high = max(metrics["accuracy_high"], metrics["balanced_accuracy_high"], 3 / metrics["examples"])
    return high < metrics["chance"]
