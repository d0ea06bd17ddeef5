"""The model card: what a person reads on the registry's page and in the exported folder."""

import math

from effft.config import Amount
from effft.evaluation.metric_keys import splits_with
from effft.evaluation.metrics import FURTHER_METRICS, METRICS
from effft.serving.manifest import Manifest
from effft.templating import render


def plain(text: str) -> str:
    """Text that Markdown shows as it is: no HTML, no table cell that ends early."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("|", "\\|").replace("\n", " ")


def card(record: Manifest) -> str:
    """Markdown: what it is, what it reads, how good it is, what it stands on."""
    strategy = record.read_strategy()
    splits = splits_with(record.metrics, record.metric)
    measured = [name for name in (*METRICS, *FURTHER_METRICS) if any(f"{s}/{name}" in record.metrics for s in splits)]
    method = str(strategy.parameters.get("calibration", "none"))
    return render(
        "card.md",
        clean=plain,
        record=record,
        calibration=", ".join([method] * (method != "none") + ["temperature"] * bool(record.risk)),
        examples=Amount.of(vars(record)).examples,
        strategy=strategy,
        names=(*measured, f"{record.metric}_majority" if record.multi_label else "majority"),
        splits=splits,
        nan=math.nan,
    )
