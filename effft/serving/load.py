"""Reading a saved model back: the same scores as the run logged, from any folder, without a network."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from effft.data.examples import Example
from effft.data.table import normalize_text
from effft.errors import InputError
from effft.evaluation.metrics import softmax
from effft.models.backbone import load
from effft.models.device_map import is_device_map
from effft.models.forward.attention import NARROW
from effft.models.lora import read_adapter
from effft.progress import ProgressCallback, silent
from effft.serving.base_model import locate
from effft.serving.manifest import Manifest, read_manifest
from effft.strategies.calibration import Calibration
from effft.strategies.learner import Learner
from effft.strategies.prompting import PromptEncoder
from effft.strategies.risk import FAILURE, RiskCurve
from effft.strategies.scoring import score_examples
from effft.strategies.trainable_parts import Everything


class SavedModel:
    """A learner as it was when its run ended.

    record: its manifest. fields: the text fields that a row must have. Requests that come at the same time, as from a
    server's threads, are answered one after another, because a pass puts hooks on the model.
    """

    def __init__(self, record: Manifest, learner: Learner) -> None:
        self.record, self.learner = record, learner
        self.fields, self.labels = record.fields, record.labels
        self.threshold = 0.0
        self._lock = threading.Lock()

    @staticmethod
    def load(folder: Path, device: str = "auto") -> "SavedModel":
        """Build the learner again and put back what moved.

        Raises:
            InputError: no saved model, its base is missing or another one, its weights do not fit.
        """
        if is_device_map(device):
            raise InputError(f"device={device}: a saved model is put back whole; give auto, cpu or cuda (--device).")
        record = read_manifest(folder, verify=True)
        if record.members:
            return AveragedModel(record, [SavedModel.load(folder / one.folder, device) for one in record.members])
        strategy, task = record.read_strategy(), record.read_task()
        name, revision = locate(record.base, folder)
        backbone = load(name, revision, strategy.needs_lm_head, device)
        demos = [Example(d.texts, d.label, row) for row, d in enumerate(record.demonstrations)]
        encoder = PromptEncoder(strategy, task, backbone, record.max_length, demos)
        generator = torch.Generator().manual_seed(record.seeds[0])
        learner = Learner(strategy, task, backbone, encoder, generator, record.precision)
        _put_back(learner, _read_tensors(folder, record, bool(backbone.adapter)), folder)
        backbone.model.requires_grad_(False).eval()
        learner.calibration = Calibration(**dict(record.calibration)) if record.calibration else None
        if backbone.width < NARROW:
            torch.set_num_threads(1)  # as its run did
        return SavedModel(record, learner)

    def abstain(self, error: float) -> None:
        """Withhold the least sure answers, so that at most a share `error` of the others is wrong.

        By the out-of-fold scores of its run: the promise is for texts like those that it was trained on, and is kept
        for 1 - FAILURE of the draws of training rows.

        Raises:
            InputError: the model knows no such scores, or cannot promise so little.
        """
        if self.record.risk is None:
            remedy = "choose it with more --minutes" if self.record.members else "train it with --cross-validation 10x3"
            raise InputError(
                "abstain: the model was saved without out-of-fold scores, so it cannot tell how often it errs; "
                f"{remedy}."
            )
        curve = RiskCurve(**dict(self.record.risk))
        threshold = curve.threshold(error)
        if threshold is None:
            needed, smallest = curve.rows_needed(error), curve.smallest
            more = (
                f"about {needed} rows would, if its surest answers stay as often right"
                if needed
                else ("its surest answers are wrong more often, so more rows of this kind would not either")
            )
            other = f"--abstain {smallest:g} is possible" if smallest else "no other share is possible either"
            raise InputError(
                f"abstain={error:g}: {curve.rows:.0f} training rows cannot promise it with {100 * (1 - FAILURE):.0f} % "
                f"certainty; {more}. {other}."
            )
        self.threshold = threshold

    def score_texts(self, texts: Sequence[Sequence[str]], progress: ProgressCallback = silent) -> NDArray[np.float64]:
        """Label scores of rows of texts in the order of `fields`, (rows, labels); the texts are read as they are.

        Where a text can have several labels, those of no and yes for each, (rows, labels, 2).

        Raises:
            RunError: a score is not a finite number.
        """
        examples = [Example(tuple(row), 0, number) for number, row in enumerate(texts)]
        if not examples:
            return np.empty((0, *self.learner.task.score_shape))
        with self._lock:
            scores = score_examples(self.learner, examples, progress, "predict")
            if self.learner.calibration:
                scores = self.learner.calibration(scores)
        values: NDArray[np.float64] = scores.double().numpy()
        return values

    def scores(self, rows: Sequence[Sequence[object]]) -> NDArray[np.float64]:
        """Label scores of rows of values in the order of `fields`, each value normalised as the run did it."""
        return self.score_texts([self._normalized(row, number) for number, row in enumerate(rows)])

    def answers(self, rows: Sequence[Sequence[object]]) -> list[dict[str, object]]:
        """One answer a row of values: `label`, `label_name`, and `probability_<label name>` for every label.

        Where a text can have several labels, `labels` is the list of their names.
        """
        return self.describe(self.scores(rows))

    def describe(self, scores: NDArray[np.float64]) -> list[dict[str, object]]:
        """Scores as answers; label and name, or the list of labels, are None where the answer is withheld."""
        names, task = self.record.answer_names, self.learner.task
        answers = []
        for chances in softmax(scores) if len(scores) else ():
            label, sure = chances.argmax(axis=-1).tolist(), chances.max(axis=-1).prod() >= self.threshold
            given = [task.named(label)] if task.multi_label else [label, *task.named(label)]
            shown = chances[:, 1] if task.multi_label else chances
            answers.append(dict(zip(names, (*(v if sure else None for v in given), *map(float, shown)), strict=True)))
        return answers

    def _normalized(self, row: Sequence[object], number: int) -> tuple[str, ...]:
        texts = []
        for name, value in zip(self.fields, row, strict=True):
            try:
                texts.append(normalize_text(value, self.record.normalization == "bytes_repr"))
            except ValueError as error:
                raise InputError(f"row {number}: {name!r} {error}.") from None
        return tuple(texts)


class AveragedModel(SavedModel):
    """A model that answers with the weighted mean of the probabilities of its members, each of the same task."""

    def __init__(self, record: Manifest, members: Sequence[SavedModel]) -> None:
        super().__init__(record, members[0].learner)
        self.members = members
        self.calibration = Calibration(**dict(record.calibration)) if record.calibration else None

    def score_texts(self, texts: Sequence[Sequence[str]], progress: ProgressCallback = silent) -> NDArray[np.float64]:
        """Logarithms of the mean probabilities, as `SavedModel` gives scores."""
        scores = mean_scores(
            [one.score_texts(texts, progress) for one in self.members], [one.weight for one in self.record.members]
        )
        return self.calibration(torch.from_numpy(scores)).numpy() if self.calibration else scores


def mean_scores(scores: Sequence[NDArray[np.float64]], weights: Sequence[float]) -> NDArray[np.float64]:
    """Logarithms of the mean of several models' probabilities, each (..., labels), by weights that add up to 1."""
    mean = sum(weight * softmax(one) for one, weight in zip(scores, weights, strict=True))
    found: NDArray[np.float64] = np.log(np.maximum(mean, np.finfo(np.float64).tiny))
    return found


def _read_tensors(folder: Path, record: Manifest, adapter: bool) -> dict[str, torch.Tensor]:
    """Name -> values of everything that moved outside `base/`; the head's names begin with 'head.'.

    adapter: whether peft reads the adapter itself.
    """
    tensors: dict[str, torch.Tensor] = {}
    try:
        if record.weights == "adapter" and not adapter:
            tensors |= read_adapter(folder / "adapter")
        if record.weights == "part":
            tensors |= load_file(folder / "weights.safetensors")
        if (folder / "head.safetensors").is_file():
            tensors |= {f"head.{name}": tensor for name, tensor in load_file(folder / "head.safetensors").items()}
    except (OSError, SafetensorError) as error:
        raise InputError(f"the weights of the model in {folder} cannot be read: {error}.") from None
    return tensors


def _put_back(learner: Learner, tensors: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Copy values into the parameters of the same names; a name or shape that does not fit is an InputError."""
    parameters = dict(learner.backbone.model.named_parameters())
    parameters |= {f"head.{n}": p for n, p in (learner.head.named_parameters() if learner.head else ())}
    expected = set(learner.trainable_parameters) if learner.strategy.trains else set()
    if learner.backbone.adapter:
        learner.backbone.adapter.load(folder / "adapter")
    if learner.backbone.adapter or isinstance(learner.strategy.trainable, Everything):  # then `base/` holds them
        expected = {name for name in expected if name.startswith("head.")}
    odd = sorted(set(tensors) ^ expected)
    odd = odd or [name for name, tensor in tensors.items() if parameters[name].shape != tensor.shape]
    if odd:
        raise InputError(
            f"the model in {folder} does not fit its record: {odd[0]!r} is missing or has another shape; "
            "fetch the model again, and its base."
        )
    with torch.no_grad():
        for name, tensor in tensors.items():
            parameters[name].copy_(tensor)
