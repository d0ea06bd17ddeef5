"""Files of a run or a model in the place that the store names: written, and seen to have arrived.

MLflow's client remembers the place that it was told first. After an empty answer that is the current folder, for good.
"""

import posixpath
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

Files = Any  # MLflow's ArtifactRepository, which has no types.


@lru_cache(256)
def artifacts_of(client: MlflowClient, run_id: str) -> Files:
    """Where the files of a run are."""
    info = client.get_run(run_id).info
    return artifacts_at(client, info.artifact_uri if info.run_id == run_id else "")


def artifacts_at(client: MlflowClient, location: str | None) -> Files:
    """The files at an address that the store gave."""
    if not location:
        raise MlflowException("it does not say where files go")
    return get_artifact_repository(location, tracking_uri=str(client.tracking_uri))


def put_text(files: Files, path: str, content: str) -> None:
    """Write a text in UTF-8."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / posixpath.basename(path)
        file.write_text(content, encoding="utf-8")
        files.log_artifact(str(file), posixpath.dirname(path) or None)


def check_files(files: Files, sent: Mapping[str, int]) -> None:
    """Look for files, given as path and bytes.

    Raises:
        MlflowException: One is missing, or of another size.
    """
    folders = {posixpath.dirname(path) or None for path in sent}
    found = {file.path: file.file_size for folder in folders for file in files.list_artifacts(folder)}
    for path, size in sent.items():
        if path not in found or found[path] not in (size, None):
            raise MlflowException(f"it answered with success, but has no {path} of {size:,} bytes")
