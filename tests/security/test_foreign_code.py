"""Nothing that comes with a model or a task file is ever run: pickles, Python beside weights, YAML tags."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from backbones import save_backbone
from helpers import Bomb
from place import Copying, go, make_place

from effft.cli.exit_codes import run_command_line
from effft.models.backbone import load
from effft.serving.load import SavedModel

CODE = """\
import pathlib
pathlib.Path({ran!r}).touch()
from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel, PreTrainedTokenizerFast
class OwnConfig(LlamaConfig):
    model_type = "own"
class OwnModel(LlamaModel):
    config_class = OwnConfig
class OwnLM(LlamaForCausalLM):
    config_class = OwnConfig
class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""
AUTO_MAP = {
    "AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel", "AutoModelForCausalLM": "own.OwnLM",
    "AutoTokenizer": [None, "own.OwnTokenizer"],
}  # fmt: skip


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    return tmp_path / "ran"


def refused(folder: Path, capsys: pytest.CaptureFixture[str], strategy: str = "vanilla") -> str:
    capsys.readouterr()
    arguments = ["run", strategy, "--model", str(folder), "--per-label", "4", "--no-tracking"]
    assert run_command_line(arguments) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize("saved", ["pickle", "torch"])
def test_a_pickle_of_weights_is_not_opened(
    tmp_path: Path, ran: Path, saved: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_backbone(tmp_path / "model", "llama")
    bomb = folder / "pytorch_model.bin"
    if saved == "pickle":
        bomb.write_bytes(pickle.dumps(Bomb(ran)))
    else:
        torch.save({"weight": Bomb(ran)}, bomb)
    load(str(folder))  # beside safetensors it is passed over
    assert not ran.exists()
    (folder / "model.safetensors").unlink()
    said = refused(folder, capsys)
    assert "reading pytorch_model.bin needs more than tensors" in said
    assert "nothing that can execute code is loaded" in said
    assert not ran.exists()
    torch.load(bomb, weights_only=False) if saved == "torch" else pickle.loads(bomb.read_bytes())
    assert ran.exists()  # it would have run


def test_code_beside_the_weights_is_not_run(tmp_path: Path, ran: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_backbone(tmp_path / "model", "llama")
    (folder / "own.py").write_text(CODE.format(ran=str(ran)))
    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    for path, values in (("config.json", config), ("tokenizer_config.json", tokenizer)):
        (folder / path).write_text(json.dumps({**values, "auto_map": AUTO_MAP}))
    load(str(folder))  # an architecture that transformers has itself: its own class is taken
    assert not ran.exists()
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "own", "auto_map": AUTO_MAP}))
    assert "needs code from the hub to run, which is never executed here" in refused(folder, capsys)
    assert "needs code" in refused(folder, capsys, "icl")
    assert not ran.exists()
    import transformers

    transformers.AutoConfig.from_pretrained(folder, trust_remote_code=True)
    assert ran.exists()  # it would have run


@pytest.mark.slow
def test_saved_models_hold_no_pickle_that_counts(tmp_path: Path, ran: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = make_place(tmp_path, "llama")
    saved = tmp_path / "saved"
    go(place, Copying(to=saved), "lora")
    for path in (saved, *(p for p in saved.rglob("*") if p.is_dir())):
        for name in ("adapter_model.bin", "pytorch_model.bin", "python_model.pkl", "training_args.bin"):
            (path / name).write_bytes(pickle.dumps(Bomb(ran)))
    SavedModel.load(saved, "cpu")
    assert not ran.exists()
    tensors = [path for path in saved.rglob("*.safetensors") if "base" not in path.parts]
    assert tensors
    for path in tensors:
        path.unlink()
    capsys.readouterr()  # what saving wrote
    assert run_command_line(["predict", "--model", str(saved), "--text", "old dog", "--device", "cpu"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not ran.exists()


@pytest.mark.parametrize("tag", ["!!python/object/apply:pathlib.Path.touch", "!!python/object/new:os.system"])
@pytest.mark.parametrize("what", ["task", "space"])
def test_yaml_tags_make_no_objects(
    tmp_path: Path, ran: Path, tag: str, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.yaml"
    call = f"{tag} ['touch {ran}']" if "system" in tag else f"{tag} [!!python/object/new:pathlib.Path ['{ran}']]"
    path.write_text(f"name: {call}\n" if what == "task" else f"rank: {call}\n")
    arguments = ["run", "vanilla", "--task", str(path)] if what == "task" else ["search", "--space", str(path)]
    assert run_command_line([*arguments, "--no-tracking"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not ran.exists()
    if "system" in tag:
        import yaml

        yaml.unsafe_load(path.read_text())
        assert ran.exists()  # it would have run


def test_nothing_else_opens_a_port() -> None:
    root = Path(__file__).parents[2]
    openers = ("0.0.0.0", ".bind((", "HTTPServer(", "uvicorn", "--host")
    found = {
        str(path.relative_to(root))
        for folder in ("effft", "search", "reports")
        for path in (root / folder).rglob("*.py")
        if any(word in path.read_text() for word in openers)
    }
    assert found == {"effft/cli/tracking.py"}
