"""Runs of a store; and runs as `execute` leaves them, written straight into one, or held in memory, for the report."""

from collections.abc import Sequence

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag

from effft.tracking.reading import RunReader, StoredRun


def runs_in(uri: str, experiment: str = "effft/dogs", words: str = "") -> list[Run]:
    """The runs of an experiment, the latest first. words: a filter of MLflow's."""
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return list(client.search_runs([found.experiment_id], words))


def measured(strategy: str, inside: float) -> dict[str, float]:
    """Every metric that the report looks at."""
    return {
        "in_domain/accuracy": inside, "in_domain/majority": 0.55, "in_domain/chance": 0.5, "train/loss": inside / 3,
        "ood/far/accuracy": 0.5 + inside / 100, "ood/far/majority": 0.5, "ood/far/chance": 0.5,
        "ood/far/slice/length.long/accuracy": 0.4, "validation/accuracy": 1 - inside,
        "resources/peak_memory_bytes": 1e6 * len(strategy),
        "resources/trainable_parameters": 10.0 * len(strategy), "resources/total_parameters": 1e4,
        "resources/train_seconds": float(len(strategy)), "resources/evaluation_seconds": 0.5,
    }  # fmt: skip


class InMemory(RunReader):
    """Reads runs that no store holds; there are no searches."""

    server = "http://127.0.0.1:5000"

    def __init__(self, runs: Sequence[StoredRun]) -> None:
        self.stored = list(runs)

    def runs_of(self, experiment: str) -> list[StoredRun]:
        return self.stored

    def experiments(self) -> list[str]:
        return ["effft/dogs"]

    def studies(self, task: str) -> list[StoredRun]:
        return []

    def comparisons(self, task: str) -> list[StoredRun]:
        return [run for run in self.stored if run.tags.get("kind") == "comparison"]

    def children(self, parent: StoredRun, kind: str = "") -> list[StoredRun]:
        return [run for run in self.stored if run.tags.get("mlflow.parentRunId") == parent.run_id]


def stored(
    strategy: str,
    seed: int,
    draw: int = 0,
    per_label: int = 8,
    backbone: str = "m",
    without: str = " ",
    **metrics: float,
) -> StoredRun:
    """A finished run in memory, with other values of some metrics (`in_domain__accuracy=0.9`).

    without: metrics whose keys hold this are left out.
    """
    known = measured(strategy, 0.6 + 0.013 * seed + 0.0031 * draw + len(strategy) / 100 + per_label / 1000)
    known["resources/peak_memory_mb"] = known.pop("resources/peak_memory_bytes") / 1e6 + seed
    known |= {f"ood/far/slice/topic.{name}/accuracy": 0.3 + seed / 50 + len(strategy + name) / 97 for name in "ab"}
    known |= {f"ood/far/slice/topic.{name}/examples": n for name, n in (("a", 40.0), ("b", 60.0))}
    known |= {"validation/examples": 50.0, "in_domain/examples": 150.0, "resources/queries_per_second": 700.0 + seed}
    known |= {key.replace("__", "/"): value for key, value in metrics.items()}
    known = {key: value for key, value in known.items() if without not in key}
    tags = {"strategy": strategy, "task": "dogs", "backbone": backbone, "per_label": str(per_label), "seed": str(seed)}
    params = {"metric": "accuracy", "rank": "8", "learning_rate": "0.001"}
    place = f"{int.from_bytes(f'{strategy} {seed} {draw} {per_label}'.encode()) % 16**32:032x}"
    return StoredRun(place, f"{strategy} {seed}", "FINISHED", seed, known, params, {}, {**tags, "data_seed": str(draw)})


def log(
    client: MlflowClient,
    home: str,
    strategy: str,
    seed: int = 0,
    draw: int = 0,
    settings: dict[str, object] | None = None,
    **other: object,
) -> str:
    """A finished run (status: or one that is not) with every metric that the report looks at."""
    task, backbone, status = (
        str(other.pop(k, d)) for k, d in (("task", "dogs"), ("backbone", "m"), ("status", "FINISHED"))
    )
    per_label, score = int(str(other.pop("per_label", 8))), other.pop("score", None)
    tags = {"strategy": strategy, "task": task, "backbone": backbone, "per_label": str(per_label), "seed": str(seed)}
    tags |= {"data_seed": str(draw), **{k: str(v) for k, v in other.items()}}
    run = client.create_run(home, run_name=f"{strategy} {seed}", tags=tags).info.run_id
    inside = float(str(score)) if score is not None else 0.6 + 0.01 * seed + 0.003 * draw + len(strategy) / 100
    metrics = measured(strategy, inside)
    if other.pop("bare", None) is not None:
        metrics = {"train/loss": 1.0}
    params = [Param("resolved.metric", "accuracy"), Param("resolved.rank", str(other.get("rank", "8")))]
    params += [Param(key, str(value)) for key, value in (settings or {}).items()]
    client.log_batch(run, [Metric(k, v, 0, 0) for k, v in metrics.items()], params, [RunTag("x", "y")])
    if status != "RUNNING":
        client.set_terminated(run, status)
    return run
