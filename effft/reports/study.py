"""A study of several tasks as one folder: the small files of every report, all runs as CSV, and what they say together.

The tables are written between two marks of `README.md`, so that what people wrote around them stays.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from effft.config import Amount
from effft.disk import written_whole
from effft.errors import InputError
from effft.evaluation.statistics import front
from effft.progress import ProgressCallback, say, silent
from effft.reports.blocks import Block, Table
from effft.reports.claims import METRIC, backbones_of, claims_points, claims_table, judge, read_claims
from effft.reports.data import CONTENTS, ReportData, plain_backbone
from effft.reports.groups import MEMORY, OTHER_SEEDS, SETTINGS, SHARE, RunGroup
from effft.reports.label_break_even import Pair, first_above, surely_above
from effft.reports.other_setting import setting_table
from effft.reports.page import markdown_blocks
from effft.reports.pairwise import difference
from effft.reports.report import Report, build
from effft.reports.study_csv import OPERATIONS, kept_runs, study_csv
from effft.reports.variance import variance_table
from effft.runs.comparison_file import comparison_of
from effft.runs.grid import CONTROLS, ComparedRun
from effft.tasks.from_data import task_name
from effft.tracking.reading import RunReader, StoredRun

BEGIN, END = "<!-- made by effft report --study -->", "<!-- end -->"
COSTS = {
    "trained": ("resources/trainable_parameters", "{:,.0f}"),
    "of all": (SHARE, "{:.2%}"),
    "peak memory": (MEMORY, "{:,.0f} MB"),
    "operations": (OPERATIONS, "{:.2g}"),
}
"""Costs that a busy machine does not distort -> their metric, and how it is written."""
CONTROL_NAMES = [name.replace("_", " ") for name in CONTROLS]


def write_study(
    reader: RunReader, file: str, folder: Path, experiments: str = "", progress: ProgressCallback = silent
) -> Path:
    """Write everything of a study; returns the README.

    Beside its file, `claims.yaml` is judged; runs of `published.yaml`, in experiments `...-published`, are set against
    those of the study; those of `variance.yaml`, in `...-variance`, say where the spread comes from. Runs that the
    folder's `runs.csv` has and the store has not stay, so that a study may be made on several machines.

    Args:
        reader: Reads the store.
        file: The comparison that was run.
        folder: Where to.
        experiments: Experiment of every task, with {task} for its name ('' = effft/{task}).
        progress: Told the stages.

    Raises:
        InputError: The file is none of a comparison, or a file of claims is wrong; no task has an experiment.
    """
    planned = _planned(file)
    claims = Path(file).expanduser().with_name("claims.yaml")
    asked = read_claims(claims) if claims.is_file() else []
    names, csv = experiments or "effft/{task}", folder / "runs.csv"

    def beside(name: str) -> dict[str, ReportData]:
        place = Path(file).expanduser().with_name(f"{name}.yaml")
        runs = _planned(str(place)) if place.is_file() else []
        found = _reports(reader, runs, f"{names}-{name}", partial(kept_runs, csv, name), progress)
        return {task: report.data for task, report in found.items()}

    reports = _reports(reader, planned, names, partial(kept_runs, csv, ""), progress)
    if not reports:
        raise InputError(
            f"study={file}: the store has no finished run of its tasks; run `effft compare --study {file}`."
        )
    for task, report in reports.items():
        report.write(folder / task, small=True)
    tasks = {task: report.data for task, report in reports.items()}
    parts = {"": tasks, "published": beside("published"), "variance": beside("variance")}
    with written_whole(csv) as draft:
        draft.write_text(study_csv(parts), encoding="utf-8")
    findings = judge(asked, tasks)
    for claim in (one for one in asked if one not in [finding.claim for finding in findings]):
        say(f"{claim.one} - {claim.other} ({claim.measure}) is left out: no model has both on one draw, each once.")
    blocks: list[Block] = [claims_points(findings), claims_table(findings)] if findings else []
    blocks += filter(None, [setting_table(tasks, parts["published"]), *costs(tasks), *break_even(tasks)])
    blocks += filter(None, [variance_table(parts["variance"]), coverage(planned, tasks), contents(tasks)])
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.is_file() else f"# Study\n\n{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    with written_whole(readme) as draft:
        made = f"{BEGIN}\n\n{markdown_blocks(blocks)}\n\n{END}"
        draft.write_text(before + made + rest.partition(END)[2], encoding="utf-8")
    return readme


def _planned(file: str) -> list[ComparedRun]:
    """The runs of a comparison, with the names of their tasks, also of those that are files."""
    runs = comparison_of(file).runs()
    names = {task: task_name(task) for task in {run.config.task for run in runs}}
    return [replace(run, config=run.config.model_copy(update={"task": names[run.config.task]})) for run in runs]


def _reports(
    reader: RunReader,
    planned: Sequence[ComparedRun],
    experiments: str,
    kept: Callable[[str, list[StoredRun]], list[StoredRun]],
    progress: ProgressCallback,
) -> dict[str, Report]:
    """The report of every task that has runs.

    experiments: the names of theirs, with {task}. kept: a task and the runs in the store -> what is known beside them.
    """
    reports = {}
    for task in dict.fromkeys(run.config.task for run in planned):
        name = experiments.format(task=task)
        more = kept(task, reader.runs_of(name))
        try:
            reports[task] = build(reader, task, name, "", "", progress, more=more)
        except InputError as error:
            say(f"{task} is left out: {error}")
    return {task: report for task, report in reports.items() if report.runs}


def costs(tasks: Mapping[str, ReportData]) -> Iterator[Table]:
    """For every model: what a strategy trains and takes, and its balanced accuracy in domain on every task."""
    for backbone in backbones_of(tasks):
        groups = {task: _smallest(data, backbone) for task, data in tasks.items()}
        groups = {task: found for task, found in groups.items() if found}
        fronts = {task: _on_front(found, score_of(tasks[task])) for task, found in groups.items()}
        names = dict.fromkeys(name for found in groups.values() for name in found)
        rows = []
        for name in names:
            own = [found[name] for found in groups.values() if name in found]
            medians = [([m for g in own if (m := g.median(key)) == m], form) for key, form in COSTS.values()]
            cells = [form.format(np.median(known)) if known else "-" for known, form in medians]
            for task, found in groups.items():
                stat = found[name].stat(score_of(tasks[task])) if name in found else None
                cells.append(f"{stat}{' *' * (name in fronts[task])}" if stat else "-")
            rows.append((name, *cells))
        counts = ", ".join(f"{task} {next(iter(found.values())).amount.phrase}" for task, found in groups.items())
        caption = (
            f"{backbone}: costs (medians over tasks) and balanced accuracy in domain, mean ± sd [95 % interval] "
            f"({counts}). A star: no other strategy takes fewer operations to train and does as well."
        )
        yield Table(("strategy", *COSTS, *groups), rows, caption)


def _smallest(data: ReportData, backbone: str) -> dict[str, RunGroup]:
    """The groups of a model at its smallest number of examples, best in domain first."""
    amounts = data.amounts(backbone)
    return {group.variant: group for group in data.groups_on(backbone, amounts[0])} if amounts else {}


def score_of(data: ReportData) -> str:
    """The metric that a task is judged by in domain, or out of fold where it has no test file."""
    return f"{data.home}/{METRIC}"


def _on_front(groups: Mapping[str, RunGroup], score: str) -> set[str]:
    names = list(groups)
    costs_of = [np.nan_to_num(groups[name].median(OPERATIONS)) for name in names]
    return {names[place] for place in front(costs_of, [_mean(groups[name], score) for name in names])}


def _mean(group: RunGroup, score: str) -> float:
    stat = group.stat(score)
    return stat.mean if stat else float("-inf")


def break_even(tasks: Mapping[str, ReportData]) -> Iterator[Table]:
    """For every model: from how many labels on a strategy is above the best that trains no part of the model."""
    for backbone in backbones_of(tasks):
        cells: dict[str, dict[str, str]] = {}
        for task, data in tasks.items():
            groups = sorted(data.groups_on(backbone), key=lambda group: group.amount)
            frozen = [group for group in groups if not group.trains or group.strategy == "probe"]
            score = score_of(data)
            bases = {group.amount: group for group in sorted(frozen, key=partial(_mean, score=score))}
            pairs: dict[str, list[Pair]] = {}
            for group in groups:
                if group not in frozen and group.amount in bases and difference(group, bases[group.amount], score):
                    pairs.setdefault(group.variant, []).append((group, bases[group.amount]))
            for name, own in pairs.items():
                first = first_above(own, partial(surely_above, key=score))
                gap = difference(*first, score) if first else None
                told = f"{first[0].amount} ({gap.text()} over {first[1].strategy})" if first and gap else "at none"
                cells.setdefault(name, {})[task] = told
        if cells:
            shown = [task for task, data in tasks.items() if data.amounts(backbone)]
            counts = "; ".join(f"{t} {', '.join(map(str, tasks[t].amounts(backbone)))}" for t in shown)
            rows = [(name, *(own.get(task, "-") for task in shown)) for name, own in cells.items()]
            yield Table(
                ("strategy", *shown),
                rows,
                f"{backbone}: labels per class from which on a strategy is above the best that leaves the model as it "
                f"is (zero_shot, icl, probe): balanced accuracy in domain, 95 % interval of the pairs above 0, not "
                f"corrected. Measured at: {counts}.",
                left=tuple(range(1 + len(shown))),
            )


def coverage(planned: Sequence[ComparedRun], tasks: Mapping[str, ReportData]) -> Table:
    """Of the runs that the file asks for, those that there are, and by strategy those that there are not."""
    done = Counter(key for task, data in tasks.items() for key in _made(task, data))
    cells: dict[tuple[str, str, Amount], Counter[str]] = {}
    lacking: dict[tuple[str, str, Amount], Counter[str]] = {}
    for run in planned:
        c, control = run.config, run.control.replace("_", " ")
        place, amount = (c.model, c.task, Amount.of(vars(c))), Amount.of(vars(c))
        name = control or c.strategy
        cells.setdefault(place, Counter())[name] += 1
        key = (c.task, c.model, "" if control else c.strategy, amount, c.seed, c.data_seed, control)
        done[key] -= 1
        if done[key] < 0:
            lacking.setdefault(place, Counter())[name] += 1
    rows = []
    for place, names in cells.items():
        lost = lacking.get(place, Counter())
        listed = ", ".join(name if count == names[name] else f"{name} ({count})" for name, count in lost.items())
        made = names.total() - lost.total()
        rows.append((place[0], place[1], str(place[2]), str(made), str(names.total()), listed or "-"))
    heads = ("model", "task", "per label", "runs made", "asked for", "not run (of which so many, where some were)")
    return Table(heads, rows, "What was run, and what did not fit.", left=(0, 1, 5))


def _made(task: str, data: ReportData) -> Iterator[tuple[object, ...]]:
    """Task, model, strategy, number of examples, seeds and control of every run, of one that was repeated once."""
    known = ("name", "strategy", "backbone", "amount", "seed", "data_seed", *OTHER_SEEDS, *SETTINGS, "difficulty")
    for frame, control in ((pd.concat([data.frame, data.other_difficulty]), False), (data.controls, True)):
        kinds = [column for column in known[not control :] if column in frame]
        frame = frame[~frame[kinds].duplicated()]
        names = [next((n for n in CONTROL_NAMES if control and str(name).startswith(n)), "") for name in frame["name"]]
        strategies = frame["strategy"] if not control else [""] * len(frame)
        columns = (frame[name] for name in ("amount", "seed", "data_seed"))
        yield from zip(
            [task] * len(frame), map(plain_backbone, frame["backbone"]), strategies, *columns, names, strict=True
        )


def contents(tasks: Mapping[str, ReportData]) -> Table:
    """Digests of what was read: the rows of a task, the weights of a model; and the commits of the code."""
    rows = []
    for task, data in tasks.items():
        for backbone, frame in data.frame.groupby("backbone", sort=False):
            digests = [", ".join(sorted(set(frame[name]) - {""})) for name in (*CONTENTS, "git_commit")]
            rows.append((task, str(backbone), str(len(frame)), *digests))
    heads = ("task", "model", "runs", "digest of the rows", "digest of the weights", "commit")
    return Table(heads, rows, "What the numbers come from.", left=(0, 1, 3, 4, 5))
