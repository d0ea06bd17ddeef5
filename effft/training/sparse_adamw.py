"""AdamW on the rows of a matrix that ever had a gradient: those of the words that the training texts contain."""

import torch
from torch import Tensor, nn

from effft.models.precision import master_of, remainder_of


class SparseRowAdamW:
    """AdamW for a bf16 matrix (rows, width) with sparse gradients; the updates equal those of the whole matrix.

    A row without a gradient so far needs no moments: AdamW would leave both at zero and apply weight decay only.

    Args:
        copy: the bf16 matrix.
        remainder: what rounding took from its fp32 master.
        weight_decay: applied to every row.
        at_once: elements held in fp32 at a time.
    """

    def __init__(self, copy: nn.Parameter, remainder: Tensor, weight_decay: float, at_once: int) -> None:
        self.copy, self.remainder, self.weight_decay = copy, remainder, weight_decay
        self.at_once = max(1, at_once // copy.shape[1])
        self.rows = torch.empty(0, dtype=torch.long, device=copy.device)
        self.moments = torch.empty((2, 0, copy.shape[1]), device=copy.device)
        self.updates = torch.zeros((), device=copy.device)
        self._master = nn.Parameter(torch.empty(0, device=copy.device))  # filled during a step only
        self._adamw = torch.optim.AdamW([self._master], weight_decay=0.0, fused=True)

    def step(self, rate: float, scale: float) -> None:
        """One update by the gradient times `scale`; the gradient is freed."""
        given, self.copy.grad = self.copy.grad, None
        if given is None:
            return
        gradient = (given if given.is_sparse else given.to_sparse(1)).coalesce()
        rows_read, values = gradient.indices()[0], gradient.values()
        self._add_rows(rows_read)
        if self.weight_decay:
            self._decay(1 - rate * self.weight_decay)
        self._adamw.param_groups[0]["lr"] = rate
        for start in range(0, len(self.rows), self.at_once):
            rows = self.rows[start : start + self.at_once]
            inside = (rows_read >= rows[0]) & (rows_read <= rows[-1])
            dense = torch.zeros((len(rows), self.copy.shape[1]), device=self.copy.device)
            dense[torch.searchsorted(rows, rows_read[inside])] = values[inside].float().mul_(scale)
            self._update(rows, dense, self.moments[:, start : start + self.at_once])
        self.updates += 1

    def _add_rows(self, rows_read: Tensor) -> None:
        """Add moments for rows that never had a gradient; the rows stay in order."""
        new = rows_read[~torch.isin(rows_read, self.rows)]
        if not len(new):
            return
        rows, order = torch.cat([self.rows, new]).sort()
        fresh = self.moments.new_zeros((2, len(new), self.moments.shape[2]))
        self.rows, self.moments = rows, torch.cat([self.moments, fresh], dim=1)[:, order]

    def _update(self, rows: Tensor, gradient: Tensor, moments: Tensor) -> None:
        """The update of these rows by their gradient, in fp32."""
        self._master.data = master_of(self.copy.data[rows], self.remainder[rows])
        self._master.grad = gradient
        mean, square = moments
        self._adamw.state[self._master] = {"step": self.updates.clone(), "exp_avg": mean, "exp_avg_sq": square}
        self._adamw.step()
        rounded = self._master.data.bfloat16()
        self.copy.data[rows] = rounded
        self.remainder[rows] = remainder_of(self._master.data, rounded)
        self._master.grad, self._master.data = None, self._master.data.new_empty(0)

    def _decay(self, factor: float) -> None:
        """Decoupled weight decay, on every row."""
        parts = zip(*(torch.split(t, self.at_once) for t in (self.copy.data, self.remainder)), strict=True)
        for copy, remainder in parts:
            master = master_of(copy, remainder).mul_(factor)
            copy.copy_(master)
            remainder.copy_(remainder_of(master, copy))
