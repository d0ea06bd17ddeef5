"""Scores and updates against short computations with transformers, peft and Trainer alone, in float64."""

import random
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from backbones import save_backbone
from helpers import EXAMPLES, learner_on

from effft.config import RunConfig
from effft.strategies.learner import Learner
from effft.strategies.scoring import predict
from effft.strategies.strategy import compose
from effft.training.loop import train

RATE, STEPS = 1e-3, 3
EQUAL = {"rtol": 0.0, "atol": 1e-8}
LABELS = torch.tensor([example.label for example in EXAMPLES])


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No dropout, tied embeddings, grouped-query attention."""
    return save_backbone(tmp_path_factory.mktemp("llama"), "llama")


def fitted(folder: Path, spec: str, **values: object) -> Learner:
    """After three whole-batch updates at a constant rate, no clipping."""
    learner = learner_on(folder, compose(spec).with_parameters(values), dtype=torch.float64)
    config = RunConfig(steps=STEPS, batch_size=len(EXAMPLES), warmup=0, schedule="constant", clip_norm=0)
    for _ in train(learner, learner.items(EXAMPLES), config, RATE, random.Random(0)):
        pass
    return learner


def ours(learner: Learner) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([learner.scores(learner.collate([item])) for item in learner.items(EXAMPLES)])


def plain(kind: str, folder: Path) -> tuple[torch.nn.Module, object]:
    import transformers

    model = getattr(transformers, kind).from_pretrained(folder, dtype=torch.float64)
    return model.eval(), transformers.AutoTokenizer.from_pretrained(folder)


def adamw(parameters: list[torch.nn.Parameter], loss: object) -> None:
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.0)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss().backward()  # type: ignore[operator]
        optimizer.step()


def word_scores(model: torch.nn.Module, tokenizer: object, prefix: str = "") -> torch.Tensor:
    """Log-probabilities of ' No' and ' Yes' after each prompt, one prompt at a time."""
    words = tokenizer.convert_tokens_to_ids(["No", "Yes"])  # type: ignore[attr-defined]
    rows = []
    for example in EXAMPLES:
        ids = tokenizer(f"{prefix}{example.texts[0]} ?", return_tensors="pt")["input_ids"]  # type: ignore[operator]
        rows.append(model(input_ids=ids).logits[0, -1].log_softmax(-1)[words])
    return torch.stack(rows)


def pooled(body: torch.nn.Module, tokenizer: object) -> torch.Tensor:
    """The last token's hidden state of each text."""
    rows = []
    for example in EXAMPLES:
        ids = tokenizer(example.texts[0], return_tensors="pt")["input_ids"]  # type: ignore[operator]
        rows.append(body(input_ids=ids).last_hidden_state[0, -1])
    return torch.stack(rows)


def test_pbft(llama: Path) -> None:
    model, tokenizer = plain("AutoModelForCausalLM", llama)
    adamw(list(model.parameters()), lambda: F.cross_entropy(word_scores(model, tokenizer), LABELS))
    torch.testing.assert_close(ours(fitted(llama, "pbft")), word_scores(model, tokenizer).detach(), **EQUAL)


def head_like(learner: Learner) -> torch.nn.Linear:
    """The classifier the strategy starts with."""
    head = torch.nn.Linear(learner.backbone.width, 2).double()
    assert learner.head is not None
    head.load_state_dict(learner.head.linear.state_dict())
    return head


def test_vanilla(llama: Path) -> None:
    body, tokenizer = plain("AutoModel", llama)
    head = head_like(learner_on(llama, compose("vanilla"), dtype=torch.float64))
    moving = [*body.parameters(), *head.parameters()]
    adamw(moving, lambda: F.cross_entropy(head(pooled(body, tokenizer)), LABELS))
    torch.testing.assert_close(ours(fitted(llama, "vanilla")), head(pooled(body, tokenizer)).detach(), **EQUAL)


def test_lora(llama: Path) -> None:
    from peft import LoraConfig, get_peft_model

    body, tokenizer = plain("AutoModel", llama)
    learner = learner_on(llama, compose("lora").with_parameters({"rank": 2}), dtype=torch.float64)
    head = head_like(learner)
    config = LoraConfig(r=2, lora_alpha=16, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
    wrapped = get_peft_model(body, config).double()
    start = {n: p for n, p in learner.backbone.body.named_parameters() if "lora_" in n}
    own = {n.removeprefix("base_model.model."): p for n, p in wrapped.named_parameters() if "lora_" in n}
    assert own.keys() == start.keys()
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(start[name])
    adamw(
        [*own.values(), *head.parameters()],
        lambda: F.cross_entropy(head(pooled(wrapped, tokenizer)), LABELS),
    )
    expected = head(pooled(wrapped, tokenizer)).detach()
    torch.testing.assert_close(ours(fitted(llama, "lora", rank=2)), expected, **EQUAL)


def demonstrations() -> str:
    """The first two examples, solved, as a person would write them."""
    return "".join(f"{e.texts[0]} ? {('No', 'Yes')[e.label]}\n" for e in EXAMPLES[:2])


def test_icl(llama: Path) -> None:
    model, tokenizer = plain("AutoModelForCausalLM", llama)
    strategy = compose("icl").with_parameters({"shots": 2})
    learner = learner_on(llama, strategy, demos=EXAMPLES[:2], dtype=torch.float64)
    expected = word_scores(model, tokenizer, demonstrations()).detach()
    torch.testing.assert_close(ours(learner), expected, **EQUAL)
    torch.testing.assert_close(predict(learner, learner.items(EXAMPLES)).double(), expected, rtol=0, atol=1e-5)


def test_context_distillation(llama: Path) -> None:
    """KL to the frozen model with demonstrations, mixed with cross-entropy; here everything moves."""
    from effft.strategies.batch import Item

    teacher_model, tokenizer = plain("AutoModelForCausalLM", llama)
    with torch.no_grad():
        teacher = word_scores(teacher_model, tokenizer, demonstrations()).float().double()  # a teacher is kept in fp32
    model, _ = plain("AutoModelForCausalLM", llama)

    def loss() -> torch.Tensor:
        student = word_scores(model, tokenizer)
        kl = sum(
            (t.exp() * (t - s)).sum() for t, s in zip(teacher.log_softmax(-1), student.log_softmax(-1), strict=True)
        ) / len(EXAMPLES)
        return 0.3 * kl + 0.7 * F.cross_entropy(student, LABELS)

    adamw(list(model.parameters()), loss)
    strategy = compose("pbft+distill").with_parameters({"kl_weight": 0.3, "teacher_shots": 2})
    learner = learner_on(llama, strategy, dtype=torch.float64)
    items = [Item(i.prompt, i.label, tuple(t.tolist())) for i, t in zip(learner.items(EXAMPLES), teacher, strict=True)]
    config = RunConfig(steps=STEPS, batch_size=len(EXAMPLES), warmup=0, schedule="constant", clip_norm=0)
    for _ in train(learner, items, config, RATE, random.Random(0)):
        pass
    torch.testing.assert_close(ours(learner), word_scores(model, tokenizer).detach(), **EQUAL)


def test_trainer_reaches_the_same_weights(llama: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, Trainer, TrainingArguments

    _, tokenizer = plain("AutoModel", llama)
    learner = learner_on(llama, compose("vanilla"), dtype=torch.float64)
    assert learner.head is not None
    model = AutoModelForSequenceClassification.from_pretrained(llama, num_labels=2, dtype=torch.float64)
    model.config.pad_token_id = tokenizer.pad_token_id  # type: ignore[attr-defined]
    with torch.no_grad():
        model.score.weight.copy_(learner.head.linear.weight)
    rows = [
        {"input_ids": tokenizer(e.texts[0])["input_ids"], "labels": e.label}  # type: ignore[operator]
        for e in EXAMPLES
    ]
    arguments = TrainingArguments(
        str(tmp_path), max_steps=STEPS, per_device_train_batch_size=len(rows), learning_rate=RATE,
        lr_scheduler_type="linear", warmup_steps=0, weight_decay=0.0, max_grad_norm=1.0, use_cpu=True,
        save_strategy="no", report_to=[], disable_tqdm=True, logging_steps=1, log_level="error",
    )  # fmt: skip
    trainer = Trainer(model, arguments, train_dataset=rows, data_collator=DataCollatorWithPadding(tokenizer))
    trainer.train()
    for parameter in learner.head.linear.parameters():
        parameter.requires_grad_(parameter.ndim > 1)  # Trainer's head has no bias
    config = RunConfig(steps=STEPS, batch_size=len(rows), warmup=0, schedule="linear", clip_norm=1.0)
    losses = [s.loss for s in train(learner, learner.items(EXAMPLES), config, RATE, random.Random(0))]
    told = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert losses == pytest.approx(told, abs=1e-4)  # Trainer rounds what it logs
    theirs = dict(model.model.named_parameters())
    for name, parameter in learner.backbone.body.named_parameters():
        torch.testing.assert_close(parameter, theirs[name], **EQUAL)
    torch.testing.assert_close(learner.head.linear.weight, model.score.weight, **EQUAL)
