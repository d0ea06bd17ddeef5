"""What a reader must know before believing the numbers: copies, leaks, chance, gaps in the grid, unfinished runs."""

import re
from collections.abc import Iterator
from itertools import product

from effft.data.table import listed
from effft.reports.data import IMPORTED, ReportData, split_title
from effft.reports.difficulty import difficulty_words, without_curve
from effft.reports.groups import HOME, TUNED, RunGroup
from effft.reports.results import identical_results, remarks

MOST = 12
"""Names of one kind that are listed; the others are counted."""
LEAK = re.compile(r"(\d+) of the training texts also occur in ([^\s]+?)\.(?=\s|$)")
POOL = " also stand in train and "  # of what a run notes of evaluation examples in the file that shots are drawn from
STATUSES = {"RUNNING": "not ended yet", "FAILED": "failed", "KILLED": "stopped", "SCHEDULED": "never started"}


def find_warnings(data: ReportData) -> list[str]:
    """Sentences, the gravest first; none when nothing is wrong."""
    kinds = (_chance, _fallen, _unlike, _leaks, _left_out)
    return [*filter(None, map(identical_results, data.groups)), *(text for kind in kinds for text in kind(data))]


def leak_lines(notes: str) -> list[str]:
    """The lines of a run's notes that tell of leaks."""
    return [line for line in notes.splitlines() if POOL in line or LEAK.search(line)]


def find_missing(data: ReportData) -> list[str]:
    """Cells of the grid without a run: strategies that lack seeds or numbers of examples that others have."""
    return list(_missing(data)) if data.groups else []


def _fallen(data: ReportData) -> Iterator[str]:
    """Runs far below the others of their group: training sometimes fails with an unlucky seed (Mosbach et al. 2021)."""
    for group in data.groups:
        if fallen := group.fallen():
            runs = listed([f"seed {seed}, draw {draw} ({score:.3f})" for seed, draw, score in fallen], MOST)
            where = f"{group.variant} at {group.amount.phrase}"
            yield f"{where}: far below its other runs {split_title(data.home)}: {runs}; the median is {_median(group)}."


def _chance(data: ReportData) -> Iterator[str]:
    """Strategies that are at or below chance in domain, with the likely cause where it can be known."""
    for verdict, cause in (
        ("at chance", "Too few examples, too few steps or too small a model are the usual causes."),
        ("below chance", "A score below chance beyond its interval is usually a sign of swapped labels."),
    ):
        remark = f"{split_title(data.home)} {verdict}"
        names = [f"{g.variant} at {g.amount.phrase}" for g in data.groups if g.trains and remark in remarks(data, g)]
        if names:
            yield f"{remark[0].upper()}{remark[1:]}: {listed(names, MOST)}. {cause}"


def _unlike(data: ReportData) -> Iterator[str]:
    if strange := int((data.frame["kind"] == IMPORTED).sum()):
        yield f"{_runs(strange)} imported from files of another project: data and settings may differ."
    repeats = sum(group.repeats for group in data.groups)
    if repeats:
        yield f"{_runs(repeats)} left out: a later run has the same seeds and settings."
    if len(data.backbones) > 1:
        yield f"The runs use {len(data.backbones)} backbones ({', '.join(data.backbones)}); no mean mixes them."
    variants: dict[tuple[str, str], set[str]] = {}
    for group in data.groups:
        if TUNED not in group.variant:
            variants.setdefault((group.backbone, group.strategy), set()).add(group.variant)
    for (_, strategy), names in variants.items():
        if len(names) > 1:
            yield f"{strategy} was run with {len(names)} different settings; each has a row of its own."
    for group in data.groups:
        commits = sorted(commit[:8] for commit in set(group.runs["git_commit"]) - {""})
        if len(commits) > 1:
            where = f"{group.variant} at {group.amount.phrase}"
            yield f"{where} mixes runs of {len(commits)} versions of the code ({', '.join(commits)})."


def _leaks(data: ReportData) -> Iterator[str]:
    notes = dict.fromkeys(line for note in data.frame["notes"] for line in note.splitlines())
    yield from (line for line in notes if POOL in line)
    leaks: dict[str, list[int]] = {}
    for count, split in LEAK.findall("\n".join(data.frame["notes"])):
        leaks.setdefault(split, []).append(int(count))
    for split, counts in leaks.items():
        yield f"Training texts also occur in {split}, in {_runs(len(counts))} ({min(counts)} to {max(counts)} texts)."


def _left_out(data: ReportData) -> Iterator[str]:
    for reason, rows in data.left_out.items():
        yield f"{_runs(len(rows))} left out, {STATUSES.get(reason, reason)}: {listed(list(rows['name']), MOST, '; ')}."
    alone = without_curve(data)
    if len(alone):
        words = difficulty_words(alone, data.frame)
        yield f"{_runs(len(alone))} left out, at another difficulty of the task with nothing to stand beside ({words})."


def _missing(data: ReportData) -> Iterator[str]:
    """Seeds, and numbers of examples per label, that some strategies have and others lack."""
    for backbone in data.backbones:
        groups = [group for group in data.groups if group.backbone == backbone]
        for amount in data.amounts(backbone):
            here = [group for group in groups if group.amount == amount]
            seeds = {pair for group in here if group.trains for pair in _seeds(group)}
            lacking = [f"{group.variant} ({lost})" for group in here if (lost := _lost(group, seeds)) > 0]
            if lacking:
                yield f"{amount.phrase} on {backbone}: seeds that others have are missing for {listed(lacking, MOST)}."
        known = {(group.variant, group.amount) for group in groups}
        plain = dict.fromkeys(group.variant for group in groups if "[" not in group.variant)
        absent = [f"{v} at {n.phrase}" for v, n in product(plain, data.amounts(backbone)) if (v, n) not in known]
        if absent:
            yield f"No run on {backbone} of {listed(absent, MOST)}."


def _lost(group: RunGroup, seeds: set[tuple[int, int]]) -> int:
    """How many of the seeds a group lacks; where nothing trains, draws count only if it shows demonstrations."""
    if group.trains:
        return len(seeds - _seeds(group)) - group.copies
    column = "param:shots"
    demonstrates = column in group.runs and any(str(value) not in ("", "0") for value in group.runs[column])
    return len({draw for _, draw in seeds} - set(group.draws.tolist())) if demonstrates else 0


def _seeds(group: RunGroup) -> set[tuple[int, int]]:
    """Without those of orders and demonstrations, which not every strategy takes."""
    return set(zip(group.runs["seed"].fillna(0).tolist(), group.draws.tolist(), strict=True))


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count:,} runs"


def _median(group: RunGroup) -> str:
    return f"{group.median(f'score/{HOME}'):.3f}"
