"""Reading a saved model back: the same scores as the run logged, from any folder, without a network."""

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from effft.data.examples import Example
from effft.errors import InputError
from effft.evaluation.metrics import softmax
from effft.models.backbone import load
from effft.models.device_map import is_device_map
from effft.models.lora import read_adapter
from effft.models.pretrained import find_corruption
from effft.serving.base_model import locate
from effft.serving.manifest import Manifest, read_manifest
from effft.strategies.learner import Learner
from effft.strategies.parts import Verbalizer
from effft.strategies.prompting import PromptEncoder
from effft.strategies.scoring import predict

NARROW = 256
"""Hidden size below which a second CPU thread costs more than it gives."""


class SavedModel:
    """A learner as it was when its run ended.

    record: what it says of itself. fields: the text fields a row must have. Requests that come at the same time, as a
    server's threads send them, are answered one after another: a pass puts hooks on the model.
    """

    def __init__(self, record: Manifest, learner: Learner) -> None:
        self.record, self.learner = record, learner
        self.fields, self.labels = record.fields, record.labels
        self._alone = threading.Lock()

    @staticmethod
    def load(folder: Path, device: str = "auto") -> "SavedModel":
        """Build the learner again and put back what moved.

        Raises:
            InputError: no saved model, its base is missing or another one, its weights do not fit.
        """
        if is_device_map(device):
            raise InputError(f"device={device}: a saved model is put back whole; give auto, cpu or cuda (--device).")
        record = read_manifest(folder)
        strategy, task = record.read_strategy(), record.read_task()
        name, revision = locate(record.base, folder)
        backbone = load(name, revision, isinstance(strategy.head, Verbalizer), device)
        demos = [Example(d.texts, d.label, row) for row, d in enumerate(record.demonstrations)]
        reader = PromptEncoder(strategy, task, backbone, record.max_length, demos)
        generator = torch.Generator().manual_seed(record.seeds[0])
        learner = Learner(strategy, task, backbone, reader, generator, record.precision)
        _put_back(learner, read_tensors(folder, record), folder)
        backbone.model.requires_grad_(False).eval()
        return SavedModel(record, learner)

    def scores(
        self, rows: Sequence[Sequence[str]], watch: Callable[[int, int], None] = lambda done, total: None
    ) -> NDArray[np.float64]:
        """Label scores of rows of texts in the order of `fields`, (rows, labels)."""
        examples = [Example(tuple(texts), 0, row) for row, texts in enumerate(rows)]
        if not examples:
            return np.empty((0, len(self.labels)))
        with self._alone:
            scores = predict(self.learner, self.learner.items(examples), watch=watch)
        found: NDArray[np.float64] = scores.double().numpy()
        return found

    def answers(self, rows: Sequence[Sequence[str]]) -> list[dict[str, object]]:
        """One answer a row: `label`, `label_name`, and `probability_<label name>` for every label."""
        chances = softmax(self.scores(rows)) if rows else np.empty((0, len(self.labels)))
        return [
            {"label": int(row.argmax()), "label_name": self.labels[int(row.argmax())]}
            | {f"probability_{name}": float(p) for name, p in zip(self.labels, row, strict=True)}
            for row in chances
        ]


def use_few_threads(model: SavedModel) -> None:
    """One CPU thread for a narrow model, as its run used."""
    if model.learner.backbone.width < NARROW:
        torch.set_num_threads(1)


def read_tensors(folder: Path, record: Manifest) -> dict[str, torch.Tensor]:
    """Name -> values of everything that moved outside `base/`; the head's names begin with 'head.'."""
    found: dict[str, torch.Tensor] = {}
    try:
        if record.weights == "adapter":
            found |= read_adapter(folder / "adapter")
        if record.weights == "part":
            found |= load_file(folder / "weights.safetensors")
        if (folder / "head.safetensors").is_file():
            found |= {f"head.{name}": tensor for name, tensor in load_file(folder / "head.safetensors").items()}
    except (OSError, SafetensorError) as error:
        said = next((f for f in (find_corruption(folder / part) for part in ("", "adapter", "base")) if f), str(error))
        raise InputError(f"the weights of the model in {folder} cannot be read: {said}.") from None
    return found


def _put_back(learner: Learner, tensors: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Copy values into the parameters of the same names; a name or shape that does not fit is an InputError."""
    own = dict(learner.backbone.model.named_parameters())
    own |= {f"head.{n}": p for n, p in (learner.head.named_parameters() if learner.head else ())}
    expected = set(learner.trainable_parameters) if learner.strategy.trains else set()
    if learner_is_whole(learner):
        expected = {name for name in expected if name.startswith("head.")}
    if set(tensors) != expected:
        odd = sorted(set(tensors) ^ expected)[0]
        raise InputError(f"the model in {folder} does not fit its record: {odd!r} is on one side only.")
    with torch.no_grad():
        for name, tensor in tensors.items():
            if own[name].shape != tensor.shape:
                raise InputError(f"the model in {folder} does not fit its record: {name!r} has another shape.")
            own[name].copy_(tensor)


def learner_is_whole(learner: Learner) -> bool:
    """Whether every pre-trained parameter moved, so that `base/` holds them."""
    from effft.strategies.parts import Everything

    return isinstance(learner.strategy.trainable, Everything)
