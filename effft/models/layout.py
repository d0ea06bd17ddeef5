"""The layout of a transformer: its blocks, embeddings, norms and linear maps, whatever their names."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from effft.errors import InputError

EXPERTS = ("router", "gate_score")
"""Parts of names of linear maps that route tokens to experts; LoRA does not adapt them."""

QUERY_VALUE = {
    "q_proj", "v_proj", "query", "value", "q_lin", "v_lin", "q", "v", "query_proj", "value_proj",
    "c_attn", "query_key_value", "qkv_proj", "Wqkv", "qkv", "Wq", "Wv", "att_proj", "in_proj",
}  # fmt: skip
"""Names of query and value projections; a model that fuses query, key and value has one map for all three."""


@dataclass(frozen=True)
class ModelLayout:
    """The parts of a transformer body. Paths are module names within the body.

    stacks: the blocks; of an encoder-decoder those of the encoder, then those of the decoder. paths: of the stacks.
    """

    stacks: tuple[tuple[nn.Module, ...], ...]
    paths: tuple[str, ...]
    embeddings: tuple[nn.Module, ...]
    final_norms: tuple[nn.Module, ...]

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        """All blocks, in the order in which they run."""
        return tuple(block for stack in self.stacks for block in stack)

    @property
    def depth(self) -> int:
        """Blocks of the shortest stack."""
        return min(map(len, self.stacks))

    def groups(self) -> dict[int, str]:
        """Id of a parameter -> 'blocks', 'embeddings' or 'final_norm'."""
        parts = (("final_norm", self.final_norms), ("blocks", self.blocks), ("embeddings", self.embeddings))
        return {id(p): name for name, modules in parts for module in modules for p in module.parameters()}


def find_layout(body: nn.Module, sides: Sequence[str] = ("",)) -> ModelLayout:
    """Find the transformer blocks (the longest ModuleList of one class), and the embeddings and norms beside them.

    Args:
        body: the transformer.
        sides: how the paths of each stack of blocks begin.

    Raises:
        InputError: no such list.
    """
    lists = [(path, m) for path, m in body.named_modules() if isinstance(m, nn.ModuleList) and _uniform(m)]
    lists = [(path, m) for path, m in lists if not any(path.startswith(p + ".") for p, _ in lists if p != path)]
    if not lists:
        raise InputError(f"{type(body).__name__}: no list of transformer blocks found, so this model is not supported.")
    found = [max((item for item in lists if item[0].startswith(side)), key=_size) for side in sides]
    paths = tuple(path for path, _ in found)
    beside = [(name, module) for name, module in body.named_modules() if not name.startswith(paths) and name]
    embeddings = tuple(m for n, m in beside if isinstance(m, nn.Embedding) or _is_embedding_norm(n, m))
    norms = tuple(m for n, m in beside if is_norm(m) and not _is_embedding_norm(n, m))
    return ModelLayout(tuple(tuple(blocks) for _, blocks in found), paths, embeddings, norms)


def _size(item: tuple[str, nn.ModuleList]) -> tuple[int, int]:
    return len(item[1]), sum(p.numel() for p in item[1].parameters())


def _uniform(modules: nn.ModuleList) -> bool:
    return len(modules) > 0 and len({type(m) for m in modules}) == 1 and any(True for _ in modules.parameters())


def is_norm(module: nn.Module) -> bool:
    """Whether it is a norm with parameters, by the name of its class."""
    return "norm" in type(module).__name__.lower() and any(True for _ in module.parameters(recurse=False))


def _is_embedding_norm(name: str, module: nn.Module) -> bool:
    return is_norm(module) and "emb" in name.lower()


def _is_linear(module: nn.Module) -> bool:
    """Whether it is nn.Linear, or GPT-2's Conv1D (the same with its weight transposed)."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def in_out_features(module: nn.Module) -> tuple[int, ...]:
    """(inputs, outputs) of a linear map."""
    if isinstance(module, nn.Linear):
        return (module.in_features, module.out_features)
    return tuple(module.get_parameter("weight").shape)


def linear_paths(body: nn.Module, layout: ModelLayout, which: str) -> list[str]:
    """Module names (within the body) of the blocks' linear maps: 'query_value', 'attention' or 'all'.

    Raises:
        InputError: the model has none of that kind.
    """
    inside = tuple(path + "." for path in layout.paths)
    linear = [n for n, m in body.named_modules() if n.startswith(inside) and _is_linear(m)]
    linear = [n for n in linear if not any(word in n for word in EXPERTS)]
    if which == "attention":
        linear = [n for n in linear if "attn" in n.lower() or "attention" in n.lower()]
    elif which == "query_value":
        linear = [n for n in linear if n.rsplit(".", 1)[-1] in QUERY_VALUE and ("att" in n.lower())]
    if not linear:
        raise InputError(
            f"lora_modules={which}: no such linear maps are known in {type(body).__name__}; take --lora-modules all."
        )
    return linear


def add_biases(body: nn.Module, layout: ModelLayout) -> list[nn.Parameter]:
    """Give every linear map of the blocks that lacks a bias a zero one, in place; return the new parameters."""
    added: list[nn.Parameter] = []
    for path in linear_paths(body, layout, "all"):
        module = body.get_submodule(path)
        if isinstance(module, nn.Linear) and module.bias is None:
            weight = module.weight
            module.bias = nn.Parameter(torch.zeros(module.out_features, dtype=weight.dtype, device=weight.device))
            added.append(module.bias)
    return added
