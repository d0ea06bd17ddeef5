"""A study on several workers."""

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from effft.cli.exit_codes import run_command_line


@pytest.mark.slow
def test_a_whole_study_on_two_workers_is_the_same_study_twice(tracking_uri: str, tmp_path: Path) -> None:
    def study(name: str) -> list[tuple[dict[str, object], list[float]]]:
        words = "search --trials 5 --per-label 4 --folds 2 --reseeds 1 --seeds 1 --evaluation-limit 8 --epochs 1"
        words += f" --steps 1 --bootstrap 0 --workers 2 --storage sqlite:///{tmp_path}/{name}.db"
        assert run_command_line([*words.split(), "--tracking-uri", tracking_uri]) == 0
        (known,) = optuna.get_all_study_names(f"sqlite:///{tmp_path}/{name}.db")
        trials = optuna.load_study(study_name=known, storage=f"sqlite:///{tmp_path}/{name}.db").trials
        assert sum(t.state == TrialState.COMPLETE for t in trials) == 5
        return [(t.params, t.values) for t in trials if t.values]

    assert study("one") == study("two")
