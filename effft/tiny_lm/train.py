"""Pre-training of `tiny-lm`: one loop, a generator; the same seed gives the same bits on one machine type."""

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from effft.errors import InputError, RunError
from effft.tiny_lm.batches import Packed, pack, step_rows
from effft.tiny_lm.muon import Muon
from effft.tiny_lm.recipe import Recipe, Shape
from effft.tiny_lm.vocabulary import BOS, EOS, PAD, digest, identifiers, save_tokenizer

STATE = "pretraining.safetensors"
"""The resumable state: weights, moments and the number of steps made."""

LATE = 8
"""Answers from this one on in an episode count for the metric `late`: by then the question has been shown."""


@dataclass(frozen=True)
class Step:
    """One update. index: from 1; loss: before the update; accuracy: source -> share of answers got right."""

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
    )
    # Plain attention: the fused kernel's backward takes half of a step on rows this short.
    config._attn_implementation = "eager"
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
    next step; what was saved last (every `save_every` steps) is what the next call starts from. Torch runs on one
    thread while a step is made, so that the sums are the same everywhere on one machine type.

    Raises:
        InputError: `out` holds the state of another recipe, seed or vocabulary.
        RunError: the loss is not finite.
    """
    out.mkdir(parents=True, exist_ok=True)
    model = make_model(recipe.model, seed)
    optimizers = _optimizers(model, recipe)
    done = _resume(out, model, optimizers, recipe, seed)
    for index in range(done, recipe.steps):
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            step = _update(model, optimizers, recipe, seed, index)
        finally:
            torch.set_num_threads(threads)
        if (index + 1) % save_every == 0 or index + 1 == recipe.steps:
            _save(out, model, optimizers, recipe, seed, index + 1)
        yield step
    export(model, recipe, seed, out / "model")


def _optimizers(model: nn.Module, recipe: Recipe) -> dict[str, torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for embeddings and norms."""
    own = recipe.optimizer
    inner = [p for name, p in model.named_parameters() if p.ndim > 1 and "embed" not in name]
    outer = [p for name, p in model.named_parameters() if p.ndim == 1 or "embed" in name]
    return {
        "matrices": Muon(inner, lr=own.matrix_rate, weight_decay=own.weight_decay),
        "others": torch.optim.AdamW(outer, lr=own.other_rate, betas=own.betas, weight_decay=0.0),
    }


def _update(
    model: nn.Module, optimizers: Mapping[str, torch.optim.Optimizer], recipe: Recipe, seed: int, index: int
) -> Step:
    model.train()
    factor = recipe.rate_factor(index)
    rates = {"matrices": recipe.optimizer.matrix_rate * factor, "others": recipe.optimizer.other_rate * factor}
    for name, optimizer in optimizers.items():
        for group in optimizer.param_groups:
            group["lr"] = rates[name]
        optimizer.zero_grad(set_to_none=True)
    rate = rates["matrices"]
    right: dict[str, list[Tensor]] = defaultdict(list)
    total, tokens = 0.0, 0
    weight_of = {"short": 1.0, "episodes": recipe.batch.episode_weight}
    for kind, rows in step_rows(recipe, seed, index).items():
        batches = pack(rows, recipe.model.positions)
        norm = sum(float(batch.weights.sum()) for batch in batches)
        for batch in batches:
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.optimizer.bf16):
                loss = _loss(model, batch, right) * (weight_of[kind] / norm)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
            tokens += int((batch.ids != 0).sum())
    if not torch.isfinite(torch.tensor(total)):
        raise RunError(f"step {index + 1}: the loss is not finite (learning rate {rate:g}); lower it in the recipe.")
    nn.utils.clip_grad_norm_(model.parameters(), recipe.optimizer.clip_norm)
    for optimizer in optimizers.values():
        optimizer.step()
    joined = {source: torch.cat(hits).float() for source, hits in right.items()}
    accuracy = {source: float(hits.mean()) for source, hits in joined.items() if len(hits)}
    return Step(index + 1, recipe.steps, recipe.stage_at(index).name, total, rate, tokens, accuracy)


def _loss(model: nn.Module, batch: Packed, right: dict[str, list[Tensor]]) -> Tensor:
    """Weighted sum of next-word losses; answers got right are noted by source (late ones of episodes only)."""
    logits = model(input_ids=batch.ids, use_cache=False).logits[:, :-1]
    losses = nn.functional.cross_entropy(logits.flatten(0, 1).float(), batch.ids[:, 1:].flatten(), reduction="none")
    with torch.no_grad():
        hits = logits.argmax(-1) == batch.ids[:, 1:]
        answers = batch.answers[:, 1:]
        for number, source in enumerate(batch.sources):
            found = hits[number][answers[number]]
            right[source].append(found[LATE:] if len(found) > LATE else found)
    return (losses * batch.weights[:, 1:].flatten()).sum()


# ---- state and result ---------------------------------------------------------------------------------------------


def _identity(recipe: Recipe, seed: int) -> dict[str, str]:
    return {"recipe": recipe.digest, "seed": str(seed)}


def _state_identity(recipe: Recipe, seed: int) -> dict[str, str]:
    return _identity(recipe, seed) | {"vocabulary": digest()}


def _save(
    out: Path,
    model: nn.Module,
    optimizers: Mapping[str, torch.optim.Optimizer],
    recipe: Recipe,
    seed: int,
    done: int,
) -> None:
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        tensors[f"weight/{name}"] = parameter.detach()
        for optimizer in optimizers.values():
            tensors |= {f"{key}/{name}": value for key, value in optimizer.state.get(parameter, {}).items()}
    partial = out / (STATE + ".partial")
    save_file(tensors, partial, metadata=_state_identity(recipe, seed) | {"done": str(done)})
    os.replace(partial, out / STATE)


def _resume(
    out: Path, model: nn.Module, optimizers: Mapping[str, torch.optim.Optimizer], recipe: Recipe, seed: int
) -> int:
    """Load the state in `out`, if any; the number of steps made."""
    from safetensors import safe_open
    from safetensors.torch import load_file

    if not (out / STATE).is_file():
        return 0
    with safe_open(out / STATE, "pt") as file:
        known = dict(file.metadata())
    done = int(known.pop("done"))
    wanted = _state_identity(recipe, seed)
    if known != wanted:
        raise InputError(
            f"{out / STATE} was made by another recipe, seed or vocabulary ({_said(known)}, not "
            f"{_said(wanted)}); take another folder, or remove it."
        )
    tensors = load_file(out / STATE)
    owner = {id(p): o for o in optimizers.values() for group in o.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        with torch.no_grad():
            parameter.copy_(tensors[f"weight/{name}"])
        keys = ("exp_avg", "exp_avg_sq", "step", "momentum")
        moments = {key: tensors[f"{key}/{name}"] for key in keys if f"{key}/{name}" in tensors}
        owner[id(parameter)].state[parameter] = moments
    return done


def _said(identity: Mapping[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in identity.items())


def export(model: Any, recipe: Recipe, seed: int, folder: Path) -> None:
    """Write weights (fp32 safetensors), config, tokenizer and `pretraining.json`; the folder appears whole or not."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.eval()
    model.save_pretrained(partial)
    save_tokenizer(partial, recipe.model.positions)
    said = _identity(recipe, seed) | {"steps": recipe.steps}
    (partial / "pretraining.json").write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)
