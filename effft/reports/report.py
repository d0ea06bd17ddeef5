"""A report: which sections there are, and its files."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlflow import MlflowClient

from effft.errors import RunError
from effft.progress import ProgressCallback
from effft.reports.advice import COSTS, oracle, recommendation, size
from effft.reports.blocks import Figure, Part, Section, Table, Text
from effft.reports.collect import collect
from effft.reports.csv_files import cells_csv, pairs_csv, runs_csv
from effft.reports.data import ReportData, select_runs
from effft.reports.figures import costs, overview, scatter, slices
from effft.reports.line_charts import learning_curve
from effft.reports.markdown import file_name, markdown
from effft.reports.page import page
from effft.reports.pairwise import Pair, pair_parts, pairs_of
from effft.reports.published import published_parts
from effft.reports.searches import search_parts, trials_csv
from effft.reports.studies import Study, read_studies
from effft.reports.summary import main_part
from effft.reports.sweeps import knob_parts, sweeps
from effft.reports.warnings import find_warnings


@dataclass(frozen=True)
class Report:
    """files: name -> text, of the page, its Markdown twin, the CSVs and the still figures. runs: how many it holds.

    turned: runs of the task with other knobs, which stand in a section of their own. metric, sets: the primary metric
    and the OOD sets.
    """

    task: str
    files: dict[str, str]
    runs: int
    warnings: tuple[str, ...]
    other_difficulty: int = 0
    metric: str = ""
    sets: tuple[str, ...] = ()

    def write(self, folder: Path) -> Path:
        """Write the files; returns the page.

        Raises:
            RunError: the folder cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in self.files.items():
                (folder / name).write_text(content, encoding="utf-8")
        except OSError as error:
            raise RunError(f"the report cannot be written to {folder} ({error}); name another with --out.") from None
        return folder / "report.html"


def build(
    client: MlflowClient,
    task: str,
    experiment: str = "",
    parent: str = "",
    command: str = "",
    watch: ProgressCallback = lambda stage, done, total: None,
) -> Report:
    """Read the runs of a task back from MLflow and make everything of the report.

    experiment: '' is `effft/<task>`. parent: only the runs under it, or under several ('id,id').
    command: what makes the report again, for its foot.

    Raises:
        InputError: there is no such experiment.
    """
    watch("read runs", 0, 0)
    collected = collect(client, experiment or f"effft/{task}", parent)
    material = select_runs(collected, task)
    studies = read_studies(client, task, collected.studies)
    watch("statistics", 0, 0)
    pairs = [p for b in material.backbones for n in material.per_labels(b) for p in pairs_of(material, b, n)]
    wrong = find_warnings(material)
    watch("figures", 0, 0)
    sections = list(_sections(material, pairs, wrong, studies))
    day = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    title = f"{task}: which way of adapting works best, and at what cost"
    lead = _lead(material)
    foot = f"Made {day} from {collected.experiment} by effft." + (f" Again: {command}" if command else "")
    figures = [part for section in sections for part in section.parts if isinstance(part, Figure) and part.svg]
    files = {
        "report.html": page(title, lead, sections, foot),
        "report.md": markdown(title, lead, sections) + (f"\n`{command}`\n" if command else ""),
        "runs.csv": runs_csv(material),
        "cells.csv": cells_csv(material),
        "differences.csv": pairs_csv(pairs),
        **({"trials.csv": trials_csv(studies)} if studies else {}),
        **{file_name(figure): figure.svg for figure in figures},
    }
    numbers = len(material.frame), tuple(wrong), len(material.other_difficulty)
    return Report(task, files, *numbers, material.primary, material.sets)


def _lead(material: ReportData) -> str:
    if not len(material.frame):
        return "No finished run of this task has been measured yet."
    frame = material.frame
    return (
        f"{len(frame)} finished runs of {frame['strategy'].nunique()} strategies on {', '.join(material.backbones)}; "
        f"{frame['seed'].nunique()} seeds and {frame['data_seed'].nunique()} draws of the shots; "
        f"metric {material.primary}."
    )


def _sections(material: ReportData, pairs: list[Pair], wrong: list[str], studies: list[Study]) -> Iterator[Section]:
    several = len(material.backbones) > 1
    said = Text(tuple(wrong) or ("None found.",), bullets=bool(wrong))
    searches = [Section("searches", "Searches", list(search_parts(studies)))] if studies else []
    if not material.groups:
        yield from searches
        yield Section("faults", "What is missing", [said])
        return
    for backbone in material.backbones:
        on = f" on {backbone}" if several else ""
        last = material.per_labels(backbone)[-1]
        yield Section(f"advice-{backbone}", f"In short{on}", [recommendation(material, backbone)])
        parts: list[Part] = list(main_part(material, backbone))
        parts.append(overview(material, backbone, last))
        yield Section(f"results-{backbone}", f"Results{on}", parts)
        yield Section(
            f"pairs-{backbone}",
            f"Differences between strategies{on}",
            pair_parts(material, backbone, [pair for pair in pairs if pair.backbone == backbone]),
        )
        figures = [scatter(material, backbone) if material.sets else None, learning_curve(material, backbone)]
        figures += [slices(material, backbone, last, split) for split in material.splits]
        kept: list[Part] = [figure for figure in figures if figure is not None]
        if kept:
            yield Section(f"where-{backbone}", f"Where it works and where not{on}", kept)
        yield Section(f"cost-{backbone}", f"What it costs{on}", list(_costs(material, backbone, last)))
        table = oracle(material, backbone)
        if table is not None:
            yield Section(f"oracle-{backbone}", f"Oracle, not attainable{on}", [Text((ORACLE,)), table])
    if len(material.other_difficulty):
        yield Section("knobs", "With the task's knobs turned", list(knob_parts(material, sweeps(material))))
    yield from searches
    theirs = list(published_parts(material))
    if theirs:
        yield Section("published", "Beside what was published", theirs)
    yield Section("faults", "Faults found", [said])


ORACLE = (
    "What choosing a run on its OOD numbers would have given. No one can choose so without OOD labels; nothing in this "
    "project does. It is here to show how much an unfair selection would have added."
)


def _costs(material: ReportData, backbone: str, per_label: int) -> Iterator[Part]:
    cells = material.groups_on(backbone, per_label)
    rows = []
    for cell in cells:
        memory, moved, total, seconds, evaluation = (
            cell.median(f"resources/{name}")
            for name in (
                "peak_memory_bytes", "trainable_parameters", "total_parameters", "train_seconds", "evaluation_seconds",
            )
        )  # fmt: skip
        known = moved == moved and total == total
        rows.append(
            (
                cell.variant,
                size(memory) if memory == memory else "-",
                f"{moved:,.0f} ({100 * moved / total:.3g} %)" if known else "-",
                f"{seconds:.2f} s" if seconds == seconds else "-",
                f"{evaluation:.2f} s" if evaluation == evaluation else "-",
            )
        )
    heads = ("strategy", "peak memory", "trainable parameters", "training", "evaluation")
    yield Table(f"costs-{backbone}", heads, rows, f"{per_label} examples per label; medians over distinct runs")
    for key in COSTS:
        figure = costs(material, backbone, per_label, key)
        if figure is not None:
            yield figure
