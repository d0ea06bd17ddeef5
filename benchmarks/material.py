"""What both sides of a benchmark use: models of real sizes with random weights, sentences of 30 tokens, a meter."""

import csv
import random
import tempfile
import threading
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import yaml

KEEP = str(Path(tempfile.gettempdir()) / "effft-benchmarks")  # Where models and data are made, once.
WORDS = 20_000  # Pseudo-words of the generated sentences; each is one token.

SHOTS, UNLABELLED = 16, 32
"""Demonstrations, and the texts without label that a student learns from (as in arXiv 2409.01930)."""

SHAPES = yaml.safe_load(Path(__file__).with_name("shapes.yaml").read_text())

DROPOUTS = ("dropout", "attention_dropout", "activation_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop",
            "hidden_dropout_prob", "attention_probs_dropout_prob")  # fmt: skip
"""Names of dropout in configurations; all are set to 0, so that both sides make the same losses, step by step."""

TASK = """\
name: sentences
fields: [text]
labels: [left, right]
metric: accuracy
label_words: {left: " No", right: " Yes"}
patterns: {minimal: "{text} ?"}
splits:
  train: {file: train.csv}
  in_domain: {file: test.csv}
"""


def words() -> list[str]:
    """The pseudo-words, the same at every call."""
    rng = random.Random(0)
    sounds = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
    vocabulary: dict[str, None] = {}
    while len(vocabulary) < WORDS:
        vocabulary["".join(rng.choice(sounds) for _ in range(rng.randint(2, 4)))] = None
    return list(vocabulary)


def make_material(folder: Path, shape: str, train: int = 1000, test: int = 2000) -> tuple[Path, Path]:
    """(model folder, task file), made once.

    Lengths: log-normal around 30 tokens, from 8 to 90, as in CoLA and MNLI; the first words tell the label.
    """
    model = folder / f"{shape}-still"
    if not (model / "model.safetensors").is_file():
        save_model(model, shape)
    place = folder / f"data-{train}-{test}"
    if not (place / "task.yaml").is_file():
        place.mkdir(parents=True, exist_ok=True)
        for name, size, seed in (("train", train, 1), ("test", test, 2)):
            _write(place / f"{name}.csv", size, seed)
        (place / "task.yaml").write_text(TASK)
    return model, place / "task.yaml"


def save_model(folder: Path, shape: str) -> None:
    """Random weights and a word-level tokenizer in the hub's layout."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    config_name, model_name, options = SHAPES[shape]
    encoder = "Masked" in model_name
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    config = getattr(transformers, config_name)(**ids, **options)
    for name in DROPOUTS:
        if hasattr(config, name):
            setattr(config, name, 0.0)
    torch.manual_seed(0)
    getattr(transformers, model_name)(config).save_pretrained(folder)
    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "No", "Yes", "?", *words()]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>" if encoder else "<s> $A",
        pair="<s> $A </s> $B </s>" if encoder else "<s> $A $B",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    special |= {"mask_token": "<mask>", "cls_token": "<s>", "sep_token": "</s>"} if encoder else {}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, model_input_names=["input_ids", "attention_mask"], **special
    ).save_pretrained(folder)


def _write(path: Path, size: int, seed: int) -> None:
    rng, known = random.Random(seed), words()
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["text", "label"])
        for row in range(size):
            length = min(90, max(8, round(rng.lognormvariate(3.35, 0.45))))
            right = row % 2
            start = [rng.choice(known[:50] if right else known[50:100]) for _ in range(3)]
            out.writerow([" ".join(start + rng.choices(known, k=length - 4)), "right" if right else "left"])


def complete_trials(trials: Any, began: datetime, rate: str) -> list[tuple[float, float, float, int]]:
    """Seconds since the beginning, value, learning rate and rank of Optuna's complete trials."""
    return [
        ((t.datetime_complete - began).total_seconds(), t.value, t.params[rate], 2 ** t.params["log2_rank"])
        for t in trials
        if t.state.name == "COMPLETE"
    ]


class PeakMemory:
    """A context; then `peak` is the most resident bytes of this process and its workers above the start."""

    def __enter__(self) -> "PeakMemory":
        self.start, self.peak = self._resident(), 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.stop.wait(0.02):
            self.peak = max(self.peak, self._resident() - self.start)

    def _resident(self) -> int:
        found, process = 0, psutil.Process()
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):  # a worker that has just ended
                found += one.memory_info().rss
        return found

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()
