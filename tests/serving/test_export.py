"""An exported folder: the code on its card, run without effft, gives the saved model's scores."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from backbones import save_adapter_of_peft
from huggingface_hub import ModelCard
from place import CHAT, Copying, go, make_place

from effft.errors import InputError, RunError
from effft.runs.experiment import Result
from effft.serving.export import export
from effft.serving.load import SavedModel
from effft.strategies.strategy import NAMED, compose
from effft.strategies.trainable_parts import LoRA

PAIRS = """
name: pairs
fields: [first, second]
labels: [without, with_dog]
label_words: {without: " No", with_dog: " Yes"}
patterns: {minimal: "{first} , {second} ?", slot: "{first} ? {answer} , {second}"}
train: {file: train.csv, fields: {first: text, second: length}}
in_domain: {file: test.csv, fields: {first: text, second: length}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_place(tmp_path_factory.mktemp("export"), "llama", "bert", "opt", "qwen3", "t5", "bart")
    (folder / "pairs.yaml").write_text(PAIRS)
    return folder


def scores_of_the_card(folder: Path, texts: list[str]) -> np.ndarray:
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    assert "effft" not in code
    code, replaced = re.subn(r"^texts = \[.*?\]  #", lambda _: f"texts = {texts!r}  #", code, count=1, flags=re.M)
    assert replaced
    before, scope = os.getcwd(), dict[str, object]()
    try:
        os.chdir(folder)
        exec(code, scope)
    finally:
        os.chdir(before)
    return scope["scores"].float().numpy()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("task", ["task", "pairs"])
@pytest.mark.parametrize("kind", ["llama", "bert"])
@pytest.mark.parametrize("strategy", ["vanilla", "lora", "pbft", "icl"])
@pytest.mark.slow
def test_kind_6_the_cards_code_gives_the_saved_models_scores(
    place: Path, tmp_path: Path, strategy: str, kind: str, task: str, precision: str
) -> None:
    shots = {"shots": 2} if strategy == "icl" else {}
    values = {"task": str(place / f"{task}.yaml"), "precision": precision, "epochs": 1, **shots}
    check_export(place, tmp_path, strategy, kind, merge=False, **values)


@pytest.mark.parametrize("how", ["auto", "pmi"])
@pytest.mark.parametrize("kind", ["llama", "bert"])
@pytest.mark.parametrize("strategy", ["lora+pbft", "icl"])
@pytest.mark.slow
def test_the_card_scores_words_of_several_tokens(
    place: Path, tmp_path: Path, strategy: str, kind: str, how: str
) -> None:
    words = {"label_words": "not good,not", "label_score": how, "precision": "fp32", "epochs": 1}
    shots = {"shots": 3} if strategy == "icl" else {}
    check_export(place, tmp_path, strategy, kind, merge=False, task=str(place / "pairs.yaml"), **words, **shots)


@pytest.mark.parametrize(
    ("kind", "strategy", "values"),
    [
        ("t5", "vanilla", {}),
        ("bart", "lora", {}),
        ("bart", "icl", {"shots": 2}),
        ("t5", "lora+pbft", {"label_words": "not good,not", "label_score": "pmi"}),
        ("t5", "pbft", {"pattern": "slot"}),
    ],
)
@pytest.mark.slow
def test_the_card_of_an_encoder_decoder(
    place: Path, tmp_path: Path, kind: str, strategy: str, values: dict[str, object]
) -> None:
    task = str(place / "pairs.yaml")
    check_export(place, tmp_path, strategy, kind, False, task=task, precision="fp32", epochs=1, **values)


@pytest.mark.parametrize(
    ("strategy", "large"),
    [("vanilla", False), ("lora", False), ("icl", False), pytest.param("lora", True, marks=pytest.mark.slow)],
)
@pytest.mark.slow
def test_kind_8_a_run_on_an_adapter(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str, large: bool
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    base = shutil.copytree(place / "llama", tmp_path / "base")
    if large:  # then the saved model only refers to it
        with (base / "notes.txt").open("wb") as file:
            file.truncate(100_000_000)
    adapter = save_adapter_of_peft(tmp_path / "adapter", base)
    shots = {"shots": 2} if strategy == "icl" else {}
    check_export(place, tmp_path, strategy, "llama", False, model=str(adapter), precision="fp32", **shots)
    assert (tmp_path / "m" / "base").exists() != large


def test_the_card_of_several_patterns_claims_no_code(place: Path, tmp_path: Path) -> None:
    """The code of one pattern would give other scores than the mean over all."""
    go(place, Copying(to=tmp_path / "m"), "zero_shot", epochs=None, pattern="all")
    export(tmp_path / "m", tmp_path / "plain", False)
    card = (tmp_path / "plain" / "README.md").read_text()
    assert "effft is needed to read it" in card
    assert "```python" not in card.split("## Loading it")[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "merge"), [("lora", True), ("lora+pbft", False), ("lora+pbft", True), ("bitfit", False)]
)
@pytest.mark.parametrize("kind", ["llama", "bert", "opt"])
def test_other_weights(place: Path, tmp_path: Path, strategy: str, kind: str, merge: bool) -> None:
    check_export(place, tmp_path, strategy, kind, merge, precision="fp32")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("task", ["task", "pairs"])
@pytest.mark.parametrize("kind", ["llama", "bert"])
@pytest.mark.parametrize("strategy", sorted({*NAMED, "distill"} - {"vanilla", "lora", "pbft", "icl"}))
def test_the_card_of_every_other_strategy(
    place: Path, tmp_path: Path, strategy: str, kind: str, task: str, precision: str
) -> None:
    shots = {"teacher_shots": 2} if "distill" in strategy else {}
    values = {"task": str(place / f"{task}.yaml"), "precision": precision, "epochs": 1, **shots}
    check_export(place, tmp_path, strategy, kind, merge=False, **values)


def check_export(place: Path, tmp_path: Path, strategy: str, kind: str, merge: bool, **values: object) -> None:
    result: Result = go(place, Copying(to=tmp_path / "m"), strategy, kind, **values)
    files = export(tmp_path / "m", tmp_path / "plain", merge)
    adapter = isinstance(compose(strategy).trainable, LoRA) and not merge
    assert ("adapter_model.safetensors" in files) == adapter
    assert {Path(name).suffix for name in files} <= {".json", ".safetensors", ".md", ".txt"}
    read = ModelCard.load(tmp_path / "plain" / "README.md")
    assert "| in_domain |" in read.text
    reached = {one.dataset_split: one.metric_value for one in read.data.eval_results or []}
    assert reached["in_domain"] == result.metrics[f"in_domain/{result.primary}"], "the hub reads it in model-index"
    model, table = SavedModel.load(tmp_path / "m"), result.tables["in_domain"]
    logged = np.array([table[f"score_{label}"] for label in model.labels], dtype=float).T
    found = model.scores([[table[field][row] for field in model.fields] for row in range(len(logged))])
    np.testing.assert_allclose(found, logged, atol=1e-5 if values.get("precision") == "fp32" else 0.05)
    exact = values.get("precision") == "fp32"
    for row in range(4):
        texts = [f" {table[field][row]} " for field in model.fields]
        wanted = model.scores([texts])[0]
        found = scores_of_the_card(tmp_path / "plain", texts)
        np.testing.assert_allclose(found, wanted, atol=2e-5 if exact else 0.05, rtol=0 if exact else 0.05)


@pytest.mark.parametrize("chat", ["one", "turns"])
def test_the_card_of_a_calibrated_chat(place: Path, tmp_path: Path, chat: str) -> None:
    chatty = shutil.copytree(place / "llama", tmp_path / "chatty")
    (chatty / "chat_template.jinja").write_text(CHAT)
    values = {"calibration": "fitted", "chat": chat, "shots": 2, "precision": "fp32"}
    result = go(place, Copying(to=tmp_path / "m"), "icl", str(chatty), **values)
    export(tmp_path / "m", tmp_path / "plain", merge=False)
    model, texts = SavedModel.load(tmp_path / "m"), result.tables["in_domain"]["text"]
    for text in map(str, texts[:3]):
        np.testing.assert_allclose(
            scores_of_the_card(tmp_path / "plain", [text]), model.scores([(text,)])[0], atol=2e-5
        )


def test_the_card_says_where_demonstrations_are_chosen(place: Path, tmp_path: Path) -> None:
    go(place, Copying(to=tmp_path / "m"), "icl", demonstrations="nearest", shots=2, calibration="batch")
    export(tmp_path / "m", tmp_path / "plain", merge=False)
    card = (tmp_path / "plain" / "README.md").read_text()
    assert "the 2 of 16 demonstrations nearest to it" in card
    assert "calibrated (batch), to the in-domain test texts of the run (transductive)" in card
    assert "```python" not in card


def test_export_never_overwrites_and_leaves_nothing_half_made(place: Path, tmp_path: Path) -> None:
    go(place, Copying(to=tmp_path / "m"), "bitfit", "qwen3", precision="fp32")
    with pytest.raises(InputError, match="not empty"):
        export(tmp_path / "m", tmp_path, merge=False)
    with pytest.raises(RunError, match="has no place for"):  # qwen3's feed-forward maps never have a bias
        export(tmp_path / "m", tmp_path / "plain", merge=True)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
