"""Pre-training of `tiny-lm`: one loop, a generator; the same seed gives the same bits on one machine type."""

import json
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from effft.disk import written_whole
from effft.errors import InputError, RunError
from effft.tiny_lm.batches import TextBatch, step_rows, to_batches
from effft.tiny_lm.muon import Muon
from effft.tiny_lm.recipe import Recipe, Shape
from effft.tiny_lm.vocabulary import BOS, EOS, PAD, build_tokenizer, digest, identifiers

STATE = "pretraining.safetensors"  # The resumable state: weights, moments and the number of steps made.
LATE = 8  # Answers of an episode count for the accuracy from this one on: by then the question has been shown.


@dataclass(frozen=True)
class Step:
    """One update.

    index: from 1. loss: before the update. accuracy: source -> share of right answers.
    """

    index: int
    total: int
    stage: str
    loss: float
    learning_rate: float
    tokens: int
    accuracy: dict[str, float]


def make_model(shape: Shape, seed: int) -> Any:
    """The architecture with random weights, drawn from a generator of its own: the random-weights reference row."""
    from transformers import LlamaConfig, LlamaForCausalLM

    known = identifiers()
    config = LlamaConfig(
        vocab_size=len(known),
        hidden_size=shape.width,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.blocks,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=shape.positions,
        initializer_range=shape.initial_std,
        tie_word_embeddings=True,
        bos_token_id=known[BOS],
        eos_token_id=known[EOS],
        pad_token_id=known[PAD],
        attn_implementation="eager",  # the fused kernel's backward takes half of a step on rows this short
    )
    with torch.random.fork_rng(devices=[]):
        model = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, shape.initial_std, generator=generator)
    return model


def pretrain(out: Path, recipe: Recipe, seed: int = 0, save_every: int = 200) -> Iterator[Step]:
    """Train, yielding after every update; resumes from the state in `out` when there is one of this recipe and seed.

    The finished model is written to `out/model` in the Hugging Face layout (see `export`). Stop by not asking for the
    next step; the next call starts from what was saved last (every `save_every` steps). Torch runs on one thread
    while a step is made, so that the sums are the same everywhere on one machine type.

    Raises:
        InputError: `out` holds the state of another recipe, seed or vocabulary.
        RunError: the loss is not finite.
    """
    out.mkdir(parents=True, exist_ok=True)
    training = _Training(recipe, seed)
    for index in range(training.resume(out / STATE), recipe.steps):
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            step = training.update(index)
        finally:
            torch.set_num_threads(threads)
        if (index + 1) % save_every == 0 or index + 1 == recipe.steps:
            training.save(out / STATE, index + 1)
        yield step
    export(training.model, recipe, seed, out / "model")


class _Training:
    """Model and optimizers of one pre-training: Muon for the matrices inside the blocks, AdamW for the rest."""

    def __init__(self, recipe: Recipe, seed: int) -> None:
        self.recipe, self.seed, self.model = recipe, seed, make_model(recipe.model, seed)
        self.identity = _identity(recipe, seed) | {"vocabulary": digest()}
        settings, named = recipe.optimizer, dict(self.model.named_parameters())
        inner = [p for name, p in named.items() if p.ndim > 1 and "embed" not in name]
        outer = [p for name, p in named.items() if p.ndim == 1 or "embed" in name]
        self.muon = Muon(inner, lr=settings.matrix_rate, weight_decay=settings.weight_decay)
        self.adamw = torch.optim.AdamW(outer, lr=settings.other_rate, betas=settings.betas, weight_decay=0.0)

    def update(self, index: int) -> Step:
        """Step `index`, from 0."""
        recipe, factor = self.recipe, self.recipe.rate_factor(index)
        self.model.train()
        rate = recipe.optimizer.matrix_rate * factor
        for optimizer, peak in ((self.muon, rate), (self.adamw, recipe.optimizer.other_rate * factor)):
            for group in optimizer.param_groups:
                group["lr"] = peak
            optimizer.zero_grad(set_to_none=True)
        right: dict[str, list[Tensor]] = defaultdict(list)
        total, tokens = 0.0, 0
        weight_of = {"short": 1.0, "episodes": recipe.batch.episode_weight}
        for kind, rows in step_rows(recipe, self.seed, index).items():
            batches = to_batches(rows, recipe.model.positions)
            norm = sum(float(batch.weights.sum()) for batch in batches)
            for batch in batches:
                with torch.autocast("cpu", torch.bfloat16, enabled=recipe.optimizer.bf16):
                    loss = _loss(self.model, batch, right) * (weight_of[kind] / norm)
                loss.backward()  # type: ignore[no-untyped-call]
                total += loss.item()
                tokens += int((batch.ids != 0).sum())
        if not math.isfinite(total):
            raise RunError(
                f"step {index + 1}: the loss is not finite (learning rate {rate:g}); lower it in the recipe."
            )
        nn.utils.clip_grad_norm_(self.model.parameters(), recipe.optimizer.clip_norm)
        self.muon.step()
        self.adamw.step()
        joined = {source: torch.cat(hits).float() for source, hits in right.items()}
        accuracy = {source: float(hits.mean()) for source, hits in joined.items() if len(hits)}
        return Step(index + 1, recipe.steps, recipe.stage_at(index).name, total, rate, tokens, accuracy)

    def _states(self) -> Iterator[tuple[str, nn.Parameter, dict[str, Tensor]]]:
        """Name, parameter and moments of everything that trains."""
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        for optimizer in (self.muon, self.adamw):
            for parameter in optimizer.param_groups[0]["params"]:
                yield names[parameter], parameter, optimizer.state[parameter]

    def save(self, path: Path, done: int) -> None:
        """Write weights, moments and the number of steps made; the file is replaced as a whole."""
        from safetensors.torch import save_file

        tensors: dict[str, Tensor] = {}
        for name, parameter, moments in self._states():
            tensors |= {f"{key}/{name}": value for key, value in {"weight": parameter.detach(), **moments}.items()}
        with written_whole(path) as partial:
            save_file(tensors, partial, metadata=self.identity | {"done": str(done)})

    def resume(self, path: Path) -> int:
        """Load the state in `path`, if there is one; return the number of steps made."""
        from safetensors import safe_open

        if not path.is_file():
            return 0
        with safe_open(path, "pt") as file:
            known = dict(file.metadata())
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        done = int(known.pop("done"))
        if known != self.identity:
            made, wanted = (", ".join(f"{k} {v}" for k, v in each.items()) for each in (known, self.identity))
            raise InputError(
                f"{path} was made by another recipe, seed or vocabulary ({made}, not {wanted}); take another folder, "
                "or remove it."
            )
        for name, parameter, moments in self._states():
            with torch.no_grad():
                parameter.copy_(tensors.pop(f"weight/{name}"))
            moments |= {label.split("/")[0]: t for label, t in tensors.items() if label.split("/")[1] == name}
        return done


def _loss(model: nn.Module, batch: TextBatch, right: dict[str, list[Tensor]]) -> Tensor:
    """Weighted sum of next-word losses; right answers are noted by source (late ones of episodes only)."""
    logits = model(input_ids=batch.ids, use_cache=False).logits[:, :-1]
    losses = nn.functional.cross_entropy(logits.flatten(0, 1).float(), batch.ids[:, 1:].flatten(), reduction="none")
    with torch.no_grad():
        hits = logits.argmax(-1) == batch.ids[:, 1:]
        for row_hits, answers, source in zip(hits, batch.answers[:, 1:], batch.sources, strict=True):
            answered = row_hits[answers]
            right[source].append(answered[LATE:] if len(answered) > LATE else answered)
    return (losses * batch.weights[:, 1:].flatten()).sum()


def _identity(recipe: Recipe, seed: int) -> dict[str, str]:
    return {"recipe": recipe.digest, "seed": str(seed)}


def export(model: Any, recipe: Recipe, seed: int, folder: Path) -> None:
    """Write weights (fp32 safetensors), config, tokenizer and `pretraining.json`; the folder appears whole or not."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    model.eval()
    with written_whole(folder) as partial:
        model.save_pretrained(partial)
        build_tokenizer(recipe.model.positions).save_pretrained(partial)
        origin = _identity(recipe, seed) | {"steps": recipe.steps}
        (partial / "pretraining.json").write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")
