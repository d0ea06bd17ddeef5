"""A saved model as a Hugging Face folder, which transformers and peft load without effft."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from effft.disk import written_whole
from effft.errors import InputError, RunError
from effft.models.backbone import is_two_sided
from effft.models.files import is_made
from effft.models.lora import merge_lora
from effft.serving.base_model import files_of
from effft.serving.load import SavedModel
from effft.serving.manifest import read_manifest
from effft.serving.model_card import card, metadata
from effft.serving.save import save_whole
from effft.strategies.prompting import BETWEEN
from effft.templating import render

BIAS_SWITCHES = ("attention_bias", "mlp_bias", "bias")
"""Names of configuration keys that give linear maps a bias (BitFit adds some where there are none)."""


def export(saved: Path, to: Path, merge: bool) -> list[str]:
    """Write the model in `saved` to the new folder `to`; returns the names of its files.

    An adapter stays one beside its base unless `merge`; anything else is whole weights.

    Raises:
        InputError: `to` holds something already, or the model is a mean of several. RunError: the architecture has no
            place for what was trained, or the disk does not take it; then nothing is left at `to`.
    """
    if to.is_file() or (to.is_dir() and any(to.iterdir())):
        raise InputError(f"--to {to}: it is there already and is not empty; name a new folder.")
    if count := len(read_manifest(saved).members):
        raise InputError(
            f"the model is the mean of {count} models, which no folder of transformers holds; export one of them "
            f"(--model {saved}/members/0 up to {count - 1}), or serve it with `mlflow models serve`."
        )
    model = SavedModel.load(saved, "cpu")
    adapter = model.record.weights == "adapter" and not merge
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(to) as folder:
            folder.mkdir()
            if adapter:
                _adapter(saved, folder, model)
            else:
                _whole(folder, model)
            if (saved / "head.safetensors").is_file():
                shutil.copyfile(saved / "head.safetensors", folder / "head.safetensors")
            (folder / "task.json").write_text(json.dumps(_how_it_reads(model), indent=1) + "\n")
            (folder / "README.md").write_text(
                metadata(model.record) + card(model.record) + "\n" + how_to_load(model, adapter)
            )
    except OSError as error:
        raise RunError(f"--to {to}: it could not be written ({error.strerror or error}).") from None
    return sorted(str(path.relative_to(to)) for path in to.rglob("*") if path.is_file())


def _how_it_reads(model: SavedModel) -> dict[str, object]:
    """What the code on the card reads: the fields and labels, and how texts become a prompt."""
    encoder = model.learner.encoder
    task: dict[str, object] = {"fields": list(model.fields), "labels": list(model.labels)}
    if encoder.template:
        slot = "" if "{answer}" in encoder.template else "{answer}"
        task |= {"before": encoder.frame[0], "pattern": encoder.template + slot, "after": encoder.frame[1]}
    if calibration := model.learner.calibration:
        task |= {"calibration": {"scale": calibration.scale, "bias": list(calibration.bias)}}
    if words := encoder.label_tokens:
        ids = [list(word) for word in words.ids] if words.reads_whole_words else [word[0] for word in words.ids]
        return task | {"label_words": list(encoder.label_words), "label_word_ids": ids}
    return task | {"pooling": model.learner.pooling}


def _adapter(saved: Path, to: Path, model: SavedModel) -> None:
    for path in (saved / "adapter").iterdir():
        shutil.copyfile(path, to / path.name)
    source = model.learner.backbone.folder
    if source is not None and _base_beside(model):
        (to / "base").mkdir()
        for path in files_of(source):
            shutil.copyfile(path, to / "base" / path.name)
    model.learner.backbone.tokenizer.save_pretrained(to)


def _base_beside(model: SavedModel) -> bool:
    """Whether the base goes beside the adapter: it is in the saved model, or transformers cannot load its name."""
    backbone = model.learner.backbone
    return model.record.base.kind == "inside" or is_made(backbone.name, backbone.revision)


def _whole(to: Path, model: SavedModel) -> None:
    """Merged weights; what the architecture would lose when loaded again is found by loading it."""
    backbone = model.learner.backbone
    if backbone.adapter:
        backbone.adapter.merge()
    elif model.record.weights == "adapter":
        merge_lora(backbone.body)
    config = backbone.model.config
    names = [name for name, _ in backbone.model.named_parameters()]
    for switch in BIAS_SWITCHES:
        if getattr(config, switch, None) is False and any(name.endswith(".bias") for name in names):
            setattr(config, switch, True)
    save_whole(backbone.model, to)
    backbone.tokenizer.save_pretrained(to)
    kind: Any = type(backbone.model)
    loaded = kind.from_pretrained(to).state_dict()
    for name, tensor in backbone.model.state_dict().items():
        if name not in loaded or not torch.equal(tensor.cpu().float(), loaded[name].float()):
            raise RunError(
                f"the architecture {kind.__name__} has no place for {name}, which was trained; serve the model with "
                "`mlflow models serve` instead."
            )


def how_to_load(model: SavedModel, adapter: bool) -> str:
    """The end of the card: Python that gives the model's scores, with transformers (and peft) alone."""
    record, learner = model.record, model.learner
    encoder, decoder = learner.encoder, learner.backbone.decoder
    kind = "AutoModelForCausalLM" if decoder else "AutoModelForSeq2SeqLM" if encoder.start else "AutoModelForMaskedLM"
    kind = kind if encoder.label_tokens else "AutoModel"
    beside = _base_beside(model)
    base = "base" if beside else record.base.path or record.base.name
    revision = f", revision={record.base.revision!r}" if adapter and not beside and record.base.kind == "hub" else ""
    ends = encoder.tokenizer("a")["input_ids"][-1:] == [encoder.tokenizer.eos_token_id]
    virtual = learner.backbone.adapter.returned if learner.backbone.adapter else 0
    return render(
        "loading.md",
        virtual=virtual,
        shift=f" + {virtual}" if virtual else "",
        clean=str,
        kind=kind,
        base=repr(base if adapter else ".") + revision,
        dtype="bfloat16" if record.precision == "bf16" and not learner.backbone.adapter else "float32",
        adapter=adapter,
        decoder=decoder,
        two_sided=is_two_sided(learner.backbone.model),
        encoder=encoder,
        learner=learner,
        cut=decoder and not encoder.chat and ends,
        fields=model.fields,
        max_length=record.max_length,
        between=BETWEEN,
        repr=repr,
    )
