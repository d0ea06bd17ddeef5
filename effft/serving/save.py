"""Writing a fitted learner: record, what moved, head, tokenizer, base, model card."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from effft.config import RunConfig
from effft.data.examples import Example
from effft.errors import RunError
from effft.models.lora import save_adapter
from effft.redaction import redact
from effft.serving.base_model import pin
from effft.serving.manifest import (
    MANIFEST_FILE,
    BaseReference,
    CalibrationRecord,
    Demonstration,
    Manifest,
    Member,
    RiskRecord,
    WeightsKind,
    hash_files,
    read_manifest,
)
from effft.serving.model_card import card, metadata
from effft.strategies.learner import Learner
from effft.strategies.trainable_parts import Everything, LoRA


def save_model(
    folder: Path,
    learner: Learner,
    run: str,
    config: RunConfig,
    metric: str,
    precision: str,
    demonstrations: Sequence[Example],
    metrics: Mapping[str, float],
) -> Manifest:
    """Write everything that gives the same scores again into `folder`, which must be empty.

    demonstrations: those in the learner's own prompts. The other values: see `Manifest`.

    Raises:
        RunError: the disk does not take it.
    """
    task = learner.task
    try:
        folder.mkdir(parents=True, exist_ok=True)
        weights, base = _weights(folder, learner)
        if learner.head is not None:
            head = {name: p.detach().cpu().contiguous() for name, p in learner.head.named_parameters()}
            save_file(head, folder / "head.safetensors")
        learner.backbone.tokenizer.save_pretrained(folder / "tokenizer")
        manifest = Manifest(
            run=run,
            strategy=learner.strategy.name,
            parameters=learner.strategy.parameters,
            task=_without_passwords(task.model_dump(mode="json", exclude_unset=True)),
            base=base,
            weights=weights,
            precision=precision,
            max_length=config.max_length,
            metric=metric,
            per_label=config.per_label or 0,
            rows=config.rows or "",
            seeds=(config.seed, config.data_seed),
            normalization=task.train.sources[0].clean or "strip",
            demonstrations=tuple(Demonstration(texts=e.texts, label=e.labels[0]) for e in demonstrations),
            calibration=CalibrationRecord(**vars(learner.calibration)) if learner.calibration else None,
            risk=RiskRecord(**vars(learner.risk_curve)) if learner.risk_curve else None,
            metrics=dict(metrics),
            files=hash_files(folder),
        )
        return _described(folder, manifest)
    except (OSError, SafetensorError) as error:
        raise _unsaved(folder, error) from error


def save_average(
    folder: Path, members: Sequence[tuple[Path, float]], run: str, metrics: Mapping[str, float], **found: Any
) -> Manifest:
    """Write a model that answers with the weighted mean of the probabilities of saved ones, the first the heaviest.

    Args:
        folder: A new one.
        members: Folders of saved models of the same task, and their weights, which add up to 1.
        run: Its readable name.
        metrics: Of the mean.
        **found: `calibration` and `risk` of the mean.

    Raises:
        RunError: the disk does not take it.
    """
    try:
        inside = [Member(folder=f"members/{place}", weight=weight) for place, (_, weight) in enumerate(members)]
        for one, (saved, _) in zip(inside, members, strict=True):
            shutil.copytree(saved, folder / one.folder)
        first = read_manifest(members[0][0])
        own = {"run": run, "metrics": dict(metrics), "members": inside, "files": hash_files(folder), **found}
        manifest = Manifest.model_validate(first.model_dump() | {"calibration": None, "risk": None} | own)
        return _described(folder, manifest)
    except OSError as error:
        raise _unsaved(folder, error) from error


def _described(folder: Path, manifest: Manifest) -> Manifest:
    """Write the record and the card."""
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1) + "\n")
    (folder / "README.md").write_text(metadata(manifest) + card(manifest))
    return manifest


def _unsaved(folder: Path, error: Exception) -> RunError:
    return RunError(
        f"the model could not be saved in {folder} ({error}); make room there, or let TMPDIR name another folder."
    )


def _weights(folder: Path, learner: Learner) -> tuple[WeightsKind, BaseReference]:
    """Write what moved, and pin what it stands on."""
    part, backbone = learner.strategy.trainable, learner.backbone
    if isinstance(part, Everything):
        save_whole(backbone.model, folder / "base")
        backbone.tokenizer.save_pretrained(folder / "base")
        return "full", BaseReference(kind="inside", name=backbone.name, revision=backbone.revision)
    base = pin(backbone, folder)
    if backbone.adapter:
        backbone.adapter.save(folder / "adapter", base.name, base.revision or None)
        return "adapter", base
    moved = {n: p.detach().cpu().contiguous() for n, p in backbone.model.named_parameters() if p.requires_grad}
    if isinstance(part, LoRA):
        settings: dict[str, object] = {"r": part.rank, "lora_alpha": part.alpha, "lora_dropout": part.lora_dropout}
        place = {"base_model_name_or_path": base.name, "revision": base.revision or None}
        save_adapter(folder / "adapter", moved, settings | place)
        return "adapter", base
    if moved:
        save_file(moved, folder / "weights.safetensors")
    return ("part" if moved else "none"), base


def save_whole(model: Any, folder: Path) -> None:
    """A transformers folder; the configuration keeps naming the architectures of the model it came from.

    They tell a decoder from an encoder where one model type can be both (BERT).
    """
    architectures = model.config.architectures
    with torch.no_grad():
        model.save_pretrained(folder)
    path = folder / "config.json"
    written = json.loads(path.read_text())
    if architectures:
        path.write_text(json.dumps(written | {"architectures": architectures}, indent=2) + "\n")


def _without_passwords(task: Any) -> Any:
    """The task without what opens the addresses in it; every other text is kept to the letter."""
    if isinstance(task, dict):
        return {k: redact(v) if k == "url" else _without_passwords(v) for k, v in task.items()}
    return [_without_passwords(value) for value in task] if isinstance(task, list) else task
