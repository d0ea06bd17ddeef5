"""The packed executor measures what lone runs measure, whatever its jobs are."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from backbones import save_backbone

from effft.config import RunConfig
from effft.runs.session import Session
from effft.search.jobs import REPORTED_RESOURCES, JobResult, TrainingJob, measure
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


def alone(session: Session, asked: Sequence[TrainingJob]) -> list[JobResult]:
    return [measure(job, session) for job in asked]


def results(executor: MultiAdapterExecutor, asked: Sequence[TrainingJob]) -> list[JobResult]:
    for index, job in enumerate(asked):
        executor.submit(index, job)
    ended = dict(executor.next_result() for _ in asked)
    return [ended[index] for index in range(len(asked))]


@contextmanager
def failing(session: Session, job: TrainingJob, error: Exception, times: int) -> Iterator[None]:
    """While open, the first passes over the session's backbone fail."""
    left = [error] * times

    def fail(*_: object) -> None:
        if left:
            raise left.pop()

    handle = session.pristine_backbone(job.config, False).body.register_forward_pre_hook(fail)
    try:
        yield
    finally:
        handle.remove()


@pytest.mark.slow
def test_lora_among_others(folder: str, session: Session) -> None:
    """Three places for four packed units; vanilla and adaptive ones between them; one that cannot be."""
    mixed = units(folder)
    short = {**SMALL, "epochs": 2}
    mixed.insert(1, TrainingJob(RunConfig(strategy="vanilla", model=folder, **short)))
    mixed.insert(3, TrainingJob(RunConfig(strategy="adaptive", layers=1, model=folder, **short), (0, 4, 0)))
    mixed.append(TrainingJob(RunConfig(strategy="lora", rank=4096, model=folder, **short)))
    wanted = alone(session, mixed)
    executor = MultiAdapterExecutor(session, 3)
    found = results(executor, mixed)
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
    wanted, found = alone(session, asked), results(MultiAdapterExecutor(session, 4), asked)
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
    wanted, found = alone(session, asked), results(MultiAdapterExecutor(session, 4), asked)
    assert "lower --learning-rate" in wanted[1].failure
    assert [one.failure for one in found] == [one.failure for one in wanted]
    assert [one.value for one in found] == pytest.approx([one.value for one in wanted], nan_ok=True)


@pytest.mark.slow
def test_where_memory_is_short_half_as_many_go_on(folder: str, session: Session) -> None:
    """Passes are halved from 2,048 tokens to one example, then the trials: all start again, two at a time."""
    asked = units(folder)
    wanted = alone(session, asked)
    with failing(session, asked[0], torch.OutOfMemoryError("made up"), 9):
        found = results(MultiAdapterExecutor(session, 4), asked)
    assert [one.value for one in found] == pytest.approx([one.value for one in wanted])
    assert max(one.resources["pack"] for one in found) <= 2


@pytest.mark.slow
def test_a_trial_without_room_for_itself_alone_fails(folder: str, session: Session) -> None:
    asked = units(folder)
    with failing(session, asked[0], torch.OutOfMemoryError("made up"), 1000):
        found = results(MultiAdapterExecutor(session, 4), asked)
    assert all("memory is short even for one example" in one.failure for one in found)


@pytest.mark.slow
def test_packing_that_does_not_work_is_given_up(folder: str, session: Session) -> None:
    asked = units(folder)
    wanted = alone(session, asked)
    with failing(session, asked[0], ValueError("a map was called in a way of its own"), 1):
        assert [one.value for one in results(MultiAdapterExecutor(session, 4), asked)] == [one.value for one in wanted]
