"""Our RMSNorm is torch's; in bf16 it gives what that of transformers gives, with gradients rounded once."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from effft.models.forward.rms_norm import RMSNorm, use_own_norms

WIDTH = 48


def passed(norm: torch.nn.Module, states: torch.Tensor) -> list[torch.Tensor]:
    """The output, and the gradients of states and weight."""
    own = states.clone().requires_grad_()
    out = norm(own)
    out.backward(torch.linspace(-1, 2, WIDTH).to(torch.bfloat16).to(out.dtype).expand(out.shape))
    assert own.grad is not None
    assert isinstance(norm.weight.grad, torch.Tensor)
    return [out.detach(), own.grad, norm.weight.grad]


def norms(dtype: torch.dtype) -> tuple[torch.nn.Module, torch.nn.Module, torch.nn.Module]:
    """Ours, that of transformers, torch's, with the same weight."""
    weight = torch.randn(WIDTH, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    made = [LlamaRMSNorm(WIDTH, eps=1e-5), LlamaRMSNorm(WIDTH, eps=1e-5), torch.nn.RMSNorm(WIDTH, eps=1e-5)]
    for norm in made:
        norm.to(dtype)
        norm.weight.data.copy_(weight)
    made[0].__class__ = RMSNorm
    return made[0], made[1], made[2]


@pytest.mark.parametrize("shape", [(1, 7), (2, 3, 5)])
def test_our_norm_is_torchs(shape: tuple[int, ...]) -> None:
    states = torch.randn(*shape, WIDTH, generator=torch.Generator().manual_seed(1)).double()
    own, _, exact = norms(torch.float64)
    for mine, theirs in zip(passed(own, states), passed(exact, states), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_bf16_is_rounded_once() -> None:
    states = torch.randn(200, WIDTH, generator=torch.Generator().manual_seed(2)).bfloat16()
    exact = passed(norms(torch.float64)[2], states.double())
    own, usual, _ = norms(torch.bfloat16)
    out, *gradients = passed(own, states)
    assert torch.equal(out, passed(usual, states)[0])
    for mine, true in zip(gradients, exact[1:], strict=True):
        assert mine.dtype == torch.bfloat16
        torch.testing.assert_close(mine.double(), true, rtol=2**-8, atol=1e-5)


def test_a_model_keeps_its_names() -> None:
    config = LlamaConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, vocab_size=9)
    model = LlamaForCausalLM(config)
    names = [name for name, _ in model.named_parameters()]
    use_own_norms(model)
    assert [name for name, _ in model.named_parameters()] == names
    assert sum(isinstance(module, RMSNorm) for module in model.modules()) == 5
