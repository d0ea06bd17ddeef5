"""The update of bf16 copies, a piece at a time, is the update of the masters as a whole."""

from pathlib import Path

import pytest
import torch
from backbones import save_backbone
from helpers import EXAMPLES, learner_on
from hypothesis import given, settings
from hypothesis import strategies as st

from effft.models.out_of_memory import out_of_memory
from effft.models.precision import master_of, remainder_of, store_in_bf16
from effft.strategies.strategy import compose
from effft.training.optimizer import Optimizer
from effft.training.sparse_adamw import SparseRowAdamW


def moved(folder: Path, chunk: int) -> dict[str, torch.Tensor]:
    learner = learner_on(folder, compose("vanilla"))
    learner.remainders = store_in_bf16(learner.backbone.model)
    optimizer = Optimizer(learner, 0.1, chunk)
    for _ in range(3):
        learner.loss(learner.collate(learner.items(EXAMPLES))).backward()
        optimizer.step(1e-2, optimizer.norm(), 0.5)
        assert all(p.grad is None for p in optimizer.copies)  # gradients of copies are not held through the update
        optimizer.zero()
    for name, parameter in learner.trainable_parameters.items():
        if not name.startswith("head."):
            assert torch.equal(parameter, master_of(parameter.data, learner.remainders[id(parameter)]).bfloat16())
    return {n: p.detach().float().clone() for n, p in learner.trainable_parameters.items()}


def test_pieces_change_no_update(tmp_path: Path) -> None:
    folder = save_backbone(tmp_path, "opt")
    whole, pieces = moved(folder, 1 << 30), moved(folder, 100)
    for name, value in whole.items():
        torch.testing.assert_close(pieces[name], value, rtol=1e-2, atol=1e-6)  # a bf16 step is 0.4 %


def test_the_updates_are_those_of_fp32_parameters(tmp_path: Path) -> None:
    """The same gradients, given to masters in two parts and to plain fp32 parameters, move both alike."""
    learner = learner_on(save_backbone(tmp_path, "opt"), compose("pbft"))
    names = {n: p.detach().clone().requires_grad_() for n, p in learner.trainable_parameters.items()}
    plain = torch.optim.AdamW(names.values(), lr=3e-3, weight_decay=0.0, fused=True)
    learner.remainders = store_in_bf16(learner.backbone.model)
    optimizer, rng = Optimizer(learner, 0.0, 1000), torch.Generator().manual_seed(0)
    for _ in range(30):
        for name, parameter in learner.trainable_parameters.items():
            parameter.grad = torch.randn(parameter.shape, generator=rng).bfloat16()
            names[name].grad = parameter.grad.float()
        optimizer.step(3e-3, 1.0, 0.0)
        plain.step()
    for name, parameter in learner.trainable_parameters.items():
        master = master_of(parameter.data, learner.remainders[id(parameter)])
        torch.testing.assert_close(master, names[name].detach(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("spec", ["vanilla", "pbft"])
@pytest.mark.parametrize("kind", ["opt", "llama"])  # a tied LM head, and one of its own
def test_words_without_a_gradient_are_not_moved(tmp_path: Path, kind: str, spec: str, decay: float) -> None:
    """The gradient of the embedding as touched rows gives the norms and the updates of the whole matrix."""
    folder, found = save_backbone(tmp_path, kind), []
    for rows in (True, False):
        learner = learner_on(folder, compose(spec), precision="bf16")
        model = learner.backbone.model
        ends = {id(m.weight) for m in (model.get_input_embeddings(), model.get_output_embeddings()) if m is not None}
        assert learner.in_rows == ends
        if not rows:
            learner.in_rows = set()
        optimizer, norms = Optimizer(learner, decay), []
        moving = [p for p in optimizer.copies if id(p) in ends]
        for half in (EXAMPLES[::2], EXAMPLES[1::2], EXAMPLES[2:]):  # words come that were not there before
            for part in (half[:2], half[2:]):  # gradients add up over passes
                learner.loss(learner.collate(learner.items(part))).backward()
            assert all(p.grad.is_sparse for p in moving)
            for parameter in moving if not rows else ():
                parameter.grad = parameter.grad.coalesce().to_dense()  # as the rows are added up
            norms.append(optimizer.norm())
            optimizer.step(1e-3, norms[-1], 0.5)
            optimizer.zero()
        moved = {n: p for n, p in learner.trainable_parameters.items() if id(p) in learner.remainders}
        found.append((norms, {n: master_of(p.data, learner.remainders[id(p)]) for n, p in moved.items()}))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    for name, value in found[0][1].items():
        torch.testing.assert_close(value, found[1][1][name], rtol=1e-6, atol=1e-7, msg=name)


@settings(max_examples=30)
@given(st.integers(0, 1000), st.sampled_from([0.0, 0.1]), st.sampled_from([1, 7, 1000]))
@pytest.mark.slow
def test_touched_rows_move_as_the_whole_matrix(seed: int, decay: float, at_once: int) -> None:
    """Against torch's AdamW on all rows, in fp32: twenty updates, some without a gradient."""
    rng = torch.Generator().manual_seed(seed)
    whole = torch.randn(30, 5, generator=rng)
    copy = torch.nn.Parameter(whole.bfloat16())
    part = SparseRowAdamW(copy, remainder_of(whole, copy.data), decay, at_once)
    whole = torch.nn.Parameter(master_of(copy.data, part.remainder))
    plain = torch.optim.AdamW([whole], lr=1e-2, weight_decay=decay, fused=True)
    for _ in range(20):
        size = int(torch.randint(0, 8, (1,), generator=rng))
        rows = torch.randint(0, 30, (1, size), generator=rng)  # a word may come twice
        if size:
            values = torch.randn(size, 5, generator=rng).bfloat16()
            copy.grad = torch.sparse_coo_tensor(rows, values, (30, 5), check_invariants=True).coalesce()
            whole.grad = copy.grad.to_dense().float() * 0.5
            plain.step()
        part.step(1e-2, 0.5)
        assert copy.grad is None
    assert part.rows.tolist() == sorted(set(part.rows.tolist()))
    torch.testing.assert_close(master_of(copy.data, part.remainder), whole.data, rtol=1e-6, atol=1e-6)
    assert torch.equal(copy.data, master_of(copy.data, part.remainder).bfloat16())


@given(st.lists(st.integers(0, (1 << 32) - 1), min_size=1, max_size=40))
def test_a_master_comes_back_from_its_parts(patterns: list[int]) -> None:
    bits = torch.tensor([p - (1 << 32) if p >> 31 else p for p in patterns], dtype=torch.int32)
    exact = bits.view(torch.float32)
    exact = exact[exact.abs() < torch.finfo(torch.bfloat16).max]  # weights are finite
    rounded = exact.bfloat16()
    back = master_of(rounded, remainder_of(exact, rounded))
    tie = exact.view(torch.int32) & 0xFFFF == 0x8000
    off = back.view(torch.int32) - exact.view(torch.int32)
    assert (off[~tie] == 0).all()
    assert (off[tie].abs() <= 1).all()
    assert torch.equal(back.bfloat16(), rounded)


def test_what_torch_says_when_memory_is_short() -> None:
    with pytest.raises(RuntimeError) as real:
        torch.empty(1 << 50, dtype=torch.uint8)  # a petabyte, of the CPU's own allocator
    assert out_of_memory(real.value)
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(RuntimeError) as other:
        torch.ones(2, 3) @ torch.ones(2, 3)
    assert not out_of_memory(other.value)
