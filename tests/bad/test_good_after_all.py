"""Input that looks bad and is not: it runs, and what was done about it is said."""

from pathlib import Path

import pytest
from backbones import save_backbone
from case import TRAIN, Case, lay

from effft.config import make_config
from effft.runs.experiment import run
from effft.runs.session import Session
from effft.tracking.tracker import MemoryTracker

LONG = "old cat sees dogs . " * 5000
CASES = [
    (
        Case("100 kB of text", (), files={"test.csv": f"kind,text,label\na,{LONG},bad\nb,see dog,good\n"}),
        "lost their end",
    ),
    (
        Case("a train text in the OOD set", (), files={"sub/tweets.jsonl": '{"body": "the cat", "mood": 1}'}),
        "stand in train",
    ),
    (Case("a byte order mark and Windows lines", (), files={"train.csv": "\ufeff" + TRAIN.replace("\n", "\r\n")}), ""),
]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "gpt2"])  # gpt2 has no pad token
@pytest.mark.parametrize(("case", "said"), CASES, ids=lambda value: getattr(value, "name", ""))
def test_it_runs(case: Case, said: str, kind: str, tmp_path: Path) -> None:
    task = lay(tmp_path, case)
    model = save_backbone(tmp_path / kind, kind)
    values = {"task": str(task), "model": str(model), "per_label": 2, "epochs": 1, "bootstrap": 0, "strategy": "probe"}
    result = run(make_config(values), MemoryTracker(), Session(keep=False))
    assert result.metrics["in_domain/examples"] == 2
    assert said in "\n".join(result.notes)
