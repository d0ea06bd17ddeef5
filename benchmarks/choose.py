"""What `effft choose` costs against knowing: the test score of the best strategy minus that of the chosen one.

Run: `python -m benchmarks.choose` (about an hour; what is measured already is not measured again). A draw is measured
once: every candidate on every fold and seed, with its seconds of processor time, and its test score. The steps of a
choice depend on its measurements alone, so they are then walked over the measured ones, with a clock that adds up
their seconds, for as many minutes and rules as one likes. Left out there: tuning, and what follows the decision.
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from scipy.stats import beta

from effft.choice.answer import Judged, judge
from effft.choice.average import Average, average_of
from effft.choice.candidates import Candidate, Limits, candidates, needs
from effft.choice.decision import decide, fitting
from effft.choice.ledger import LATE, Arm
from effft.choice.plan import ChoicePlan, plan_choice
from effft.choice.posterior import Unit
from effft.config import RunConfig
from effft.errors import InputError
from effft.evaluation.outcomes import outcomes_of
from effft.progress import ProgressCallback, silent
from effft.runs.controls import majority
from effft.runs.estimate import Skeletons
from effft.runs.experiment import execute
from effft.runs.plan import prepare, prepare_validation
from effft.runs.session import Session
from effft.search.jobs import TrainingJob, measure
from effft.search.settings import FOLDS, HELD_OUT_SEED_OFFSET
from effft.serving.load import mean_scores
from effft.tasks.task import Task
from effft.tracking.tracker import MemoryTracker

Table = dict[str, list[Any]]

SEEDS = (0, HELD_OUT_SEED_OFFSET)
BINS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.01)
WEIGHTS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 2.0)  # Of what the rows of a draw tell beside known means.
OF_A_MODEL = ("delivered", "averaged")  # What a choice gives where that is not a single training.
SLOW = 10.0  # As for a model that takes ten times as long, for which the seconds of saving it count little.


def values_of(task: str, rows: int, draw: int, options: argparse.Namespace) -> dict[str, str]:
    """Settings that all candidates share."""
    more = dict(pair.split("=", 1) for pair in options.settings.split(",") if pair)
    amount = "per_label" if options.per_label else "rows"
    own = {"task": task, amount: str(rows), "data_seed": str(draw), "epochs": str(options.epochs), "threads": "1"}
    return more | own


def tested(config: RunConfig, session: Session, options: argparse.Namespace, **own: int) -> tuple[float, Table]:
    """The primary metric of a model of all rows, and its scores, in domain or on rows of the pool not among these.

    own: settings such as the seed.
    """
    settings = {"evaluation_limit": options.evaluation_limit, "bootstrap": 0, "cross_validation": "none", **own}
    plan = prepare(config.model_copy(update=settings), session)
    inside = plan.evaluated["in_domain"]
    if options.unused_rows:
        known = {example.texts for example in (*plan.draw.train, *inside.examples)}
        unused = [one for one in session.split(plan.config, "train").examples if one.texts not in known]
        random.Random(0).shuffle(unused)
        slices = inside.examples[0].slices  # whose columns the pool may lack
        rows = tuple(replace(one, slices=slices) for one in unused[: options.unused_rows])
        inside = replace(inside, examples=rows)
    result = execute(replace(plan, evaluated={"in_domain": inside}), MemoryTracker())
    return result.metrics[f"in_domain/{result.primary}"], result.tables["in_domain"]


def pool(task: str, rows: int, draw: int, options: argparse.Namespace, session: Session) -> dict[str, Any]:
    """Everything about a draw: of every candidate its estimate, its units and its test score.

    Raises:
        InputError: a choice refuses these rows, as a label is too rare for folds.
    """
    values = values_of(task, rows, draw, options)
    choice = plan_choice(values, [options.model], Limits(float("inf")), "", session)
    arms, labels = dict[str, Any](), list[object]()
    for one in candidates(values, [options.model], session):
        if one.name in options.without.split(","):
            continue
        try:
            seeds = range(0 if one.control else 1 + options.other_seeds)
            tests = [tested(one.config, session, options, seed=seed) for seed in seeds]
        except InputError:  # a model without an LM head has no answer for label words
            continue
        units, skeletons = [], Skeletons()
        for seed in SEEDS:
            for fold in range(FOLDS):
                config, place = one.config.model_copy(update={"seed": seed, "bootstrap": 0}), (fold, FOLDS, seed)
                begun = time.process_time()
                if one.control:
                    plan = prepare_validation(config, session, place)
                    found = {"value": majority(plan)[f"validation/{plan.resolved.metric}"], "resources": {}}
                else:
                    result = measure(TrainingJob(config, place), session)
                    found = {"value": result.value, "resources": result.resources, "answers": result.answers}
                units.append({"unit": (seed, fold), "seconds": time.process_time() - begun, **found})
        arms[one.name] = {"units": units, "estimate": needs(one, (0, FOLDS, 0), skeletons)}
        if tests:
            soup = choice.soup(Arm(one, 0.0), 0.0)
            made = tested(one.config, session, options, soup=soup) if soup > 1 else tests[0]
            arms[one.name] |= {"test": tests[0][0], "others": [score for score, _ in tests[1:]], "delivered": made[0]}
            arms[one.name] |= {"test scores": _scores(tests[0][1]), "delivered scores": _scores(made[1])}
            labels = tests[0][1]["label"]
    return {"task": task, "rows": rows, "draw": draw, "epochs": options.epochs, "labels": labels, "arms": arms}


def _scores(table: Table) -> list[list[float]]:
    """Those of a table of predictions, (rows, labels)."""
    columns = np.array([table[name] for name in table if name.startswith("score_")]).T
    return [[round(value, 3) for value in row] for row in columns.tolist()]


class Measured:
    """The measurements of a draw as the steps of a choice ask for them; spent: what they took, `SLOW` times slower."""

    def __init__(self, arms: dict[str, Any]) -> None:
        self.arms, self.spent = arms, 0.0
        self.progress: ProgressCallback = silent

    def measure(self, arm: Arm, unit: Unit, limit: float) -> None:
        """As a `Ledger` does."""
        found = next(one for one in self.arms[arm.candidate.name]["units"] if tuple(one["unit"]) == unit)
        took, known = SLOW * found["seconds"], {"resources": found["resources"], "answers": found.get("answers", {})}
        if self.spent + took > limit:
            arm.add(unit, None, {"seconds": limit - self.spent, **known}, LATE)
        else:
            arm.add(unit, found["value"], {"seconds": took, **known})
        self.spent = min(limit, self.spent + took)

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """An estimate; its seconds are those of the second unit, as this is not about how good estimates are."""
        found = self.arms.get(name.removeprefix("estimate/"))
        if found is None:
            return make()
        return {**found["estimate"], "seconds": SLOW * found["units"][1]["seconds"]}


def replay(line: dict[str, Any], share: float, options: argparse.Namespace, session: Session) -> dict[str, Any]:
    """What a choice decides in a share of the time of the full cross-validation, and what that scores in the test."""
    arms, values = line["arms"], values_of(line["task"], line["rows"], line["draw"], options)
    total = SLOW * sum(one["seconds"] for arm in arms.values() for one in arm["units"])
    plan = plan_choice(values, [options.model], Limits(share * total), "", session)
    known = tuple(one for one in plan.candidates if one.name in arms)
    plan = replace(plan, candidates=known, seeds=(1, 1), queries=0)
    ledger, task, quiet = Measured(arms), session.task(plan.study.config), lambda told: None
    made = decide(ledger, plan, *fitting(ledger, plan, quiet), lambda arm, end: [], task, quiet)
    tests = {name: arm["test"] for name, arm in arms.items() if "test" in arm}
    units = [(seed, fold) for seed in SEEDS for fold in range(FOLDS)]
    full = judge([_whole(one, arms) for one in known if not one.control], units, FOLDS, task, plan.study.metric)
    averaged = _averaged(line, replace(plan, average=True), task, session) if "labels" in line else np.nan
    chosen = made.best.arm
    kind = "delivered" if plan.final_way(chosen, 0.0, ledger.spent)[1] > 1 else "test"
    return {
        "test": tests, "choose": chosen.candidate.name, "full": full[0].arm.candidate.name, "share": share,
        "delivered": arms[chosen.candidate.name].get(kind, np.nan),
        "averaged": averaged, "soups": {name: arms[name].get("delivered", np.nan) for name in tests},
        "plain": max(full, key=lambda one: (one.mean, -one.arm.cost)).arm.candidate.name,
        "scores": {one.arm.candidate.name: -one.regret for one in full},
        "others": {name: fmean(arms[name].get("others") or [np.nan]) for name in tests},
        "used": ledger.spent / total, "told": _told(made.judged, tests),
    }  # fmt: skip


def _averaged(line: dict[str, Any], plan: ChoicePlan, task: Task, session: Session) -> float:
    """What the mean of the finalists scores in the test, of the trainings that the minutes leave time for."""
    ledger, quiet = Measured(line["arms"]), lambda told: None
    made = decide(ledger, plan, *fitting(ledger, plan, quiet), lambda arm, end: [], task, quiet)
    spent, members, scores = ledger.spent, list[Judged](), list[Any]()
    for one in average_of(ledger, plan, made.judged, made.best)[0].members:
        if not members or spent + plan.final_seconds(one.arm, False) <= plan.limits.seconds:
            way = plan.final_way(one.arm, 0.0, spent)
            spent += plan.final_seconds(one.arm, *way)
            members.append(one)
            kind = "delivered scores" if way[1] > 1 else "test scores"
            scores.append(np.array(line["arms"][one.arm.candidate.name][kind], dtype=float))
    answers = mean_scores(scores, Average(members).weights).argmax(axis=1)
    labels = np.array([task.read(label) for label in line["labels"]])
    return outcomes_of(task, labels, answers).values[plan.study.metric]


def _told(judged: Sequence[Judged], tests: dict[str, float]) -> list[tuple[float, float]]:
    """P(best) of each, and whether it was the best in the test; several that were share it, as they do P(best)."""
    scores = [tests[one.arm.candidate.name] for one in judged]
    right = [score >= max(scores) - 1e-9 for score in scores]
    return [(one.best, won / sum(right)) for one, won in zip(judged, right, strict=True)]


def _whole(candidate: Candidate, arms: dict[str, Any]) -> Arm:
    arm, ledger = Arm(candidate, 0.0), Measured(arms)
    for unit in arms[candidate.name]["units"]:
        ledger.measure(arm, tuple(unit["unit"]), float("inf"))
    return arm


def regrets(found: list[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    """A row for every task, number of rows and share of the time; "not smoothed" takes the best plain metric.

    Delivered: with the soup that a choice trains where it fits. Averaged: the mean of the finalists (`--average`), with
    such soups. All others are single trainings, but for "its soup", that of the best constant strategy. Means known:
    who knows every strategy's mean test score over all draws, and adds what the full cross-validation of a draw says
    beside its own mean, in the best of `WEIGHTS`. Other seeds known: as that, with the test scores of models of the
    same rows and other seeds in place of the cross-validation, so all but the luck of the last training.
    """
    heads = ["task", "rows", "draws", "time", "`choose`", "delivered", "averaged", "full cross-validation"]
    heads += ["not smoothed", "best constant", "its soup", "means known", "other seeds known", "random"]
    rows = [f"| {' | '.join(heads)} |", "|---|---:|" + "---:|" * (len(heads) - 2)]
    for key in dict.fromkeys((line["task"], line["rows"], one["share"]) for line, one in found):
        here = [one for line, one in found if (line["task"], line["rows"], one["share"]) == key]
        means = {name: fmean(one["test"][name] for one in here) for name in here[0]["test"]}
        constant = max(means, key=means.__getitem__)
        scores = [
            *([one["test"][one["choose"]] for one in here], *([one[name] for one in here] for name in OF_A_MODEL)),
            *([one["test"][one[name]] for one in here] for name in ("full", "plain")),
            *([one[name][constant] for one in here] for name in ("test", "soups")),
            *(_means_known(here, of) for of in ("scores", "others")), [fmean(one["test"].values()) for one in here],
        ]  # fmt: skip
        best = np.array([max(one["test"].values()) for one in here])
        lost = [best - np.array(own) for own in scores]
        ends = [1.96 * np.std(own, ddof=1) / np.sqrt(len(own)) if len(own) > 1 else np.nan for own in lost]
        cells = [f"{own.mean():.3f} ± {end:.3f}" for own, end in zip(lost, ends, strict=True)]
        cells[5] += f" (`{constant}`)"
        rows.append(f"| {Path(key[0]).stem} | {key[1]} | {len(here)} | {key[2]:.2f} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _means_known(draws: list[dict[str, Any]], of: str) -> list[float]:
    names = list(draws[0]["scores"])
    tests, told = (np.array([[one[what][name] for name in names] for one in draws]) for what in ("test", of))
    if np.isnan(told).any():
        return [np.nan] * len(draws)
    picks = [(tests.mean(0) + weight * (told - told.mean(0))).argmax(1) for weight in WEIGHTS]
    return max((tests[np.arange(len(tests)), pick].tolist() for pick in picks), key=fmean)


def calibration(told: list[tuple[float, float]]) -> str:
    """How often finalists with so much P(best) were the best of theirs in the test, with its 95 % interval."""
    rows = ["| P(best) | finalists | mean P(best) | were best |", "|---|---:|---:|---:|"]
    for low, high in pairwise(BINS):
        here = [(p, right) for p, right in told if low <= p < high]
        if here:
            hits, count = sum(right for _, right in here), len(here)
            ends = beta.ppf([0.025, 0.975], [hits or 1e-9, hits + 1], [count - hits + 1, count - hits or 1e-9])
            mean = fmean(p for p, _ in here)
            share = f"{hits / count:.2f} [{ends[0]:.2f}, {ends[1]:.2f}]"
            rows.append(f"| {low} to {min(high, 1)} | {count} | {mean:.2f} | {share} |")
    return "\n".join(rows)


def main() -> None:
    """Measure what is missing in the file of draws, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="agreement,overlap")
    parser.add_argument("--rows", default="64,16,256")
    parser.add_argument("--per-label", action="store_true", help="--rows are of each label; needs an --out of its own")
    parser.add_argument("--model", default="tiny-lm")
    parser.add_argument("--draws", default="30,30,4", help="for each number of rows")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--settings", default="", help="of all candidates: max_length=128,data_dir=DIR")
    parser.add_argument("--without", default="setfit,bag of words")
    parser.add_argument("--evaluation-limit", type=int, default=600)
    parser.add_argument("--unused-rows", type=int, default=0, help="of the pool to test on, in place of in domain")
    parser.add_argument("--other-seeds", type=int, default=0, help="tested too; a draw already in --out has none")
    parser.add_argument("--shares", default="0.33,1", help="of the time of the full cross-validation")
    parser.add_argument("--from-draw", type=int, default=0, help="the first one that the tables count")
    parser.add_argument("--out", default="choose.jsonl")
    options = parser.parse_args()
    path = Path(options.out)
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    known = {(line["task"], line["rows"], line["draw"]) for line in lines}
    draws, session = [int(number) for number in options.draws.split(",")], Session()
    prepare(RunConfig(), session)  # the first one imports what all need
    for draw in range(max(draws)):
        for rows, most in zip(map(int, options.rows.split(",")), draws, strict=True):
            for task in options.tasks.split(","):
                if draw < most and (task, rows, draw) not in known:
                    try:
                        lines.append(pool(task, rows, draw, options, session))
                    except InputError as error:
                        print(f"{task}, {rows} rows, draw {draw}: left out: {error}", flush=True)
                        continue
                    with path.open("a") as file:
                        file.write(json.dumps(lines[-1]) + "\n")
                    print(f"{task}, {rows} rows, draw {draw}", flush=True)
    lines = [line for line in lines if line["draw"] >= options.from_draw]
    shares = [float(share) for share in options.shares.split(",")]
    found = [(line, replay(line, share, options, session)) for share in shares for line in lines]
    print(f"\nRegret, mean and 95 % interval over draws:\n\n{regrets(found)}\n")
    for share in shares:
        here = [one for _, one in found if one["share"] == share]
        print(f"P(best), {share} of the time:\n\n{calibration([pair for one in here for pair in one['told']])}\n")
        print(f"Most of the time that was used: {max(one['used'] for one in here):.2f}.\n")


if __name__ == "__main__":
    main()
