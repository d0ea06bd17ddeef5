"""Work off the runs of a comparison: checked before the first one trains, each tracked as a child of its task's run."""

import gc
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from effft.config import DATA_FIELDS, Amount, RunConfig, TrackingTarget
from effft.errors import InputError
from effft.garbage import leave_libraries_out
from effft.progress import ProgressCallback, say, silent
from effft.redaction import redact
from effft.runs.grid import ComparedRun
from effft.runs.runner import Runner, WorkerDiedError
from effft.tracking.tracker import Tracker, tracked
from effft.version import __version__

if TYPE_CHECKING:
    from effft.runs.experiment import Result
    from effft.runs.session import Session

log = logging.getLogger(__name__)

KEPT = ("name", "metrics", "primary", "ood", "notes", "tables")  # What a finished run's line holds of its `Result`.


@dataclass(frozen=True)
class Outcome:
    """One run of a comparison: its result, or why there is none. variant: name of its row where not the strategy."""

    config: RunConfig
    result: "Result | None"
    failure: str = ""
    variant: str = ""

    @property
    def row(self) -> str:
        """The name of its row in the table."""
        return self.variant or self.config.strategy


@dataclass(frozen=True)
class ParentRun:
    """What a worker process needs of a tracked run to open runs under it."""

    target: TrackingTarget
    experiment: str = ""
    experiment_id: str = ""
    run_id: str = ""

    @staticmethod
    def of(parent: Tracker, target: TrackingTarget) -> "ParentRun":
        """That of a tracker of this process."""
        if target.disabled:
            return ParentRun(target)
        from effft.tracking.mlflow_tracker import MlflowTracker

        assert isinstance(parent, MlflowTracker)
        return ParentRun(target, parent.home, parent.home_id, parent.run_id)

    def child(self, name: str, tags: Mapping[str, str]) -> Tracker:
        """A run under this one, as `Tracker.child`."""
        from effft.tracking import open_tracker

        if self.experiment_id:
            os.environ["MLFLOW_EXPERIMENT_ID"] = self.experiment_id
        return open_tracker(self.target, self.experiment, name, {**tags, "mlflow.parentRunId": self.run_id})


class ResultsFile:
    """The finished runs of a comparison, a JSON line each, so that the same command continues after an interruption.

    A line counts as long as configuration, data, weights and the version of effft are the same. `parents` holds the id
    of the tracked run of each task, `spent` the seconds until now of each round of seeds. None as path keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.results: dict[str, dict[str, Any]] = {}
        self.parents: dict[str, str] = {}
        self.spent: dict[str, float] = {}
        known: dict[str, dict[str, Any]] = {"results": self.results, "parents": self.parents, "spent": self.spent}
        lines = path.read_bytes().splitlines(keepends=True) if path and path.is_file() else []
        if path and lines and not lines[-1].endswith(b"\n"):  # a process was stopped while it wrote
            os.truncate(path, sum(map(len, lines[:-1])))
        for line in lines:
            with suppress(ValueError, KeyError, TypeError):  # a line that is damaged or cut is a run to do again
                entry = json.loads(line)
                known[entry["kind"]][entry["key"]] = entry["value"]

    def add(self, kind: Literal["results", "parents", "spent"], key: str, value: object) -> None:
        """Append a line; a disk that does not take it stops no run."""
        try:
            if self.path is not None:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"kind": kind, "key": key, "value": value}) + "\n")
        except OSError as error:
            log.warning("%s cannot be written (%s): an interruption would lose the finished runs.", self.path, error)
            self.path = None

    def remove(self) -> None:
        """The comparison is complete: nothing is left to continue."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def results_path(keys: Iterable[str]) -> Path:
    """Where an interrupted comparison keeps its finished runs: another content, another file."""
    return Path(f"effft-compare-{hashlib.sha256(' '.join(sorted(keys)).encode()).hexdigest()[:12]}.jsonl")


def content_key(run: ComparedRun, session: "Session") -> str:
    """16 hex digits over what the numbers of a run depend on; the places of files and models do not count."""
    config = run.config.model_dump_json(exclude={"model", "task", "data_dir", "allow_outside", *DATA_FIELDS})
    digests = session.task(run.config).name, session.task_digest(run.config), session.model_digest(run.config)
    return hashlib.sha256(repr((config, run.control, digests, __version__)).encode()).hexdigest()[:16]


class PlannedComparison:
    """The runs of a comparison, checked and ready; `outcomes` works them off.

    minutes: what they may take, 0 = no limit. Then they are made in rounds, all rows with the same seeds, and no round
    but the first begins that would not end in time; left_out: whether one did not.
    """

    left_out = False

    def __init__(
        self,
        runs: Sequence[ComparedRun],
        workers: int,
        session: "Session",
        progress: ProgressCallback = silent,
        minutes: float = 0.0,
    ) -> None:
        from effft.runs.controls import control_config
        from effft.runs.plan import prepare

        self.runs, self.workers, self.session, self.progress = list(runs), workers, session, progress
        self.minutes = minutes
        if minutes:
            self.runs.sort(key=_seeds)
        if workers > 1:
            self.runs = [replace(run, config=run.config.model_copy(update={"threads": 1})) for run in self.runs]
        self.tasks: dict[str, str] = {}
        self.keys: list[str] = []
        for done, run in enumerate(self.runs):
            progress("check", done, len(self.runs))
            try:
                plan = prepare(control_config(run.config, run.control, session), session)
            except InputError as error:
                raise InputError(f"{run.variant} at {Amount.of(vars(run.config)).phrase}: {error}") from error
            self.tasks[run.config.task] = plan.task.name
            self.keys.append(content_key(run, session))

    def announcement(self) -> str:
        """How many runs and trainings there are; with minutes, about how many of them fit."""
        from effft.strategies.strategy import compose

        trained = sum(compose(run.config.strategy).trains and run.control != "bag_of_words" for run in self.runs)
        text = f"{len(self.runs)} runs, {trained} of them trainings."
        if not self.minutes:
            return text
        from effft.runs.estimate import Skeletons, estimate

        skeletons, seconds, unknown = Skeletons(), 0.0, 0
        first, *others = [list(group) for _, group in groupby(self.runs, key=_seeds)]
        for run in first:
            try:
                one = estimate(run.config, skeletons)
                seconds += (one.train_seconds + one.evaluation_seconds) / self.workers
            except InputError:
                unknown += 1
        fit = min(1 + len(others), max(1, int(60 * self.minutes / max(seconds, 1e-3))))
        return (
            f"{text} {self.minutes:g} minutes: about {fit} of {1 + len(others)} rounds of seeds, as estimated "
            f"({seconds:.2g} s a round" + (f", without {unknown} runs that no estimate knows)." if unknown else ").")
        )

    @property
    def results_path(self) -> Path:
        """Where its finished runs are kept until all are."""
        return results_path(self.keys)

    def describe(self, task: str) -> tuple[str, dict[str, str], dict[str, object]]:
        """Name, tags and parameters of the tracked run of one task."""
        configs = [run.config for run in self.runs if run.config.task == task]
        names, models = (",".join(dict.fromkeys(getattr(c, field) for c in configs)) for field in ("strategy", "model"))
        seeds, data_seeds = len({config.seed for config in configs}), len({config.data_seed for config in configs})
        tags = {"task": self.tasks[task], "strategies": names, "backbone": models, "kind": "comparison"}
        params = {"runs": len(configs), "strategies": names, "seeds": seeds, "data_seeds": data_seeds}
        return f"compare {names}"[:200], tags, params

    def outcomes(
        self, parents: Mapping[str, Tracker], target: TrackingTarget, file: ResultsFile, on_run: ProgressCallback
    ) -> Iterator[tuple[int, Outcome]]:
        """Yield (place in `runs`, outcome) as the runs end; a run that fails does not stop the others.

        Args:
            parents: Task -> the tracker that the runs are children of.
            target: Where worker processes open these children themselves.
            file: Has the runs that are not run again, and gets those that end.
            on_run: Called with (name of a run, runs that are over, runs in all).
        """
        from effft.runs.experiment import Result

        waiting = []
        for place, (run, key) in enumerate(zip(self.runs, self.keys, strict=True)):
            if key in file.results:
                yield place, Outcome(run.config, Result(run.config, **file.results[key]), "", run.variant)
            else:
                waiting.append(place)
        runs, done = [self.runs[place] for place in waiting], len(self.runs) - len(waiting)
        if self.workers == 1:
            work = partial(measure, parents=parents, progress=self.progress)
        else:
            work = partial(measure, parents={task: ParentRun.of(p, target) for task, p in parents.items()})
        leave_libraries_out()
        began, before = time.monotonic(), max(file.spent.values(), default=0.0)

        def clock() -> float:
            return before + time.monotonic() - began

        with Runner(work, self.workers, self.session) as runner:
            on_run(runs[0].variant if runs else "", done, len(self.runs))
            for number, places in self._rounds(waiting, file, clock):
                for index, outcome in runner.as_completed([self.runs[place] for place in places]):
                    run, key = self.runs[places[index]], self.keys[places[index]]
                    if isinstance(outcome, WorkerDiedError):
                        outcome = Outcome(run.config, None, f"{run.variant}: {outcome}", run.variant)
                    elif outcome.result is not None:
                        file.add("results", key, {name: getattr(outcome.result, name) for name in KEPT})
                    if self.minutes:
                        file.add("spent", str(number), clock())
                    done += 1
                    on_run(self.runs[min(places[index] + 1, len(self.runs) - 1)].variant, done, len(self.runs))
                    yield places[index], outcome
        gc.unfreeze()

    def _rounds(
        self, waiting: Sequence[int], file: ResultsFile, clock: Callable[[], float]
    ) -> Iterator[tuple[int, list[int]]]:
        """Number and places of the runs to make: all at once; with minutes, of a pair of seeds as long as they fit."""
        if not self.minutes:
            yield 0, list(waiting)
            return
        ends = [0.0, *sorted(file.spent.values())]
        longest = max((end - start for start, end in pairwise(ends)), default=0.0)
        numbers = {seeds: number for number, (seeds, _) in enumerate(groupby(self.runs, key=_seeds))}
        for seeds, group in groupby(waiting, key=lambda place: _seeds(self.runs[place])):
            begun = str(numbers[seeds]) in file.spent  # by a process that did not end it
            start = ends[-2] if begun and numbers[seeds] == len(ends) - 2 else clock()
            if numbers[seeds] and not begun and start + longest > 60 * self.minutes:
                self.left_out, done = True, f"{numbers[seeds]} of {len(numbers)} rounds of seeds, in every row"
                say(f"the minutes are over after {done}; the same command goes on with more --minutes.")
                return
            yield numbers[seeds], list(group)
            longest = max(longest, clock() - start)


def _seeds(run: ComparedRun) -> tuple[int, int, int, int]:
    """What the runs of one round share."""
    config = run.config
    return config.data_seed, config.demo_seed or 0, config.order_seed or 0, config.seed


def measure(
    run: ComparedRun,
    session: "Session",
    parents: Mapping[str, Tracker | ParentRun],
    progress: ProgressCallback = silent,
) -> Outcome:
    """One run, tracked under the parent of its task; whatever goes wrong is a sentence in the outcome."""
    from effft.evaluation.metric_keys import ood_sets
    from effft.runs.controls import bag_of_words, control_config
    from effft.runs.experiment import Result, execute
    from effft.runs.plan import prepare

    name = run.variant
    try:
        plan = prepare(control_config(run.config, run.control, session), session)
        name, tags = plan.name, plan.tags
        if run.control:
            name = f"{run.variant} · {name.partition(' · ')[2]}"
            tags |= {"kind": "control", "control": run.control, "backbone": run.config.model}
        with tracked(parents[run.config.task].child(name, tags)) as child:
            if run.control == "bag_of_words":
                metrics = bag_of_words(plan)
                ood = ood_sets(metrics, plan.resolved.metric)
                result = Result(run.config, name, metrics, plan.resolved.metric, ood, ())
                child.params(plan.resolved.settings)
                child.metrics(metrics)
            else:
                result = execute(plan, child, progress)
                unlabelled = [name for name, split in plan.evaluated.items() if not split.labelled]
                answers = {s: {column: result.tables[s][column] for column in ("row", "answer")} for s in unlabelled}
                result = replace(result, config=run.config, name=name, tables=answers)
                child.tags(tags)  # of a control: execute wrote those of the plan
        return Outcome(run.config, result, "", run.variant)
    except Exception as error:
        sentence = redact(" ".join(str(error).split())) or "no message"
        return Outcome(run.config, None, f"{name}: {type(error).__name__}: {sentence}", run.variant)
