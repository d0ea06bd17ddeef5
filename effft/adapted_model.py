"""An adapted model in Python: it predicts, is saved and pickled, and knows what its run measured."""

import shutil
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
from numpy.typing import NDArray

from effft.errors import InputError
from effft.evaluation.metrics import softmax
from effft.runs.experiment import Result
from effft.serving.load import SavedModel
from effft.serving.manifest import Manifest, read_manifest

if TYPE_CHECKING:
    from pandas import DataFrame

Rows: TypeAlias = Union[Sequence[str], Sequence[Sequence[str]], "DataFrame"]


class AdaptedModel:
    """A model that `save` wrote, or that a run made.

    Args:
        folder: The saved model; read when it is first used.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._place: tempfile.TemporaryDirectory[str] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """The bytes of the saved model's files, and everything else that is no cache of it."""
        files = {str(p.relative_to(self._folder)): p.read_bytes() for p in self._folder.rglob("*") if p.is_file()}
        kept = {name: value for name, value in vars(self).items() if name not in ("manifest", "_model")}
        return kept | {"_folder": files, "_place": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Write the files into a temporary folder of this process."""
        vars(self).update(state)
        self._place = tempfile.TemporaryDirectory(prefix="effft-adapted-")
        self._folder = Path(self._place.name) / "saved"
        for name, content in state["_folder"].items():
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    @cached_property
    def manifest(self) -> Manifest:
        """What the saved model says of itself."""
        return read_manifest(self._folder)

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names, in the order of the columns of `predict_proba`."""
        return self.manifest.labels

    @cached_property
    def _model(self) -> SavedModel:
        return SavedModel.load(self._folder)

    def predict(self, texts: Rows) -> list[Any]:
        """The label of each text; of each row of texts where the task has several text fields.

        Where a text can have several labels, the list of them.

        Args:
            texts: Texts; or rows of texts in the order of the fields; or a DataFrame with a column for each field.

        Raises:
            InputError: a value is no text, or a row has another number of texts.
        """
        task = self.manifest.read_task()
        names = [task.named(answer) for answer in self._scores(texts).argmax(axis=-1).tolist()]
        return names if task.multi_label else [name for (name,) in names]

    def predict_proba(self, texts: Rows) -> NDArray[np.float64]:
        """Probabilities, (rows, labels); `texts` as for `predict`."""
        probabilities = softmax(self._scores(texts))
        return probabilities[..., 1] if self.manifest.multi_label else probabilities

    def save(self, folder: str | Path) -> Path:
        """Copy the model to a new folder: `effft.load(folder)`, `effft predict --model FOLDER` read it.

        Raises:
            InputError: the folder is there already.
        """
        to = Path(folder).expanduser()
        if to.exists():
            raise InputError(f"folder {to}: it is there already; name a new one.")
        shutil.copytree(self._folder, to)
        return to

    def _scores(self, texts: Rows) -> NDArray[np.float64]:
        fields = self.manifest.fields
        if isinstance(texts, str):
            raise InputError("predict takes a list of texts; put the one text into a list.")
        if hasattr(texts, "columns"):
            frame: Any = texts
            texts = list(zip(*(frame[name] for name in _columns(frame, self.manifest)), strict=True))
        rows = [tuple(row) if isinstance(row, list | tuple | np.ndarray) else (row,) for row in texts]
        for number, row in enumerate(rows):
            if len(row) != len(fields):
                raise InputError(f"row {number}: {len(row)} texts where {len(fields)} are read ({', '.join(fields)}).")
        if not rows:
            return np.empty((0, *self.manifest.read_task().score_shape))
        return self._model.scores(rows)


class Adaptation(AdaptedModel):
    """What a run gave: the adapted model, and what it measured.

    result: metrics, notes and predictions. run_id: of the tracked run, '' where nothing is tracked.
    """

    def __init__(self, result: Result, run_id: str, place: "tempfile.TemporaryDirectory[str]") -> None:
        super().__init__(Path(place.name) / "saved")
        self.result, self.run_id, self._place = result, run_id, place  # the folder goes with the last reference

    @property
    def metrics(self) -> dict[str, float]:
        """Every number by its key, such as `in_domain/accuracy` or `ood/books/macro_f1_low`."""
        return self.result.metrics

    def __repr__(self) -> str:
        primary = self.result.primary
        shown = {k: round(v, 3) for k, v in self.metrics.items() if k.endswith(f"/{primary}") and "slice" not in k}
        return f"<Adaptation {self.result.name}: {shown}>"


def _columns(frame: Any, manifest: Manifest) -> list[Any]:
    """The columns of a DataFrame that hold the fields: of their names, or of the columns that the task reads."""
    sources = manifest.read_task().train.sources[0].fields
    known, found = [*map(str, frame.columns)], []
    for field in manifest.fields:
        names = [name for name in (field, *sources.get(field, ())) if name in known]
        if not names:
            raise InputError(f"the DataFrame has no column {field!r}; it has: {', '.join(known)}.")
        if known.count(names[0]) > 1:
            raise InputError(f"the DataFrame has two columns {names[0]!r}; rename one.")
        found.append(frame.columns[known.index(names[0])])
    return found
