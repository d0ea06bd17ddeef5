"""A saved model in MLflow's pyfunc form: signature, requirements, code, and the class that answers requests."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature, set_model
from mlflow.pyfunc.model import PythonModel
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array

from effft.errors import EffftError
from effft.serving.manifest import Manifest, read_manifest
from effft.tracking.store import configure_mlflow

PACKAGE = Path(__file__).parent.parent
NEEDED = (
    "mlflow", "torch", "transformers", "peft", "safetensors", "tokenizers", "numpy", "pandas", "scikit-learn",
    "pydantic", "pyyaml", "click", "psutil",
)  # fmt: skip
"""Packages that a model needs where it is served; the installed versions are pinned."""

ARTIFACT = "saved"  # Name of the saved model among the pyfunc model's artifacts.


class ServedModel(PythonModel):
    """Answers rows of the task's text fields with label, label name and a probability per label."""

    def load_context(self, context: Any) -> None:
        """Read the model once, when the server starts."""
        from effft.serving.load import SavedModel

        self.model = SavedModel.load(Path(context.artifacts[ARTIFACT]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row of answers per row of texts. The signature comes from `signature_of`: MLflow infers none here."""
        rows = [tuple(row) for row in model_input[list(self.model.fields)].itertuples(index=False)]
        try:
            return pd.DataFrame(self.model.answers(rows), columns=list(self.model.record.answer_names))
        except EffftError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None


def signature_of(record: Manifest) -> ModelSignature:
    """The task's text fields in; label and its name, or the list of labels, and one probability per label out."""
    kinds: dict[str, Any] = {"label": DataType.long, "label_name": DataType.string, "labels": Array(DataType.string)}
    texts = Schema([ColSpec(DataType.string, name) for name in record.fields])
    answers = Schema([ColSpec(kinds.get(n, DataType.double), n) for n in record.answer_names])
    return ModelSignature(texts, answers)


def requirements() -> Iterator[str]:
    """'torch==2.13.0' and so on, without the local part of a version ('+cpu')."""
    for name in NEEDED:
        try:
            yield f"{name}=={version(name).split('+')[0]}"
        except PackageNotFoundError:
            continue


@contextmanager
def pyfunc_folder(saved: Path, model_id: str, run_id: str) -> Iterator[Path]:
    """A pyfunc model around the folder that `serving.save` wrote, in a temporary place.

    It contains this package's code without any weights, so that a server needs nothing but the requirements.
    """
    configure_mlflow()
    record = read_manifest(saved)
    with tempfile.TemporaryDirectory(prefix="effft-model-") as name:
        code, folder = Path(name) / "code" / PACKAGE.name, Path(name) / "model"
        shutil.copytree(PACKAGE, code, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors", "tiny_lm", "cli"))
        mlflow.pyfunc.save_model(
            path=str(folder),
            python_model=__file__,
            artifacts={ARTIFACT: str(saved)},
            code_paths=[str(code)],
            signature=signature_of(record),
            input_example=pd.DataFrame([{name: f"a {name} to be labelled" for name in record.fields}]),
            pip_requirements=list(requirements()),
            mlflow_model=Model(model_id=model_id, run_id=run_id),
        )
        yield folder


set_model(ServedModel())  # MLflow keeps this file as the code of a model (no pickle) and runs it to load the model
