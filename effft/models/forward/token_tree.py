"""Several continuations of one prompt in one pass: shared beginnings are read once, a mask keeps the rest apart."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


class TokenTree:
    """Continuations as a tree below the last token of a prompt, in one row after it.

    Args:
        contexts: the nodes as the tokens from the prompt to them; the first is the prompt itself, (), and every other
            is there without its last token as well.

    Attributes:
        ids: the token of each node but the first, in order.
        depths: tokens from the prompt to each node, (nodes).
        sees: whether a node (row) has another (column) on its way from the prompt, or is it, (nodes, nodes).
    """

    def __init__(self, contexts: Sequence[tuple[int, ...]]) -> None:
        self.ids = tuple(context[-1] for context in contexts[1:])
        self.depths = torch.tensor([len(context) for context in contexts])
        self.sees = torch.tensor([[c[: len(other)] == other for other in contexts] for c in contexts])

    def places(self, length: int, start: int = 0) -> tuple[Tensor, Tensor]:
        """Positions from `start`, and nodes, of a prompt's tokens and the tree after them, (length + nodes - 1) each.

        Every token of the prompt counts as the first node.
        """
        positions = torch.cat([torch.arange(length), length - 1 + self.depths[1:]]) + start
        return positions, torch.cat([torch.zeros(length, dtype=torch.long), torch.arange(1, len(self.depths))])

    def inputs(
        self, prompts: Sequence[tuple[int, ...]], filler: int, device: torch.device
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Right-padded prompts with the tree after each, and the position and the row of every node of each prompt.

        The nodes are (prompts * nodes); the first of each prompt is its last token.
        """
        places = [self.places(len(prompt)) for prompt in prompts]
        positions, nodes = (pad_sequence([place[i] for place in places], batch_first=True) for i in (0, 1))
        owners = pad_sequence([torch.ones_like(part) for part, _ in places], batch_first=True)
        rows = [torch.tensor([*prompt, *self.ids]) for prompt in prompts]
        inputs = {
            "input_ids": pad_sequence(rows, batch_first=True, padding_value=filler).to(device),
            "attention_mask": visible(owners, positions, nodes, self)[:, None].to(device),
            "position_ids": positions.to(device),
        }
        lasts = torch.tensor([len(prompt) - 1 for prompt in prompts])
        read = lasts[:, None] + torch.arange(len(self.depths))
        numbers = torch.arange(len(prompts)).repeat_interleave(len(self.depths))
        return inputs, read.flatten().to(device), numbers.to(device)


NO_TREE = TokenTree([()])
"""Nothing after the prompt."""


def visible(owners: Tensor, positions: Tensor, nodes: Tensor, tree: TokenTree | None) -> Tensor:
    """Which token (row) sees which (column), (..., tokens, tokens).

    Those of the same owner, from its own position back; of a tree, those on its own way from the prompt.
    """
    seen = (owners[..., :, None] == owners[..., None, :]) & (positions[..., :, None] >= positions[..., None, :])
    return seen if tree is None else seen & tree.sees.to(nodes.device)[nodes[..., :, None], nodes[..., None, :]]
