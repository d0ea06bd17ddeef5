"""Label words of several tokens against a plain log-likelihood: one prompt, one word and one token at a time."""

import csv
import gzip
import os
import random
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from backbones import CONFIGS, DECODERS, VOCABULARY, save_backbone
from helpers import EXAMPLES, learner_on, small_task
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers
from transformers import PreTrainedTokenizerFast

from effft.config import RunConfig
from effft.data.examples import Example
from effft.errors import InputError
from effft.models.backbone import load
from effft.models.forward.shared_prefix import common_prefix
from effft.strategies.batch import count
from effft.strategies.label_words import LabelTokens
from effft.strategies.learner import Learner
from effft.strategies.prompting import PromptEncoder
from effft.strategies.scoring import predict
from effft.strategies.strategy import compose
from effft.training.loop import train

TEXTS = [example.texts[0] for example in EXAMPLES]
WORDS = (" not good", " bad")
ALIKE = (" not good", " not bad")


def log_likelihood(model: torch.nn.Module, tokenizer: object, before: str, word: str) -> torch.Tensor:
    """Log-probabilities of the tokens of a word after a text, (tokens): each given those before it, or, of a masked
    language model, given all others. An encoder-decoder has the word as its target, as in training."""
    if model.config.is_encoder_decoder:
        target, bare = tokenizer(word.strip())["input_ids"], tokenizer(word, add_special_tokens=False)["input_ids"]
        places = torch.arange(target.index(bare[0]), target.index(bare[0]) + len(bare))
        out = model(torch.tensor([tokenizer(before)["input_ids"]]), labels=torch.tensor([target]))
        return out.logits[0, places].log_softmax(-1)[torch.arange(len(bare)), bare]
    ids, start = (tokenizer(before + word)["input_ids"], len(tokenizer(before)["input_ids"]))  # type: ignore[operator]
    size = len(ids) - start
    mask = getattr(tokenizer, "mask_token_id", None)
    if mask is None:
        logits = model(torch.tensor([ids])).logits[0, start - 1 : -1]
        return logits.log_softmax(-1)[torch.arange(size), ids[start:]]
    places = range(start - 1, start - 1 + size)  # the end token stands after the text
    rows = torch.tensor([[mask if i == place else token for i, token in enumerate(ids)] for place in places])
    logits = model(rows, attention_mask=torch.ones_like(rows)).logits[torch.arange(size), torch.tensor(places)]
    return logits.log_softmax(-1)[torch.arange(size), [ids[place] for place in places]]


def expected(learner: Learner, how: str, texts: Sequence[str] = TEXTS, prefix: str = "") -> torch.Tensor:
    """The scores of the learner's words after its pattern, which ends in the answer."""
    model, tokenizer, encoder = learner.backbone.model, learner.backbone.tokenizer, learner.encoder

    def score(text: str, word: str) -> torch.Tensor:
        values = log_likelihood(model, tokenizer, prefix + encoder.template.format(text=text), word)
        return values.mean() if how == "mean" else values.sum()

    rows = torch.stack([torch.stack([score(text, word) for word in encoder.label_words]) for text in texts])
    return rows - (torch.stack([score("", word) for word in encoder.label_words]) if how == "pmi" else 0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: save_backbone(tmp_path_factory.mktemp(kind), kind) for kind in CONFIGS}


@pytest.mark.parametrize("how", ["sum", "mean", "pmi"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_scores_are_log_likelihoods(folders: dict[str, Path], kind: str, how: str) -> None:
    for words in (WORDS, ALIKE):
        given = {"label_words": ",".join(words), "label_score": how}
        learner = learner_on(folders[kind], compose("zero_shot").with_parameters(given), dtype=torch.float64)
        with torch.no_grad():
            wanted = expected(learner, how)
        torch.testing.assert_close(predict(learner, learner.items(EXAMPLES)).double(), wanted, rtol=0, atol=2e-6)


def plain_pbft(learner: Learner, steps: int) -> torch.Tensor:
    """Scores after steps of AdamW on the cross-entropy of mean log-likelihoods, in the model that is given."""
    model, labels = learner.backbone.model, torch.tensor([e.label for e in EXAMPLES])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(expected(learner, "mean"), labels).backward()
        optimizer.step()
    with torch.no_grad():
        return expected(learner, "mean")


@pytest.mark.parametrize("kind", ["gpt_neox", "bert", "t5", "bart"])
def test_training_lowers_the_cross_entropy_of_the_scores(folders: dict[str, Path], kind: str) -> None:
    """Three whole-batch updates without dropout."""

    def fresh() -> Learner:
        strategy = compose("pbft").with_parameters({"label_words": ",".join(ALIKE)})
        learner = learner_on(folders[kind], strategy, dtype=torch.float64)
        for module in learner.backbone.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        return learner

    learner = fresh()
    config = RunConfig(steps=3, batch_size=len(EXAMPLES), warmup=0, schedule="constant", clip_norm=0)
    for _ in train(learner, learner.items(EXAMPLES), config, 1e-3, random.Random(0)):
        pass
    with torch.no_grad():
        found = learner.scores(learner.collate(learner.items(EXAMPLES)))
    exact = 1e-5 if kind == "t5" else 1e-8  # its norm is in fp32, whose sums of one row go another way than of many
    torch.testing.assert_close(found, plain_pbft(fresh(), 3), rtol=0, atol=exact)


@pytest.mark.parametrize("spec", ["lora+pbft", "lora+distill", "adaptive+pbft"])
@pytest.mark.parametrize("how", ["mean", "pmi"])
def test_frozen_features_and_parts_of_a_step_change_nothing(folders: dict[str, Path], spec: str, how: str) -> None:
    values = {"label_words": ",".join(ALIKE), "label_score": how}
    layers = {"layers": 1} if "adaptive" in spec else {}
    learner = learner_on(folders["llama"], compose(spec).with_parameters(values | layers), dtype=torch.float64)
    items = learner.items(EXAMPLES)
    whole = learner.loss(learner.collate(items))
    parts = [learner.loss(learner.collate([i]), count(items)) for i in learner.frozen_features(items)]
    torch.testing.assert_close(torch.stack(parts).sum(), whole, rtol=1e-10, atol=0)


@pytest.mark.parametrize("kind", DECODERS)
def test_a_shared_start_changes_nothing(folders: dict[str, Path], kind: str) -> None:
    values = {"label_words": ",".join(ALIKE), "label_score": "sum", "shots": 4}
    learner = learner_on(folders[kind], compose("icl").with_parameters(values), demos=EXAMPLES[:4], dtype=torch.float64)
    prefix = "".join(f"{e.texts[0]} ?{ALIKE[e.label]}\n" for e in EXAMPLES[:4])
    assert common_prefix([item.prompt.ids for item in learner.items(EXAMPLES)]) > 16
    with torch.no_grad():
        wanted = expected(learner, "sum", prefix=prefix)
    torch.testing.assert_close(predict(learner, learner.items(EXAMPLES)).double(), wanted, rtol=0, atol=3e-6)


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_wide_models(tmp_path: Path, kind: str) -> None:
    """From width 256 on, prompts are packed on a CPU, where the contexts are sequences of their own."""
    folder = save_backbone(tmp_path, kind, width=256, std=0.05)
    for words in (("good", "bad"), ALIKE):
        given = {"label_words": ",".join(words), "label_score": "sum"}
        learner = learner_on(folder, compose("zero_shot").with_parameters(given), dtype=torch.float64)
        with torch.no_grad():
            wanted = expected(learner, "sum")
        assert learner.packs_sequences == (kind == "bert" or words != ALIKE)
        torch.testing.assert_close(predict(learner, learner.items(EXAMPLES)).double(), wanted, rtol=0, atol=2e-6)


WORD_LISTS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4).map(tuple), min_size=2, unique=True)


@given(WORD_LISTS, st.booleans())
def test_contexts_are_shared_and_scores_add_up(ids: list[tuple[int, ...]], decoder: bool) -> None:
    words = LabelTokens(tuple(ids), "sum", None if decoder else 9)
    predicted = torch.from_numpy(np.random.default_rng(0).normal(size=(2 * len(words.contexts), 4)))
    assert len(set(words.contexts)) == len(words.contexts) <= sum(map(len, ids))
    if decoder:
        assert all(context[:-1] in words.contexts[:i] for i, context in enumerate(words.contexts) if context)
    found = words.combine(predicted)
    for label, word in enumerate(ids):
        contexts = [word[:i] if decoder else (*word[:i], 9, *word[i + 1 :]) for i in range(len(word))]
        places = [words.contexts.index(context) for context in contexts]
        for row in range(2):
            block = predicted[row * len(words.contexts) :]
            total = sum(block[place, token] for place, token in zip(places, word, strict=True))
            assert float(found[row, label]) == pytest.approx(float(total), abs=1e-12)
    mean = LabelTokens(tuple(ids), "mean", words.mask).combine(predicted)
    torch.testing.assert_close(mean * torch.tensor(words.lengths), found)


def test_auto_reads_one_token_where_it_can(folders: dict[str, Path]) -> None:
    def words(given: str, how: str = "auto") -> LabelTokens:
        strategy = compose("zero_shot").with_parameters({"label_words": given, "label_score": how})
        found = learner_on(folders["llama"], strategy).label_tokens
        assert found is not None
        return found

    assert words("good,bad").score == "first"
    assert words("not good,bad").score == "mean"
    assert words("not good,bad", "first").lengths == [1, 1]
    with pytest.raises(InputError, match=r"begin with the same token .* take --label-score mean"):
        words("not good,not", "first")
    with pytest.raises(InputError, match="' very good' is unknown"):
        words("very good,bad")


TOPICS = (" number", " human being", " human group", " place", " place in a city", " place far away", " name", " thing",
          " small thing", " big thing", " day", " day of rest", " time of year", " reason", " reason to go", " food",
          " good food", " animal", " animal with a name", " color")  # fmt: skip
PROMPTS = {
    "cola": ("{text} Is it right?", (" No", " Yes"), "auto"),
    "cola long": ("{text} It is", (" not a good one", " a good one"), "mean"),
    "mnli": ("{text} Is it so?", (" Yes", " No"), "sum"),
    "mnli long": ("{text} I think so.", (" Sure it is", " No, it is not"), "mean"),
    "trec": ("{text} It asks for a", TOPICS, "mean"),
}


def real_texts(shared: Path, name: str) -> list[str]:
    data = shared / "data"
    if name == "cola":
        lines = (data / "cola/in_domain_dev.tsv").read_text(encoding="utf-8").splitlines()
        return [line.split("\t")[3] for line in lines]
    if name == "mnli":
        with gzip.open(data / "mnli/dev_matched.tsv.gz", "rt", encoding="utf-8") as file:
            return [" ".join(line.split("\t")[1:3]) for _, line in zip(range(201), file, strict=False)][1:]
    with (data / "trec/test.csv").open(encoding="utf-8") as file:
        return [row["text"] for row in csv.DictReader(file)]


@pytest.mark.slow
@pytest.mark.parametrize("name", PROMPTS)
def test_choices_on_real_rows(shared: Path, name: str) -> None:
    """A real model's choices on 200 rows, in fp32: all those of whole sequences, one word at a time.

    EFFFT_REAL_MODEL names another model.
    """
    pattern, words, how = PROMPTS[name]
    labels = [str(i) for i in range(len(words))]
    task = small_task(labels=labels, label_words=dict(zip(labels, words, strict=True)), patterns={"p": pattern})
    model = os.environ.get("EFFFT_REAL_MODEL", str(shared / "models" / "stories260K"))
    backbone = load(model, need_lm_head=True)
    strategy = compose("zero_shot").with_parameters({"label_score": how})
    learner = Learner(strategy, task, backbone, PromptEncoder(strategy, task, backbone, 500), torch.Generator())
    texts = real_texts(shared, name.removesuffix(" long"))[:200]
    check_choices(learner, texts)


def check_choices(learner: Learner, texts: Sequence[str]) -> None:
    assert learner.label_tokens is not None
    found = predict(learner, learner.items([Example((text,), 0, row) for row, text in enumerate(texts)]))
    with torch.no_grad():
        wanted = expected(learner, learner.label_tokens.score, texts)
    assert found.argmax(dim=1).tolist() == wanted.argmax(dim=1).tolist()
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_choices_of_an_encoder(folders: dict[str, Path]) -> None:
    """200 rows and 20 labels, in fp32."""
    rng = random.Random(0)
    words = rng.sample([" ".join(pair) for pair in permutations(VOCABULARY[5:14], 2)], 15) + VOCABULARY[5:10]
    labels = [str(i) for i in range(20)]
    task = small_task(labels=labels, label_words={i: f" {word}" for i, word in zip(labels, words, strict=True)})
    backbone, strategy = load(str(folders["bert"]), need_lm_head=True), compose("zero_shot")
    learner = Learner(strategy, task, backbone, PromptEncoder(strategy, task, backbone, 64), torch.Generator())
    texts = [" ".join(rng.choices(VOCABULARY[5:], k=rng.randint(1, 5))) for _ in range(200)]
    check_choices(learner, texts)


def test_words_are_read_as_they_follow_a_text_where_the_pattern_is_the_text_alone(tmp_path: Path) -> None:
    """Of Llama 2's tokenizer a word has another token at the beginning of a text than after one."""
    backbone = load(str(save_backbone(tmp_path, "llama")), need_lm_head=True)
    pieces = [("<unk>", 0.0), ("▁", -5.0), *((piece, -3.0) for piece in ("No", "Yes", "▁No", "▁Yes", "a", "▁a"))]
    core = Tokenizer(models.Unigram(pieces, 0))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backbone.tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")
    reader = PromptEncoder(compose("zero_shot"), small_task(patterns={"bare": "{text}"}), backbone, 32)
    assert reader.label_tokens is not None
    assert backbone.tokenizer.convert_ids_to_tokens([word[0] for word in reader.label_tokens.ids]) == ["▁No", "▁Yes"]
    assert {*map(len, reader.label_tokens.ids)} == {1}
