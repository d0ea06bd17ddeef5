"""The files of deploy/: read by what will read them, or by their grammar where that is not here."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from mlflow.projects import _parse_kubernetes_config

from effft.cli.search import search

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def options(command: object) -> set[str]:
    return {name for option in command.params for name in option.opts}  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", sorted((DEPLOY / "slurm").glob("*.sbatch")), ids=lambda path: path.name)
def test_batch_scripts_parse(path: Path) -> None:
    subprocess.run(["bash", "-n", str(path)], check=True)
    lines = path.read_text().splitlines()
    told = [i for i, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert lines[0] == "#!/bin/bash"
    assert max(told) < lines.index("set -euo pipefail"), "Slurm reads no #SBATCH after the first command"


def test_the_array_runs_the_search_that_there_is(tmp_path: Path) -> None:
    fake = tmp_path / "srun"
    fake.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    given = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_CPUS_PER_TASK": "8", "PATH": f"{tmp_path}:/usr/bin:/bin"}
    urls = {"EFFFT_STORAGE": "postgresql://me@db/studies", "MLFLOW_TRACKING_URI": "http://mlflow:5000"}
    script = ["bash", str(DEPLOY / "slurm" / "search.sbatch"), "--trials", "40"]
    done = subprocess.run(script, env=given | urls, capture_output=True, text=True, check=True)
    words = done.stdout.split()
    assert words[words.index("--strategy") + 1] == "lora"
    assert {word for word in words[5:] if word.startswith("--")} <= options(search)
    without = subprocess.run(script, env=given, capture_output=True, text=True, check=False)
    assert without.returncode != 0
    assert "EFFFT_STORAGE: the database of the studies" in without.stderr


def test_the_ray_job_has_what_kuberay_requires() -> None:
    job = yaml.safe_load((DEPLOY / "ray" / "rayjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    assert all(group["template"]["spec"]["containers"][0]["image"] for group in groups)
    assert all("rayStartParams" in group for group in groups)
    shell, flag, line = shlex.split(job["spec"]["entrypoint"])
    assert (shell, flag) == ("bash", "-c")
    assert line.startswith("python -m effft search --strategy lora")


def test_mlflow_takes_the_kubernetes_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for name in ("kubernetes", "kubernetes.config", "kubernetes.config.config_exception"):  # the client is not needed
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["kubernetes.config.config_exception"].ConfigException = Exception  # type: ignore[attr-defined]
    from mlflow.projects.kubernetes import _get_kubernetes_job_definition

    parsed = _parse_kubernetes_config(json.loads((DEPLOY / "kubernetes" / "backend.json").read_text()))
    job = _get_kubernetes_job_definition(
        "effft", parsed["repository-uri"], "sha256:0", ["python", "-m", "effft"], {"MLFLOW_RUN_ID": "1"},
        parsed["kube-job-template"],
    )  # fmt: skip
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example/effft@sha256:0"
    assert [entry["name"] for entry in container["env"]] == ["PGPASSWORD", "MLFLOW_RUN_ID"]
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"


def test_one_edited_line_runs_the_project_in_an_image() -> None:
    """The recipe of docs/scale.md: one line of MLproject names the image."""
    image = "docker_env: {image: registry.example/effft:1}"
    text = re.sub("^conda_env:.*", image, (ROOT / "MLproject").read_text(), flags=re.M)
    project = yaml.safe_load(text)
    assert project["docker_env"] == {"image": "registry.example/effft:1"}
    assert "conda_env" not in project


def test_the_image_is_made_of_what_the_repository_has() -> None:
    lines = [line for line in (DEPLOY / "kubernetes" / "Dockerfile").read_text().splitlines() if line]
    words = [line.split() for line in lines if not line.startswith("#")]
    assert words[0][0] == "FROM"
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", words[0][1])
    assert {line[0] for line in words} <= {"FROM", "ENV", "WORKDIR", "COPY", "RUN", "USER", "CMD"}
    copied = [word for line in words if line[0] == "COPY" for word in line[1:-1]]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert words[-3][0] == "USER", "not as root"
    json.loads(" ".join(words[-1][1:]))


def test_accelerate_reads_its_files() -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    for path in sorted((DEPLOY / "accelerate").glob("*.yaml")):
        assert load_config_from_file(str(path)).num_processes == 2
