"""What a careful user would write with transformers' Trainer, peft and Optuna; one job a process.

`python -m benchmarks.plain '{"work": "lora", "model": ..., "task": ..., "bf16": false, ...}'` prints one JSON line.
"""

import csv
import json
import math
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.data import Dataset, Sampler
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

from benchmarks.material import PeakMemory, complete_trials

WORDED = ("pbft", "icl", "context_distillation")  # Work that answers through the LM head.


class Rows(Dataset[dict[str, Any]]):
    """Tokenized rows."""

    def __init__(self, tokenizer: Any, rows: list[tuple[str, int]], suffix: str = "") -> None:
        ids = tokenizer([text + suffix for text, _ in rows])["input_ids"]
        self.rows = [{"input_ids": i, "labels": label} for i, (_, label) in zip(ids, rows, strict=True)]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]


class Order(Sampler[int]):
    """Another order of the rows an epoch: the one effft takes, so that losses can be compared step by step."""

    def __init__(self, size: int) -> None:
        self.size, self.generator = size, random.Random("order 0")

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        return iter(self.generator.sample(range(self.size), self.size))


class OrderedTrainer(Trainer):  # type: ignore[misc]
    """The Trainer, with rows in that order."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Order:
        return Order(len(self.train_dataset))


class WordTrainer(OrderedTrainer):
    """Pattern-based fine-tuning: cross-entropy of the label word at the last token, over the vocabulary's two words.

    With a teacher's scores in the rows: half of that, half the KL to the teacher. A demonstration has no teacher (NaN),
    an unlabelled row no label (-1); both are divided by all rows.
    """

    words: list[int]

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        """The loss; the logits of the label words stand for the outputs."""
        labels, teacher = inputs.pop("labels"), inputs.pop("teacher", None)
        answer = answers(model, inputs, self.words)
        loss = F.cross_entropy(answer, labels, ignore_index=-1, reduction="sum") / len(labels)
        if teacher is not None:
            taught = ~teacher[:, 0].isnan()
            told, own = teacher[taught].log_softmax(-1), answer[taught].log_softmax(-1)
            loss = 0.5 * F.kl_div(own, told, reduction="sum", log_target=True) / len(labels) + 0.5 * loss
        return (loss, {"logits": answer}) if return_outputs else loss


def answers(model: Any, inputs: Any, words: list[int]) -> torch.Tensor:
    """Log-probabilities of the label words at the last token, (batch, words)."""
    logits: torch.Tensor = model(**inputs).logits
    last = inputs["attention_mask"].sum(1) - 1
    return logits[torch.arange(len(last)), last].float().log_softmax(-1)[:, words]


def read(path: Path, rows: Sequence[int]) -> list[tuple[str, int]]:
    """Text and label of some rows, in that order."""
    with path.open() as file:
        known = [(row["text"], int(row["label"] == "right")) for row in csv.DictReader(file)]
    return [known[row] for row in rows]


def build(job: dict[str, Any]) -> tuple[Any, Any]:
    """Model and tokenizer as the work wants them."""
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    work = job["work"]
    if work in WORDED:
        model = AutoModelForCausalLM.from_pretrained(job["model"])
    else:
        model = AutoModelForSequenceClassification.from_pretrained(job["model"], num_labels=2)
        model.config.pad_token_id = tokenizer.pad_token_id
    if work in ("lora", "context_distillation", "search"):
        from peft import LoraConfig, get_peft_model

        last = "out_proj" if model.config.model_type == "opt" else "o_proj"
        targets = ["q_proj", "k_proj", "v_proj", last]
        if model.config.model_type == "bert":
            targets = ["query", "key", "value", "attention.output.dense"]
        kind = "CAUSAL_LM" if work in WORDED else "SEQ_CLS"
        rank = job.get("rank", 8)
        model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, task_type=kind, target_modules=targets))
    if work == "adaptive":
        for parameter in model.base_model.parameters():
            parameter.requires_grad = False
        body = model.base_model
        for layer in getattr(body, "decoder", body).layers[-2:]:
            for parameter in layer.parameters():
                parameter.requires_grad = True
    same_start(model)
    return model, tokenizer


def same_start(model: Any) -> None:
    """New weights as effft draws them: LoRA's A first, then the classifier."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, module in model.named_modules():
            if name.endswith("lora_A.default"):
                bound = (1.0 / module.weight.shape[1]) ** 0.5
                module.weight.copy_(torch.empty(module.weight.shape).uniform_(-bound, bound, generator=generator))
        for name, parameter in model.named_parameters():
            if "score" in name and parameter.requires_grad:
                parameter.copy_(torch.empty(parameter.shape).normal_(0, 0.02, generator=generator))


def main() -> None:
    """Work, and tell seconds of training and evaluation (or of the search), the peak memory and the losses."""
    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    set_seed(0)
    folder = Path(job["task"]).parent
    with PeakMemory() as memory:
        if job["work"] == "search":
            told = search(job)
        else:
            model, tokenizer = build(job)
            told = icl(job, model, tokenizer, folder) if job["work"] == "icl" else fit(job, model, tokenizer, folder)
    print(json.dumps(told | {"peak_bytes": memory.peak}))


def arguments(job: dict[str, Any]) -> TrainingArguments:
    """The job's settings in the Trainer's words."""
    return TrainingArguments(
        job["out"], num_train_epochs=job["epochs"], per_device_train_batch_size=32, per_device_eval_batch_size=32,
        learning_rate=job["rate"], lr_scheduler_type="linear", warmup_steps=0, weight_decay=0.0, max_grad_norm=1.0,
        bf16=job["bf16"], use_cpu=not job["cuda"], save_strategy="no", logging_steps=1, report_to=[],
        disable_tqdm=True, log_level="error", label_names=["labels"], remove_unused_columns=False,
    )  # fmt: skip


def fit(job: dict[str, Any], model: Any, tokenizer: Any, folder: Path) -> dict[str, Any]:
    """Train and evaluate."""
    pattern = " ?" if job["work"] in WORDED else ""
    rows = read(folder / "train.csv", job["rows"])
    rows += [(text, -1) for text, _ in read(folder / "train.csv", job.get("unlabelled", ()))]
    train = Rows(tokenizer, rows, pattern)
    scored = job["evaluation"] + 2 * job["per_label"]  # ours scores the validation draw as well
    test = Rows(tokenizer, read(folder / "test.csv", range(scored)), pattern)
    kind = WordTrainer if job["work"] in WORDED else OrderedTrainer
    trainer = kind(
        model=model, args=arguments(job), train_dataset=train, data_collator=DataCollatorWithPadding(tokenizer)
    )
    if isinstance(trainer, WordTrainer):
        trainer.words = tokenizer.convert_tokens_to_ids(["No", "Yes"])
    start = time.perf_counter()
    if job["work"] == "context_distillation":
        for row, scores in zip(train.rows, teacher(job, model, tokenizer, folder, rows), strict=True):
            row["teacher"] = scores
    trainer.train()
    trained = time.perf_counter()
    trainer.predict(test)
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return {"train": trained - start, "evaluation": time.perf_counter() - trained, "losses": losses}


def teacher(
    job: dict[str, Any], model: Any, tokenizer: Any, folder: Path, rows: Sequence[tuple[str, int]]
) -> list[list[float]]:
    """The frozen model's scores with the demonstrations in front; NaN for the demonstrations themselves."""
    demos = {text for text, _ in read(folder / "train.csv", job["demonstrations"])}
    asked = [text for text, _ in rows if text not in demos]
    with model.disable_adapter():
        scores = shown(job, model, tokenizer, folder, [f"{t} ?" for t in asked]).tolist() if asked else []
    found = dict(zip(asked, scores, strict=True))
    return [found.get(text, [float("nan")] * 2) for text, _ in rows]


def shown(job: dict[str, Any], model: Any, tokenizer: Any, folder: Path, texts: Sequence[str]) -> torch.Tensor:
    """The demonstrations before every query, batches of 8, padded; no cache is reused."""
    model.eval()
    demos = read(folder / "train.csv", job["demonstrations"])
    prefix = "\n".join(f"{text} ? {['No', 'Yes'][label]}" for text, label in demos) + "\n"
    words = tokenizer.convert_tokens_to_ids(["No", "Yes"])
    found = []
    with torch.inference_mode(), torch.autocast("cuda" if job["cuda"] else "cpu", torch.bfloat16, enabled=job["bf16"]):
        for i in range(0, len(texts), 8):
            queries = [prefix + text for text in texts[i : i + 8]]
            batch = tokenizer(queries, return_tensors="pt", padding=True).to(model.device)
            found.append(answers(model, batch, words))
    return torch.cat(found).clone()


def icl(job: dict[str, Any], model: Any, tokenizer: Any, folder: Path) -> dict[str, Any]:
    """The queries of the evaluation."""
    model.to("cuda" if job["cuda"] else "cpu")
    rows = range(job["evaluation"] + 2 * job["per_label"])
    start = time.perf_counter()
    shown(job, model, tokenizer, folder, [f"{text} ?" for text, _ in read(folder / "test.csv", rows)])
    return {"train": 0.0, "evaluation": time.perf_counter() - start, "losses": []}


def validate(job: dict[str, Any], fold: dict[str, list[int]]) -> float:
    """The accuracy on one fold after training on the others."""
    set_seed(0)
    model, tokenizer = build(job)
    path = Path(job["task"]).parent / "train.csv"
    train, held = (Rows(tokenizer, read(path, fold[part])) for part in ("train", "validation"))
    collator = DataCollatorWithPadding(tokenizer)
    trainer = OrderedTrainer(model=model, args=arguments(job), train_dataset=train, data_collator=collator)
    trainer.train()
    found = trainer.predict(held)
    return float((found.predictions.argmax(-1) == found.label_ids).mean())


def search(job: dict[str, Any]) -> dict[str, Any]:
    """Optuna asks; every fold of a trial is a fresh model in a Trainer.

    With a number of trials instead of their list, TPE proposes and the median pruner stops, as Optuna's guide shows.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    given = job["trials"]

    def objective(trial: optuna.Trial) -> float:
        rate = trial.suggest_float("rate", 1e-5, 1e-1, log=True)
        own = {"rate": rate, "rank": 2 ** trial.suggest_int("log2_rank", 0, 6)}
        scores = []
        for step, fold in enumerate(job["folds"]):
            scores.append(validate(job | own, fold))
            trial.report(fmean(scores), step)
            if isinstance(given, int) and trial.should_prune():
                raise optuna.TrialPruned
        return fmean(scores)

    with tempfile.TemporaryDirectory() as folder:
        start, began = time.perf_counter(), datetime.now()
        sampler, pruner = optuna.samplers.TPESampler(seed=job.get("seed", 0)), optuna.pruners.MedianPruner()
        storage = f"sqlite:///{folder}/optuna.db"
        study = optuna.create_study(storage=storage, sampler=sampler, pruner=pruner, direction="maximize")
        for rate, rank in () if isinstance(given, int) else given:
            study.enqueue_trial({"rate": rate, "log2_rank": int(math.log2(rank))})
        study.optimize(objective, n_trials=given if isinstance(given, int) else len(given))
        seconds = time.perf_counter() - start
    known = complete_trials(study.trials, began, "rate")
    return {"search": seconds, "losses": [trial.value for trial in study.trials], "known": known}


if __name__ == "__main__":
    main()
