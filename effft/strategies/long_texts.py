"""Texts longer than fits: which part of them is read, and the windows that together cover them."""

import math
from collections.abc import Iterator, Sequence

Span = tuple[int, int]
"""Where one token lies in a text: its first character, and the one after its last."""


def cut(text: str, spans: Sequence[Span], count: int, how: str) -> str:
    """The part of a text that keeps `count` of its tokens.

    Args:
        text: the whole.
        spans: its tokens.
        count: how many stay, at most all.
        how: what goes: its `end`, its `start`, or its `middle`, so that half of what stays is its head and half its
            tail (Sun et al. 2019, arXiv 1905.05583, section 5.3.1, with 128 and 382 tokens).
    """
    if how != "end" and count == len(spans):
        return text
    head = {"end": count, "start": 0, "middle": (count + 1) // 2}[how]
    parts = [text[: spans[head - 1][1]]] if head else []
    if head < count:
        parts.append(text[spans[head - count][0] :].lstrip())
    return " ".join(parts)


def windows(texts: Sequence[str], spans: Sequence[Sequence[Span]], counts: Sequence[int]) -> Iterator[list[str]]:
    """Pieces of an example's texts, each of `counts` tokens, which together cover them.

    Each begins half a window after the one before (Dai and Callan 2019, arXiv 1905.09217, section 3), the last where
    it ends with its text.
    """
    lengths = [len(tokens) for tokens in spans]
    steps = [max(1, count // 2) for count in counts]
    number = max((math.ceil((n - c) / s) for n, c, s in zip(lengths, counts, steps, strict=True) if c), default=0)
    for index in range(number + 1):
        starts = [min(index * s, n - c) for n, c, s in zip(lengths, counts, steps, strict=True)]
        yield [
            text[tokens[start][0] : tokens[start + count - 1][1]] if count else ""
            for text, tokens, start, count in zip(texts, spans, starts, counts, strict=True)
        ]
