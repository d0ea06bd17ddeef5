"""A saved model gives the scores that its run logged, wherever the folder lies."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from place import Copying, go
from safetensors.torch import load_file

from effft.data.examples import Example
from effft.errors import InputError
from effft.models.backbone import load
from effft.runs.experiment import Result
from effft.serving.load import SavedModel
from effft.strategies.strategy import NAMED

KINDS = ("llama", "bert", "gpt2", "opt")


def logged(result: Result, split: str) -> tuple[list[tuple[str]], np.ndarray]:
    table = result.tables[split]
    scores = np.array([table["score_without"], table["score_with_dog"]]).T
    return [(str(text),) for text in table["text"]], scores


def saved(place: Path, to: Path, strategy: str, kind: str = "llama", **values: object) -> Result:
    return go(place, Copying(to=to), strategy, kind, **values)


@pytest.mark.parametrize("strategy", [*NAMED, "lora+pbft", "adaptive+pbft", "bitfit+pbft", "lora+distill", "distill"])
@pytest.mark.parametrize("kind", ["llama", pytest.param("bert", marks=pytest.mark.slow)])
def test_same_scores(place: Path, tmp_path: Path, strategy: str, kind: str) -> None:
    values = {"teacher_shots": 4} if "distill" in strategy else {"shots": 4} if strategy == "icl" else {}
    result = saved(place, tmp_path / "one", strategy, kind, **values)
    shutil.move(tmp_path / "one", tmp_path / "elsewhere")
    model = SavedModel.load(tmp_path / "elsewhere")
    for split in ("in_domain", "ood/far"):
        rows, scores = logged(result, split)
        np.testing.assert_allclose(model.scores(rows), scores, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("calibration", "shown"),
    [
        ("fitted", {"demonstrations": "nearest"}),
        ("domain", {"demo_seed": 3}),
        ("batch", {"demo_order": "nearest-last"}),
        ("batch", {"cross_validation": "2x1"}),
    ],
)
@pytest.mark.slow
def test_same_scores_of_chosen_demonstrations(
    place: Path, tmp_path: Path, calibration: str, shown: dict[str, object]
) -> None:
    result = saved(place, tmp_path / "one", "icl", shots=4, calibration=calibration, bootstrap=0, **shown)
    model = SavedModel.load(tmp_path / "one")
    for split in ("in_domain", "ood/far"):
        rows, scores = logged(result, split)
        same = np.allclose(model.scores(rows), scores, atol=1e-5, rtol=0)
        assert same == (calibration != "batch" or split == "in_domain")  # OOD texts are a batch of their own
        np.testing.assert_allclose(model.scores(rows[:1]), model.scores(rows)[:1], atol=1e-5)
    assert np.allclose(np.exp(scores).sum(axis=1), 1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt2", "opt"])
@pytest.mark.parametrize("strategy", ["vanilla", "lora", "lora+pbft", "adaptive", "bitfit"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_same_scores_elsewhere(place: Path, tmp_path: Path, strategy: str, kind: str, precision: str) -> None:
    result = saved(place, tmp_path / "one", strategy, kind, precision=precision)
    rows, scores = logged(result, "in_domain")
    np.testing.assert_allclose(SavedModel.load(tmp_path / "one").scores(rows), scores, atol=1e-6, rtol=0)


@pytest.mark.parametrize("strategy", ["pbft", "icl"])
@pytest.mark.slow
def test_requests_at_the_same_time(place: Path, tmp_path: Path, strategy: str) -> None:
    rows, _ = logged(saved(place, tmp_path / "one", strategy), "in_domain")
    model = SavedModel.load(tmp_path / "one")
    asked = [rows[i : i + 1 + i % 3] for i in range(len(rows))] * 4
    alone = [model.scores(part) for part in asked]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(model.scores, asked))
    for found, expected in zip(together, alone, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_safetensors_and_json_only(place: Path, tmp_path: Path) -> None:
    for strategy in ("vanilla", "lora", "icl"):
        saved(place, tmp_path / strategy, strategy)
    kinds = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert kinds <= {".safetensors", ".json", ".md", ".txt", ".model"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strategy", ["lora", "lora+pbft"])
def test_peft_loads_the_adapter(place: Path, tmp_path: Path, kind: str, strategy: str) -> None:
    import transformers
    from peft import PeftModel

    result = saved(place, tmp_path / "m", strategy, kind)
    mine = SavedModel.load(tmp_path / "m").learner
    language = {"bert": "AutoModelForMaskedLM"}.get(kind, "AutoModelForCausalLM")
    name = language if strategy == "lora+pbft" else "AutoModel"
    theirs = getattr(transformers, name).from_pretrained(tmp_path / "m" / "base")
    model = PeftModel.from_pretrained(theirs, str(tmp_path / "m" / "adapter"))
    rows, _ = logged(result, "in_domain")
    batch = mine.collate(mine.items([Example(rows[0], 0, 0)]))
    with torch.no_grad():
        found = model(**batch.inputs)
        if name == "AutoModel":
            assert torch.allclose(found.last_hidden_state, mine.backbone.hidden(batch.inputs), atol=1e-6)
        else:
            answer = found.logits[0, batch.answers[0]]
            assert torch.allclose(answer, mine.backbone.answer_logits(batch.inputs, batch.answers)[0], atol=1e-6)


def test_a_large_base_stays_where_it_is(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = shutil.copytree(place / "llama", tmp_path / "llama")
    with (own / "notes.txt").open("wb") as file:
        file.truncate(100_000_000)  # a hole on disk
    result = go(place, Copying(to=tmp_path / "m"), "lora", model=str(own))
    record = json.loads((tmp_path / "m" / "effft.json").read_text())["base"]
    assert (record["kind"], record["path"]) == ("folder", str(own))
    assert not (tmp_path / "m" / "base").exists()
    rows, scores = logged(result, "in_domain")
    moved = shutil.move(own, tmp_path / "moved")
    with pytest.raises(InputError, match=r"is not at .*; set EFFFT_BASE to its folder"):
        SavedModel.load(tmp_path / "m")
    monkeypatch.setenv("EFFFT_BASE", str(moved))
    np.testing.assert_allclose(SavedModel.load(tmp_path / "m").scores(rows), scores, atol=1e-6, rtol=0)
    config = Path(moved) / "config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(InputError, match="holds another model than"):
        SavedModel.load(tmp_path / "m")


def test_a_broken_folder_is_a_sentence(place: Path, tmp_path: Path) -> None:
    saved(place, tmp_path / "m", "adaptive")
    with pytest.raises(InputError, match=r"holds no effft\.json"):
        SavedModel.load(tmp_path)
    manifest = tmp_path / "m" / "effft.json"
    record = json.loads(manifest.read_text())
    for change, said in [
        ({"precision": 5}, "precision: Input should be a valid string"),
        ({"weights": "some"}, "weights: Input should be 'adapter'"),
        ({"strategy": "lroa"}, "Did you mean 'lora'"),
        ({"task": {**record["task"], "labels": ["one"]}}, "labels"),
        ({"files": None}, "files: "),
        ({"more": 1}, "more: Extra inputs are not permitted"),
        ({"demonstrations": [{"texts": ["a"], "label": 7}]}, "a demonstration does not fit"),
    ]:
        manifest.write_text(json.dumps({**record, **change}))
        with pytest.raises(InputError, match=rf"format 1 of a saved model: .*{said}") as caught:
            SavedModel.load(tmp_path / "m")
        assert "\n" not in str(caught.value)
    manifest.write_text("{")
    with pytest.raises(InputError, match="format 1 of a saved model"):
        SavedModel.load(tmp_path / "m")


def test_a_saved_model_is_what_was_saved(place: Path, tmp_path: Path) -> None:
    saved(place, tmp_path / "m", "lora")
    files = sorted(path for path in (tmp_path / "m").rglob("*") if path.is_file())
    assert any("base" in path.parts for path in files)
    for path in files:
        if path.name in ("README.md", "effft.json"):
            continue
        content = path.read_bytes()
        path.write_bytes(content + b" ")
        with pytest.raises(InputError, match=f"{path.name} was changed after it was saved"):
            SavedModel.load(tmp_path / "m")
        path.unlink()
        with pytest.raises(InputError, match=f"{path.name} is missing"):
            SavedModel.load(tmp_path / "m")
        path.write_bytes(content)
    for name in ("generation_config.json.txt", "bpe.codes"):
        (tmp_path / "m" / "base" / name).touch()
        with pytest.raises(InputError, match=f"{name} is none of its files"):
            SavedModel.load(tmp_path / "m")
        (tmp_path / "m" / "base" / name).unlink()


def test_an_index_of_shards_stays_in_its_folder(place: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(place / "llama", tmp_path / "inside")
    shutil.move(folder / "model.safetensors", tmp_path / "model.safetensors")
    names = load_file(tmp_path / "model.safetensors")
    shutil.copy(tmp_path / "model.safetensors", folder / "other.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "../model.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"names '\.\./model.safetensors', which lies outside of the folder"):
        load(str(folder))
