"""The command that makes the reference report again: what it runs, and what it leaves."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from effft.cli.exit_codes import run_command_line
from effft.cli.reference_report import Grid, readme, remake, said

USUAL = {p.name: p.default for p in remake.params if p.name in Grid.__dataclass_fields__}


def test_it_runs_every_task_and_then_the_curve() -> None:
    grid = Grid(**{**USUAL, "strengths": "0.5, 0"})  # type: ignore[arg-type]
    assert [task for task, _ in grid.comparisons] == ["agreement", "overlap", "overlap", "overlap"]
    assert "--strategies" not in grid.comparisons[0][1]
    assert " ".join(grid.comparisons[-1][1]).endswith(
        "--per-label 32 --strategies vanilla,pbft,lora --overlap-strength 0"
    )
    assert said(grid) == "python -m reports --strengths '0.5, 0'"
    assert "python -m reports --strengths" in readme(grid, ["agreement"], said(grid), 92, 7.0, 2)
    assert said(Grid(**USUAL)) == "python -m reports"  # type: ignore[arg-type]
    assert len(Grid(**{**USUAL, "tasks": "agreement"}).comparisons) == 1  # type: ignore[arg-type]


def test_bad_input_leaves_no_run(tracking_uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["reference-report", "--tasks", "agrement"]) == 2
    assert "Did you mean 'agreement'" in capsys.readouterr().err
    assert MlflowClient(tracking_uri).search_runs(["0"]) == []


@pytest.mark.slow
def test_it_leaves_pages_and_a_folder_to_commit(
    tracking_uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "kept" / "agreement" / "old.svg"
    old.parent.mkdir(parents=True)
    old.write_text("")
    words = "--tasks agreement --strategies probe,zero_shot --per-label 4 --seeds 1 --data-seeds 1".split()
    words += ["--evaluation-limit", "20", "--out", "kept", "--tracking-uri", tracking_uri]
    assert run_command_line(["reference-report", *words]) == 0
    assert "report of 2 runs: report-agreement/report.html" in capsys.readouterr().out
    assert (tmp_path / "report-agreement" / "report.html").is_file()
    names = {path.name for path in (tmp_path / "kept" / "agreement").iterdir()}
    pictures = {"overview-tiny-lm-4.svg", "cost-tiny-lm-peak-memory-bytes.svg"}
    assert names == {"report.md", "results.csv", "differences.csv", *pictures}
    assert "2 runs on `tiny-lm`: probe,zero_shot" in (tmp_path / "kept" / "README.md").read_text()
    client = MlflowClient(tracking_uri)
    home = client.get_experiment_by_name("effft/agreement")
    assert home is not None
    runs = client.search_runs([home.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert [run.info.run_name for run in runs if "kind" in run.data.tags] == ["compare probe,zero_shot"]
