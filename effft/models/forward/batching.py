"""Ways to cut a list of prompt lengths into batches."""

from collections.abc import Callable, Iterator, Sequence


def by_budget(order: Sequence[int], length: Callable[[int], int], budget: int) -> Iterator[list[int]]:
    """Runs of `order` (ascending length) whose padded size stays within the budget; at least one each."""
    group: list[int] = []
    for index in order:
        if group and (len(group) + 1) * length(index) > budget:
            yield group
            group = []
        group.append(index)
    if group:
        yield group


def cheapest_cut(lengths: Sequence[int], budget: int, overhead: int) -> list[slice]:
    """Cut ascending `lengths` into padded runs at the lowest total cost: padded tokens plus `overhead` tokens a run.

    No run is padded to more than `budget` tokens, unless it is a single prompt. Dynamic programming, exact.
    """
    best: list[tuple[int, int]] = [(0, 0)]
    for end in range(1, len(lengths) + 1):
        cheapest = (1 << 62, 0)
        for start in range(end - 1, -1, -1):
            padded = (end - start) * lengths[end - 1]
            if padded > budget and end - start > 1:
                break
            cheapest = min(cheapest, (best[start][0] + padded + overhead, start))
        best.append(cheapest)
    runs, end = [], len(lengths)
    while end:
        start = best[end][1]
        runs.append(slice(start, end))
        end = start
    return runs[::-1]


def even_cut(lengths: Sequence[int], budget: int) -> list[slice]:
    """Cut `lengths` into runs of about equal size, each of at most `budget` tokens or a single prompt."""
    left, runs, start = sum(lengths), list[slice](), 0
    while start < len(lengths):
        share = left / -(-left // budget)
        size, stop = lengths[start], start + 1
        while stop < len(lengths) and size + lengths[stop] / 2 <= share and size + lengths[stop] <= budget:
            size += lengths[stop]
            stop += 1
        runs.append(slice(start, stop))
        left, start = left - size, stop
    return runs
