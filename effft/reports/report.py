"""The report of a task: what its runs say, as a page, as Markdown, as CSV files and as still figures."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from effft.disk import written_whole
from effft.errors import RunError
from effft.progress import ProgressCallback, silent
from effft.reports.advice import COSTS, oracle, recommendation
from effft.reports.blocks import Block, Figure, Section
from effft.reports.csv_files import pairs_csv, results_csv, runs_csv
from effft.reports.data import ReportData, collect, select_runs
from effft.reports.difficulty import difficulty_section
from effft.reports.drawing import still_figure
from effft.reports.figures import costs, learning_curve, overview, scatter, slices
from effft.reports.page import markdown, page
from effft.reports.pairwise import Pair, pairs_of, pairs_section
from effft.reports.published import published_section
from effft.reports.results import ResultsTable, results_table
from effft.reports.searches import StudyRecord, read_studies, search_section, trials_csv
from effft.reports.warnings import find_warnings
from effft.tracking.reading import RunReader

RESULTS = (
    "Mean ± standard deviation over distinct runs of {metric}, with a 95 % bootstrap interval over seed x data_seed; "
    "gap is in domain minus the mean of the OOD sets; costs are medians. “At chance” means that the interval holds "
    "what guessing scores. An interval from fewer than 5 runs is rough."
)
ORACLE = (
    "What choosing a run by its OOD score would have given. No one can choose so without OOD labels, and nothing in "
    "this project does. The last column shows how much such a choice would have added."
)


@dataclass(frozen=True)
class Report:
    """A finished report.

    Args:
        data: The runs that it is about.
        files: Name -> text: the page, its Markdown twin, the CSV files and the still figures.
        tables: The table of results of every backbone.
        warnings: Sentences that a reader must know.
    """

    data: ReportData
    files: dict[str, str]
    tables: dict[str, ResultsTable]
    warnings: Sequence[str]

    @property
    def runs(self) -> int:
        """How many runs it holds."""
        return len(self.data.frame)

    def write(self, folder: Path, small: bool = False) -> Path:
        """Write every file whole or not at all; returns the page.

        Args:
            folder: Where to; figures of an earlier report go when this one is small.
            small: Leave out the page, and the line for every run in runs.csv.

        Raises:
            RunError: The folder cannot be written; files of an earlier report stay as they were.
        """
        names = [name for name in self.files if not small or name not in ("report.html", "runs.csv")]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with ExitStack() as drafts:
                for name in names:
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
) -> Report:
    """Read the runs of a task back from MLflow and make everything of the report.

    Args:
        reader: Reads the store.
        task: Name of the task.
        experiment: MLflow experiment ('' = `effft/<task>`).
        parent: Only the runs under this run, or under several ('id,id').
        command: What makes the report again; stands at its foot.
        progress: Told the stages.

    Raises:
        InputError: There is no such experiment.
    """
    progress("read runs", 0, 0)
    experiment = experiment or f"effft/{task}"
    frame, names = collect(reader, experiment, parent)
    data, studies = select_runs(frame, task), read_studies(reader, task, names)
    progress("statistics", 0, 0)
    pairs = [p for b in data.backbones for n in data.amounts(b) for p in pairs_of(data, b, n)]
    tables = {backbone: results_table(data, backbone) for backbone in data.backbones}
    warnings = find_warnings(data)
    progress("figures", 0, 0)
    sections = list(_sections(data, tables, pairs, warnings, studies))
    day = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    title, lead = f"{task}: which strategy works best, and at what cost", _lead(data)
    foot = f"Made {day} from {experiment} by effft." + (f" Again: {command}" if command else "")
    figures = [block for section in sections for block in section.blocks if isinstance(block, Figure) and block.still]
    files = {
        "report.html": page(title, lead, sections, foot),
        "report.md": markdown(title, lead, sections, command),
        "runs.csv": runs_csv(data),
        "results.csv": results_csv(data),
        "differences.csv": pairs_csv(pairs),
        **({"trials.csv": trials_csv(studies)} if studies else {}),
        **{figure.file_name: still_figure(figure) for figure in figures},
    }
    return Report(data, files, tables, warnings)


def _lead(data: ReportData) -> str:
    frame = data.frame
    if not len(frame):
        return "No finished run of this task has been measured yet."
    return (
        f"{len(frame)} finished runs of {frame['strategy'].nunique()} strategies on {', '.join(data.backbones)}; "
        f"{frame['seed'].nunique()} seeds and {frame['data_seed'].nunique()} draws of the shots; metric {data.primary}."
    )


def _sections(
    data: ReportData,
    tables: dict[str, ResultsTable],
    pairs: list[Pair],
    warnings: list[str],
    studies: list[StudyRecord],
) -> Iterator[Section]:
    """The sections that have something to show: those on every backbone, then those on the task."""
    for backbone in data.backbones:
        on = f" on {backbone}" if len(data.backbones) > 1 else ""
        last, choice = data.amounts(backbone)[-1], oracle(data, backbone)
        main = tables[backbone].block(intervals=True)
        differences = pairs_section(data, backbone, [pair for pair in pairs if pair.backbone == backbone])
        where = [scatter(data, backbone), learning_curve(data, backbone)]
        where += [slices(data, backbone, last, split) for split in data.splits]
        contents: list[tuple[str, Sequence[Block | None]]] = [
            ("In short", [recommendation(data, backbone)]),
            (
                "Results",
                [main, RESULTS.format(metric=data.primary), tables[backbone].further(), overview(data, backbone, last)],
            ),
            ("Differences between strategies", differences),
            ("Where it works and where not", where),
            ("What it costs", [costs(data, backbone, last, key) for key in COSTS]),
            ("Choosing on OOD data, which no one can", [ORACLE, choice] if choice else []),
        ]
        for title, blocks in contents:
            known = [block for block in blocks if block is not None]
            if known:
                yield Section(f"{'advice' if title == 'In short' else title}-{backbone}", f"{title}{on}", known)
    if len(data.other_difficulty):
        yield Section("difficulty", "At another difficulty", list(difficulty_section(data)))
    if studies:
        yield Section("searches", "Searches", list(search_section(studies)))
    if published := list(published_section(data)):
        yield Section("published", "Beside published results", published)
    title = "Warnings" if data.groups else "What is missing"
    yield Section("warnings", title, [warnings or "There are none."])
