"""The model card: what a person reads on the registry's page and in the exported folder."""

from effft.config import Amount
from effft.evaluation.metric_keys import splits_with
from effft.evaluation.metrics import METRICS
from effft.serving.manifest import Manifest


def plain(text: str) -> str:
    """Text that Markdown shows as it is: no HTML, no table cell that ends early."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("|", "\\|").replace("\n", " ")


def card(record: Manifest) -> str:
    """Markdown: what it is, what it reads, how good it is, what it stands on."""
    labels = ", ".join(f"{place} = {plain(name)}" for place, name in enumerate(record.labels))
    seed, data_seed = record.seeds
    lines = [
        f"# {plain(record.run)}",
        "",
        f"Text classifier for the task `{plain(str(record.task['name']))}`, adapted with the strategy "
        f"`{record.strategy}` from {Amount.of(vars(record)).examples} "
        f"(seed {seed}, data_seed {data_seed}).",
        "",
        f"- Reads: {', '.join(f'`{name}`' for name in record.fields)}. Answers: {labels}.",
        f"- Stands on: {_base(record)}.",
        f"- Arithmetic: {record.precision}; texts are cut to {record.max_length} tokens.",
    ]
    strategy = record.read_strategy()
    if record.demonstrations and strategy.parameters["demonstrations"] == "nearest":
        count = len(record.demonstrations)
        lines.append(f"- Before every text stand the {strategy.shots} of {count} demonstrations nearest to it.")
    elif record.demonstrations:
        lines.append(f"- {len(record.demonstrations)} demonstrations stand before every text.")
    if record.calibration:
        method = strategy.parameters["calibration"]
        of = ", to the in-domain test texts of the run (transductive)" if method == "batch" else ""
        lines.append(f"- Scores are calibrated ({method}){of}.")
    return "\n".join([*lines, "", *_table(record)]) + "\n"


def _base(record: Manifest) -> str:
    base = record.base
    at = f" at revision `{base.revision}`" if base.revision else ""
    if record.weights == "full":
        return f"`{plain(base.name)}`{at}, every weight of which moved; the whole model is inside"
    held = {"inside": "inside this model", "folder": f"SHA-256 {base.sha256[:16]}...", "hub": "on the hub"}
    return f"`{plain(base.name)}`{at}, {held[base.kind]}"


def _table(record: Manifest) -> list[str]:
    metrics = record.metrics
    rows = [f"| split | examples | {' | '.join(METRICS)} | majority |", "| --- " * (len(METRICS) + 3) + "|"]
    for split in splits_with(record.metrics, record.metric):
        cells = [f"{metrics.get(f'{split}/{name}', float('nan')):.3f}" for name in METRICS]
        count, majority = metrics.get(f"{split}/examples", 0), metrics.get(f"{split}/majority", float("nan"))
        rows.append(f"| {split} | {count:.0f} | {' | '.join(cells)} | {majority:.3f} |")
    return [*rows, "", f"Main metric: {record.metric}. Nothing was selected on in-domain or OOD examples."]
