"""The finalists as one model: the mean of their probabilities, weighted by P(best)."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from effft.choice.answer import NOISE, Judged, short
from effft.choice.decision import HELD
from effft.choice.ledger import Ledger, Measurements
from effft.choice.plan import ChoicePlan
from effft.choice.posterior import Answers, Pooled, Unit, bounds_of, posterior
from effft.config import TrackingTarget
from effft.evaluation.cross_validation import evaluate_out_of_fold
from effft.evaluation.evaluate import metrics_of, metrics_of_slices, prediction_table
from effft.evaluation.metric_keys import CROSS_VALIDATED, MetricKey, collect, gaps, headlines, to_table
from effft.evaluation.metrics import Array
from effft.models.description import resolve_device
from effft.progress import ProgressCallback
from effft.runs.plan import Plan, prepare
from effft.serving.load import SavedModel, mean_scores
from effft.serving.save import save_average
from effft.strategies.calibration import Calibration, temperature
from effft.strategies.risk import risk_curve
from effft.tasks.task import Task
from effft.tracking import open_tracker
from effft.tracking.models import fetch
from effft.tracking.store import open_client
from effft.tracking.tracker import METRICS_TABLE, METRICS_TAG, Tracker, tracked


@dataclass(frozen=True)
class Average:
    """Finalists and their weights, which add up to 1, the heaviest first."""

    members: Sequence[Judged]

    @property
    def weights(self) -> list[float]:
        """P(best) among them."""
        total = sum(one.best for one in self.members)
        return [one.best / total for one in self.members] if len(self.members) > 1 else [1.0]

    @property
    def label(self) -> str:
        """'vanilla 0.62, lora 0.38'."""
        parts = zip(self.members, self.weights, strict=True)
        return ", ".join(f"{one.arm.candidate.label} {weight:.2f}" for one, weight in parts)

    @property
    def units(self) -> list[Unit]:
        """Those that all members were measured on."""
        return [unit for unit in self.members[0].arm.answers if all(unit in one.arm.answers for one in self.members)]

    def scores(self, unit: Unit) -> Array:
        """Of the rows of a unit, (rows, labels): the logarithms of the mean probabilities."""
        return mean_scores([np.array(one.arm.answers[unit]["scores"]) for one in self.members], self.weights)

    def answers(self, unit: Unit, task: Task) -> Answers:
        """As an arm has them."""
        first = self.members[0].arm.answers[unit]
        answers = [task.written(place) for place in self.scores(unit).argmax(axis=1).tolist()]
        return {**{name: first[name] for name in first if name in ("row", "label", "slices")}, "answer": answers}

    def judged(self, task: Task, metric: str) -> tuple[float, float, float]:
        """Its score over all rows of its units, with the ends of the 95 % interval, as of a finalist."""
        pooled = Pooled({unit: self.answers(unit, task) for unit in self.units}, task, metric)
        (low,), (high,) = bounds_of(posterior([pooled]))
        return pooled.score, float(low), float(high)

    def told(self, task: Task, metric: str) -> str:
        """What it is, and what it scores, without the end of a sentence."""
        value, low, high = self.judged(task, metric)
        latency, count = sum(one.arm.latency for one in self.members), len(self.units)
        folds = "fold that they share" if count == 1 else f"{count} folds that they share"
        return (
            f"The mean of the probabilities of {self.label} (weighted by P(best)) has {metric} {value:.3f} [{low:.3f}, "
            f"{high:.3f}] on the {folds}, and takes {short(latency)} ms a query"
        )

    def out_of_fold(self, rows: Sequence[int]) -> Array:
        """Scores of all rows by models that have not seen them, (seeds, rows, labels), of seeds with all folds."""
        found = list[Array]()
        for seed in dict.fromkeys(seed for seed, _ in self.units):
            of_row: dict[int, Array] = {}
            for fold in (fold for own, fold in self.units if own == seed):
                numbers = self.members[0].arm.answers[seed, fold]["row"]
                of_row |= zip(map(int, numbers), self.scores((seed, fold)), strict=True)
            found += [np.stack([of_row[row] for row in rows])] if of_row.keys() >= set(rows) else []
        return np.array(found)


def average_of(
    ledger: Measurements, plan: ChoicePlan, judged: Sequence[Judged], best: Judged
) -> tuple[Average, list[str]]:
    """The recommended one and all that are worth a part, as many as fit; and a sentence where that leaves some out."""
    worth = [one for one in judged if one.best >= NOISE or (one is best and one.best > 0)]
    found = sorted(worth, key=lambda one: -one.best)
    if any("scores" not in answers for one in found for answers in one.arm.answers.values()):
        return Average(found[:1]), ["The study was begun before scores were kept, so nothing is averaged (--study)."]
    held, limits, kept = ledger.once(HELD, float), plan.limits, list[Judged]()
    memory = latency = 0.0
    for one in found:
        memory += 4 * ledger.once(f"estimate/{one.arm.candidate.name}", dict).get("parameters", 0.0)
        latency += one.arm.latency
        if kept and (memory + held > limits.memory or latency > limits.latency):
            left = ", ".join(other.arm.candidate.label for other in found[len(kept) :])
            return Average(kept), [f"Left out of the mean, as memory or latency would not be kept: {left}."]
        kept.append(one)
    return Average(kept), []


def log_average(
    ledger: Ledger,
    plan: ChoicePlan,
    average: Average,
    run_ids: Sequence[str],
    target: TrackingTarget,
    parent: Tracker,
    last: float,
) -> str:
    """Save the mean of the models of these runs as a model, and evaluate it, in a run of its own; returns its id.

    Raises:
        RunError: it would end after `last` seconds of the choice.
    """

    def make() -> str:
        run, client = prepare(average.members[0].arm.candidate.config, ledger.session), open_client(target.uri)
        saved = [fetch(f"runs:/{run_id}/model", client) for run_id in run_ids]
        own = ("task", "backbone", "task_digest", "model_digest", "data_seed", "rows", "per_label")
        tags = {name: value for name, value in run.tags.items() if name in own}
        tags |= {"kind": "average", "choice": plan.study.name, "mlflow.parentRunId": parent.run_id}
        name = f"mean of {average.label}"
        ledger.progress("mean of the finalists", 0, 0)
        with (
            tracked(open_tracker(target, run.experiment, name, tags)) as tracker,
            tempfile.TemporaryDirectory(prefix="effft-average-") as place,
        ):
            tracker.params({"members": average.label, "runs": " ".join(run_ids)})
            device, guard = str(resolve_device(run.config.device)), ledger.until(last)
            models = [SavedModel.load(one, device) for one in saved]
            for split in run.evaluated.values():
                tracker.dataset(run.task.name, split.digest, split.name, split.origin, len(split))
            metrics, found = _evaluated(run, average, models, tracker, guard)
            guard("save", 0, 0)
            save_average(Path(place) / "saved", list(zip(saved, average.weights, strict=True)), name, metrics, **found)
            tracker.model(Path(place) / "saved", metrics)
            return tracker.run_id

    parts = [f"{run_id} {weight:.6f}" for run_id, weight in zip(run_ids, average.weights, strict=True)]
    return str(ledger.once(f"average/{' '.join(parts)} of {len(average.units)}", make))


def _evaluated(
    run: Plan, average: Average, models: Sequence[SavedModel], tracker: Tracker, progress: ProgressCallback
) -> tuple[dict[str, float], dict[str, object]]:
    """Its metrics, which are logged, and calibration and risk from the rows out of fold where all are known."""
    task, primary, found, metrics = run.task, run.resolved.metric, dict[str, object](), dict[str, float]()
    rows, calibration = run.draw.train, Calibration(1.0, (0.0,) * len(task.labels))
    whole = average.out_of_fold([example.index for example in rows])
    if len(whole):
        apart, labels = torch.from_numpy(whole), torch.tensor([example.label for example in rows])
        calibration = temperature(apart.flatten(0, 1), torch.cat([labels] * len(apart)))
        found = {"calibration": vars(calibration), "risk": vars(risk_curve(calibration(apart), labels))}
        estimate = evaluate_out_of_fold(task, rows, calibration(apart).numpy(), run.config.bootstrap)
        metrics |= estimate.metrics
        tracker.table(f"predictions/{CROSS_VALIDATED}", estimate.table)
    seconds = 0.0
    for name, split in run.evaluated.items():
        texts = [example.texts for example in split.examples]
        began = time.perf_counter()
        mean = mean_scores([one.score_texts(texts, progress) for one in models], average.weights)
        seconds += time.perf_counter() - began
        scores = calibration(torch.from_numpy(mean)).numpy()
        tracker.table(f"predictions/{name.replace('/', '_')}", prediction_table(task, split.examples, scores))
        if split.labelled:
            slices = task.split("train" if name == "validation" else name).slices
            own = metrics_of(task, split.examples, scores, slices, run.config.bootstrap)
            keyed = {str(MetricKey(name, key)): value for key, value in own.items()}
            of_slices = metrics_of_slices(task, name, split.examples, scores.argmax(axis=-1), slices)
            metrics = collect(metrics, keyed, of_slices)
    metrics |= gaps(metrics, primary)
    if seconds:
        metrics["resources/queries_per_second"] = sum(map(len, run.evaluated.values())) / seconds
    tracker.metrics(headlines(metrics, primary))
    tracker.table(METRICS_TABLE, to_table(metrics))
    tracker.tags({METRICS_TAG: f"{METRICS_TABLE}.json"})
    return metrics, found
