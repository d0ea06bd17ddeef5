"""The model card: what a person reads on the registry's page and in the exported folder."""

import math

from effft.config import Amount
from effft.evaluation.metric_keys import splits_with
from effft.evaluation.metrics import FURTHER_METRICS, METRICS
from effft.serving.manifest import Manifest
from effft.templating import markdown_text, render


def plain(text: str) -> str:
    """Text that Markdown shows as it is: no HTML, no table cell that ends early."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("|", "\\|").replace("\n", " ")


def card(record: Manifest) -> str:
    """Markdown: what it is, what it reads, how good it is, what it stands on."""
    strategy = record.read_strategy()
    splits = splits_with(record.metrics, record.metric)
    measured = [name for name in (*METRICS, *FURTHER_METRICS) if any(f"{s}/{name}" in record.metrics for s in splits)]
    method = "none" if record.members else str(strategy.parameters.get("calibration", "none"))
    return render(
        "card.md",
        clean=plain,
        record=record,
        labels=list(map(markdown_text, record.labels)),
        calibration=", ".join([method] * (method != "none") + ["temperature"] * bool(record.risk)),
        examples=Amount.of(vars(record)).examples,
        strategy=strategy,
        names=(*measured, f"{record.metric}_majority" if record.multi_label else "majority"),
        splits=splits,
        nan=math.nan,
    )


def metadata(record: Manifest) -> str:
    """The front matter of a model card for the Hugging Face hub: what the model is, and its results (`model-index`)."""
    from huggingface_hub import EvalResult, ModelCardData

    names = {"mcc": "matthews_correlation", "macro_f1": "f1"}
    first = record.read_task().train.sources[0]
    results = [
        EvalResult(
            task_type="text-classification",
            dataset_type=first.hub.partition("@")[0] or record.task["name"],
            dataset_name=record.task["name"],
            dataset_split=split,
            metric_type=names.get(record.metric, record.metric),
            metric_value=value,
            metric_name=record.metric,
        )
        for split in splits_with(record.metrics, record.metric)
        if math.isfinite(value := record.metrics[f"{split}/{record.metric}"])
    ]
    data = ModelCardData(
        base_model=record.base.name if record.base.kind == "hub" else None,
        eval_results=results,
        model_name=record.run,
        pipeline_tag="text-classification",
        tags=["effft", record.method],
    )
    return f"---\n{data.to_yaml()}\n---\n\n"
