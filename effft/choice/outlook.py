"""Beyond the answer: what more labels would probably change, and which unlabelled texts are worth one."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from effft.choice.answer import Judged
from effft.choice.decision import HELD
from effft.choice.ledger import Arm, Ledger
from effft.choice.plan import ChoicePlan
from effft.choice.posterior import Answers, Pooled, Unit, mixed, posterior
from effft.config import RunConfig
from effft.reports.disagreement import Disagreement, disagreement_csv
from effft.search.jobs import TrainingJob, measure
from effft.tracking.tracker import Tracker

MORE, LEAST = 32, 16
"""Labels that are added in the forecast, and rows from which half of them is worth a look."""

SEEDS = 2
"""Seeds that the half is measured on."""


def half_units(arm: Arm, folds: int) -> list[Unit]:
    """The units on which all rows are compared with half of them."""
    seeds = [seed for seed, fold in arm.scores if fold == folds - 1][:SEEDS]
    return [(seed, fold) for seed in seeds for fold in range(folds) if (seed, fold) in arm.scores]


def halved(plan: ChoicePlan, config: RunConfig) -> RunConfig:
    """A candidate's configuration on half of the rows, drawn as all of them are."""
    per_label = plan.study.config.per_label  # which a candidate lacks where none is given
    return config.model_copy(update={"per_label": per_label // 2} if per_label else {"rows": str(plan.rows // 2)})


def forecast(ledger: Ledger, plan: ChoicePlan, arm: Arm) -> list[str]:
    """A sentence about more labels, from the answers after all rows and after half of them (drawn so that they nest).

    Over this short way the score is taken to be linear in the logarithm of the rows, up to 1; the interval is of the
    difference in `posterior`.
    """
    config, folds, rows, halves = arm.candidate.config, plan.folds, plan.rows, dict[Unit, Answers]()
    guard = ledger.until(plan.limits.seconds)

    def half(seed: int, fold: int) -> Answers:
        less = halved(plan, config).model_copy(update={"seed": seed, "bootstrap": 0, "log_model": False})
        ledger.progress(f"half of the rows, seed {seed}, fold {fold}", 0, 0)
        return measure(TrainingJob(less, (fold, folds, seed)), ledger.session, guard).answers

    for unit in half_units(arm, folds):
        if answers := ledger.once(f"half/{arm.candidate.label}/{unit[0]}/{unit[1]}", partial(half, *unit)):
            halves[unit] = answers
    if len(halves) < folds:
        return []
    task = ledger.session.task(config)
    pooled = [Pooled(own, task, plan.study.metric) for own in ({u: arm.answers[u] for u in halves}, halves)]
    steps, (whole, part) = np.log2((rows + MORE) / rows), (one.score for one in pooled)
    draws = mixed(posterior(pooled, folds))
    low, high = np.quantile(np.minimum(steps * (draws[0] - draws[1]), 1 - draws[0]), [0.025, 0.975])
    return [
        f"{MORE} more labels would probably change that by {min(steps * (whole - part), 1 - whole):+.3f} [{low:+.3f}, "
        f"{high:+.3f}]: from half of the rows to all of them it changed by {whole - part:+.3f}."
    ]


def disagreements(ledger: Ledger, arms: list[Arm]) -> list[Disagreement]:
    """How finalists, trained on all rows, answer the sets without labels."""
    from effft.runs.experiment import execute
    from effft.runs.plan import prepare
    from effft.tracking.tracker import MemoryTracker

    def answers(arm: Arm) -> dict[str, list[list[str]]]:
        config = arm.candidate.config.model_copy(
            update={"bootstrap": 0, "log_model": False, "cross_validation": "none"}
        )
        plan = prepare(config, ledger.session)
        tables = execute(plan, MemoryTracker(), ledger.progress).tables
        sets = [name for name, split in plan.evaluated.items() if not split.labelled]
        return {name: [[str(value) for value in tables[name][key]] for key in ("row", "answer")] for name in sets}

    found = {a.candidate.label: ledger.once(f"answers/{a.candidate.label}", partial(answers, a)) for a in arms}
    names = next(iter(found.values()))
    return [
        Disagreement(name, [int(row) for row in names[name][0]], {arm: [own[name][1]] for arm, own in found.items()})
        for name in names
    ]


def outlook(ledger: Ledger, plan: ChoicePlan, best: Arm, judged: Sequence[Judged], parent: Tracker) -> list[str]:
    """Sentences about more labels and about texts without labels, as far as there is time."""
    found: list[str] = []
    last = [one.arm for one in judged] if plan.average else [best]
    end = plan.limits.seconds - plan.reserve(last, ledger.once(HELD, float))
    if plan.rows >= LEAST and ledger.spent + len(half_units(best, plan.folds)) * best.cost < end:
        found += forecast(ledger, plan, best)
    near = [one.arm for one in judged if one.within_noise]
    seconds = sum(1.2 * (arm.cost + plan.queries * arm.latency / 1000) for arm in near)
    if plan.unlabelled and len(near) > 1 and ledger.spent + seconds < end:
        sets = disagreements(ledger, near)
        splits = {name: ledger.session.split(best.candidate.config, name).examples for name in plan.unlabelled}
        texts = {name: {example.index: example.texts for example in own} for name, own in splits.items()}
        parent.text("disagreement.csv", disagreement_csv(sets, texts))
        for one in sets:
            share = f"{100 * max(one.pairs.values()):.0f} % of the {len(one.rows):,} texts of {one.name}"
            found.append(
                f"What is within noise differs on up to {share}: no score here says which is right there"
                + ("; disagreement.csv of the run has those to label next." if parent.run_id else ".")
            )
    return found
