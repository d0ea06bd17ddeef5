"""Encoder-decoders against transformers and peft alone, in float64: what is read, and what three updates make of it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from backbones import ENCODER_DECODERS, save_backbone
from helpers import EXAMPLES, learner_on, small_task
from test_independent import EQUAL, LABELS, adamw, fitted, head_like, ours, plain

from effft.errors import InputError
from effft.models.backbone import load
from effft.strategies.learner import Learner
from effft.strategies.prompting import PromptEncoder
from effft.strategies.scoring import predict
from effft.strategies.strategy import compose

ATTENTION = {"t5": ["q", "k", "v", "o"], "bart": ["q_proj", "k_proj", "v_proj", "out_proj"]}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: save_backbone(tmp_path_factory.mktemp(kind), kind) for kind in ENCODER_DECODERS}


def target_scores(model: Any, tokenizer: Any, read: Callable[[str], str], target: str = "{word}") -> torch.Tensor:
    """Log-probabilities of 'No' and 'Yes' as parts of the target, as in training; one prompt and word at a time."""
    rows = []
    for example in EXAMPLES:
        ids = tokenizer(read(example.texts[0]), return_tensors="pt")["input_ids"]
        row = []
        for word in ("No", "Yes"):
            wanted = tokenizer(target.format(word=word), return_tensors="pt")["input_ids"]
            place = wanted[0].tolist().index(tokenizer.convert_tokens_to_ids(word))
            row.append(model(input_ids=ids, labels=wanted).logits[0, place].log_softmax(-1)[wanted[0, place]])
        rows.append(torch.stack(row))
    return torch.stack(rows)


def question(text: str) -> str:
    return f"{text} ?"


@pytest.mark.parametrize("kind", ENCODER_DECODERS)
def test_a_classifier_pools_the_encoder(folders: dict[str, Path], kind: str) -> None:
    model, tokenizer = plain("T5EncoderModel" if kind == "t5" else "BartModel", folders[kind])
    encoder = model.encoder
    head = head_like(learner_on(folders[kind], compose("vanilla"), dtype=torch.float64))

    def scores() -> torch.Tensor:
        rows = [tokenizer(e.texts[0], return_tensors="pt")["input_ids"] for e in EXAMPLES]  # type: ignore[operator]
        return head(torch.cat([encoder(input_ids=row).last_hidden_state.mean(dim=1) for row in rows]))

    adamw([*encoder.parameters(), *head.parameters()], lambda: F.cross_entropy(scores(), LABELS))
    learner = fitted(folders[kind], "vanilla")
    torch.testing.assert_close(ours(learner), scores().detach(), **EQUAL)
    assert not any("decoder" in name for name, _ in learner.backbone.model.named_parameters())


@pytest.mark.parametrize("kind", ENCODER_DECODERS)
@pytest.mark.slow
def test_lora_adapts_both_halves(folders: dict[str, Path], kind: str) -> None:
    from peft import LoraConfig, get_peft_model

    model, tokenizer = plain("AutoModelForSeq2SeqLM", folders[kind])
    learner = learner_on(folders[kind], compose("lora+pbft").with_parameters({"rank": 2}), dtype=torch.float64)
    wrapped = get_peft_model(model, LoraConfig(r=2, lora_alpha=16, target_modules=ATTENTION[kind])).double()
    start = {name: p for name, p in learner.backbone.model.named_parameters() if "lora_" in name}
    theirs = {n.removeprefix("base_model.model."): p for n, p in wrapped.named_parameters() if "lora_" in n}
    assert theirs.keys() == start.keys()
    assert any("encoder." in name for name in start)
    assert any("decoder." in name for name in start)
    with torch.no_grad():
        for name, parameter in theirs.items():
            parameter.copy_(start[name])
    adamw(list(theirs.values()), lambda: F.cross_entropy(target_scores(wrapped, tokenizer, question), LABELS))
    expected = target_scores(wrapped, tokenizer, question).detach()
    exact = 1e-5 if kind == "t5" else 1e-8  # its norm is in fp32, whose sums of one row go another way than of many
    torch.testing.assert_close(ours(fitted(folders[kind], "lora+pbft", rank=2)), expected, rtol=0, atol=exact)


@pytest.mark.parametrize("kind", ENCODER_DECODERS)
def test_demonstrations_are_read_by_the_encoder(folders: dict[str, Path], kind: str) -> None:
    model, tokenizer = plain("AutoModelForSeq2SeqLM", folders[kind])
    learner = learner_on(
        folders[kind], compose("icl").with_parameters({"shots": 2}), demos=EXAMPLES[:2], dtype=torch.float64
    )
    solved = "".join(f"{e.texts[0]} ? {('No', 'Yes')[e.label]}\n" for e in EXAMPLES[:2])
    expected = target_scores(model, tokenizer, lambda text: f"{solved}{text} ?").detach()
    torch.testing.assert_close(ours(learner), expected, **EQUAL)
    torch.testing.assert_close(predict(learner, learner.items(EXAMPLES)).double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("pattern", "read"),
    [("{answer} : {text}", "<extra_id_0> : {}"), ("{text} ? <extra_id_0>", "{} ? <extra_id_0>")],
)
def test_a_sentinel_stands_for_the_word(folders: dict[str, Path], pattern: str, read: str) -> None:
    """T5's own pre-training: the sentinel in the text, then the sentinel and the word as the target."""
    model, tokenizer = plain("AutoModelForSeq2SeqLM", folders["t5"])
    backbone, strategy = load(str(folders["t5"]), need_lm_head=True), compose("zero_shot")
    backbone.model.double()
    reader = PromptEncoder(strategy, small_task(patterns={"p": pattern}), backbone, 64)
    learner = Learner(strategy, small_task(), backbone, reader, torch.Generator())
    expected = target_scores(model, tokenizer, read.format, "<extra_id_0> {word}").detach()
    torch.testing.assert_close(ours(learner), expected, **EQUAL)
    assert reader.fill(["a dog"], " Yes") in (" Yes : a dog", "a dog ? Yes")  # as a demonstration shows it
    assert "<extra_id_0>" not in reader.prompt([*map(reader._clean, ["a <extra_id_0> dog"])]).replace(reader.slot(), "")


def test_the_top_blocks_of_both_halves_train(folders: dict[str, Path]) -> None:
    def moved(spec: str) -> Sequence[str]:
        learner = learner_on(folders["bart"], compose(spec).with_parameters({"layers": 1}))
        return sorted({n.rsplit("layers.", 1)[0] + n.rsplit("layers.", 1)[1][0] for n in learner.trainable_parameters})

    assert moved("adaptive+pbft") == ["model.decoder.2", "model.encoder.2"]
    learner = learner_on(folders["bart"], compose("adaptive").with_parameters({"layers": 1}))
    assert {n.split(".")[0] for n in learner.trainable_parameters} == {"encoder", "head"}
    with pytest.raises(InputError, match="has 3 blocks, so at most 3"):
        learner_on(folders["bart"], compose("adaptive+pbft").with_parameters({"layers": 4}))


@pytest.mark.parametrize("kind", ENCODER_DECODERS)
def test_bf16_is_near(tmp_path: Path, kind: str) -> None:
    folder = save_backbone(tmp_path, kind, width=256, std=0.05)
    strategy = compose("lora+pbft").with_parameters({"label_words": "not good,not bad"})
    whole, half = (learner_on(folder, strategy, precision=precision) for precision in ("fp32", "bf16"))
    found, wanted = (predict(learner, learner.items(EXAMPLES)) for learner in (half, whole))
    torch.testing.assert_close(found, wanted, rtol=0.02, atol=0.02)
    half.loss(half.collate(half.items(EXAMPLES))).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in half.trainable_parameters.values())


def test_what_cannot_be_read_is_a_sentence(folders: dict[str, Path], tmp_path: Path) -> None:
    strategy = compose("zero_shot").with_parameters({"pattern": "early"})
    with pytest.raises(InputError, match=r"goes on after its answer slot; .* answers after the prompt"):
        learner_on(folders["bart"], strategy)
    nameless = tmp_path / "t5"
    save_backbone(nameless, "t5")
    config = nameless / "config.json"
    config.write_text(config.read_text().replace('"decoder_start_token_id": 0', '"decoder_start_token_id": null'))
    with pytest.raises(InputError, match="has no decoder_start_token_id"):
        load(str(nameless), need_lm_head=True)
    assert load(str(nameless)).width == 32
