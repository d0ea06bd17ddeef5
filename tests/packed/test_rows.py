"""Rows are brought together by trial and apart again; stacks give back what they were given."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from effft.multi_adapter.batch import AdapterBatch
from effft.multi_adapter.stacked_parameters import MemberState, StackedParameters

CPU = torch.device("cpu")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=9).map(sorted), st.integers(1, 3), st.booleans())
def test_every_row_meets_its_own_trial(owners: list[int], length: int, flat: bool) -> None:
    """The batched product is each row's own; flat: a map that is given (rows x tokens, width), as OPT's are."""
    rows = AdapterBatch(owners, 5, CPU)
    generator = torch.Generator().manual_seed(len(owners))
    states = torch.randn((len(owners), length, 3), generator=generator, dtype=torch.float64)
    weights = torch.randn((5, 3, 2), generator=generator, dtype=torch.float64)
    given = states.reshape(-1, 3) if flat else states
    found = rows.apart(torch.bmm(rows.together(given), rows.of(weights)))
    wanted = torch.stack([states[i] @ weights[owner] for i, owner in enumerate(owners)])
    torch.testing.assert_close(found, wanted)


members = st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(1, 4), min_size=1), min_size=1, max_size=4)


@settings(max_examples=40, deadline=None)
@given(members)
def test_stacks_give_back_what_they_were_given(sizes: list[dict[str, int]]) -> None:
    def filled(own: dict[str, int], start: float) -> dict[str, torch.Tensor]:
        return {n: torch.full((size, 2) if n < "c" else (size,), start + i) for i, (n, size) in enumerate(own.items())}

    owns = [MemberState(*(filled(own, 10.0 * row + kind) for kind in (1, 100, 1000))) for row, own in enumerate(sizes)]
    before = [[{n: t.clone() for n, t in part.items()} for part in (o.weights, o.mean, o.square)] for o in owns]
    names = sorted({name for own in owns for name in own.weights})
    stacked = StackedParameters(owns, names, torch.float32, CPU)
    assert stacked.values.sum() == sum(t.sum() for o in owns for t in o.weights.values())  # the rest is zero
    for tensor in (t for o in owns for part in (o.weights, o.mean, o.square) for t in part.values()):
        tensor.zero_()
    stacked.unload()
    for own, kept in zip(owns, before, strict=True):
        for part, wanted in zip((own.weights, own.mean, own.square), kept, strict=True):
            assert all(torch.equal(part[name], tensor) for name, tensor in wanted.items())
