"""The report of a task: what its runs say, as a page, as Markdown, as CSV files and as still figures."""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from effft.disk import written_whole
from effft.errors import InputError, RunError
from effft.progress import ProgressCallback, silent
from effft.redaction import redact
from effft.reports.advice import answer, oracle
from effft.reports.blocks import Block, Chart, Section, anchor
from effft.reports.csv_files import measures_csv, pairs_csv, results_csv, runs_csv
from effft.reports.data import ReportData, collect, select_runs
from effft.reports.difficulty import difficulty_section
from effft.reports.drawing import still_lines, stills
from effft.reports.groups import MEMORY, QUERY_TIME
from effft.reports.label_break_even import OVERTAKING, label_break_even
from effft.reports.page import markdown, page, page_data
from effft.reports.pairwise import Pair, pairs_of, pairs_section
from effft.reports.published import published_section
from effft.reports.results import ResultsTable, results_table
from effft.reports.searches import StudyRecord, read_studies, search_section, trials_csv
from effft.reports.slices import slice_tables
from effft.reports.under_way import under_way
from effft.reports.warnings import find_missing, find_warnings
from effft.strategies.strategy import SUMMARY
from effft.tracking.reading import RunReader, StoredRun

SEEDS = ["seed", "data_seed"]
RESULTS = (
    "Mean ± standard deviation over distinct runs of {metric}, with a 95 % interval over seed x data_seed (Student's); "
    "gap is in domain minus the mean of the OOD sets (out of domain); costs are medians. Majority: always the most "
    "frequent label; chance: guessing. “At chance” means that the interval (of a single run, that over its examples) "
    "holds chance."
)
CHOICES = (
    "For every strategy: the OOD score of the run that validation chooses, and of the run that its OOD score would "
    "choose. The last column says how far a choice among the seeds could get; nobody can make it without OOD labels, "
    "and nothing in this project does."
)
METRICS = {
    "accuracy": "share of right answers",
    "mcc": "Matthews correlation: 1 is perfect, 0 is guessing",
    "macro_f1": "mean over the labels of precision and recall together",
    "micro_f1": "precision and recall of all labels together",
    "quadratic_kappa": "agreement on ordered labels: 1 is perfect, 0 is guessing",
}
"""Metrics in words, for who has not met them."""

SCORES = (
    "Small dots are single runs, the mark is their mean with its 95 % interval over seed x data_seed. Dotted: "
    "chance; dashed: always the most frequent label."
)
RING = " A ring is a run far below the others of its strategy."
TRADE = (
    "The dashed line joins the strategies that no other beats in both. Bars are 95 % intervals, dots are single runs; "
    "a cost is the median of its runs. Any two numbers can be set against each other."
)
LEARNING = "Means over distinct runs against the number of labelled examples."
SLICES = (
    "Accuracy, mean over distinct runs; n is the number of examples. In each group those slices come first on which "
    "the strategies that train differ most, and those of fewer than 30 examples last."
)
BREAK_EVEN = (
    "Seconds of training and answering together: training time + queries x time per query. Where two lines cross, the "
    "strategy that trains longer has paid for itself. The number behind a name is its score in domain."
)


@dataclass(frozen=True)
class Report:
    """A finished report.

    Args:
        data: The runs that it is about.
        files: Name -> text: the page, its Markdown twin, the CSV files and the still figures.
        tables: The table of results of every backbone.
        warnings: Sentences that a reader must know.
        under_way: Whether a comparison of the task still runs; known where the report is refreshed.
    """

    data: ReportData
    files: dict[str, str]
    tables: dict[str, ResultsTable]
    warnings: Sequence[str]
    under_way: bool = False

    @property
    def runs(self) -> int:
        """How many runs it holds."""
        return len(self.data.frame)

    def write(self, folder: Path, small: bool = False) -> Path:
        """Write every file whole or not at all; returns the page.

        Args:
            folder: Where to; figures of an earlier report go when this one is small.
            small: Leave out the page and the two long tables, runs.csv and measures.csv.

        Raises:
            RunError: The folder cannot be written; files of an earlier report stay as they were.
        """
        names = [name for name in self.files if not small or name not in ("report.html", "runs.csv", "measures.csv")]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with ExitStack() as drafts:
                for name in names:
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    draft = drafts.enter_context(written_whole(folder / name))
                    draft.write_text(self.files[name], encoding="utf-8")
            for old in folder.glob("*.svg") if small else ():
                if old.name not in names:
                    old.unlink()
        except OSError as error:
            raise RunError(f"the report cannot be written to {folder} ({error}); name another with --out.") from None
        return folder / "report.html"


def build(
    reader: RunReader,
    task: str,
    experiment: str = "",
    parent: str = "",
    command: str = "",
    progress: ProgressCallback = silent,
    mlflow_url: str = "",
    refresh: int = 0,
    more: Sequence[StoredRun] = (),
) -> Report:
    """Read the runs of a task back from MLflow and make everything of the report.

    Args:
        reader: Reads the store.
        task: Name of the task.
        experiment: MLflow experiment ('' = `effft/<task>`).
        parent: Only the runs under this run, or under several ('id,id').
        command: What makes the report again; stands at its foot.
        progress: Told the stages.
        mlflow_url: Where the MLflow server answers that the page's links lead to ('' = the store's server, or that of
            `mlflow ui`).
        refresh: Seconds after which a browser loads the page again while comparisons of the task run (0 = never).
        more: Runs from elsewhere than MLflow.

    Raises:
        InputError: There is no such experiment, or the address of the server is none.
    """
    if mlflow_url and not mlflow_url.startswith(("http://", "https://")):
        raise InputError(
            f"mlflow_url={mlflow_url!r}: the page's links need an address such as http://127.0.0.1:5000 "
            "(flag --mlflow-url)."
        )
    progress("read runs", 0, 0)
    experiment = experiment or f"effft/{task}"
    frame, names = collect(reader, experiment, parent, more)
    data, studies = select_runs(frame, task), read_studies(reader, task, names)
    progress("statistics", 0, 0)
    places = [(backbone, amount) for backbone in data.backbones for amount in data.amounts(backbone)]
    pairs = [pair for backbone, amount in places for pair in pairs_of(data, backbone, amount)]
    tables = {backbone: results_table(data, backbone) for backbone in data.backbones}
    warnings, missing = find_warnings(data), find_missing(data)
    progress("figures", 0, 0)
    running = list(under_way(reader, task)) if refresh else []
    sections = [Section("under-way", "Under way", running)] if running else []
    sections += _sections(data, tables, pairs, (warnings, missing), studies)
    day = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    title, lead = f"{task}: which strategy works best, and at what cost", _lead(data)
    command = redact(portable(command))
    foot = f"Made {day} from {experiment} by effft." + (f" Again: {command}" if command else "")
    charts = [block for section in sections for block in section.blocks if isinstance(block, Chart)]
    still = {name: svg for b in data.backbones for name, svg in stills(data, b, data.amounts(b)[-1]).items()}
    files = {
        "report.html": page(
            title, lead, sections, foot, page_data(data, mlflow_url or reader.server), refresh if running else 0
        ),
        "report.md": markdown(title, lead, sections, command),
        "runs.csv": runs_csv(data),
        "results.csv": results_csv(data),
        "measures.csv": measures_csv(data),
        "differences.csv": pairs_csv(pairs),
        **({"trials.csv": trials_csv(studies)} if studies else {}),
        **still,
        **{chart.still: still_lines(chart) for chart in charts if chart.kind == "lines"},
    }
    return Report(data, files, tables, [*warnings, *missing], bool(running))


def portable(command: str) -> str:
    """A command line without the folders of this machine: paths below the working folder, of others the last part."""

    def short(found: re.Match[str]) -> str:
        path = Path(found[2])
        return found[1] + (str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else path.name)

    return re.sub(r"(?<![^\s='\"])((?:sqlite:///)?)(/[^\s'\"]+)", short, command)


def _lead(data: ReportData) -> str:
    frame = data.frame
    if not len(frame):
        return "No finished run of this task has been measured yet."
    return (
        f"{len(frame)} finished runs of {frame['strategy'].nunique()} strategies on {', '.join(data.backbones)}; "
        f"{_seeds(frame)} of the shots; metric {data.primary}"
        + (f" ({METRICS[data.primary]})" if data.primary in METRICS else "")
        + (". In domain: examples like those that were trained on; OOD, out of domain: others." if data.sets else ".")
    )


def _seeds(frame: pd.DataFrame) -> str:
    """'5 seeds and 2 draws' where each was run with each, else '5 pairs of seed and draw'."""
    pairs, seeds, draws = (len(frame[names].drop_duplicates()) for names in (SEEDS, SEEDS[:1], SEEDS[1:]))
    if pairs < seeds * draws:
        return f"{pairs} pairs of a seed and a draw"
    return f"{_count(frame, 'seed', 'seed')} and {_count(frame, 'data_seed', 'draw')}"


def _count(frame: pd.DataFrame, column: str, word: str) -> str:
    count = frame[column].nunique()
    return f"{count} {word}{'s' * (count != 1)}"


def _sections(
    data: ReportData,
    tables: dict[str, ResultsTable],
    pairs: list[Pair],
    notes: tuple[list[str], list[str]],
    studies: list[StudyRecord],
) -> Iterator[Section]:
    """The sections that have something to show."""
    if data.groups:
        for place, backbone in enumerate(data.backbones):
            on = f" on {backbone}" if len(data.backbones) > 1 else ""
            yield Section(f"answer-{place}", f"In short{on}", [answer(data, backbone, studies)])
        last = {backbone: data.amounts(backbone)[-1] for backbone in data.backbones}
        still = [(f"overview-{b}-{last[b].name}.svg", f"cost-{b}-peak-memory-mb.svg") for b in data.backbones]
        costs = any(group.median(MEMORY) == group.median(MEMORY) for group in data.groups)
        names = dict.fromkeys(group.strategy for group in data.groups if group.strategy in SUMMARY)
        about = SCORES + RING * any(group.fallen() for group in data.groups)
        about += f" Strategies: {'; '.join(f'{name} ({SUMMARY[name]})' for name in names)}." if names else ""
        scores = Chart("scores", "Scores of every strategy", about, still=anchor(still[0][0]))
        yield Section("scores", "Scores", [scores])
        trade = Chart("trade", "Score against cost", TRADE, still=anchor(still[0][1]) if costs else "")
        yield Section("costs", "Score against cost", [trade])
        results = [
            replace(table.block(intervals=True, wide=True), caption=backbone, where={"backbone": backbone})
            for backbone, table in tables.items()
        ]
        more = [further for table in tables.values() if (further := table.further())]
        yield Section("results", "Results", [*results, RESULTS.format(metric=data.primary), *more])
        if len({group.amount for group in data.groups}) > 1:
            overtaken = [found for b in data.backbones if (found := label_break_even(data.groups_on(b), b))]
            curves: list[Block] = [Chart("learning", "Score against examples", LEARNING)]
            curves += [OVERTAKING, *overtaken] if overtaken else []
            yield Section("learning", "Learning curves", curves)
        if any(group.median(QUERY_TIME) == group.median(QUERY_TIME) for group in data.groups):
            yield Section("even", "Break-even", [Chart("even", "Total time against queries", BREAK_EVEN)])
        sliced = [table for backbone in data.backbones for table in slice_tables(data, backbone, last[backbone])]
        if sliced:
            yield Section("slices", "Slices", [SLICES, *sliced])
        yield Section("differences", "Differences between strategies", pairs_section(data, pairs))
    if studies:
        yield Section("searches", "Searches", list(search_section(studies)))
    if len(data.other_difficulty):
        yield Section("difficulty", "At another difficulty", list(difficulty_section(data)))
    if published := list(published_section(data)):
        yield Section("published", "Beside published results", published)
    if choices := oracle(data):
        yield Section("choices", "What a choice among the seeds could add", [CHOICES, choices])
    yield Section("notes", "Notes", [notes[0] or "There are none."])
    if notes[1]:
        yield Section("missing", "Missing cells", [notes[1]])
