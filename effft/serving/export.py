"""A saved model as a plain Hugging Face folder, which transformers and peft load without effft."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from effft.errors import InputError, RunError
from effft.models.backbone import Backbone
from effft.models.lora import merge_lora
from effft.serving.base_model import files_of
from effft.serving.load import SavedModel
from effft.serving.model_card import card
from effft.serving.save import save_whole
from effft.strategies.parts import Verbalizer

BIAS_SWITCHES = ("attention_bias", "mlp_bias", "bias")
"""Names of configuration keys that give linear maps a bias (BitFit adds some where there are none)."""


def export(saved: Path, to: Path, merge: bool) -> list[str]:
    """Write the model in `saved` to the new folder `to`; returns the names of its files.

    LoRA stays an adapter beside its base unless `merge`; anything else is whole weights.

    Raises:
        InputError: `to` holds something already. RunError: the architecture has no place for what was trained.
    """
    if to.is_file() or (to.is_dir() and any(to.iterdir())):
        raise InputError(f"--to {to}: it is there already and is not empty; name a new folder.")
    model = SavedModel.load(saved, "cpu")
    try:
        to.mkdir(parents=True, exist_ok=True)
        if model.record.weights == "adapter" and not merge:
            _adapter(saved, to, model)
        else:
            _whole(to, model)
        if (saved / "head.safetensors").is_file():
            shutil.copyfile(saved / "head.safetensors", to / "head.safetensors")
        (to / "labels.json").write_text(json.dumps(_labels(model), indent=1) + "\n")
        merged = merge or model.record.weights != "adapter"
        (to / "README.md").write_text(card(model.record) + "\n" + how_to_load(model, merged))
    except OSError as error:
        raise RunError(f"--to {to}: it could not be written ({error.strerror or error}).") from None
    return sorted(str(path.relative_to(to)) for path in to.rglob("*") if path.is_file())


def _labels(model: SavedModel) -> dict[str, object]:
    reader = model.learner.reader
    words = {"label_words": list(reader.words), "label_word_ids": list(reader.label_ids)} if reader.label_ids else {}
    pooling = {} if reader.label_ids else {"pooling": model.learner.pooling}
    return {"fields": list(model.fields), "labels": list(model.labels)} | words | pooling


def _adapter(saved: Path, to: Path, model: SavedModel) -> None:
    for path in (saved / "adapter").iterdir():
        shutil.copyfile(path, to / path.name)
    inside = saved / "base"
    if inside.is_dir():
        (to / "base").mkdir()
        for path in files_of(inside):
            shutil.copyfile(path, to / "base" / path.name)
    model.learner.backbone.tokenizer.save_pretrained(to)


def _whole(to: Path, model: SavedModel) -> None:
    """Merged weights; what the architecture would lose when loaded again is found by loading it."""
    backbone = model.learner.backbone
    if model.record.weights == "adapter":
        merge_lora(backbone.body)
    config = backbone.model.config
    architectures = list(getattr(config, "architectures", None) or [])
    names = [name for name, _ in backbone.model.named_parameters()]
    for switch in BIAS_SWITCHES:
        if getattr(config, switch, None) is False and any(name.endswith(".bias") for name in names):
            setattr(config, switch, True)
    save_whole(backbone.model, to, architectures)
    backbone.tokenizer.save_pretrained(to)
    _must_load_equal(to, backbone)


def _must_load_equal(to: Path, backbone: Backbone) -> None:
    kind: Any = type(backbone.model)
    again = kind.from_pretrained(to)
    ours, theirs = backbone.model.state_dict(), again.state_dict()
    for name, tensor in ours.items():
        if name not in theirs or not torch.equal(tensor.cpu().float(), theirs[name].float()):
            shutil.rmtree(to)
            raise RunError(
                f"the architecture {type(backbone.model).__name__} has no place for {name}, which was trained; "
                "serve the model with `mlflow models serve` instead."
            )


def how_to_load(model: SavedModel, merged: bool) -> str:
    """The end of the card: Python that gives the scores, with transformers (and peft) alone."""
    record, learner = model.record, model.learner
    verbal = isinstance(learner.strategy.head, Verbalizer)
    kind = ("AutoModelForCausalLM" if learner.backbone.decoder else "AutoModelForMaskedLM") if verbal else "AutoModel"
    place = '"."' if merged else ('"base"' if record.base.kind == "inside" else f'"{record.base.name}"')
    revision = f', revision="{record.base.revision}"' if not merged and record.base.kind == "hub" else ""
    lines = ["import json", "import torch", "from safetensors.torch import load_file"]
    lines += [f"from transformers import {kind}, AutoTokenizer", *([] if merged else ["from peft import PeftModel"])]
    lines += [
        "",
        'tokenizer = AutoTokenizer.from_pretrained(".")',
        f"model = {kind}.from_pretrained({place}{revision})",
    ]
    lines += [] if merged else ['model = PeftModel.from_pretrained(model, ".")']
    example = ["text"] * len(record.fields)
    lines += ["model.eval()", f"ids = tokenizer({learner.reader.prompt(example)!r}, return_tensors='pt')"]
    if verbal:
        at = "-1" if learner.backbone.decoder else "(ids['input_ids'][0] == tokenizer.mask_token_id).nonzero()[-1, 0]"
        lines += [
            "words = json.load(open('labels.json'))['label_word_ids']",
            f"scores = model(**ids).logits[0, {at}].log_softmax(-1)[words]",
        ]
    else:
        pick = {"last": "[:, -1]", "first": "[:, 0]", "mean": ".mean(1)"}[learner.pooling]
        lines += [
            "head = load_file('head.safetensors')",
            f"state = model(**ids).last_hidden_state{pick}",
            "scores = torch.nn.functional.linear(state.float(), head['linear.weight'], head['linear.bias'])[0]",
        ]
    lines.append("print(dict(zip(json.load(open('labels.json'))['labels'], scores.softmax(-1).tolist())))")
    body = "\n".join(lines)
    return (
        f"## Loading it\n\nIn this folder, with the prompt written as it was in training:\n\n```python\n{body}\n```\n"
    )
