"""Rows that know less than a pre-trained model, to show what its knowledge is worth.

`bag_of_words` is a logistic regression on word counts, tagged by text so that it could count across two;
`random_weights` fine-tunes the same architecture before any pre-training; `swapped_label_words` asks for the labels by
each other's words. The scores of always answering the majority label need no run.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from effft.config import RunConfig
from effft.data.examples import Example, Label
from effft.runs.plan import Plan
from effft.runs.session import Session
from effft.strategies.label_words import label_words


def control_config(config: RunConfig, control: str, session: Session) -> RunConfig:
    """The configuration that a control is run with."""
    if control == "random_weights":
        return config.model_copy(update={"model": _random_model(config.model, config.revision).name, "revision": ""})
    if control == "swapped_label_words":
        words = [word.strip() for word in label_words(session.task(config).question, config.label_words or "")]
        return config.model_copy(update={"label_words": ",".join([*words[1:], words[0]])})
    return config


@cache
def _random_model(model: str, revision: str) -> "tempfile.TemporaryDirectory[str]":
    """A folder with a model's architecture and tokenizer and random weights; it lasts as long as the process."""
    import torch
    import transformers

    from effft.models.description import describe

    known = describe(model, revision, False)
    folder = tempfile.TemporaryDirectory(prefix="effft-random-")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        getattr(transformers, known.kind).from_config(known.config).save_pretrained(folder.name)
    known.tokenizer.save_pretrained(folder.name)
    return folder


def bag_of_words(plan: Plan) -> dict[str, float]:
    """The metrics of a logistic regression (C = 1) on the plan's training examples."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    counter = CountVectorizer(tokenizer=str.split, token_pattern=None, lowercase=False)
    classifier = LogisticRegression(max_iter=1000)
    classifier = OneVsRestClassifier(classifier) if plan.task.multi_label else classifier
    train = plan.draw.train
    classifier.fit(counter.fit_transform(_tagged(train)), [example.label for example in train])
    return _measured(plan, lambda examples: classifier.predict(counter.transform(_tagged(examples))))


def majority(plan: Plan) -> dict[str, float]:
    """The metrics of always answering the label that is most frequent in the plan's training examples."""
    label = Counter(example.label for example in plan.draw.train).most_common(1)[0][0]
    return _measured(plan, lambda examples: [label] * len(examples))


def _measured(plan: Plan, answer: Callable[[Sequence[Example]], Sequence[Label]]) -> dict[str, float]:
    """The metrics of answers on every split that has labels."""
    from effft.evaluation.evaluate import worst_slice
    from effft.evaluation.outcomes import outcomes_of

    metrics: dict[str, float] = {}
    for split, examples in plan.evaluated.items():
        if examples.labelled:
            labels, answers = np.array([e.label for e in examples.examples]), np.asarray(answer(examples.examples))
            slices = plan.task.split("train" if split == "validation" else split).slices
            values = outcomes_of(plan.task, labels, answers).values
            values = values | worst_slice(plan.task, examples.examples, answers, slices)
            metrics |= {f"{split}/{name}": value for name, value in values.items()}
    return metrics


def _tagged(examples: Sequence[Example]) -> list[str]:
    """Each example as words that say which text they are from: '0_dogs 0_bark 1_cats'."""
    return [" ".join(f"{n}_{w}" for n, t in enumerate(e.texts) for w in t.lower().split()) for e in examples]
