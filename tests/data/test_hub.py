"""The hub path of data and models, both libraries as they are, against a hub on 127.0.0.1."""

import io
import json
import os
import random
import re
import shutil
import sqlite3
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import datasets
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.backbones import save_adapter_of_peft
from tests.hub_layouts import save_layout
from tests.hub_server import Faults, Hub, Repository, serve

GLUE = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
ROOT = Path(__file__).parent.parent.parent
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
FETCH = """
import json, sys, time
from concurrent.futures import ThreadPoolExecutor
from effft.data.hub_rows import read_hub
from effft.errors import InputError
from effft.models.files import model_folder, with_weights
def answer(words):
    began = time.monotonic()
    try:
        if len(words) == 2:
            folder = with_weights(model_folder(*words), words[0])
            value = [str(folder), sorted(path.name for path in folder.iterdir())]
        else:
            value = len(list(read_hub(*words).read()))
    except InputError as error:
        value = str(error)
    return value, time.monotonic() - began
cases = json.loads(sys.argv[1])
with ThreadPoolExecutor(len(cases) if len(cases[0]) == 2 else 1) as pool:
    for value in pool.map(answer, cases):
        print(json.dumps(value))
"""


def parquet(columns: dict[str, list[Any]], labels: Sequence[str], label: str = "label") -> bytes:
    """A split as the hub keeps it."""
    kind = datasets.ClassLabel(names=list(labels))
    kind = datasets.Sequence(kind) if isinstance(columns[label][0], list) else kind
    kinds = {name: datasets.Value("string") for name in columns} | {label: kind}
    out = io.BytesIO()
    datasets.Dataset.from_dict(columns, features=datasets.Features(kinds)).to_parquet(out)
    return out.getvalue()


def data_set(name: str, configs: dict[str, dict[str, bytes]], revisions: dict[str, str]) -> Repository:
    """A repository of parquet files with the README that names them."""
    files: dict[str, bytes] = {}
    lines = ["---", "configs:"]
    for config, splits in configs.items():
        files |= {f"{config}/{split}-00000-of-00001.parquet": content for split, content in splits.items()}
        lines += [f"- config_name: {config}", "  data_files:"]
        lines += [line for split in splits for line in (f"  - split: {split}", f"    path: {config}/{split}-*")]
    files["README.md"] = "\n".join([*lines, "---", ""]).encode()
    return Repository(name, files, "dataset", revisions)


def pairs(first: str, second: str, labels: Sequence[str], size: int = 6) -> bytes:
    rng = random.Random(size)
    texts = {name: [f"{name} {i} {rng.getrandbits(300):x}" for i in range(size)] for name in (first, second)}
    return parquet(texts | {"label": [i % len(labels) for i in range(size)]}, labels)


def cola_split(size: int) -> bytes:
    texts = [f"sentence {i} {random.Random(i).getrandbits(200):x}" for i in range(size)]
    return parquet({"sentence": texts, "label": [i % 2 for i in range(size)]}, ["unacceptable", "acceptable"])


def glue(cola: dict[str, bytes] | None = None) -> Repository:
    """GLUE in the hub's layout, with CoLA's own splits where they are given."""
    entailment, two = ["entailment", "neutral", "contradiction"], ["entailment", "not_entailment"]
    both = cola_split(1043)
    mnli = ("premise", "hypothesis", entailment)
    configs = {
        "cola": cola or {"train": both, "validation": both},
        "mnli": {
            "train": pairs(*mnli, 90),
            "validation_matched": pairs(*mnli, 30),
            "validation_mismatched": pairs(*mnli, 33),
        },
        "rte": {"train": pairs("sentence1", "sentence2", two), "validation": pairs("sentence1", "sentence2", two, 8)},
        "qqp": {
            "train": pairs("question1", "question2", ["not_duplicate", "duplicate"]),
            "validation": pairs("question1", "question2", ["not_duplicate", "duplicate"], 8),
        },
        "sst2": dict.fromkeys(
            ("train", "validation"), parquet({"sentence": ["bad", "good"], "label": [0, 1]}, ["negative", "positive"])
        ),
    }
    return data_set("nyu-mll/glue", configs, {"main": "b" * 40, GLUE: GLUE})


def hans() -> Repository:
    rows = {name: ["a", "b"] for name in ("premise", "hypothesis", "heuristic", "subcase")} | {"label": [1, 0]}
    content = parquet(rows, ["entailment", "non-entailment"])
    return data_set("jhu-cogsci/hans", {"default": {"validation": content}}, {"refs/convert/parquet": "c" * 40})


def trec() -> Repository:
    names = ["ABBR", "ENTY", "DESC", "HUM", "LOC", "NUM"]
    rows = {"text": [f"What {name} ?" for name in names], "coarse_label": [*range(6)], "fine_label": [*range(6)]}
    splits = dict.fromkeys(("train", "test"), parquet(rows, names, "coarse_label"))
    return data_set("CogComp/trec", {"default": splits}, {"refs/convert/parquet": "e" * 40})


def model(tmp_path: Path, name: str, layout: str = "opt-125m", **more: Any) -> Repository:
    """A model of `hub_layouts` as a repository."""
    folder = tmp_path / "made" / layout
    if not folder.exists():
        save_layout(folder, layout)
    return Repository(name, {path.name: path.read_bytes() for path in folder.iterdir()}, **more)


def environment(server: Hub, home: Path, **more: str) -> dict[str, str]:
    """A user's machine: a cache of its own, and the way to the hub, which is read at import."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "MLFLOW_"))}
    place = {"HF_ENDPOINT": server.url, "HF_HOME": str(home), "XDG_CACHE_HOME": str(home), "PYTHONPATH": str(ROOT)}
    return inherited | place | {"MLFLOW_DISABLE_TELEMETRY": "true"} | more


def ask(server: Hub, home: Path, code: str, questions: Sequence[Sequence[str]], **more: str) -> list[Any]:
    """Run a script in a process of its own; its lines, read as JSON."""
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(questions)], env=environment(server, home, **more), cwd=home,
        capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_every_source_of_the_built_in_tasks_and_then_without_the_hub(tmp_path: Path) -> None:
    wanted = [
        ("cola", "train"), ("cola", "in_domain"), ("cola", "ood/cola_ood"), ("mnli", "train"), ("mnli", "in_domain"),
        ("mnli", "ood/hans"), ("mnli", "ood/mnli_mismatched"), ("rte", "train"), ("rte", "in_domain"),
        ("rte", "ood/hans"), ("sentiment", "train"), ("sentiment", "in_domain"), ("questions", "train"),
        ("questions", "in_domain"), ("qqp", "train"), ("qqp", "in_domain"), ("qqp", "ood/paws_qqp"),
    ]  # fmt: skip
    with serve([glue(), hans(), trec()]) as server:
        online = ask(server, tmp_path, READ, wanted)
        asked = len(server.asked)
        offline = ask(server, tmp_path, READ, wanted, HF_HUB_OFFLINE="1")
        assert len(server.asked) == asked
    assert [answer[0] for answer in online[:-1]] == [1043, 527, 516, 60, 20, 2, 22, 6, 8, 2, 2, 2, 6, 6, 6, 8]
    assert online[2][2:] == [[1, 0], 527]
    assert all(f"@ {GLUE}" in answer[1] for answer in online[:-1] if "glue" in answer[1])
    assert online[5][1] == f"jhu-cogsci/hans (validation) @ refs/convert/parquet ({'c' * 40})"
    assert online[5][2] == [1, 0]
    assert online[12][2] == [0, 2]
    assert "it is not on the hub; put paws_qqp/dev_and_test.tsv" in online[-1]
    assert offline == online


TASK_OF = """
import json, sys
from effft.config import make_config
from effft.tasks.from_data import task_from_data
from effft.tasks.loading import read_split
for name, test in json.loads(sys.argv[1]):
    task = task_from_data(make_config({"data": name, "test": test}))
    sizes = {split: len(read_split(task, split)) for split in task.split_names}
    print(json.dumps([task.name, task.fields, task.labels, sizes, task.train.sources[0].revision]))
"""


@pytest.mark.slow
def test_a_data_set_of_the_hub_is_a_task_by_its_name_alone(tmp_path: Path) -> None:
    reviews = data_set(
        "org/reviews", {"default": {"train": cola_split(60), "validation": cola_split(30)}}, {"main": "d" * 40}
    )
    rows = {"text": [f"about the dinner, evening {n}" for n in range(8)], "labels": [[1], [0, 1], [], [0]] * 2}
    kinds = {"text": datasets.Value("string"), "labels": datasets.List(datasets.ClassLabel(names=["price", "food"]))}
    out = io.BytesIO()
    datasets.Dataset.from_dict(rows, features=datasets.Features(kinds)).to_parquet(out)
    topics = data_set("org/topics", {"default": {"train": out.getvalue()}}, {"main": "c" * 40})
    two = data_set("org/two", {key: {"train": cola_split(6)} for key in ("de", "en")}, {"main": "b" * 40})
    asked = [("org/reviews", ""), ("hf://datasets/org/reviews@main", "org/reviews:train")]
    with serve([reviews, topics, two]) as server:
        answers = ask(server, tmp_path, TASK_OF, [*asked, ("org/reviews:validation", ""), ("org/topics", "")])
        ((several, _),) = ask(server, tmp_path, FETCH, [("org/two", "", "train", "")])
    assert "it has several configurations, ['de', 'en']; name one in a task file, as `config`" in several
    found = ["reviews", ["sentence"], ["acceptable", "unacceptable"]]
    assert answers == [
        [*found, {"train": 60, "in_domain": 30}, ""],
        [*found, {"train": 60, "in_domain": 60}, "main"],
        [*found, {"train": 30}, ""],  # which is not its own test
        ["topics", ["text"], ["food", "price"], {"train": 8}, ""],
    ]


@pytest.mark.slow
def test_lists_of_class_indices_become_lists_of_names(tmp_path: Path) -> None:
    texts = [f"a rather long text with number {number}" for number in range(12)]
    rows = parquet({"text": texts, "labels": [[0], [1], [0, 1], []] * 3}, ["joy", "fear"], "labels")
    with serve([data_set("org/moods", {"default": {"train": rows}}, {"main": "d" * 40})]) as server:
        ((_, _, labels, sizes, _),) = ask(server, tmp_path, TASK_OF, [("org/moods", "")])
    assert (labels, sizes) == (["fear", "joy"], {"train": 12})


FAULTY = {
    "org/cut": (Faults(cut=30_000), ""),
    "org/slow": (Faults(slow=0.3), ""),
    "org/stalls": (Faults(stall=3, once=True), ""),
    "org/hangs": (Faults(stall=3), "the connection broke off again and again; run the command again"),
    "org/busy-once": (Faults(status=429, once=True), ""),
    "org/storage-busy-once": (Faults(status=429, once=True, stored=True), ""),
    "org/busy": (Faults(status=429), "takes no more requests at the moment; wait some minutes, or give a token"),
    "org/storage-busy": (Faults(status=429, stored=True), "takes no more requests"),
    "org/unknown": (Faults(status=401), "knows no such name, or it is private; check the spelling, or give a token"),
    "org/forbidden": (Faults(status=403), "knows no such name, or it is private"),
    "org/absent": (Faults(status=404), "knows no such name"),
    "org/broken": (Faults(status=500), "has a fault of its own (status 500); try again later"),
    "org/storage-broken": (Faults(status=500, stored=True), "has a fault of its own (status 500)"),
    "org/corrupt": (Faults(corrupt=True), "was damaged on its way from the hub"),
    "org/gated": (None, "access to it is restricted; ask for it at http"),
}
"""Name of a repository -> its fault, and what the sentence says; '' where it ends in the right value."""


FOR_DATA = ("org/cut", "org/busy-once", "org/unknown", "org/broken", "org/corrupt", "org/gated")
"""Those that data are tested with: one after another, as `datasets` goes offline for the whole process."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_faults(kind: str, tmp_path: Path) -> None:
    """Each ends in the right value or in one sentence within a minute, and nothing half-written is believed later."""
    made = model(tmp_path, "org/good") if kind == "model" else replace(glue(), name="org/good")
    gated = {"gated": True, "token": "hf_tokenoftheuser000"}
    repositories = [
        replace(made, name=name, faults=replace(fault) if fault else None, **({} if fault else gated))
        for name, (fault, _) in FAULTY.items()
    ]
    home, rest = tmp_path / "home", ("",) if kind == "model" else ("cola", "train", "main")
    names = [name for name in FAULTY if kind == "model" or name in FOR_DATA]
    questions = [*((name, *rest) for name in names), ("org/cut", *rest[:-1], "v9")]
    with serve(repositories) as server:
        first = ask(server, home, FETCH, questions, HF_HUB_DOWNLOAD_TIMEOUT="1")
        for repository in repositories:
            repository.faults = None
        second = ask(server, home, FETCH, questions, HF_TOKEN=gated["token"])
    assert max(seconds for _, seconds in first) < 60
    for (name, *_), (value, seconds), (after, _) in zip(questions[:-1], first, second, strict=False):
        print(f"{name}: {seconds:.1f} s, {value}")
        said = FAULTY[name][1]
        good = kind == "model" and [
            after[0],
            ["config.json", "merges.txt", "model.safetensors", "tokenizer_config.json", "vocab.json"],
        ]
        assert after == (good or 1043), name
        assert (said in value and "\n" not in value) if said else value == after, name
    assert "it has no such revision; name another branch" in first[-1][0]
    assert second[-1][0] == first[-1][0]  # and no other revision is taken from the cache
    assert not [path for path in server.asked if "discussions" in path or "refs/pr" in path]


def commands(server: Hub, place: Path, *words: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """A command in a folder of its own, as a user types it."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    more = {"PATH": path, "GIT_PYTHON_REFRESH": "quiet", **more}
    return subprocess.run(
        [sys.executable, "-m", *words], env=environment(server, place / "home", **more), cwd=place,
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


QUICK = {"epochs": "1", "per_label": "4", "evaluation_limit": "20", "bootstrap": "0", "threads": "1"}


def flags(values: Mapping[str, str]) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]


def real_cola(folder: Path) -> dict[str, bytes]:
    """CoLA's own files as the hub's parquet."""
    splits = {}
    for split, name, header in (("train", "in_domain_train.tsv", False), ("validation", "glue_validation.tsv", True)):
        rows = [line.split("\t") for line in (folder / "cola" / name).read_text().splitlines()[header:]]
        columns = {"sentence": [row[-1] for row in rows], "label": [int(row[1]) for row in rows]}
        splits[split] = parquet(columns, ["unacceptable", "acceptable"])
    return splits


@pytest.mark.slow
def test_the_command_of_the_readme_through_mlflow(tmp_path: Path, shared: Path) -> None:
    for name in ("MLproject", "conda.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    words = ["mlflow", "run", ".", "-e", "lora", "--env-manager", "local"]
    for name, value in {"task": "cola", "model": "facebook/opt-125m", **QUICK}.items():
        words += ["-P", f"{name}={value}"]
    with serve([glue(real_cola(shared / "data")), model(tmp_path, "facebook/opt-125m")]) as server:
        done = commands(server, tmp_path, *words)
        assert done.returncode == 0, done.stderr
        again = ("effft", "run", "lora", "--task", "cola", "--model", "facebook/opt-125m", *flags(QUICK))
        repeated = commands(server, tmp_path, *again, HF_HUB_OFFLINE="1")
        assert repeated.returncode == 0, repeated.stderr
    assert re.search(
        r"effft: fetching [\d.]+ MB of facebook/opt-125m @ a{12} into \S+models--facebook--opt-125m", done.stderr
    )
    assert re.search(rf"effft: fetching [\d.]+ MB of nyu-mll/glue \(cola, train\) @ {GLUE} into \S+", done.stderr)
    assert "fetching" not in repeated.stderr
    assert "in_domain mcc" in done.stdout
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        assert store.execute("select value from params where key = 'model_commit'").fetchall() == [("a" * 40,)] * 2
        assert any(GLUE in source for (source,) in store.execute("select dataset_source from datasets"))
        values = store.execute("select value from latest_metrics where key = 'in_domain/mcc'").fetchall()
        assert values[0] == values[1]


def of_the_readme() -> list[list[str]]:
    """The README's commands that name a model or a task of the hub."""
    text = (ROOT / "README.md").read_text()
    found = re.findall(r"^(effft .*?)(?:  +#.*)?$", text, re.M) + re.findall(r"`(effft [^`]*)`", text)
    return [line.split() for line in found if re.search(r"facebook/|HuggingFaceTB/|cola|mnli", line)]


@pytest.mark.slow
def test_the_hub_commands_of_the_readme(tmp_path: Path) -> None:
    found = of_the_readme()
    assert [words[1] for words in found] == ["run", "estimate", "run"]
    (tmp_path / "reviews").mkdir()
    readme = (ROOT / "README.md").read_text()
    (tmp_path / "reviews" / "task.yaml").write_text(readme.split("```yaml\n")[1].split("```")[0])
    rows = "".join(f"a {('bad', 'good')[i % 2]} one {i},{('bad', 'good')[i % 2]}\n" for i in range(40))
    for name in ("train", "test", "books"):
        (tmp_path / "reviews" / f"{name}.csv").write_text("text,label\n" + rows.replace("one", name))
    (tmp_path / "reviews.csv").write_text("text,label\n" + rows)
    with_its_task_file = " ".join(found[-1]).replace("--data reviews.csv", "--task reviews/task.yaml").split()
    made = [model(tmp_path, f"facebook/opt-{size}") for size in ("125m", "1.3b")]  # which read 64 tokens
    with serve([glue(), hans(), *made, model(tmp_path, "HuggingFaceTB/SmolLM2-135M", "SmolLM2-135M")]) as server:
        for words in (*found, with_its_task_file):
            more = ["--per-label=4", "--strategies=vanilla,lora"] if words[1] == "estimate" else []
            more = [*flags(QUICK), "--no-tracking", "--cross-validation=none"] if words[1] == "run" else more
            done = commands(server, tmp_path, *words, *more)
            assert done.returncode == 0, (words, done.stderr)
            assert done.stdout


@pytest.mark.slow
def test_kind_8_an_adapter_and_its_base_from_the_hub_and_then_without_it(tmp_path: Path) -> None:
    base = model(tmp_path, "facebook/opt-125m")
    folder = save_adapter_of_peft(tmp_path / "adapter", tmp_path / "made" / "opt-125m")
    settings = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(settings | {"base_model_name_or_path": base.name}))
    adapter = Repository("org/adapter", {path.name: path.read_bytes() for path in folder.iterdir()})
    with serve([base, adapter]) as server:
        ((online, _),) = ask(server, tmp_path / "home", FETCH, [(adapter.name, "")])
        ((offline, _),) = ask(server, tmp_path / "home", FETCH, [(adapter.name, "")], HF_HUB_OFFLINE="1")
    with serve([adapter]) as server:
        ((alone, _),) = ask(server, tmp_path / "other", FETCH, [(adapter.name, "")])
    assert offline == online
    assert "model.safetensors" in online[1]
    assert "as the base of the adapter 'org/adapter' it is needed: write the folder or the hub id of its base" in alone


@pytest.mark.slow
def test_fetch_and_then_without_a_network(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(OWN)
    with serve([glue(), hans(), model(tmp_path, "facebook/opt-125m")]) as server:
        fetched = commands(server, tmp_path, "effft", "fetch", "mnli", "own.yaml", "--model", "facebook/opt-125m")
    assert fetched.returncode == 0, fetched.stderr
    assert f"mnli train: 60 examples of nyu-mll/glue (mnli, train) @ {GLUE}" in fetched.stdout
    assert (
        f"mnli ood/hans: 2 examples of jhu-cogsci/hans (validation) @ refs/convert/parquet ({'c' * 40})"
        in fetched.stdout
    )
    assert (
        "own ood/other: left out: task 'own', ood/other: org/absent (train) @ main could not be read" in fetched.stdout
    )
    assert f"facebook/opt-125m @ {'a' * 40}: {tmp_path / 'home' / 'effft' / 'converted'}" in fetched.stdout
    words = ("effft", "run", "probe", "--task", "own.yaml", "--model", "facebook/opt-125m", "--no-tracking")
    done = commands(server, tmp_path, *words, *flags(QUICK))  # the hub is gone
    assert done.returncode == 0, done.stderr
    assert "OOD set other is left out: task 'own', ood/other: " in done.stderr + done.stdout
    absent = commands(server, tmp_path, "effft", "run", "lora", "--model", "facebook/opt-350m", "--no-tracking")
    assert absent.returncode == 2
    assert "the hub is not reachable (or HF_HUB_OFFLINE is set), and it is not in the cache" in absent.stderr


OWN = """\
name: own
fields: [premise, hypothesis]
labels: [entailment, neutral, contradiction]
label_words: {entailment: " y", neutral: " n", contradiction: " q"}
patterns: {minimal: "{premise} {hypothesis} ?"}
train: {sources: [{hub: nyu-mll/glue, config: mnli, split: train}]}
in_domain: {sources: [{hub: nyu-mll/glue, config: mnli, split: validation_matched}]}
ood: {other: {sources: [{hub: org/absent}]}}
"""


CELLS = [("007", "1"), ("1.50", "0"), ("NA", "1"), ("1e3", "0"), ("true", "1")]
"""Texts that a library which guesses types would change, and labels."""
NUMBERS = """
fields: [text]
labels: ["0", "1"]
train: {hub: org/numbers}
in_domain: {hub: org/numbers, split: test}
ood:
  named: {hub: org/numbers, config: named, label: {column: kind}}
  address: {url: "ADDRESS/numbers.csv"}
  plain: {url: "ADDRESS/rows?file=numbers.txt"}
"""
TEXTS = """
import json, sys
from effft.tasks.loading import read_split
from effft.tasks.task import load_task
for split in json.loads(sys.argv[1]):
    examples = read_split(load_task("task.yaml"), split).examples
    print(json.dumps([[*example.texts, example.label] for example in examples]))
"""


@contextmanager
def secure_site(folder: Path) -> Iterator[tuple[str, Path]]:
    """A web server with https that serves the folder, and its certificate."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False)
    pem, secret = folder / "site.pem", folder / "site.key"
    pem.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, secret)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}", pem
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.slow
def test_kind_3_cells_are_the_text_in_the_file_wherever_it_lies(tmp_path: Path) -> None:
    site, texts = tmp_path / "site", [[text, int(label)] for text, label in CELLS]
    site.mkdir()
    lines = "".join(f"{text},{label}\n" for text, label in CELLS)
    (site / "numbers.csv").write_text("text,label\n" + lines)
    (site / "rows").write_text(("text,label\n" + lines).replace(",", "\t"))
    kinds = "text,label,kind\n" + "".join(f"{text},{label},{label}\n" for text, label in CELLS)
    readme = """---
configs:
- {config_name: default, data_files: [{split: train, path: [a.csv, b.csv]}, {split: test, path: c.csv}]}
- {config_name: named, data_files: [{split: train, path: d.tsv}]}
dataset_info:
- config_name: named
  features:
  - {name: text, dtype: string}
  - {name: label, dtype: string}
  - {name: kind, dtype: {class_label: {names: {"0": "1", "1": "0"}}}}
---
"""
    head = "text,label\n"
    cut = lines.index("NA")
    files = {"README.md": readme, "a.csv": head + lines[:cut], "b.csv": head + lines[cut:], "c.csv": head + lines}
    files["d.tsv"] = kinds.replace(",", "\t")
    splits = ["train", "in_domain", "ood/named", "ood/address", "ood/plain"]
    repository = Repository("org/numbers", {name: text.encode() for name, text in files.items()}, "dataset")
    with serve([repository]) as server, secure_site(site) as (address, certificate):
        home = tmp_path / "home"
        home.mkdir()
        (home / "task.yaml").write_text(NUMBERS.replace("ADDRESS", address))
        online = ask(server, home, TEXTS, splits, SSL_CERT_FILE=str(certificate))
    with serve([]) as server:
        offline = ask(server, home, TEXTS, splits, HF_HUB_OFFLINE="1")
    assert online == offline == [texts, texts, [[text, 1 - kind] for text, kind in texts], texts, texts]
