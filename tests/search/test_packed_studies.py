"""Studies by the packed executor, and when it is taken."""

from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from backbones import save_backbone
from optuna.trial import TrialState

from effft.cli.exit_codes import run_command_line
from effft.runs.session import Session
from effft.search.executors import open_executor
from effft.search.multi_adapter_executor import MultiAdapterExecutor
from effft.search.planning import plan_study
from effft.search.settings import Settings, StudyPlan

Values = list[tuple[dict[str, object], list[float] | None, TrialState]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_backbone(tmp_path_factory.mktemp("llama"), "llama"))


def study(tmp_path: Path, name: str, tracking_uri: str, words: str) -> Values:
    common = "search --model tiny-lm --trials 6 --per-label 16 --folds 2 --reseeds 1 --seeds 1 --evaluation-limit 8"
    common += f" --epochs 2:6 --bootstrap 0 --storage sqlite:///{tmp_path}/{name}.db --tracking-uri {tracking_uri} "
    assert run_command_line((common + words).split()) == 0
    (known,) = optuna.get_all_study_names(f"sqlite:///{tmp_path}/{name}.db")
    trials = optuna.load_study(study_name=known, storage=f"sqlite:///{tmp_path}/{name}.db").trials
    return [(t.params, t.values, t.state) for t in trials]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_same_trials_have_the_same_values(tracking_uri: str, tmp_path: Path) -> None:
    """What is asked does not depend on what was told (random, no pruner), so both executors see the same trials."""
    words = "--sampler random --pruner none --executor "
    packed = study(tmp_path, "packed", tracking_uri, words + "packed --pack 4")
    alone = study(tmp_path, "alone", tracking_uri, words + "processes")
    assert [params for params, _, _ in packed] == [params for params, _, _ in alone]
    found, wanted = ([values[0] for _, values, _ in trials if values] for trials in (packed, alone))
    assert found == pytest.approx(wanted)
    assert len(set(found)) > 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_packed_study_is_the_same_study_twice(tracking_uri: str, tmp_path: Path) -> None:
    words = "--executor packed --pack 3 --sampler tpe"
    one = study(tmp_path, "one", tracking_uri, words)
    assert one == study(tmp_path, "two", tracking_uri, words)
    assert sum(state == TrialState.COMPLETE for _, _, state in one) == 6
    assert {state for _, _, state in one} <= {TrialState.COMPLETE, TrialState.PRUNED}


def plan(folder: str, session: Session, strategy: str = "lora", **changes: object) -> StudyPlan:
    values = {"model": folder, "strategy": strategy, "per_label": "8", "precision": "fp32", "threads": "1"}
    settings = replace(Settings(trials=20, folds=2), **changes)  # type: ignore[arg-type]
    return plan_study(values, {}, settings, "", session)


@pytest.mark.parametrize(
    ("strategy", "changes", "width"),
    [
        ("lora", {}, 1),
        ("lora", {"executor": "processes"}, 1),
        ("lora", {"executor": "packed"}, 8),
        ("bitfit", {"executor": "packed", "pack": "3"}, 3),
        ("vanilla", {"executor": "packed"}, 1),
        ("probe", {"executor": "packed"}, 1),
    ],
)
def test_trials_are_packed_only_when_asked_for(
    folder: str, strategy: str, changes: dict[str, object], width: int
) -> None:
    session = Session()
    executor = open_executor(plan(folder, session, strategy, **changes), session)
    assert executor.width == width
    assert isinstance(executor, MultiAdapterExecutor) == (width > 1)
