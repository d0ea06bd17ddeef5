"""Pre-training is honest (no evaluated sentence, no evaluated label), resumable, and the same bits every time."""

import hashlib
import random
from pathlib import Path

import grammar_checker
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from effft.errors import InputError
from effft.tasks.builtin import GENERATORS, generate, lexicon
from effft.tasks.builtin.sampling import part_of
from effft.tiny_lm import corpus, recipe, sentences, vocabulary
from effft.tiny_lm.batches import step_rows, to_batches
from effft.tiny_lm.muon import orthogonalised
from effft.tiny_lm.train import STATE, make_model, pretrain

TINY = {
    "version": 1,
    "model": {"width": 16, "blocks": 1, "heads": 2, "feed_forward": 16, "positions": 64, "initial_std": 0.06},
    "optimizer": {
        "matrix_rate": 0.01, "other_rate": 0.01, "betas": [0.9, 0.98], "weight_decay": 0.0, "clip_norm": 1.0,
        "warmup": 2, "decay_from": 0.5, "final": 0.1,
    },
    "batch": {"short": 8, "episodes": 2, "episode_weight": 1.0},
    "stages": [
        {"name": "one", "steps": 2, "short": {"marked": 1.0}, "episodes": {"recall": 1.0}},
        {"name": "two", "steps": 4, "short": {"plain": 0.5, "named_pair": 0.5}, "episodes": {"classes": 1.0}},
    ],
}  # fmt: skip


@pytest.fixture
def tiny() -> recipe.Recipe:
    return recipe.Recipe.model_validate(TINY)


def rows(source: str, count: int = 60) -> list[corpus.TextRow]:
    rng = random.Random(source)
    return [corpus.SOURCES[source](rng) for _ in range(count)]


def pieces(words: list[str]) -> list[str]:
    """Every stretch of words that ends at a full stop: no splitter of the corpus's own."""
    found, start = [], 0
    skipped = {*vocabulary.LABEL_WORDS, "?", "<s>", "</s>"}
    for at, word in enumerate(words):
        if word in skipped or word.startswith("ask_"):
            start = at + 1
        elif word == ".":
            found.append(" ".join(words[start : at + 1]))
            start = at + 1
    return found


@pytest.fixture(scope="module")
def evaluated() -> set[str]:
    splits = ("train", "in_domain", "ood", "development", "development_ood")
    return {
        text
        for name in GENERATORS
        for split in splits
        for row in generate(name, split, 560, 0)
        for text in row.values()
    }


@pytest.mark.parametrize("source", sorted(corpus.SOURCES))
def test_no_evaluated_sentence_is_in_the_text(source: str, evaluated: set[str]) -> None:
    said = [piece for row in rows(source) for piece in pieces(row.words)]
    assert said or source == "pairs"  # words and answers alone
    assert evaluated.isdisjoint(said)
    if source in ("plain", "named_sentence", "named_pair", "told_sentences", "shown_sentences"):
        assert {part_of(piece) for piece in said} == {"pretraining"}


@pytest.mark.parametrize("name", vocabulary.SENTENCE_QUESTIONS)
def test_no_labelled_sentence_has_a_fault_of_an_evaluated_kind(name: str) -> None:
    rng = random.Random(name)
    numbered = {
        form for v in lexicon.EVERY_WORD.transitive + lexicon.EVERY_WORD.intransitive for form in (v[0], v[1], v[3])
    }
    helpers = {*grammar_checker.SINGULAR_HELPERS, *grammar_checker.PLURAL_HELPERS, *lexicon.MODALS}
    helpers |= {"himself", "herself", "themselves"}
    for _ in range(200):
        words, answer = corpus.answered_text(rng, name)
        if name in corpus.DESCRIBED or not answer:
            assert grammar_checker.agreement_label(" ".join(words)) == "acceptable"
        else:
            assert (numbered | helpers | set(lexicon.DETERMINERS[True])).isdisjoint(words)


@pytest.mark.parametrize("name", vocabulary.PAIR_QUESTIONS + vocabulary.LIST_QUESTIONS)
def test_no_pair_question_is_entailment_or_the_overlap_heuristic(name: str) -> None:
    rng = random.Random(name)
    agree = []
    for _ in range(400):
        words, answer = corpus.answered_text(rng, name)
        cut = words.index(".") + 1
        agree.append(answer == (set(words[cut:]) <= set(words[:cut])))
    if name != "copy":  # of bare sentences, which the task does not hold: identical, or a word replaced
        assert 0.02 < sum(agree) / len(agree) < 0.98


def test_answers_balance_and_the_vocabulary_is_closed() -> None:
    known = vocabulary.identifiers()
    for source in corpus.SOURCES:
        for row in rows(source, 60):
            assert set(row.words) <= set(known)
            assert len(row.words) == len(row.weights)
    for name in vocabulary.SENTENCE_QUESTIONS + vocabulary.PAIR_QUESTIONS + vocabulary.LIST_QUESTIONS:
        rng = random.Random(0)
        assert 0.38 < sum(corpus.answered_text(rng, name)[1] for _ in range(300)) / 300 < 0.62


def test_repairs_end_well() -> None:
    rng = random.Random(0)
    for _ in range(200):
        words = sentences.repaired(rng)
        at = words.index("uh")
        assert "." not in words[:at], "a slip is noticed before its sentence ends"
        starts = range(max(0, at - sentences.LATEST_REPAIR), at)
        assert any(_acceptable(words[:start] + words[at + 1 :]) for start in starts), words


def _acceptable(words: list[str]) -> bool:
    try:
        return grammar_checker.agreement_label(" ".join(words)) == "acceptable"
    except (ValueError, KeyError):
        return False


def test_episodes_fit_the_positions() -> None:
    own = recipe.read_recipe()
    for step in range(0, own.steps, own.steps // 12):
        for batch in to_batches(step_rows(own, 0, step)["episodes"], 10_000):
            assert batch.ids.shape[1] <= own.model.positions


def test_the_tokenizer_reads_label_words_as_one_token() -> None:
    tokenizer = vocabulary.build_tokenizer(64)
    before = tokenizer("the author laughs . ?")["input_ids"]
    assert tokenizer("the author laughs. ? Yes")["input_ids"] == [*before, vocabulary.identifiers()["Yes"]]
    assert tokenizer.unk_token_id not in before


def test_orthogonalised_pulls_singular_values_towards_one() -> None:
    matrix = torch.randn(8, 20, generator=torch.Generator().manual_seed(0))
    for given in (matrix, matrix.T):
        values = torch.linalg.svdvals(orthogonalised(given))
        assert values.min() > 0.5
        assert values.max() < 1.3


def test_a_stopped_run_resumes_bit_for_bit(tmp_path: Path, tiny: recipe.Recipe) -> None:
    whole = list(pretrain(tmp_path / "whole", tiny, seed=3, save_every=100))
    stopped = pretrain(tmp_path / "two", tiny, seed=3, save_every=2)
    first = [next(stopped) for _ in range(3)]
    stopped.close()
    rest = list(pretrain(tmp_path / "two", tiny, seed=3, save_every=2))
    assert [s.loss for s in whole] == [s.loss for s in [*first[:2], *rest]]
    one, two = (load_file(tmp_path / f / "model" / "model.safetensors") for f in ("whole", "two"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    with pytest.raises(InputError, match="another recipe, seed or vocabulary"):
        next(pretrain(tmp_path / "two", tiny, seed=4))


def test_a_state_of_another_vocabulary_is_a_sentence(tmp_path: Path, tiny: recipe.Recipe) -> None:
    begun = pretrain(tmp_path, tiny, seed=3, save_every=1)
    next(begun)
    begun.close()
    path = tmp_path / STATE
    with safe_open(path, "pt") as file:
        known = file.metadata()
    save_file(load_file(path), path, metadata=known | {"vocabulary": "0" * 16})
    with pytest.raises(InputError, match="another recipe, seed or vocabulary"):
        next(pretrain(tmp_path, tiny, seed=3))


def test_random_weights_depend_on_the_seed_alone(tiny: recipe.Recipe) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, two, other = (make_model(tiny.model, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not torch.equal(one["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("marked:", "market:", "Did you mean 'marked'"),
        ("marked: 0.5,", "marked: 0.9,", "add up to 1"),
        ("width: 128", "width: 0", "width"),
    ],
)
def test_a_bad_recipe_is_one_sentence(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.DEFAULT.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match=said):
        recipe.read_recipe(path)


def test_the_text_of_a_seed_stays_the_same() -> None:
    """The shipped weights were trained on this text; a change here asks for new weights."""
    shipped, state = recipe.read_recipe(), hashlib.sha256()
    for step in (0, 1, shipped.steps // 2, shipped.steps - 1):
        for kind, drawn in step_rows(shipped, 0, step).items():
            for source, row in drawn:
                state.update(repr((kind, source, row.words, row.weights)).encode())
    assert state.hexdigest()[:16] == "59b7f53aa73d6544"
