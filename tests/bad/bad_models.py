"""Models that cannot be used, and some that would do harm."""

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

from backbones import save_backbone
from case import Case
from helpers import Bomb

CODE = "import pathlib\npathlib.Path({ran!r}).touch()\nclass Config: pass\nclass Model: pass\n"
"""Python code in a model's folder that writes a file when it is imported."""


def change(folder: Path, file: str = "config.json", **values: Any) -> None:
    """Other values in a JSON file of the folder."""
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def save_all(root: Path) -> Path:
    """A good llama and bert, and what can be wrong with them. `root`/ran appears when foreign code runs."""
    save_backbone(root / "llama", "llama")
    save_backbone(root / "bert", "bert")
    ran = root / "ran"
    for name, kind in {
        "no-config": "llama", "no-tokenizer": "llama", "no-weights": "llama", "pickle": "llama", "cut": "llama",
        "few-rows": "llama", "code": "llama", "bad-json": "llama", "unknown-type": "llama", "prophetnet": "llama",
        "no-head": "bert", "no-mask": "bert", "missing": "llama", "pipe": "llama",
        "long": "llama", "deep": "llama", "wide": "llama",
    }.items():  # fmt: skip
        shutil.copytree(root / kind, root / name)
    (root / "no-config" / "config.json").unlink()
    for path in (root / "no-tokenizer").glob("*token*"):
        path.unlink()
    for name in ("no-weights", "pickle", "pipe"):
        (root / name / "model.safetensors").unlink()
    (root / "pickle" / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(ran)))
    os.mkfifo(root / "pipe" / "model.safetensors.index.json")
    os.truncate(root / "long" / "tokenizer.json", 8 << 30)
    change(root / "deep", num_hidden_layers=10**6)
    change(root / "wide", hidden_size=10**6)
    cut = root / "cut" / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-100])
    tokens = json.loads((root / "few-rows" / "tokenizer.json").read_text())
    tokens["model"]["vocab"] |= {f"more{n}": 40 + n for n in range(60)}
    (root / "few-rows" / "tokenizer.json").write_text(json.dumps(tokens))
    (root / "code" / "code.py").write_text(CODE.format(ran=str(ran)))
    change(root / "code", model_type="own", auto_map={"AutoConfig": "code.Config", "AutoModel": "code.Model"})
    (root / "bad-json" / "config.json").write_text("{")
    change(root / "unknown-type", model_type="lama")
    (root / "prophetnet" / "config.json").write_text('{"model_type": "prophetnet", "is_encoder_decoder": true}')
    change(root / "no-head", architectures=["BertForSequenceClassification"])
    change(root / "no-mask", "tokenizer_config.json", mask_token=None)
    weights = root / "missing" / "model.safetensors"
    drop_weights(weights, "model.layers.1.")
    return root


def drop_weights(path: Path, start: str) -> None:
    """The weights of a file, without those whose name starts so."""
    from safetensors.torch import load_file, save_file

    kept = {name: value for name, value in load_file(path).items() if not name.startswith(start)}
    save_file(kept, path, metadata={"format": "pt"})


def model(name: str, folder: str, *says: str, strategy: str = "vanilla", **options: str) -> Case:
    """A run with a folder of `save_all`, or with a name."""
    given = folder if folder.startswith(("hub:", "./")) else f"{{models}}/{folder}"
    where = folder.removeprefix("hub:")
    return Case(f"model: {name}", (where, *says), {"model": given.removeprefix("hub:"), **options}, strategy)


CASES = [
    model("no such folder", "./nowhere", "no such folder; give a local folder, a hub id, or tiny-lm"),
    model("a file", "./train.csv", "is a file; give the folder"),
    model("unknown name", "hub:tinylm", "Did you mean 'tiny-lm'?"),
    model("not on the hub", "hub:nobody/nothing", "the hub is not reachable", "--model FOLDER"),
    model("no config", "no-config", "no config.json, so it is not a transformers model"),
    model("no tokenizer", "no-tokenizer", "no tokenizer can be read from"),
    model("no weights", "no-weights", "weights must be model.safetensors or pytorch_model.bin", "has none"),
    model("pickle", "pickle", "pytorch_model.bin needs more than tensors (", "nothing that can execute code"),
    model("index that is a pipe", "pipe", "model.safetensors.index.json in it is damaged; fetch the folder again"),
    model("a tokenizer of 8 GB", "long", "tokenizer.json has 8,589,934,592 bytes; 268,435,456 are the most"),
    model("a million layers", "deep", "num_hidden_layers=1,000,000; 1,000 is the most"),
    model("a million wide", "wide", "hidden_size=1,000,000; 131,072 is the most"),
    model("cut weights", "cut", "model.safetensors in it is damaged or cut short"),
    model(
        "weights that lack a block",
        "missing",
        "lack layers.1.input_layernorm.weight and 8 more",
        "fetch it again, whole",
    ),
    model("vocabulary mismatch", "few-rows", "the tokenizer has a token 'more", "rows; they do not belong together"),
    model("code of its own", "code", "needs code from the hub to run, which is never executed", "take another model"),
    model("broken config", "bad-json", "transformers cannot load"),
    model("unknown architecture", "unknown-type", "model type `lama`"),
    model("encoder-decoder", "prophetnet", "is an encoder-decoder of a type that is not supported", "take one of t5"),
    model("encoder without head, verbalizer", "no-head", "no pre-trained language-modelling head", strategy="pbft"),
    model("encoder without mask, verbalizer", "no-mask", "no mask token", strategy="pbft"),
    model("too many layers", "llama", "layers=7", "has 3 blocks", "--layers", strategy="adaptive", layers="7"),
    model("too high a rank", "llama", "rank=100", "at most", "--rank", strategy="lora", rank="100"),
    model("a revision of a folder", "llama", "revision=v2: model", "no revisions", "--revision", revision="v2"),
    model("unknown device", "llama", "device=gpu: must be auto, cpu", "--device", device="gpu"),
    model("absent device", "llama", "device=cuda:9", "CUDA devices", "--device", device="cuda:9"),
]
for case in CASES:  # sentences that say the option have no need of the folder's name
    if case.options.keys() & {"layers", "rank", "device"}:
        object.__setattr__(case, "says", case.says[1:])
