"""What training cost a model of its language: the loss on a short neutral text, before and after."""

from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F

from effft.evaluation.metric_keys import FORGETTING
from effft.strategies.learner import Learner
from effft.strategies.prompting import MANY_UNKNOWN
from effft.strategies.weights import each_member


class Forgetting:
    """Made before the first update, it knows the loss of the backbone; `metrics` says what it has risen by.

    Attributes:
        notes: why it is not measured, where it is not.
    """

    def __init__(self, learner: Learner) -> None:
        self.learner = learner
        why = _why_not(learner)
        self.notes = [f"forgetting is not measured: {why}."] if why else []
        if not why:
            with learner.as_backbone():
                self.before = language_loss(learner)

    def metrics(self) -> dict[str, float]:
        """Nats a token, negative where the model has become better at the text."""
        return {} if self.notes else {FORGETTING: language_loss(self.learner) - self.before}


def language_loss(learner: Learner) -> float:
    """The cross-entropy of the next token over the neutral text, nats a token; of an ensemble the members' mean."""
    losses = [_loss(member) for member in each_member(learner)]
    return sum(losses) / len(losses)


def _loss(learner: Learner) -> float:
    total, count, backbone = 0.0, 0, learner.backbone
    for row in _rows(learner):
        ids = torch.tensor([row], device=backbone.device)
        places = torch.arange(len(row) - 1, device=backbone.device)
        with torch.inference_mode():
            inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            logits = backbone.answer_logits(inputs, places, torch.zeros_like(places))
            total += float(F.cross_entropy(logits.float(), ids[0, 1:], reduction="sum"))
        count += len(places)
    return total / count


def _why_not(learner: Learner) -> str:
    """Why the loss is not measured; '' where it is."""
    backbone, tokenizer = learner.backbone, learner.backbone.tokenizer
    if not (backbone.lm_head and backbone.decoder) or backbone.decoder_start:
        return f"strategy {learner.strategy.name!r} reads no LM head of a decoder here; take one with label words, pbft"
    ids, unknown = [token for row in _rows(learner) for token in row], tokenizer.unk_token_id
    if unknown != tokenizer.eos_token_id and ids.count(unknown) > MANY_UNKNOWN * len(ids):
        return f"{backbone.name} does not know most words of its neutral text"
    return ""


def _rows(learner: Learner) -> list[list[int]]:
    """The tokens of each paragraph, as many as the model can read."""
    most = learner.backbone.max_positions - learner.strategy.trainable.virtual_tokens
    return [learner.backbone.tokenizer(text).input_ids[:most] for text in _paragraphs()]


@cache
def _paragraphs() -> tuple[str, ...]:
    text = (Path(__file__).parent / "neutral_text.md").read_text(encoding="utf-8")
    return tuple(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
