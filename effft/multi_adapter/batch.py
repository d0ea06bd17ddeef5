"""Whose the rows of a pass are, and what the trials of a pack have in common."""

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from effft.models.backbone import Backbone
from effft.models.forward.sequence_packing import PackedSequences


class AdapterBatch:
    """Whose the rows of a batch are: `owners[i]` is the trial of row i, and a trial's rows stand together.

    Trials with fewer rows than another are filled up with zeros for the products of the adapters alone. Where prompts
    stand close together, `spans` has (trial, tokens), and nothing is filled up.
    """

    def __init__(
        self, owners: Sequence[int], trials: int, device: torch.device, packing: PackedSequences | None = None
    ) -> None:
        self.prompts = counts = Counter(owners)
        self.spans = spans(owners, packing) if packing is not None else None
        self.owners = torch.tensor(list(owners), device=device)
        self.count, self.trials, self.most = len(owners), len(counts), max(counts.values())
        self.present = None if len(counts) == trials else torch.tensor(list(counts), device=device)
        self.place: Tensor | None = None
        if len(set(counts.values())) > 1:
            places = [at * self.most + i for at, n in enumerate(counts.values()) for i in range(n)]
            self.place = torch.tensor(places, device=device)
        self._last: tuple[Tensor, Tensor] | None = None

    def spans_of(self, count: int) -> list[tuple[int, int]] | None:
        """`spans` of what has so many rows: a row a token, or a row a prompt and filler (`models/answering.py`)."""
        if self.spans is None or count == sum(size for _, size in self.spans):
            return self.spans
        found = list(self.prompts.items())
        trial, own = found[-1]
        return [*found[:-1], (trial, own + count - self.count)]

    def of(self, stacked: Tensor) -> Tensor:
        """The trials that have rows here, of (trials, ...)."""
        return stacked if self.present is None else stacked.index_select(0, self.present)

    def together(self, states: Tensor) -> Tensor:
        """(rows, ..., width), or the same with its rows and tokens in one axis, as (trials, tokens, width)."""
        if self._last is None or self._last[0] is not states:  # query, key and value read the same states
            self._last = (states, self._together(states))
        return self._last[1]

    def _together(self, states: Tensor) -> Tensor:
        width = states.shape[-1]
        parameter_dtype = states.reshape(self.count, -1, width)
        if self.place is not None:
            empty = parameter_dtype.new_zeros((self.trials * self.most, *parameter_dtype.shape[1:]))
            parameter_dtype = empty.index_copy(0, self.place, parameter_dtype)
        return parameter_dtype.reshape(self.trials, -1, width)

    def apart(self, states: Tensor) -> Tensor:
        """(trials, tokens, width) as (rows, tokens of a row, width)."""
        parameter_dtype = states.reshape(self.trials * self.most, -1, states.shape[-1])
        return parameter_dtype if self.place is None else parameter_dtype.index_select(0, self.place)


def spans(owners: Sequence[int], packing: PackedSequences) -> list[tuple[int, int]]:
    """(trial, tokens) in the order of the row; the last one has the filler too, which no loss depends on."""
    sizes: dict[int, int] = {}
    for owner, length in zip(owners, packing.lengths, strict=True):
        sizes[owner] = sizes.get(owner, 0) + length
    sizes[owners[-1]] += packing.filler
    return list(sizes.items())


def inside_model(backbone: Backbone) -> str:
    """What the name of a module of the body starts with in the whole model: '' or 'model.decoder.'."""
    path = next(name for name, module in backbone.model.named_modules() if module is backbone.body)
    return f"{path}." if path else ""


def parameter_dtype(dtype: torch.dtype) -> torch.dtype:
    """What a parameter of this arithmetic is kept in."""
    return torch.float32 if dtype == torch.bfloat16 else dtype


def adapter_bytes(weights: Mapping[str, Tensor]) -> int:
    """What a trial of these parameters adds to a pack: values, gradient, and two means."""
    return 4 * sum(weight.numel() * weight.element_size() for weight in weights.values())
