"""What a careful user would write with transformers' Trainer, peft and Optuna; one job a process.

`python -m benchmarks.plain '{"work": "lora", "model": ..., "task": ..., "bf16": false, ...}'` prints one JSON line.
"""

import csv
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

from benchmarks.sampling import PeakMemory


class Rows(Dataset[dict[str, Any]]):
    """Tokenized rows."""

    def __init__(self, tokenizer: Any, rows: list[tuple[str, int]], suffix: str = "") -> None:
        ids = tokenizer([text + suffix for text, _ in rows])["input_ids"]
        self.rows = [{"input_ids": i, "labels": label} for i, (_, label) in zip(ids, rows, strict=True)]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]


class WordTrainer(Trainer):  # type: ignore[misc]
    """Pattern-based fine-tuning: cross-entropy of the label word at the last token, over the vocabulary's two words."""

    words: list[int]

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        """The loss; the logits of the label words stand for the outputs."""
        labels = inputs.pop("labels")
        logits = model(**inputs).logits
        last = inputs["attention_mask"].sum(1) - 1
        answer = logits[torch.arange(len(last)), last].float().log_softmax(-1)[:, self.words]
        loss = torch.nn.functional.cross_entropy(answer, labels)
        return (loss, {"logits": answer}) if return_outputs else loss


def read(path: Path, limit: int) -> list[tuple[str, int]]:
    """Text and label of the rows."""
    with path.open() as file:
        return [(row["text"], int(row["label"] == "right")) for row in csv.DictReader(file)][:limit]


def build(job: dict[str, Any]) -> tuple[Any, Any]:
    """Model and tokenizer as the work wants them."""
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    work = job["work"]
    if work in ("pbft", "icl"):
        return AutoModelForCausalLM.from_pretrained(job["model"]), tokenizer
    model = AutoModelForSequenceClassification.from_pretrained(job["model"], num_labels=2)
    model.config.pad_token_id = tokenizer.pad_token_id
    if work == "lora":
        from peft import LoraConfig, get_peft_model

        targets = ["q_proj", "k_proj", "v_proj", "out_proj"]
        model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, task_type="SEQ_CLS", target_modules=targets))
    if work == "adaptive":
        for parameter in model.base_model.parameters():
            parameter.requires_grad = False
        for layer in model.base_model.decoder.layers[-2:]:
            for parameter in layer.parameters():
                parameter.requires_grad = True
    return model, tokenizer


def main() -> None:
    """Work, and tell seconds of training and evaluation, the peak memory and the last epoch's loss."""
    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    set_seed(0)
    folder = Path(job["task"]).parent
    with PeakMemory() as memory:
        model, tokenizer = build(job)
        told = icl(job, model, tokenizer, folder) if job["work"] == "icl" else fit(job, model, tokenizer, folder)
    print(json.dumps(told | {"peak_bytes": memory.peak}))


def fit(job: dict[str, Any], model: Any, tokenizer: Any, folder: Path) -> dict[str, float]:
    """Train and evaluate."""
    pattern = " ?" if job["work"] == "pbft" else ""
    train = Rows(tokenizer, read(folder / "train.csv", 2 * job["per_label"]), pattern)
    scored = job["evaluation"] + 2 * job["per_label"]  # ours scores the validation draw as well
    test = Rows(tokenizer, read(folder / "test.csv", scored), pattern)
    arguments = TrainingArguments(
        job["out"], num_train_epochs=job["epochs"], per_device_train_batch_size=32, per_device_eval_batch_size=32,
        learning_rate=job["rate"], lr_scheduler_type="linear", warmup_steps=0, weight_decay=0.0, max_grad_norm=1.0,
        bf16=job["bf16"], use_cpu=not job["cuda"], save_strategy="no", logging_steps=1, report_to=[],
        disable_tqdm=True, log_level="error", label_names=["labels"],
    )  # fmt: skip
    kind = WordTrainer if job["work"] == "pbft" else Trainer
    trainer = kind(model=model, args=arguments, train_dataset=train, data_collator=DataCollatorWithPadding(tokenizer))
    if isinstance(trainer, WordTrainer):
        trainer.words = tokenizer.convert_tokens_to_ids(["No", "Yes"])
    start = time.perf_counter()
    trainer.train()
    trained = time.perf_counter()
    trainer.predict(test)
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return {"train": trained - start, "evaluation": time.perf_counter() - trained, "loss": float(np.mean(losses[-4:]))}


def icl(job: dict[str, Any], model: Any, tokenizer: Any, folder: Path) -> dict[str, float]:
    """16 demonstrations before every query, batches of 8, padded; no cache is reused."""
    model.eval()
    shown = read(folder / "train.csv", 16)
    prefix = "\n".join(f"{text} ? {['No', 'Yes'][label]}" for text, label in shown) + "\n"
    queries = [f"{prefix}{text} ?" for text, _ in read(folder / "test.csv", job["evaluation"] + 2 * job["per_label"])]
    words = tokenizer.convert_tokens_to_ids(["No", "Yes"])
    start = time.perf_counter()
    with torch.inference_mode(), torch.autocast("cuda" if job["cuda"] else "cpu", torch.bfloat16, enabled=job["bf16"]):
        for i in range(0, len(queries), 8):
            batch = tokenizer(queries[i : i + 8], return_tensors="pt", padding=True).to(model.device)
            last = batch["attention_mask"].sum(1) - 1
            logits = model(**batch).logits
            logits[torch.arange(len(last)), last].float().log_softmax(-1)[:, words]
    return {"train": 0.0, "evaluation": time.perf_counter() - start, "loss": 0.0}


if __name__ == "__main__":
    main()
