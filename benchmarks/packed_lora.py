"""Several LoRA trials in one pass over a frozen model: what a packed step would cost, against one after another.

Not a part of effft: packed trials were removed as they are no faster on a CPU (docs/notes/speed.md). On a GPU, whose
launches cost more than its products, 1.2 times the speed would bring them back.
"""

import time
from pathlib import Path

import torch
from torch import Tensor, nn

RANK, BATCH, LENGTH, STEPS = 8, 8, 32, 5
TARGETS = ("q_proj", "v_proj")


class PackedLoRA(nn.Module):
    """A frozen linear map with an adapter for each of the trials, whose rows follow one another in the batch."""

    def __init__(self, base: nn.Linear, trials: int) -> None:
        super().__init__()
        self.base, self.trials = base, trials
        weight = base.weight
        down = torch.randn(trials, base.in_features, RANK) / base.in_features**0.5
        self.down = nn.Parameter(down.to(weight))
        self.up = nn.Parameter(weight.new_zeros((trials, RANK, base.out_features)))

    def forward(self, states: Tensor) -> Tensor:
        """(trials x batch, length, inputs) -> (trials x batch, length, outputs)."""
        rows = states.reshape(self.trials, -1, states.shape[-1])
        delta: Tensor = rows @ self.down @ self.up
        out: Tensor = self.base(states) + 2 * delta.view(*states.shape[:-1], -1)
        return out


def step_seconds(folder: Path, trials: int, device: str) -> float:
    """Median seconds of a training step of so many trials in one pass, each with 8 texts of 32 tokens."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, dtype=torch.bfloat16).to(device).requires_grad_(False)
    for name, module in list(model.named_modules()):
        if name.endswith(TARGETS):
            setattr(model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], PackedLoRA(module, trials))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    ids = torch.randint(5, 1000, (trials * BATCH, LENGTH), device=device)
    seconds = []
    for _ in range(STEPS + 1):
        start = time.perf_counter()
        model(input_ids=ids).last_hidden_state[:, -1].float().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return sorted(seconds[1:])[STEPS // 2]
