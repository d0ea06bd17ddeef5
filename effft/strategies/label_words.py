"""Label words as token ids: what a model reads to score them, and the score of a word from that of its tokens."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from effft.data.table import listed
from effft.errors import InputError
from effft.models.forward.token_tree import TokenTree
from effft.tasks.task import Task

COMMON_PAIRS = (
    (" No", " Yes"),
    (" no", " yes"),
    (" false", " true"),
    (" bad", " good"),
    (" wrong", " right"),
    (" sad", " happy"),
)
"""Label words to suggest when the task's own are unknown to this vocabulary."""


@dataclass(frozen=True)
class LabelTokens:
    """The tokens of the label words, and the contexts in which a model predicts them.

    A context is what stands in the answer slot while one token is predicted: of a decoder the tokens before it, which
    an encoder-decoder reads in rows of its decoder; of an
    encoder the whole word with the mask in the token's place, so that a word's score is its pseudo-log-likelihood
    (Salazar et al. 2020, arXiv 1910.14659, equation 1, over the tokens of the word). Words share the contexts that are
    equal.

    Args:
        ids: token ids of each word, in label order; under `first` one each.
        score: `first` or `sum` of the log-probabilities of the tokens, their `mean`, or `pmi`: the sum less that after
            the same prompt without texts (Holtzman et al. 2021, arXiv 2104.08315, equation 2).
        mask: the mask token of an encoder; else None.
        as_tree: whether the model reads all contexts in one pass, as a tree after the prompt; else each has a sequence
            of its own.
        start: what the decoder of an encoder-decoder reads before a word; else ().
    """

    ids: tuple[tuple[int, ...], ...]
    score: str = "first"
    mask: int | None = None
    as_tree: bool = False
    start: tuple[int, ...] = ()

    @cached_property
    def contexts(self) -> tuple[tuple[int, ...], ...]:
        """The different contexts, each after those it begins with."""
        return tuple(dict.fromkeys(self._context(word, place) for word in self.ids for place in range(len(word))))

    def _context(self, word: tuple[int, ...], place: int) -> tuple[int, ...]:
        return word[:place] if self.mask is None else (*word[:place], self.mask, *word[place + 1 :])

    @cached_property
    def tree(self) -> TokenTree | None:
        """The tree of the contexts after a prompt; None where it has no branch, or each is read by itself."""
        return TokenTree(self.contexts) if self.as_tree and len(self.contexts) > 1 else None

    @cached_property
    def rows(self) -> tuple[tuple[int, ...], ...]:
        """What a decoder beside the prompt reads: the contexts that no other one continues, after the start."""
        if not self.start:
            return ()
        last = [c for c in self.contexts if not any(len(o) > len(c) and o[: len(c)] == c for o in self.contexts)]
        return tuple((*self.start, *context) for context in last)

    def beside(self, prompts: int, filler: int) -> tuple[Tensor, Tensor, Tensor]:
        """The rows for so many prompts, (prompts * rows, length), with the position and the row of each context."""
        ids = pad_sequence([torch.tensor(row) for row in self.rows], batch_first=True, padding_value=filler)
        full = [(*self.start, *context) for context in self.contexts]
        first = [next(i for i, row in enumerate(self.rows) if row[: len(c)] == c) for c in full]
        places = torch.tensor([len(context) - 1 for context in full]).repeat(prompts)
        starts = torch.arange(prompts).unsqueeze(1) * len(self.rows)
        return ids.repeat(prompts, 1), places, (starts + torch.tensor(first)).flatten()

    @property
    def reads_whole_words(self) -> bool:
        """Whether a score is more than the log-probability of one token after the prompt."""
        return len(self.contexts) > 1 or self.score == "pmi"

    @property
    def different_scores(self) -> tuple[str, ...]:
        """The scores that may order the labels differently."""
        if len(self.contexts) == 1:
            return ("first", "pmi")
        firsts = {word[0] for word in self.ids}
        return (*(("first",) if len(firsts) == len(self.ids) else ()), "sum", "mean", "pmi")

    @property
    def sequences(self) -> int:
        """How many sequences hold one prompt."""
        return 1 if self.tree or self.start else len(self.contexts)

    @property
    def longest(self) -> int:
        """Most positions that a context adds to the prompt, in which an encoder's mask has one already."""
        return 0 if self.start else max(map(len, self.contexts)) - (self.mask is not None)

    @property
    def _apart(self) -> int:
        """Tokens that the model reads once for a prompt, apart from its sequences."""
        return len(self.tree.ids) if self.tree else len(self.rows) * max(map(len, self.rows), default=0)

    def size(self, prompt: int) -> int:
        """Tokens that the model reads for a prompt of so many."""
        return prompt + self._apart if self._apart else (prompt + self.longest) * self.sequences

    def prompt_of(self, size: int) -> int:
        """Tokens of the prompt for which the model reads so many: the inverse of `size`."""
        return size - self._apart if self._apart else size // self.sequences - self.longest

    def combine(self, predicted: Tensor) -> Tensor:
        """Log-probabilities of the vocabulary in each context, (prompts * contexts, vocabulary), as label scores.

        Returns:
            (prompts, labels); of `pmi` the sums: `Learner.scores` subtracts the prior.
        """
        if len(self.contexts) == 1:
            return predicted[:, [word[0] for word in self.ids]]
        number = {context: i for i, context in enumerate(self.contexts)}
        size = max(map(len, self.ids))
        reads = [[(number[self._context(w, i)], token) for i, token in enumerate(w)] for w in self.ids]
        table = torch.tensor([[*r, *[(0, -1)] * (size - len(r))] for r in reads], device=predicted.device)
        places, tokens = table.unbind(-1)
        picked = predicted.view(-1, len(self.contexts), predicted.shape[-1])[:, places, tokens]
        total: Tensor = picked.masked_fill(tokens < 0, 0.0).sum(dim=-1)
        return total / torch.tensor(self.lengths).to(total) if self.score == "mean" else total

    @property
    def lengths(self) -> list[int]:
        """Tokens of each word."""
        return [len(word) for word in self.ids]

    def outside_mass(self, scores: NDArray[np.float64]) -> float:
        """Mean probability of anything but the words, from scores (prompts, labels); 0 for `pmi`.

        Words of several tokens may contain each other, so their probabilities may add up to more than 1.
        """
        if self.score == "pmi":
            return 0.0
        outside = float(1 - np.exp(scores * self.lengths if self.score == "mean" else scores).sum(axis=1).mean())
        return outside if len(self.contexts) == 1 else max(0.0, outside)


def label_words(task: Task, given: str) -> tuple[str, ...]:
    """The label words in label order: the task's, or `given` as 'No,Yes' (a space is put before each).

    Raises:
        InputError: the count is not the number of labels, or two are equal.
    """
    words = tuple(f" {word.strip()}" for word in given.split(",")) if given else task.ordered_label_words
    labels = listed(task.labels)
    if len(words) != len(task.labels) or any(not word.strip() for word in words):
        raise InputError(f"label_words={given}: one word per label is needed ({labels}), comma-separated.")
    if len(set(words)) < len(words):
        raise InputError(f"label_words={given}: two labels have the same word; each label ({labels}) needs its own.")
    return words


def label_tokens(
    tokenizer: Any, words: Sequence[str], before: str, score: str, model: str, mask: int | None, as_tree: bool,
    start: tuple[int, ...],
) -> LabelTokens:  # fmt: skip
    """The tokens of each label word where it would stand: after the text `before`.

    score, mask, as_tree, start: as `LabelTokens`; `auto` is `first` where all words are single different tokens, else
    `mean`.

    Raises:
        InputError: a word is unknown to the vocabulary, or two are the same tokens there; usable words are suggested.
    """
    pieces = [tuple(continuation(tokenizer, before, word)) for word in words]
    for word, ids in zip(words, pieces, strict=True):
        if not ids or tokenizer.unk_token_id in ids:
            what = "unknown to" if ids else f"no token of its own after {before[-8:]!r} in"
            raise InputError(
                f"label word {word!r} is {what} the vocabulary of {model!r}; {suggest(tokenizer, before, len(words))}"
            )
    if score == "auto":
        score = "first" if max(map(len, pieces)) == 1 else "mean"
    found: dict[tuple[int, ...], str] = {}
    for word, ids in zip(words, pieces, strict=True):
        read = ids[:1] if score == "first" else ids
        if read in found and len(set(pieces)) == len(pieces):
            raise InputError(
                f"label words {found[read]!r} and {word!r} begin with the same token in {model!r}, and "
                "label_score=first reads that token alone; take --label-score mean."
            )
        if read in found:
            raise InputError(
                f"label words {found[read]!r} and {word!r} are the same tokens in {model!r}; "
                f"{suggest(tokenizer, before, len(words))}"
            )
        found[read] = word
    return LabelTokens(tuple(found), score, mask, as_tree, start)


def continuation(tokenizer: Any, before: str, word: str) -> list[int]:
    """Ids that `word` adds after `before`; [] when the two merge into other tokens."""
    base = tokenizer(before, add_special_tokens=False, verbose=False)["input_ids"]
    joined = tokenizer(before + word, add_special_tokens=False, verbose=False)["input_ids"]
    return list(joined[len(base) :]) if joined[: len(base)] == base else []


def suggest(tokenizer: Any, before: str, count: int) -> str:
    """'usable here: --label-words bad,good': words of one token each in this vocabulary."""

    def single(word: str) -> bool:
        ids = continuation(tokenizer, before, word)
        return len(ids) == 1 and ids[0] != tokenizer.unk_token_id

    pairs = [pair for pair in COMMON_PAIRS if count == 2 and all(map(single, pair))]
    if pairs:
        return "usable here: --label-words " + ",".join(word.strip() for word in pairs[0]) + "."
    tokens = sorted(tokenizer.get_vocab(), key=lambda t: (len(t), t), reverse=True)
    words = (f" {tokenizer.convert_tokens_to_string([t]).strip()}" for t in tokens)
    usable = [w for w in words if len(w) > 3 and w[1:].isalpha() and w.isascii() and w.islower() and single(w)][:200]
    random.Random(0).shuffle(usable)
    if len(usable) < count:
        return "no single-token words were found in its vocabulary."
    return "usable here, for example: --label-words " + ",".join(word.strip() for word in usable[:count]) + "."
