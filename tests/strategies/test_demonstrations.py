"""Which demonstrations a text is shown, in which order, and that shared starts change no score."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from backbones import save_backbone
from helpers import EXAMPLES, learner_on
from hypothesis import given
from hypothesis import strategies as st
from place import make_place

from effft.config import make_config
from effft.data.draw import draw_demonstrations
from effft.data.examples import Example
from effft.models.forward.shared_prefix import share_starts
from effft.runs.fit import training_items
from effft.runs.learners import build_learner
from effft.runs.plan import prepare
from effft.runs.session import Session
from effft.strategies.learner import Learner
from effft.strategies.scoring import predict, predict_apart
from effft.strategies.strategy import compose

QUERIES = (("the dogs see a cat",), ("new cats run .",), ("a dog",))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_backbone(tmp_path_factory.mktemp("llama"), "llama")


def icl(folder: Path, shots: int = 2, **parameters: object) -> Learner:
    strategy = compose("icl").with_parameters({"shots": shots, **parameters})
    return learner_on(folder, strategy, demos=EXAMPLES)


def shown(learner: Learner, texts: tuple[str, ...], leave_out: bool = False) -> list[str]:
    """The texts of the demonstrations in a prompt, in order."""
    (prompt,) = learner.encoder.encode([texts], leave_out)
    lines = learner.encoder.tokenizer.decode(prompt.ids).replace(" ? Yes", " ?\n").replace(" ? No", " ?\n").split("\n")
    return [line.removeprefix("<s>").strip().removesuffix(" ?") for line in lines[:-1]]


def nearest_first(learner: Learner, texts: tuple[str, ...]) -> list[str]:
    """The examples by the cosine of mean states, those of the pool in the middle, written down a second time."""

    def state(text: str) -> torch.Tensor:
        out = learner.backbone.body(**learner.encoder.tokenizer(text, return_tensors="pt", return_token_type_ids=False))
        return out.last_hidden_state[0].mean(dim=0)

    with torch.no_grad():
        pool = torch.stack([state(e.texts[0]) for e in EXAMPLES])
        alike = torch.cosine_similarity(pool - pool.mean(dim=0), (state(texts[0]) - pool.mean(dim=0))[None])
    return [EXAMPLES[i].texts[0] for i in alike.argsort(descending=True)]


@pytest.mark.parametrize("texts", QUERIES)
def test_the_nearest_are_shown_and_never_the_text_itself(folder: Path, texts: tuple[str, ...]) -> None:
    learner = icl(folder, demonstrations="nearest", demo_order="nearest-last")
    expected = [text for text in nearest_first(learner, texts) if text != texts[0]][:2]
    assert shown(learner, texts) == expected[::-1]
    as_drawn = icl(folder, demonstrations="nearest")
    assert shown(as_drawn, texts) == [e.texts[0] for e in EXAMPLES if e.texts[0] in expected]


def test_the_nearest_last_orders_a_draw_too(folder: Path) -> None:
    learner = icl(folder, len(EXAMPLES), demo_order="nearest-last")
    assert shown(learner, QUERIES[0]) == nearest_first(learner, QUERIES[0])[::-1]


def test_what_is_chosen_depends_on_no_other_text(folder: Path) -> None:
    learner = icl(folder, demonstrations="nearest")
    together = learner.encoder.encode([q for q in QUERIES for _ in range(2)])
    assert together[::2] == [icl(folder, demonstrations="nearest").encoder.encode([q])[0] for q in QUERIES]


@pytest.mark.parametrize("which", ["balanced", "nearest"])
def test_a_shot_can_be_left_out_of_its_own_prompt(folder: Path, which: str) -> None:
    learner = icl(folder, len(EXAMPLES), demonstrations=which)
    for example in EXAMPLES:
        assert shown(learner, example.texts, leave_out=True) == [e.texts[0] for e in EXAMPLES if e is not example]
    assert shown(learner, EXAMPLES[0].texts) == [e.texts[0] for e in EXAMPLES]


@pytest.mark.parametrize("which", ["nearest", "balanced"])
def test_shared_starts_change_no_score(folder: Path, which: str) -> None:
    learner = icl(folder, 4, demonstrations=which)
    items = learner.items([*EXAMPLES, *(Example(q, 0, 0) for q in QUERIES)], leave_out=True)
    alone = torch.cat([predict(learner, [item]) for item in items])
    assert torch.allclose(predict_apart(learner, items), alone, atol=1e-5)


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=60).map(tuple), max_size=30))
def test_groups_of_shared_starts_hold_every_prompt_once(tails: list[tuple[int, ...]]) -> None:
    prompts = [(7,) * (90 * (len(tail) % 3)) + tail for tail in tails]
    groups = share_starts(prompts)
    assert sorted(place for group in groups for place in group) == list(range(len(prompts)))
    starts = [{prompts[place][:16] for place in group} for group in groups[:-1]]
    assert all(len(start) == 1 for start in starts)


@given(st.integers(0, 99), st.integers(0, 12))
def test_draws(seed: int, shots: int) -> None:
    train = [Example((str(i),), i % 3, i) for i in range(12)]
    random = draw_demonstrations(train, 3, shots, seed, "random")
    assert len(set(random)) == shots
    assert set(random) <= set(train)
    ordered = draw_demonstrations(train, 3, shots, seed, order="by-label")
    assert [e.label for e in ordered] == sorted(e.label for e in ordered)
    assert set(ordered) == set(draw_demonstrations(train, 3, shots, seed))
    assert set(ordered) <= set(draw_demonstrations(train, 3, 12, seed))


def test_demonstrations_longer_than_the_model_reads_are_a_sentence(tmp_path: Path) -> None:
    small = save_backbone(tmp_path, "llama", positions=24)
    long = [replace(e, texts=("the cat " * 4,)) for e in EXAMPLES]
    strategy = compose("icl").with_parameters({"shots": 4, "demonstrations": "nearest"})
    with pytest.raises(ValueError, match="the prompt with 4 demonstrations takes"):
        learner_on(small, strategy, demos=tuple(long))


def test_a_teacher_never_reads_its_answer(tmp_path: Path) -> None:
    files = {"task": str(make_place(tmp_path, "llama") / "task.yaml"), "model": str(tmp_path / "llama")}
    given = {"strategy": "context_distillation", "per_label": 4, "teacher_shots": 4, "demo_order": "nearest-last"}
    plan = prepare(make_config({**files, **given, "unlabelled": 0}), Session())
    items, shown = training_items(plan, *build_learner(plan, None)), {e.texts for e in plan.demonstrations}
    assert [item.teacher is None for item in items] == [e.texts in shown for e in plan.draw.train]
