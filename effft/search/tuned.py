"""A comparison of tuned strategies: a study for every row under one budget, then the winners on held-out seeds."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path

from effft.config import Amount, TrackingTarget, make_config
from effft.errors import EffftError, InputError
from effft.evaluation.metric_keys import ood_sets
from effft.progress import ProgressCallback
from effft.runs.compare import Outcome, PlannedComparison, ResultsFile, results_path
from effft.runs.comparison_file import Comparison, told_apart
from effft.runs.experiment import Result
from effft.runs.grid import ComparedRun, Grid, RunRow
from effft.runs.session import Session
from effft.search.finals import Final
from effft.search.planning import NothingToSearchError, plan_study, split_searched
from effft.search.settings import CROSS_VALIDATED_FROM, FOLDS, HELD_OUT_SEED_OFFSET, Settings, StudyPlan
from effft.search.study import run_study
from effft.tracking.tracker import Tracker

STORAGE = "sqlite:///optuna.db"


class TunedComparison:
    """The studies of a comparison, checked and ready; rows with nothing to search are run as they are.

    A setting of the comparison that is part of a strategy's search space fixes it. print_line: called with lines about
    the studies. minutes: what all of it may take, in equal parts for every study and for what is not tuned; 0 = no
    limit. workers: trials, and runs of what is not tuned, at the same time.
    """

    def __init__(
        self,
        comparison: Comparison,
        trials: int,
        progress: ProgressCallback,
        print_line: Callable[[str], None],
        minutes: float = 0.0,
        workers: int = 1,
    ) -> None:
        self.session, self.trials, self.print_line, self.workers = Session(), trials, print_line, workers
        self.studies: list[tuple[RunRow, StudyPlan]] = []
        self.tasks: dict[str, str] = {}
        runs: list[ComparedRun] = []
        tables = [(grid, list(chain.from_iterable(grid.table_rows()))) for grid in comparison.grids]
        self.several_models = len({row.values.get("model") for _, rows in tables for row in rows}) > 1
        for grid, rows in tables:
            if grid.pairs or max(grid.demo_seeds, grid.order_seeds) > 1:
                others = "pairs, demo_seeds and order_seeds"
                raise InputError(f"tuned=true: final runs are --seeds x --data-seeds; leave {others} out.")
            untuned = [row for row in rows if row.control or not self._plan(grid, row)]
            seed = make_config({"seed": grid.settings.get("seed")}).seed + HELD_OUT_SEED_OFFSET
            held_out = grid.model_copy(update={"settings": grid.settings | {"seed": seed}})
            places = {(r.variant, r.values["task"], r.amount, make_config(r.values).model) for r in untuned}
            for run in held_out.runs():
                place = (run.variant, run.config.task, Amount.of(vars(run.config)), run.config.model)
                runs += [run] if place in places else []
        studies: dict[str, tuple[RunRow, StudyPlan]] = {}
        for row, plan in self.studies:
            if studies.setdefault(plan.name, (row, plan))[1] != plan:
                raise InputError(
                    f"tuned=true: two grids have the study {plan.name!r} with different settings; keep one of them, or "
                    "take both values as a list in the settings of one grid, whose rows are named after them."
                )
        self.studies = list(studies.values())
        share = minutes / max(1, len(self.studies) + bool(runs))
        self.studies = [(row, replace(s, settings=replace(s.settings, minutes=share))) for row, s in self.studies]
        runs = [replace(run, variant=self._named(run.variant, run.config.model)) for run in told_apart(runs)]
        self.untuned = PlannedComparison(runs, workers, self.session, progress, share if runs else 0.0)
        self.tasks |= self.untuned.tasks

    def _named(self, variant: str, model: str) -> str:
        """The name of a row, with its model where there are several."""
        return f"{variant} on {model}" if self.several_models else variant

    def _plan(self, grid: Grid, row: RunRow) -> bool:
        """Plan the study of a row; False where its strategy has nothing to search."""
        values, fixed = split_searched(row.strategy, row.values)
        folds = FOLDS if row.amount.rows or row.amount.per_label >= CROSS_VALIDATED_FROM else 0
        settings = Settings(trials=self.trials, folds=folds, seeds=grid.seeds, data_seeds=grid.data_seeds)
        settings = replace(settings, workers=self.workers)
        try:
            plan = plan_study(values, fixed, settings, "", self.session)
        except NothingToSearchError:
            return False
        row = replace(row, variant=self._named(row.variant, plan.config.model))
        plan = replace(plan, name=plan.name + row.variant.removeprefix(row.strategy.name))  # one study a row
        self.studies.append((row, plan))
        self.tasks[str(row.values["task"])] = plan.task
        return True

    @property
    def results_path(self) -> Path:
        """Where the runs with nothing to tune are kept; those of studies are in Optuna's storage."""
        studies = (json.dumps([plan.name, plan.signature], sort_keys=True) for _, plan in self.studies)
        return results_path([*self.untuned.keys, *studies])

    @property
    def left_out(self) -> bool:
        """Whether the time was over for runs with nothing to tune."""
        return self.untuned.left_out

    def announcement(self) -> str:
        """How many studies, trials and final runs there are."""
        finals = sum(plan.settings.seeds * plan.settings.data_seeds for _, plan in self.studies)
        return (
            f"{len(self.studies)} studies of {self.trials} trials, final runs of {finals} winners, and "
            f"{len(self.untuned.runs)} runs of strategies with nothing to tune."
        )

    def describe(self, task: str) -> tuple[str, dict[str, str], dict[str, object]]:
        """Name, tags and parameters of the tracked run of one task."""
        plans = [plan for row, plan in self.studies if row.values["task"] == task]
        untuned = [run.config.strategy for run in self.untuned.runs if run.config.task == task]
        names = ",".join(dict.fromkeys([*(plan.config.strategy for plan in plans), *untuned]))
        tags = {"task": self.tasks[task], "strategies": names, "kind": "comparison", "tuned": "true"}
        tags["studies"] = json.dumps([plan.name for plan in plans])
        settings = max((plan.settings for plan in plans), key=lambda one: one.seeds, default=Settings())
        params = {"trials": self.trials, "seeds": settings.seeds, "data_seeds": settings.data_seeds}
        return f"compare tuned {names}"[:200], tags, {"strategies": names, **params}

    def outcomes(
        self, parents: Mapping[str, Tracker], target: TrackingTarget, file: ResultsFile, on_run: ProgressCallback
    ) -> Iterator[tuple[int, Outcome]]:
        """Yield (place, outcome): the winners' final runs study by study, then the runs with nothing to tune."""
        place = 0
        for row, plan in self.studies:
            try:
                study = run_study(plan, STORAGE, target, self.session, on_run, self.print_line)
            except EffftError as error:
                yield place, Outcome(plan.config, None, f"study {plan.name}: {error}", row.variant)
                place += 1
                continue
            for final in study.finals:
                if final.role == "winner":
                    yield place, _outcome(row, plan, final)
                    place += 1
            self.print_line(f"{plan.name}: {' '.join(study.sentences[:2])}")
        for untuned_place, outcome in self.untuned.outcomes(parents, target, file, on_run):
            yield place + untuned_place, outcome


def _outcome(row: RunRow, plan: StudyPlan, final: Final) -> Outcome:
    """A final run as a comparison sees it."""
    config = plan.config.model_copy(update={"seed": final.seed, "data_seed": final.data_seed})
    name = f"tuned {row.variant} · {Amount.of(vars(config)).phrase} · seed {final.seed}·{final.data_seed}"
    result = Result(config, name, final.metrics, plan.metric, ood_sets(final.metrics, plan.metric), ())
    return Outcome(config, result, "", row.variant)
