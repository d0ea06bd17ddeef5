"""The packed executor measures what the one in process measures, whatever its units are."""

import pytest
import torch
from backbones import save_backbone

from effft.config import RunConfig
from effft.multi_adapter.runs import MultiAdapterRuns
from effft.multi_adapter.trainer import MultiAdapterTrainer
from effft.runs.session import Session
from effft.search.jobs import REPORTED_RESOURCES, InProcess, TrainingJob
from effft.search.multi_adapter_executor import MultiAdapterExecutor

SMALL = {"per_label": 8, "bootstrap": 0, "precision": "fp32", "max_length": 16, "threads": 1}
SEARCHED: tuple[dict[str, object], ...] = (
    {"rank": 2, "alpha": 4.0, "learning_rate": 0.03, "batch_size": 4, "epochs": 4},
    {"rank": 8, "alpha": 8.0, "learning_rate": 0.01, "batch_size": 8, "epochs": 6, "lora_modules": "all", "seed": 1},
    {"rank": 4, "alpha": 1.0, "learning_rate": 0.02, "batch_size": 3, "epochs": 2, "weight_decay": 0.1, "seed": 2},
    {"rank": 1, "alpha": 2.0, "learning_rate": 0.05, "batch_size": 16, "epochs": 8, "warmup": 0.3, "seed": 3},
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_backbone(tmp_path_factory.mktemp("gpt2"), "gpt2"))


@pytest.fixture
def session() -> Session:
    return Session()


def units(folder: str, strategy: str = "lora", **more: object) -> list[TrainingJob]:
    """Four of a search, each on another fold."""
    bars = more.pop("epoch_thresholds", None)
    configs = [RunConfig(strategy=strategy, model=folder, **{**SMALL, **values, **more}) for values in SEARCHED]
    return [TrainingJob(config, (fold, 4, 0), bars) for fold, config in enumerate(configs)]  # type: ignore[arg-type]


@pytest.mark.slow
def test_lora_among_others(folder: str, session: Session) -> None:
    """Three places for four packed units; vanilla and adaptive ones between them; one that cannot be."""
    mixed = units(folder)
    short = {**SMALL, "epochs": 2}
    mixed.insert(1, TrainingJob(RunConfig(strategy="vanilla", model=folder, **short)))
    mixed.insert(3, TrainingJob(RunConfig(strategy="adaptive", layers=1, model=folder, **short), (0, 4, 0)))
    mixed.append(TrainingJob(RunConfig(strategy="lora", rank=4096, model=folder, **short)))
    wanted = InProcess(session).run(mixed)
    executor = MultiAdapterExecutor(session, 3)
    found = executor.run(mixed)
    for one, other in zip(found, wanted, strict=True):
        assert one.failure == other.failure
        assert one.value == pytest.approx(other.value, abs=1e-12, nan_ok=True)
        for name in other.resources:
            assert name in one.resources
        assert one.resources.get("trainable_parameters") == other.resources.get("trainable_parameters")
    assert "rank=4096" in found[-1].failure
    assert [set(one.resources) - set(REPORTED_RESOURCES) for one in found[:2]] == [{"pack"}, set()]
    assert 1 < found[0].resources["pack"] <= 3
    executor.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "more"),
    [
        ("lora", {}),
        ("lora+pbft", {"selection": "validation", "patience": 1}),
        ("context_distillation", {"teacher_shots": 4, "unlabelled": 5}),
        ("lora", {"epoch_thresholds": (0.1, 0.2, 0.5, 0.7)}),
        ("lora", {"epoch_thresholds": (0.1, 0.2, 0.5, 0.7), "selection": "validation"}),
    ],
)
def test_what_decides_a_trial_is_the_same(session: Session, strategy: str, more: dict[str, object]) -> None:
    """On a model that learns the task, so that the scores differ: the last epoch, the best one, and bars."""
    asked = units("tiny-lm", strategy, per_label=16, max_length=64, **more)
    wanted, found = InProcess(session).run(asked), MultiAdapterExecutor(session, 4).run(asked)
    assert [one.failure for one in wanted] == [""] * 4
    assert len({one.value for one in wanted}) > 1
    assert {one.stopped for one in wanted} == ({True, False} if "epoch_thresholds" in more else {False})
    for one, other in zip(found, wanted, strict=True):
        assert one.value == pytest.approx(other.value, abs=1e-12)
        assert one.curve == pytest.approx(other.curve, abs=1e-12)
        assert one.stopped == other.stopped


@pytest.mark.slow
def test_a_trial_that_diverges_fails_alone(folder: str, session: Session) -> None:
    asked = units(folder)
    asked[1] = TrainingJob(asked[1].config.model_copy(update={"learning_rate": 1e30, "clip_norm": 0.0}), asked[1].fold)
    wanted, found = InProcess(session).run(asked), MultiAdapterExecutor(session, 4).run(asked)
    assert "lower --learning-rate" in wanted[1].failure
    assert [one.failure for one in found] == [one.failure for one in wanted]
    assert [one.value for one in found] == pytest.approx([one.value for one in wanted], nan_ok=True)


@pytest.mark.slow
def test_where_memory_is_short_the_pack_is_halved(
    folder: str, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, real, crowds = units(folder), MultiAdapterTrainer.step, []
    wanted = [one.value for one in InProcess(session).run(asked)]

    def short(pack: MultiAdapterTrainer) -> object:
        crowds.append(len(pack.members))
        if len(pack.members) > 2:
            raise torch.OutOfMemoryError("made up")
        return real(pack)

    monkeypatch.setattr(MultiAdapterTrainer, "step", short)
    assert [one.value for one in MultiAdapterExecutor(session, 4).run(asked)] == pytest.approx(wanted)
    assert crowds[0] == 4
    assert set(crowds[1:]) <= {1, 2}


@pytest.mark.slow
def test_a_trial_without_room_for_itself_alone_fails(
    folder: str, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(_pack: MultiAdapterTrainer) -> object:
        raise torch.OutOfMemoryError("made up")

    monkeypatch.setattr(MultiAdapterTrainer, "step", short)
    found = MultiAdapterExecutor(session, 4).run(units(folder))
    assert all("made up" in one.failure for one in found)


@pytest.mark.slow
def test_a_pack_that_cannot_work_is_given_up(folder: str, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_runs: MultiAdapterRuns) -> object:
        raise ValueError("a map was called in a way of its own")

    monkeypatch.setattr(MultiAdapterRuns, "_step", broken)
    asked = units(folder)
    assert [one.value for one in MultiAdapterExecutor(session, 4).run(asked)] == [
        one.value for one in InProcess(session).run(asked)
    ]
