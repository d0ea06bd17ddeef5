"""The hub path of data and models, both libraries as they are, against a hub on 127.0.0.1."""

import io
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest

from effft.data import hub
from tests.backbones import save_backbone
from tests.hub_server import Faults, Hub, Repository, serve

GLUE = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
ROOT = Path(__file__).parent.parent.parent
CONFIGURATION = """\
---
configs:
- config_name: {name}
  data_files:
{files}---
"""
READ = """
import json, sys
from effft.errors import InputError
from effft.tasks.loading import read_split
from effft.tasks.task import load_task
for name, split in json.loads(sys.argv[1]):
    try:
        read = read_split(load_task(name), split)
        print(json.dumps([len(read), read.origin, [e.label for e in read.examples[:2]], read.examples[0].index]))
    except InputError as error:
        print(json.dumps(str(error)))
"""
MODEL = """
import json, sys
from effft.errors import InputError
from effft.models.backbone import load
try:
    backbone = load(sys.argv[1], sys.argv[2])
    print(json.dumps([backbone.revision, sum(float(p.sum()) for p in backbone.model.parameters())]))
except InputError as error:
    print(json.dumps(str(error)))
"""


def parquet(columns: dict[str, list[Any]], labels: list[str]) -> bytes:
    """A split as the hub keeps it."""
    kinds = {name: datasets.Value("string") for name in columns} | {"label": datasets.ClassLabel(names=labels)}
    out = io.BytesIO()
    datasets.Dataset.from_dict(columns, features=datasets.Features(kinds)).to_parquet(out)
    return out.getvalue()


def data_set(name: str, config: str, splits: dict[str, bytes], revisions: dict[str, str]) -> Repository:
    """A repository of parquet files with the README that names them."""
    files = {f"{config}/{split}-00000-of-00001.parquet": content for split, content in splits.items()}
    lines = "".join(f"  - split: {split}\n    path: {config}/{split}-*\n" for split in splits)
    files["README.md"] = CONFIGURATION.format(name=config, files=lines).encode()
    return Repository(name, files, "dataset", revisions)


def glue_cola() -> Repository:
    rng = random.Random(0)
    texts = [f"sentence {i} {rng.getrandbits(200):x}" for i in range(1043)]
    rows = {"sentence": texts, "label": [i % 2 for i in range(1043)]}
    both = parquet(rows, ["unacceptable", "acceptable"])
    return data_set("nyu-mll/glue", "cola", {"train": both, "validation": both}, {"main": "b" * 40, GLUE: GLUE})


def hans() -> Repository:
    rows = {name: ["a", "b"] for name in ("premise", "hypothesis", "heuristic", "subcase")} | {"label": [1, 0]}
    content = parquet(rows, ["entailment", "non-entailment"])
    revisions = {"refs/convert/parquet": "c" * 40}
    return data_set("jhu-cogsci/hans", "default", {"validation": content}, revisions)


def ask(server: Hub, home: Path, code: str, *arguments: str, **environment: str) -> list[Any]:
    """Run a script in a process of its own, as HF_ENDPOINT is read at import; its lines, read as JSON."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    place = {"HF_ENDPOINT": server.url, "HF_HOME": str(home), "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=inherited | place, cwd=home, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def read(server: Hub, home: Path, *splits: tuple[str, str], **environment: str) -> list[Any]:
    return ask(server, home, READ, json.dumps(splits), **environment)


@pytest.mark.slow
def test_the_built_in_tasks_and_then_without_the_hub(tmp_path: Path) -> None:
    wanted = ("cola", "train"), ("cola", "in_domain"), ("cola", "ood/cola_ood"), ("mnli", "ood/hans")
    with serve([glue_cola(), hans()]) as server:
        online = read(server, tmp_path, *wanted)
        asked = len(server.asked)
        offline = read(server, tmp_path, *wanted, HF_HUB_OFFLINE="1")
        assert len(server.asked) == asked
    assert [answer[0] for answer in online] == [1043, 527, 516, 2]
    assert online[2][3] == 527
    assert online[2][2] == [1, 0]
    assert GLUE in online[0][1]
    assert online[3][2] == [1, 0]
    assert offline == online


@pytest.mark.slow
@pytest.mark.parametrize(
    ("faults", "sentence"),
    [
        (Faults(status=401), "knows no such name, or it is private"),
        (Faults(status=429), "takes no more requests"),
        (Faults(corrupt=True), "was damaged on its way"),
        (Faults(cut=30_000), ""),
        (Faults(status=429, once=True), ""),
    ],
    ids=["401", "429", "wrong hash", "cut", "429 once"],
)
def test_faults_of_the_hub(faults: Faults, sentence: str, tmp_path: Path) -> None:
    """Each ends in the right value or in one sentence, and nothing half-written is believed later."""
    cut = bool(faults.cut or faults.once)
    with serve([glue_cola()], faults) as server:
        (first,) = read(server, tmp_path, ("cola", "train"), HF_HUB_DOWNLOAD_TIMEOUT="3")
        server.faults = Faults()
        (second,) = read(server, tmp_path, ("cola", "train"))
    assert second[0] == 1043
    assert first == second if cut else sentence in first
    assert cut or "--data-dir" in first or "run the command again" in first


@pytest.mark.slow
def test_models(tmp_path: Path) -> None:
    """Weights at a revision, a gated model with and without its token, an unknown revision and an unknown name."""
    folder = save_backbone(tmp_path / "made", "opt")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    home = tmp_path / "home"
    home.mkdir()
    gated = Repository("meta-llama/gated", files, token="hf_tokenoftheuser000", gated=True)
    opened = Repository("facebook/opt-125m", files, revisions={"main": "a" * 40, "v1": "d" * 40})
    with serve([opened, gated]) as server:
        assert ask(server, home, MODEL, "facebook/opt-125m", "v1")[0][0] == "d" * 40
        assert "no such revision" in ask(server, home, MODEL, "facebook/opt-125m", "v2")[0]
        assert "knows no such name" in ask(server, home, MODEL, "facebook/opt-126m", "")[0]
        refused = ask(server, home, MODEL, "meta-llama/gated", "")[0]
        assert "HF_TOKEN" in refused
        assert "restricted" in refused
        assert ask(server, home, MODEL, "meta-llama/gated", "", HF_TOKEN=gated.token)[0][0] == "a" * 40


@pytest.fixture
def nowhere() -> str:
    """An address of this machine where nobody listens."""
    with serve([]) as server:
        return server.url


def test_a_host_that_is_not_there_is_given_up_fast(nowhere: str) -> None:
    assert not hub.reachable(nowhere)
    assert not hub.reachable("https://localhost:9")


@pytest.mark.slow
def test_an_unreachable_hub_is_one_sentence(nowhere: str, tmp_path: Path) -> None:
    server = Hub([], Faults())
    server.url = nowhere
    (sentence,) = read(server, tmp_path, ("cola", "train"))
    assert "not reachable" in sentence
    assert "cola/in_domain_train.tsv" in sentence
    assert "\n" not in sentence
