"""The model registry: `effft-<task>` with a version per winner; the champion is never chosen on test data."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from effft.errors import InputError
from effft.evaluation.metric_keys import CROSS_VALIDATED, splits_with
from effft.serving.manifest import Manifest, read_manifest
from effft.serving.model_card import card
from effft.tracking.models import amount_tags, fetch, model_of
from effft.tracking.sanitize import LONGEST_TAG, truncate
from effft.tracking.store import every, open_client

CHAMPION = "champion"


@dataclass(frozen=True)
class Version:
    """A version of a registered model. verdict: why it became champion or not, where it has just been registered."""

    name: str
    number: int
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    verdict: str = ""

    @property
    def validation(self) -> float | None:
        """The number that champions are compared on; None where it is unknown."""
        try:
            value = float(self.tags["validation"])
        except (KeyError, ValueError):
            return None
        return value if math.isfinite(value) else None


def register(
    run_id: str, tracking_uri: str = "", study: str = "", validation: float | None = None, chosen_on: str = ""
) -> Version:
    """Register the model that a run logged (`--log-model`) as a version of `effft-<task>`.

    The alias `champion` moves to the new version if its validation score (its cross-validated one, where it has one) is
    above the champion's, both were measured in the same way and by the same metric, and both were trained on the same
    content of the task; within one study the newest verdict counts. In-domain and OOD numbers are tags that nothing
    reads.

    Args:
        run_id: The run.
        tracking_uri: Its store.
        study: Name of the search that it won, for the tag.
        validation: The number to compare instead of the run's own validation metric (a mean over seeds or folds is a
            better estimate than one run).
        chosen_on: What that number was measured on, where it is not what the run has.

    Raises:
        InputError: There is no such run, it did not finish, or it logged no model.
    """
    client = open_client(tracking_uri)
    model_id = model_of(client, run_id)
    run = client.get_run(run_id)
    if run.info.status not in ("FINISHED", "RUNNING"):  # a run registers its own model just before it ends
        raise InputError(f"run {run_id} is {run.info.status}; only a finished run's model is registered.")
    record = read_manifest(fetch(f"runs:/{run_id}/model", client))
    task = record.task["name"]
    name, tags = f"effft-{task}", version_tags(record, run, study, validation, chosen_on)
    try:
        client.create_registered_model(name, description=f"Text classifiers for the task {task}.")
    except MlflowException:  # it exists
        client.get_registered_model(name)
    known = [v for v in client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'") if v.tags == tags]
    # a `models:/` source would be looked up in MLflow's global store, not in the client's
    source = client.get_logged_model(model_id).artifact_location
    about = truncate(card(record), LONGEST_TAG)
    created = (
        known or [client.create_model_version(name, source, run_id, tags, description=about, model_id=model_id)]
    )[0]
    version = Version(name, int(created.version), (), tags)
    old = champion(client, name)
    if reason := reason_against(version, old):
        return replace(version, verdict=f"{'the champion stays' if old else 'there is no champion yet'} ({reason})")
    client.set_registered_model_alias(name, CHAMPION, str(version.number))
    return replace(
        version, aliases=(CHAMPION,), verdict=f"champion by {tags.get('chosen_on', 'validation').replace('_', ' ')}"
    )


def version_tags(
    record: Manifest, run: Run, study: str, validation: float | None, chosen_on: str = ""
) -> dict[str, str]:
    """What a person chooses by: strategy, backbone, per_label, metrics, study, git commit, content of the task."""
    metrics, metric = record.metrics, record.metric
    split = CROSS_VALIDATED if f"{CROSS_VALIDATED}/{metric}" in metrics else "validation"
    value = metrics.get(f"{split}/{metric}") if validation is None else validation
    tags = {
        "task": str(record.task["name"]),
        "task_digest": run.data.tags.get("task_digest") or record_digest(record.task),
        "strategy": record.method,
        "backbone": record.base.name,
        **amount_tags(record),
        "seed": str(record.seeds[0]),
        "data_seed": str(record.seeds[1]),
        "metric": metric,
        "validation": "" if value is None else f"{value:.6f}",
        "chosen_on": chosen_on or (split if split == CROSS_VALIDATED else ""),
        "study": study or run.data.tags.get("study", ""),
        "git_commit": run.data.tags.get("git_commit", ""),
        "run": record.run,
    }
    for split in splits_with(metrics, metric):
        if split != "validation":
            tags[split] = f"{metrics[f'{split}/{metric}']:.6f}"
    return {key: truncate(text, LONGEST_TAG) for key, text in tags.items() if text}


def record_digest(record: Mapping[str, object]) -> str:
    """Digest of a task's record, for a run without a digest of record and data together."""
    return hashlib.sha256(json.dumps(record, sort_keys=True, default=str).encode()).hexdigest()[:16]


def champion(client: MlflowClient, name: str) -> Version | None:
    """The version that has the alias; None when none has."""
    try:
        version = client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException:
        return None
    return Version(name, int(version.version), (CHAMPION,), dict(version.tags))


def reason_against(new: Version, old: Version | None) -> str:
    """Why a new version does not become champion; '' when it does."""
    if new.validation is None:
        return "the new version has no validation; --cross-validation 10x3 or --selection validation gives a run one"
    if old is None or old.validation is None:
        return ""
    if new.tags.get("study") and new.tags.get("study") == old.tags.get("study"):
        return ""  # a study's new verdict replaces its old one
    if new.tags.get("metric") != old.tags.get("metric"):
        return f"it was chosen by another metric, {old.tags.get('metric')}"
    if new.tags.get("chosen_on", "") != old.tags.get("chosen_on", ""):
        return "one was measured by cross-validation and the other on a validation draw; move the alias by hand"
    if new.tags.get("task_digest") != old.tags.get("task_digest"):
        return "it was trained on other content of the task; move the alias by hand to replace it"
    return "" if new.validation > old.validation else "validation is not above its own"


def versions(client: MlflowClient, task: str = "") -> list[Version]:
    """All versions of the registered models of effft, or of one task's; the newest first within each."""
    models = {m.name: m for m in every(client.search_registered_models, filter_string="name LIKE 'effft-%'")}
    if task:
        if f"effft-{task}" not in models:
            tasks = ", ".join(name.removeprefix("effft-") for name in models) or "none"
            raise InputError(f"no model of task {task!r} is registered; tasks that have one: {tasks}.")
        models = {f"effft-{task}": models[f"effft-{task}"]}
    all_versions = []
    for name in models:
        aliases = client.get_registered_model(name).aliases
        for version in sorted(client.search_model_versions(f"name = '{name}'"), key=lambda v: -int(v.version)):
            number = int(version.version)
            names = tuple(alias for alias, owner in aliases.items() if int(owner) == number)
            all_versions.append(Version(name, number, names, dict(version.tags)))
    return all_versions
