"""The section on searches: how validation rose trial by trial, which parameters mattered, what was chosen."""

from collections.abc import Iterator, Sequence

from effft.reports.blocks import Figure, Part, Table, Text
from effft.reports.csv_files import text_of
from effft.reports.figures import Trace, axis_title, shown
from effft.reports.studies import Study
from effft.reports.style import colours

MOST = 8
"""Studies in one figure; the table holds all."""

FEW_TRIALS = 30


def search_parts(studies: Sequence[Study]) -> Iterator[Part]:
    """A table, the history, the importances, and what each study ended with."""
    names = labels(studies)
    yield _table(studies, names)
    drawn = [study for study in studies if study.complete][-MOST:]
    if drawn:
        yield history(drawn, names)
    known = [study for study in drawn if study.importances]
    if known:
        yield importances(known, names)
    for study in studies:
        if study.verdict:
            yield Text((f"{names[study.name]}: {' '.join(study.verdict)}",))


def labels(studies: Sequence[Study]) -> dict[str, str]:
    """Study -> 'lora, 8 per label'; its own name where that would name two."""
    short = {study.name: f"{study.strategy}, {study.per_label} per label" for study in studies}
    counts = list(short.values())
    return {name: label if counts.count(label) == 1 else f"{label} ({name})" for name, label in short.items()}


def _table(studies: Sequence[Study], names: dict[str, str]) -> Table:
    rows = []
    for study in studies:
        counts = study.counts()
        best = study.best_so_far()
        fresh = study.parent["metrics"].get(f"validation/{study.metric}")
        winner = study.winner
        values = ", ".join(f"{key}={_short(value)}" for key, value in winner.values.items()) if winner else "-"
        rows.append(
            (
                names[study.name],
                study.backbone,
                ", ".join(f"{count} {state}" for state, count in counts.items()) or "none",
                f"{best[-1][1]:.3f}" if best else "-",
                f"{fresh:.3f}" if fresh is not None else "-",
                ", ".join(f"{key} {value:.2f}" for key, value in study.importances[:3]) or "-",
                values,
            )
        )
    heads = (
        "study",
        "backbone",
        "trials",
        "best validation",
        "winner on fresh seeds",
        "what mattered",
        "chosen values",
    )
    about = "Selection on validation alone; the best of noisy trials is too good to be true, so it is measured again."
    return Table("studies", heads, rows, about, (0, 1, 2, 5, 6))


def _short(value: str) -> str:
    """Numbers with three digits, names as they are."""
    try:
        return f"{float(value):.3g}"
    except ValueError:
        return value


def history(studies: Sequence[Study], names: dict[str, str]) -> Figure:
    """A mark a complete trial, and the best so far as a line."""
    looks = colours(study.name for study in studies)
    data: list[Trace] = []
    for study in studies:
        colour, name = looks[study.name], shown(names[study.name])
        best = study.best_so_far()
        shared = {"type": "scatter", "legendgroup": name}
        data.append(
            shared
            | {
                "mode": "markers",
                "name": name,
                "x": [trial.number for trial in study.complete],
                "y": [trial.value for trial in study.complete],
                "text": [_tried(trial.values) for trial in study.complete],
                "marker": {"color": colour, "size": 8, "opacity": 0.7},
                "hovertemplate": "%{fullData.name}, trial %{x}: %{y:.3f}<br>%{text}<extra></extra>",
            }
        )
        data.append(
            shared
            | {
                "mode": "lines",
                "name": f"{name}, best so far",
                "showlegend": False,
                "x": [number for number, _ in best],
                "y": [value for _, value in best],
                "line": {"color": colour, "shape": "hv"},
                "hoverinfo": "skip",
            }
        )
    metrics = ", ".join(dict.fromkeys(study.metric for study in studies))
    layout = {"xaxis": axis_title("trial"), "yaxis": axis_title(f"validation {metrics}"), "height": 420}
    about = "A mark is a complete trial, the line the best so far. Pruned and failed trials are in the table only."
    return Figure("history", "History of the searches", about, data, layout)


def _tried(values: dict[str, str]) -> str:
    return shown(", ".join(f"{key}={_short(value)}" for key, value in values.items()))


def importances(studies: Sequence[Study], names: dict[str, str]) -> Figure:
    """Bars: the share of the spread in validation that each parameter explains."""
    looks = colours(study.name for study in studies)
    data: list[Trace] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": shown(names[study.name]),
            "x": [value for _, value in study.importances],
            "y": [shown(key) for key, _ in study.importances],
            "marker": {"color": looks[study.name]},
            "hovertemplate": "%{fullData.name}, %{y}: %{x:.2f}<extra></extra>",
        }
        for study in studies
    ]
    parameters = {key for study in studies for key, _ in study.importances}
    layout = {
        "xaxis": axis_title("share of the spread") | {"range": [0, 1]},
        "yaxis": {"automargin": True, "type": "category", "categoryorder": "total ascending"},
        "barmode": "group",
        "height": 160 + len(parameters) * (16 + 12 * len(studies)),
    }
    about = "How much of the spread in validation each parameter explains (fANOVA over the complete trials)."
    if any(len(study.complete) < FEW_TRIALS for study in studies):
        about += f" Fewer than {FEW_TRIALS} trials, so read it as a hint."
    return Figure("importances", "What mattered in the searches", about, data, layout)


def trials_csv(studies: Sequence[Study]) -> str:
    """A line a trial and parameter."""
    heads = ("study", "strategy", "backbone", "per_label", "trial", "state", "metric", "value", "parameter", "tried")
    rows = [
        [study.name, study.strategy, study.backbone, study.per_label, trial.number, trial.state, study.metric,
         trial.value, key, tried]
        for study in studies
        for trial in study.trials
        for key, tried in (trial.values or {"": ""}).items()
    ]  # fmt: skip
    return text_of(heads, rows)
