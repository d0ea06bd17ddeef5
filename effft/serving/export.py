"""A saved model as a Hugging Face folder, which transformers and peft load without effft."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from effft.disk import written_whole
from effft.errors import InputError, RunError
from effft.models.lora import merge_lora
from effft.serving.base_model import files_of
from effft.serving.load import SavedModel
from effft.serving.model_card import card
from effft.serving.save import save_whole
from effft.strategies.learner import Learner
from effft.strategies.prompting import BETWEEN, PromptEncoder

BIAS_SWITCHES = ("attention_bias", "mlp_bias", "bias")
"""Names of configuration keys that give linear maps a bias (BitFit adds some where there are none)."""


def export(saved: Path, to: Path, merge: bool) -> list[str]:
    """Write the model in `saved` to the new folder `to`; returns the names of its files.

    LoRA stays an adapter beside its base unless `merge`; anything else is whole weights.

    Raises:
        InputError: `to` holds something already. RunError: the architecture has no place for what was trained, or the
            disk does not take it; then nothing is left at `to`.
    """
    if to.is_file() or (to.is_dir() and any(to.iterdir())):
        raise InputError(f"--to {to}: it is there already and is not empty; name a new folder.")
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
            (folder / "README.md").write_text(card(model.record) + "\n" + how_to_load(model, adapter))
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
        return task | {"label_words": list(encoder.words), "label_word_ids": ids}
    return task | {"pooling": model.learner.pooling}


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
    if encoder.nearest:
        return (
            "## Loading it\n\nEvery text has demonstrations of its own, chosen by the states of the model, so effft "
            "is needed to read it as the run did.\n"
        )
    kind = ("AutoModelForCausalLM" if decoder else "AutoModelForMaskedLM") if encoder.label_tokens else "AutoModel"
    base = {"inside": "base", "folder": record.base.path, "hub": record.base.name}[record.base.kind]
    revision = f", revision={record.base.revision!r}" if adapter and record.base.kind == "hub" else ""
    dtype = "bfloat16" if record.precision == "bf16" else "float32"
    lines = ["import json", "", "import torch"]
    lines += ["from peft import PeftModel"] if adapter else []
    lines += [] if encoder.label_tokens else ["from safetensors.torch import load_file"]
    lines += [
        f"from transformers import {kind}, AutoTokenizer",
        "",
        f"texts = {['a text'] * len(model.fields)}  # {', '.join(model.fields)}",
        'task = json.load(open("task.json"))',
        'tokenizer = AutoTokenizer.from_pretrained(".")',
        f"model = {kind}.from_pretrained({base if adapter else '.'!r}{revision}, dtype=torch.{dtype})",
    ]
    lines += ['model = PeftModel.from_pretrained(model, ".", autocast_adapter_dtype=False)'] if adapter else []
    lines += ["model.eval()", "texts = [text.strip() for text in texts]"]
    if encoder.template and (mask := encoder.tokenizer.mask_token):
        lines += [f'texts = [text.replace({mask!r}, "") for text in texts]']
    words = encoder.label_tokens
    lines += _whole_words(encoder) if words and words.reads_whole_words else _one_state(learner)
    if learner.calibration:
        lines += ['how = task["calibration"]']
        lines += ['scores = (how["scale"] * scores + torch.tensor(how["bias"])).log_softmax(-1)']
    lines += ['print(dict(zip(task["labels"], scores.softmax(-1).tolist())))']
    return (
        "## Loading it\n\nRun this in the folder. It writes the prompt as in training; the run also cut texts of more "
        f"than {record.max_length} tokens.\n\n```python\n" + "\n".join(lines) + "\n```\n"
    )


def _one_state(learner: Learner) -> list[str]:
    """The part of the card that scores the labels from one state: a classifier, or label words of one token."""
    encoder, decoder = learner.encoder, learner.backbone.decoder
    lines = []
    if encoder.template:
        lines += [f'fields = dict(zip(task["fields"], texts), answer={encoder.slot()!r})']
        lines += ['prompt = task["before"] + task["pattern"].format(**fields) + task["after"]']
        special = ", add_special_tokens=False" if encoder.chat else ""
        lines += [f'ids = tokenizer(prompt, return_tensors="pt"{special})']
        if decoder and not encoder.chat and tokenizer_ends(encoder.tokenizer):
            lines += ["ids = {name: values[:, :-1] for name, values in ids.items()}  # no end before the answer"]
    elif encoder.encodes_pairs:
        lines += [f'ids = tokenizer(texts[0], {BETWEEN!r}.join(texts[1:]), return_tensors="pt")']
    else:
        lines += [f'ids = tokenizer({BETWEEN!r}.join(texts), return_tensors="pt")']
    lines += ["with torch.no_grad():"]
    if encoder.label_tokens:
        slot = "-1" if decoder else '(ids["input_ids"][0] == tokenizer.mask_token_id).nonzero()[-1, 0]'
        lines += [f"    logits = model(**ids).logits[0, {slot}].float()"]
        return [*lines, 'scores = logits.log_softmax(-1)[task["label_word_ids"]]']
    pooled = {"last": "[:, -1]", "first": "[:, 0]", "mean": ".mean(1)"}[learner.pooling]
    lines += [f"    state = model(**ids).last_hidden_state{pooled}.float()", 'head = load_file("head.safetensors")']
    return [*lines, 'scores = torch.nn.functional.linear(state, head["linear.weight"], head["linear.bias"])[0]']


def _whole_words(encoder: PromptEncoder) -> list[str]:
    """The part of the card that scores label words of any number of tokens, one word at a time."""
    words = encoder.label_tokens
    assert words is not None
    cut = encoder.decoder and not encoder.chat and tokenizer_ends(encoder.tokenizer)
    end = "[:-1]  # no end before the answer" if cut else ""
    special = ", add_special_tokens=False" if encoder.chat else ""
    lines = [
        "def read(texts):",
        f'    fields = dict(zip(task["fields"], texts), answer={encoder.slot()!r})',
        '    prompt = task["before"] + task["pattern"].format(**fields) + task["after"]',
        f'    return tokenizer(prompt{special})["input_ids"]{end}',
        "def score(texts, word):",
        "    prompt, total = read(texts), 0.0",
    ]
    lines += [] if encoder.decoder else ["    mask = tokenizer.mask_token_id"]
    lines += [] if encoder.decoder else ["    slot = max(i for i, token in enumerate(prompt) if token == mask)"]
    lines += ["    for place, token in enumerate(word):"]
    if encoder.decoder:
        lines += ["        row = prompt + word[:place]"]
    else:
        lines += ["        row = prompt[:slot] + word[:place] + [mask] + word[place + 1 :] + prompt[slot + 1 :]"]
    at = "-1" if encoder.decoder else "slot + place"
    lines += [f"        logits = model(input_ids=torch.tensor([row])).logits[0, {at}].float()"]
    lines += ["        total = total + logits.log_softmax(-1)[token]"]
    lines += ["    return total / len(word)" if words.score == "mean" else "    return total"]
    lines += ["with torch.no_grad():"]
    lines += ['    scores = torch.stack([score(texts, word) for word in task["label_word_ids"]])']
    if words.score == "pmi":
        lines += ['    nothing = [""] * len(texts)']
        lines += ['    scores -= torch.stack([score(nothing, word) for word in task["label_word_ids"]])']
    return lines


def tokenizer_ends(tokenizer: Any) -> bool:
    """Whether the tokenizer puts its end token after a text."""
    return tokenizer.eos_token_id is not None and tokenizer("a")["input_ids"][-1:] == [tokenizer.eos_token_id]
