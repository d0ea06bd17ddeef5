"""The numbers of one run, on one panel."""

from typing import TYPE_CHECKING

from effft.cli.console import console
from effft.runs.compare import references

if TYPE_CHECKING:
    from effft.runs.experiment import Result


def megabytes(count: float) -> str:
    """Bytes as MB."""
    return f"{count / 1e6:,.0f} MB"


def score(result: "Result", split: str) -> str:
    """'0.612 [0.551, 0.668]': the primary metric of a split with its 95 % interval where there is one."""
    key = f"{split}/{result.primary}"
    low, high = result.metrics.get(f"{key}_low"), result.metrics.get(f"{key}_high")
    interval = f"  [{low:.3f}, {high:.3f}]" if low is not None and high is not None else ""
    return f"{result.metrics[key]:.3f}{interval}"


def summary_lines(result: "Result", opens: str) -> list[tuple[str, str]]:
    """Label and text of every line of the panel."""
    config, metrics = result.config, result.metrics
    lines = [
        ("strategy", result.name),
        ("task", f"{config.task}   backbone {config.model}   {config.per_label} examples per label"),
    ]
    splits = ["in_domain", *(f"ood/{name}" for name in result.ood)]
    for split in splits:
        majority, chance = references(result, split)
        known = f"majority {majority:.3f}, chance {chance:.3f}"
        lines.append((f"{split} {result.primary}", f"{score(result, split)}   {known}"))
    evaluation = metrics["resources/evaluation_seconds"]
    moved, total = metrics["resources/trainable_parameters"], metrics["resources/total_parameters"]
    lines += [
        ("trainable", f"{100 * moved / total:.3g} % ({moved:,.0f} of {total:,.0f} parameters)"),
        ("peak memory", f"{megabytes(metrics['resources/peak_memory_bytes'])} above the start"),
        ("time", f"training {metrics['resources/train_seconds']:.1f} s, evaluation {evaluation:.1f} s"),
    ]
    lines += [("note", note) for note in result.notes]
    return lines + ([("look", opens)] if opens else [])


def print_summary(result: "Result", opens: str) -> None:
    """The panel, on stdout."""
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for label, text in summary_lines(result, opens):
        grid.add_row(Text(label, style="dim"), Text(text))
    console().print(Panel(grid, title=f"effft · {result.config.strategy}", expand=False))
