"""Studies by the packed executor, and when it is taken."""

from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import torch
from backbones import save_backbone
from optuna.trial import TrialState

from effft.cli.exit_codes import run_command_line
from effft.multi_adapter import probe
from effft.runs.session import Session
from effft.search.executors import open_executor
from effft.search.jobs import InProcess
from effft.search.multi_adapter_executor import MultiAdapterExecutor
from effft.search.settings import Settings, StudyPlan
from effft.search.study import plan_study

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


def test_a_pack_is_taken_where_it_pays_or_is_asked_for(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    session, gains = Session(), [3.0, 0.5]
    monkeypatch.setattr(probe, "measured_gain", lambda *_: gains.pop(0))
    auto = open_executor(plan(folder, session), session)
    assert isinstance(auto, MultiAdapterExecutor)
    assert auto.width == 5  # a quarter of the trials
    assert isinstance(
        open_executor(plan(folder, session), session), MultiAdapterExecutor
    )  # remembered, though the next says no
    assert isinstance(open_executor(plan(folder, session, trials=24), session), InProcess)  # another size
    assert isinstance(open_executor(plan(folder, session, trials=7), session), InProcess)  # a pack of one
    asked = open_executor(plan(folder, session, executor="packed", pack="3"), session)
    assert (isinstance(asked, MultiAdapterExecutor), asked.width) == (True, 3)
    assert open_executor(plan(folder, session, executor="packed"), session).width == probe.MOST["cpu"]
    for strategy in ("vanilla", "adaptive", "probe"):
        assert isinstance(open_executor(plan(folder, session, strategy, executor="packed"), session), InProcess)
    assert isinstance(open_executor(plan(folder, session, executor="processes"), session), InProcess)
    assert gains == []


def test_memory_bounds_the_pack(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session()
    known = plan(folder, session, executor="packed")
    rank = int(known.space["rank"].high)  # type: ignore[union-attr]
    backbone = session.pristine_backbone(known.config, False)
    each = 4 * 4 * 3 * rank * sum(sum(layer.weight.shape) for layer in linear_maps(backbone.layout.blocks[0]))
    for free, width in ((each * 4 * 3 + 1, 3), (each * 4, 1), (1 << 40, 8)):
        monkeypatch.setattr(probe.psutil, "virtual_memory", lambda free=free: Memory(free))
        assert open_executor(known, session).width == width


class Memory:
    def __init__(self, available: int) -> None:
        self.available = available


def linear_maps(block: object) -> list[torch.nn.Linear]:
    return [m for m in block.modules() if isinstance(m, torch.nn.Linear)]  # type: ignore[attr-defined]


def test_the_probe_measures(folder: str) -> None:
    from effft.runs.plan import prepare_validation

    session = Session()
    known = plan(folder, session)
    for strategy, more in (("lora", {}), ("context_distillation", {"teacher_shots": 4})):
        config = known.config.model_copy(update={"strategy": strategy, "batch_size": 4, **more})
        assert probe.measured_gain(prepare_validation(config, session), 3) > 0
