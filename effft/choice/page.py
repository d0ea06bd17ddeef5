"""The answer of a choice as a page: its sentences, score against each cost, every candidate."""

from collections.abc import Mapping, Sequence

from effft.choice.answer import Judged
from effft.choice.ledger import Arm
from effft.reports.blocks import Block, Chart, Section, Table
from effft.reports.colors import look
from effft.reports.page import page

ABOUT = "What lies to the left and above costs less and scores more; hover for the interval of a finalist."
NOTHING: Mapping[str, object] = {
    "metric": "", "home": "", "splits": [], "measures": [], "backbones": [], "amounts": [], "references": {},
    "groups": [], "mlflow": "",
}  # fmt: skip
"""What a page draws from that is about no runs."""


def answer_page(
    title: str, lead: str, sentences: Sequence[str], table: Table, arms: Sequence[Arm], judged: Sequence[Judged]
) -> str:
    """The page. arms: that were measured; judged: the finalists among them."""
    ends = {one.arm: [one.mean, one.low, one.high] for one in judged}
    shown = [arm for arm in arms if arm.scores and not arm.candidate.control]

    def chart(name: str, costs: Sequence[float]) -> Chart:
        lines = [
            {"name": arm.candidate.label, "look": look(arm.candidate.config.strategy, arm.candidate.label)}
            | {"dashed": False, "points": [[cost, *ends.get(arm, [arm.mean] * 3)]]}
            for arm, cost in zip(shown, costs, strict=True)
        ]
        return Chart("lines", f"Score against {name}", ABOUT, {"x": name, "y": table.heads[1], "lines": lines})

    charts: list[Block] = [
        chart("seconds of a training", [arm.resource("train_seconds") for arm in shown]),
        chart("peak memory, MB", [arm.resource("peak_memory_mb") for arm in shown]),
        chart("milliseconds a query", [arm.latency for arm in shown]),
    ]
    sections = [
        Section("answer", "The answer", [list(sentences)]),
        Section("costs", "Score against cost", charts),
        Section("candidates", "Every candidate", [table]),
    ]
    return page(title, lead, sections, "Made by effft choose.", NOTHING, 0)
