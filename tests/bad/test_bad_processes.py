"""Bad input as a user meets it, in processes: nothing on stdout, one line on stderr, exit code 2, no store."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from backbones import save_backbone
from case import Case, lay

ROOT = Path(__file__).parents[2]
CASES = [
    (Case("a key", task=("name: mood", "name: mood\nmetrik: mcc"), says=()), [], "Did you mean 'metric'?"),
    (Case("data", files={"train.csv": b"text,label\na\xff,b\n"}, says=()), [], "line 2: no UTF-8 text"),
    (Case("a number", says=()), ["--epochs", "nan"], "epochs=nan: must be a whole number (flag --epochs)"),
    (Case("a model", says=()), ["--model", "nobody/nothing"], "give a downloaded folder with --model FOLDER"),
    (Case("a store", says=()), ["--tracking-uri", "sqlite:///nowhere/x.db"], "(flag --tracking-uri)"),
]


def seconds() -> float:
    """Processor time of the children that have ended: imports, mostly. A busy machine does not stretch it."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.slow
@pytest.mark.parametrize(("case", "more", "said"), CASES, ids=lambda value: getattr(value, "name", ""))
def test_a_process_ends_so(case: Case, more: list[str], said: str, tmp_path: Path) -> None:
    task = lay(tmp_path, case)
    model = save_backbone(tmp_path / "llama", "llama")
    words = ["-m", "effft", "run", "vanilla", "--task", str(task), "--model", str(model), "--per-label", "2", *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    before = seconds()
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
    spent = seconds() - before
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.startswith("effft: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("mlflow.db*"))
    assert spent < 5
