"""Texts longer than fits: what is cut, and the windows that are read instead."""

from pathlib import Path

import numpy as np
import pytest
import torch
from backbones import save_backbone
from helpers import learner_on, small_task
from hypothesis import given
from hypothesis import strategies as st
from place import Copying, go, make_place

from effft.data.examples import Example
from effft.models.backbone import load
from effft.serving.load import SavedModel
from effft.strategies.long_texts import cut, windows
from effft.strategies.prompting import PromptEncoder
from effft.strategies.scoring import of_windows, predict
from effft.strategies.strategy import compose

WORDS = st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=30)


def spans_of(words: list[str]) -> list[tuple[int, int]]:
    starts = [sum(len(word) + 1 for word in words[:place]) for place in range(len(words))]
    return [(start, start + len(word)) for start, word in zip(starts, words, strict=True)]


@given(WORDS, st.integers(0, 30))
def test_a_cut_text_keeps_so_many_tokens_of_its_ends(words: list[str], count: int) -> None:
    count = min(count, len(words))
    text, spans = " ".join(words), spans_of(words)
    assert cut(text, spans, count, "end").split() == words[:count]
    assert cut(text, spans, count, "start").split() == words[len(words) - count :]
    tail = count // 2
    assert cut(text, spans, count, "middle").split() == words[: count - tail] + words[len(words) - tail :]


@given(WORDS, WORDS, st.integers(1, 10), st.integers(1, 10))
def test_windows_cover_every_text_and_each_is_full(one: list[str], two: list[str], first: int, second: int) -> None:
    rows, counts = (one, two), (min(first, len(one)), min(second, len(two)))
    pieces = list(windows([" ".join(r) for r in rows], [spans_of(r) for r in rows], counts))
    for field, (row, count) in enumerate(zip(rows, counts, strict=True)):
        read = [piece[field].split() for piece in pieces]
        starts = [min(i * max(1, count // 2), len(row) - count) for i in range(len(read))]
        assert read == [row[start : start + count] for start in starts]
        assert starts[-1] == len(row) - count


LONG = "the cat sees dogs . " * 3 + "old dogs run"


@pytest.mark.parametrize("name", ["probe", "zero_shot"])
@pytest.mark.parametrize("how", ["mean", "max"])
def test_a_text_in_windows_has_the_scores_of_its_windows(tmp_path: Path, name: str, how: str) -> None:
    folder = save_backbone(tmp_path, "llama")
    learner = learner_on(folder, compose(name).with_parameters({"windows": how}))
    learner.encoder = PromptEncoder(learner.strategy, small_task(), learner.backbone, 9)
    items = learner.items([Example((LONG,), 0, 0), Example(("a dog",), 1, 1)])
    reads = items[0].prompt.reads
    assert len(reads) > 2
    assert max(len(read.ids) for read in reads) <= 9
    assert items[1].prompt.reads == (items[1].prompt,)
    each = torch.cat([predict(learner, [items[0]._replace(prompt=read)]) for read in reads])
    surest = each.log_softmax(dim=1).exp().max(dim=1).values.argmax()
    expected = each.mean(dim=0) if how == "mean" else each[surest]
    scores = predict(learner, items)
    torch.testing.assert_close(scores[0], expected)
    torch.testing.assert_close(scores[1:], predict(learner, items[1:]))
    torch.testing.assert_close(predict(learner, items[:1], budget=1), scores[:1])


def test_windows_of_each_pattern_have_the_prior_of_their_pattern(tmp_path: Path) -> None:
    parameters = {"windows": "mean", "pattern": "all", "label_score": "pmi"}
    learner = learner_on(save_backbone(tmp_path, "bert"), compose("zero_shot").with_parameters(parameters))
    learner.encoder = PromptEncoder(learner.strategy, small_task(), learner.backbone, 12)
    items = learner.items([Example((LONG,), 0, 0), Example(("a dog",), 1, 1)])
    assert len(items[0].prompt.reads) > len(items[1].prompt.reads)
    torch.testing.assert_close(predict(learner, items), predict(learner, items[::-1]).flip(0))


def test_each_of_several_labels_is_read_in_its_surest_window() -> None:
    first = torch.tensor([[0.0, 3.0], [0.0, 0.1]])  # sure that the first label stands, not of the second
    second = torch.tensor([[0.2, 0.0], [5.0, 0.0]])
    torch.testing.assert_close(of_windows(torch.stack([first, second]), "max"), torch.stack([first[0], second[1]]))
    torch.testing.assert_close(of_windows(torch.stack([first, second]), "mean"), (first + second) / 2)


@pytest.mark.parametrize(("how", "kept"), [("end", "the cat"), ("start", "dogs run"), ("middle", "the run")])
def test_the_pattern_stays_and_the_text_loses_what_is_asked(tmp_path: Path, how: str, kept: str) -> None:
    backbone = load(str(save_backbone(tmp_path, "llama")), need_lm_head=True)
    encoder = PromptEncoder(compose("zero_shot").with_parameters({"cut": how}), small_task(), backbone, 4)
    (prompt,) = encoder.encode([(LONG,)])
    assert encoder.tokenizer.decode(prompt.ids, skip_special_tokens=True) == f"{kept} ?"
    assert prompt.cut
    assert not encoder.encode([("a dog",)])[0].cut


@pytest.mark.parametrize("name", ["probe", "lora+pbft"])
@pytest.mark.slow
def test_a_run_says_what_was_cut_and_its_saved_model_reads_the_same_windows(tmp_path: Path, name: str) -> None:
    make_place(tmp_path, "bert")
    tracker = Copying(to=tmp_path / "model")
    result = go(tmp_path, tracker, name, "bert", max_length=6, cut="middle", windows="max")
    share = result.metrics["in_domain/cut_share"]
    assert 0 < share < 1
    assert any(f"in_domain ({100 * share:.2g} %)" in note and "windows (max" in note for note in result.notes)
    assert any(note.endswith("lost their middle.") and " of train " in note for note in result.notes)
    table = result.tables["in_domain"]
    model = SavedModel.load(tmp_path / "model")
    scores = model.score_texts([(str(text),) for text in table["text"]])
    logged = np.array([table[f"score_{label}"] for label in model.labels], dtype=float).T
    np.testing.assert_allclose(scores, logged, atol=1e-5)
