"""Who measures the trials of a study: this process, several, a Ray cluster, or a pack that shares its passes."""

from typing import TYPE_CHECKING

from effft.errors import InputError, lookup
from effft.search.jobs import Executor, InProcess, LocalProcesses
from effft.search.multi_adapter_executor import MultiAdapterExecutor

if TYPE_CHECKING:
    from effft.runs.plan import Plan
    from effft.runs.session import Session
    from effft.search.settings import StudyPlan

EXECUTORS = {
    "auto": "a pack where a short probe says that it pays, else one trial after another; processes with --workers",
    "processes": "one trial a process, `workers` of them (1: in this process)",
    "ray": "one trial a task of a Ray cluster, `workers` of them at a time",
    "packed": "LoRA or BitFit trials side by side over one backbone, `pack` of them",
}

ROUNDS = 4
"""A pack of automatic size is at most this part of the trials: what is asked side by side learns nothing of another."""


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
    size = pack_size(plan, session)
    if size > 1 and (settings.executor == "packed" or _pays(plan, session, size)):
        return MultiAdapterExecutor(session, size)
    return InProcess(session)


def pack_size(plan: "StudyPlan", session: "Session") -> int:
    """Members of the pack: as asked, or what memory and the number of trials allow; 1 where nothing can be packed."""
    from effft.multi_adapter.probe import bytes_each, room
    from effft.multi_adapter.runs import original, packable
    from effft.strategies.search_space import Choice

    settings, first = plan.settings, _first(plan, session)
    if not packable(first):
        return 1
    if settings.pack != "auto":
        return int(settings.pack)
    rank = plan.space.get("rank")
    highest = int(rank.high) if rank is not None and not isinstance(rank, Choice) else plan.config.rank or 8
    few = settings.trials // ROUNDS if settings.executor == "auto" else settings.trials
    return max(1, min(room(original(first), bytes_each(first, highest)), few))


def _pays(plan: "StudyPlan", session: "Session", size: int) -> bool:
    from effft.multi_adapter.probe import pays

    return pays(_first(plan, session), size)


def _first(plan: "StudyPlan", session: "Session") -> "Plan":
    """The default configuration, as a trial would have it."""
    from effft.runs.plan import prepare_validation

    unit = plan.units({}, plan.config.seed, 1)[0]
    return prepare_validation(unit.config, session, unit.fold)
