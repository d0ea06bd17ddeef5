"""The model registry: `effft-<task>`, a version per winner; the champion is chosen on validation alone."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from effft.errors import InputError
from effft.serving.manifest import Manifest, read_manifest
from effft.serving.model_card import card
from effft.tracking.models import fetch, model_of, speaking_to
from effft.tracking.sanitize import LONGEST_TAG, safe_key, truncate
from effft.tracking.store import prepare_store, quiet_mlflow, resolve_uri

CHAMPION = "champion"


@dataclass(frozen=True)
class Version:
    """A registered version, and what its tags say. validation: what champions are compared on, None = unknown."""

    name: str
    number: int
    aliases: tuple[str, ...]
    tags: Mapping[str, str]

    @property
    def uri(self) -> str:
        """What every command takes as --model."""
        return f"models:/{self.name}@{CHAMPION}" if CHAMPION in self.aliases else f"models:/{self.name}/{self.number}"

    @property
    def validation(self) -> float | None:
        """The validation that the champion is chosen by."""
        try:
            value = float(self.tags["validation"])
        except (KeyError, ValueError):
            return None
        return value if math.isfinite(value) else None


def open_client(tracking_uri: str = "") -> MlflowClient:
    """A client of the store in use.

    Raises:
        InputError, RunError: the store cannot be opened.
    """
    quiet_mlflow()
    uri = resolve_uri(tracking_uri)
    prepare_store(uri)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def register(
    run_id: str, tracking_uri: str = "", study: str = "", validation: float | None = None, client: object = None
) -> Version:
    """Make a version of `effft-<task>` from the model that a run logged (`--log-model`), and see who is champion.

    The alias `champion` moves to the new version only if its validation is above that of the version that has it;
    in-domain and OOD numbers are tags to read, never looked at. A version with another metric takes no part.

    study: name of the search it won, for the tag. validation: the number to compare instead of the run's own
    `validation/<metric>` (a mean over seeds or folds is a better estimate than one run).

    Raises:
        InputError: no such run, it did not finish, or it logged no model.
    """
    own = client if isinstance(client, MlflowClient) else open_client(tracking_uri)
    model_id = model_of(own, run_id)
    run = own.get_run(run_id)
    if run.info.status not in ("FINISHED", "RUNNING"):  # a run registers its own model just before it ends
        raise InputError(f"run {run_id} is {run.info.status}; only a finished run's model is registered.")
    record = read_manifest(fetch(f"models:/{model_id}", own))
    name = f"effft-{record.task['name']}"
    try:
        own.create_registered_model(name, description=f"Text classifiers for the task {record.task['name']}.")
    except MlflowException:  # it is there
        own.get_registered_model(name)
    tags = version_tags(record, run, study, validation)
    about = truncate(card(record), LONGEST_TAG)
    with speaking_to(own):
        made = own.create_model_version(name, f"models:/{model_id}", run_id, tags, None, about, model_id=model_id)
    version = Version(name, int(made.version), (), tags)
    if _wins(version, champion(own, name)):
        own.set_registered_model_alias(name, CHAMPION, str(version.number))
        return Version(name, version.number, (CHAMPION,), tags)
    return version


def version_tags(record: Manifest, run: Run, study: str, validation: float | None) -> dict[str, str]:
    """What a person chooses by: strategy, backbone, per_label, metrics, study, git commit."""
    metrics, metric = record.metrics, record.metric
    value = metrics.get(f"validation/{metric}") if validation is None else validation
    known = {
        "task": str(record.task["name"]),
        "strategy": record.strategy,
        "backbone": record.base.name,
        "per_label": str(record.per_label),
        "seed": str(record.seeds[0]),
        "data_seed": str(record.seeds[1]),
        "metric": metric,
        "validation": "" if value is None else f"{value:.6f}",
        "study": study or run.data.tags.get("study", ""),
        "git_commit": run.data.tags.get("git_commit", ""),
        "run": record.run,
    }
    ends = f"/{metric}"
    for key, number in metrics.items():
        split = key.removesuffix(ends)
        if key.endswith(ends) and (split == "in_domain" or (split.startswith("ood/") and split.count("/") == 1)):
            known[split] = f"{number:.6f}"
    return {safe_key(key): truncate(text, LONGEST_TAG) for key, text in known.items() if text}


def champion(client: MlflowClient, name: str) -> Version | None:
    """The version that has the alias; None when none has."""
    try:
        found = client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException:
        return None
    return Version(name, int(found.version), (CHAMPION,), dict(found.tags))


def _wins(new: Version, old: Version | None) -> bool:
    if new.validation is None:
        return False
    if old is None or old.validation is None:
        return True
    return new.tags.get("metric") == old.tags.get("metric") and new.validation > old.validation


def versions(client: MlflowClient, task: str = "") -> list[Version]:
    """All versions of the registered models of effft, or of one task's; the newest first within each.

    Raises:
        InputError: the task has none.
    """
    names = [m.name for m in client.search_registered_models() if m.name.startswith("effft-")]
    if task:
        if f"effft-{task}" not in names:
            known = ", ".join(name.removeprefix("effft-") for name in names) or "none"
            raise InputError(f"no model of task {task!r} is registered; tasks that have one: {known}.")
        names = [f"effft-{task}"]
    found = []
    for name in names:
        aliases: dict[int, list[str]] = {}
        for alias, number in client.get_registered_model(name).aliases.items():
            aliases.setdefault(int(number), []).append(alias)
        page = client.search_model_versions(f"name = '{name}'")
        made = [Version(name, int(v.version), tuple(aliases.get(int(v.version), ())), dict(v.tags)) for v in page]
        found += sorted(made, key=lambda version: -version.number)
    return found
