"""Who measures the trials of a study: this process, several, a Ray cluster, or shared passes."""

from typing import TYPE_CHECKING

from effft.errors import InputError, lookup
from effft.search.jobs import Executor, InProcess, LocalProcesses
from effft.search.multi_adapter_executor import MultiAdapterExecutor

if TYPE_CHECKING:
    from effft.runs.plan import Plan
    from effft.runs.session import Session
    from effft.search.settings import StudyPlan

EXECUTORS = {
    "auto": "one trial after another; processes with --workers",
    "processes": "one trial a process, `workers` of them (1: in this process)",
    "ray": "one trial a task of a Ray cluster, `workers` of them at a time",
    "packed": "LoRA or BitFit trials that share the passes over one backbone, `pack` of them",
}

PACK = 8
"""Trials of `--pack auto`; where memory runs short, half as many go on."""


def check_executor(name: str, workers: int, pack: str) -> None:
    """Unknown names, sizes that are none, and what cannot go together are InputErrors."""
    lookup("executor", name, EXECUTORS)
    if pack != "auto" and not (pack.isdecimal() and int(pack) >= 1):
        raise InputError(f"pack={pack}: must be auto or a whole number, at least 1 (flag --pack).")
    if name == "packed" and workers > 1:
        raise InputError(
            f"executor=packed works in one process, so workers={workers} cannot be; give --executor processes, or "
            "leave --workers out."
        )


def open_executor(plan: "StudyPlan", session: "Session") -> Executor:
    """The executor of a study, as its settings ask.

    Raises:
        InputError: the cluster cannot be joined, or lacks what is asked.
    """
    settings = plan.settings
    if settings.executor == "ray":
        from effft.search.ray_executor import RayTasks

        return RayTasks(settings.workers, settings.ray_address, settings.ray_gpus, session)
    if settings.workers > 1:
        return LocalProcesses(settings.workers)
    if settings.executor == "processes":
        return InProcess(session)
    if settings.executor == "packed" and (size := pack_size(plan, session)) > 1:
        return MultiAdapterExecutor(session, size)
    return InProcess(session)


def pack_size(plan: "StudyPlan", session: "Session") -> int:
    """Trials that share their passes, at most; 1 where the strategy's cannot."""
    from effft.multi_adapter.runs import can_share_passes

    if not can_share_passes(_first(plan, session)):
        return 1
    return min(PACK if plan.settings.pack == "auto" else int(plan.settings.pack), plan.settings.trials)


def _first(plan: "StudyPlan", session: "Session") -> "Plan":
    """The default configuration, as a trial would have it."""
    from effft.runs.plan import prepare_validation

    unit = plan.units({}, plan.config.seed, 1)[0]
    return prepare_validation(unit.config, session, unit.fold)
