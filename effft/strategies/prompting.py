"""How an example becomes text and the text becomes ids: patterns, demonstrations, label words, truncation."""

import random
from collections.abc import Sequence
from string import Formatter
from typing import Any, NamedTuple

from effft.data.examples import Example
from effft.errors import InputError, lookup
from effft.models.backbone import Backbone
from effft.strategies.parts import Pattern, Verbalizer
from effft.strategies.strategy import Strategy
from effft.tasks.task import Task

BETWEEN = "\n"
"""The separator of demonstrations."""

COMMON_PAIRS = (
    (" No", " Yes"),
    (" no", " yes"),
    (" false", " true"),
    (" bad", " good"),
    (" wrong", " right"),
    (" sad", " happy"),
)
"""Label words to suggest when the task's own are no single tokens in this vocabulary."""


MANY_UNKNOWN = 0.2
"""Share of unknown tokens above which a model is said not to read a text."""


class EncodedPrompt(NamedTuple):
    """One prompt as ids. answer: position whose state predicts the label word; cut: whether a text was shortened."""

    ids: tuple[int, ...]
    segments: tuple[int, ...] | None
    answer: int
    cut: bool


class PromptEncoder:
    """Turns texts into ids for one strategy, task and tokenizer.

    Args:
        max_length: bounds the tokens of an example with its pattern; with the demonstrations before it, the prompt
            must fit into the model's positions.
        demos: solved examples (demonstrations) before every prompt.
    """

    def __init__(
        self, strategy: Strategy, task: Task, backbone: Backbone, max_length: int, demos: Sequence[Example] = ()
    ) -> None:
        self.task, self.tokenizer, self.decoder = task, backbone.tokenizer, backbone.decoder
        self.model_name, self.max_positions = backbone.name, backbone.max_positions
        self.segmented = "token_type_ids" in self.tokenizer.model_input_names
        self.words: tuple[str, ...] = ()
        self.label_ids: tuple[int, ...] = ()
        self.template = ""
        if isinstance(strategy.input, Pattern):
            self.template = task.pattern(strategy.input.pattern)
        if isinstance(strategy.head, Verbalizer):
            self.words = label_words(task, strategy.head.label_words)
            self._check_slot()
            self.label_ids = label_ids(self.tokenizer, self.words, self._before_slot(), backbone.name)
        elif demos:
            self.words = label_words(task, "")
        self.prefix = "".join(self.fill(d.texts, self.words[d.label]) + BETWEEN for d in demos)
        self.limit = self._limit(max_length, len(demos))

    # ---- text ----

    def fill(self, texts: Sequence[str], answer: str) -> str:
        """The pattern with the texts in it and `answer` in the slot (at the end when the pattern names none)."""
        values = dict(zip(self.task.fields, texts, strict=True)) | {"answer": answer}
        template = self.template if "{answer}" in self.template else self.template + "{answer}"
        return "".join(literal + (values[name] if name else "") for literal, name, _, _ in Formatter().parse(template))

    def prompt(self, texts: Sequence[str]) -> str:
        """What the model reads, as text (without the special tokens of the tokenizer)."""
        if not self.template:
            return BETWEEN.join(texts)
        return self.prefix + self.fill(texts, self.slot())

    def slot(self) -> str:
        """The text of the answer slot while the answer is unknown: nothing, or an encoder's mask token."""
        if self.decoder or not self.words:
            return ""
        return (" " if self.words[0].startswith(" ") else "") + str(self.tokenizer.mask_token)

    def _before_slot(self) -> str:
        return self.fill([""] * len(self.task.fields), "\0").split("\0")[0][-12:]

    def _check_slot(self) -> None:
        after = self.fill([""] * len(self.task.fields), "\0").split("\0")[1]
        if self.decoder and after.strip():
            raise InputError(
                f"pattern {self.template!r} goes on after its answer slot; {self.model_name!r} reads left to right, "
                "so the slot must come last. Take another --pattern or an encoder with a masked-LM head."
            )
        if not self.decoder and self.tokenizer.mask_token is None:
            raise InputError(f"model {self.model_name!r}: its tokenizer has no mask token, so there is no answer slot.")

    # ---- ids ----

    def encode(self, examples: Sequence[Sequence[str]]) -> list[EncodedPrompt]:
        """Prompts of many texts as ids; too long ones lose the end of their longest text, never the answer slot."""
        if not examples:
            return []
        return [
            self._place(ids, segments, cut=False) if len(ids) <= self.limit else self._shorten(texts)
            for texts, (ids, segments) in zip(examples, self._tokenize(examples), strict=True)
        ]

    def _tokenize(self, examples: Sequence[Sequence[str]]) -> list[tuple[list[int], list[int] | None]]:
        if self.template:
            mask = self.tokenizer.mask_token
            clean = [[t.replace(mask, "") if mask else t for t in texts] for texts in examples]
            out = self.tokenizer([self.prompt(texts) for texts in clean], verbose=False)
        elif self.encodes_pairs:
            firsts = [texts[0] for texts in examples]
            out = self.tokenizer(firsts, [BETWEEN.join(texts[1:]) for texts in examples], verbose=False)
        else:
            out = self.tokenizer([self.prompt(texts) for texts in examples], verbose=False)
        ids = [self._without_end(row) for row in out["input_ids"]]
        segments = out.get("token_type_ids") if self.segmented else None
        return [(row, segments[i][: len(row)] if segments else None) for i, row in enumerate(ids)]

    def unknown_share(self, prompts: Sequence[EncodedPrompt]) -> float:
        """Share of the texts' tokens that the vocabulary does not hold; 0 for tokenizers that know every text."""
        unknown = self.tokenizer.unk_token_id
        if unknown is None or unknown in (self.tokenizer.eos_token_id, self.tokenizer.pad_token_id):
            return 0.0
        tokens = sum(len(prompt.ids) - len(self._frame) for prompt in prompts)
        count = sum(prompt.ids.count(unknown) - self._frame.count(unknown) for prompt in prompts)
        return max(0.0, count / max(1, tokens))

    @property
    def encodes_pairs(self) -> bool:
        """Whether several texts without a pattern are read as a pair, with the tokenizer's own marks between them."""
        count = self.tokenizer.num_special_tokens_to_add
        return not self.template and len(self.task.fields) > 1 and bool(count(pair=True) > count(pair=False))

    def _without_end(self, ids: list[int]) -> list[int]:
        end = self.tokenizer.eos_token_id
        if self.decoder and self.template and len(ids) > 1 and end is not None and ids[-1] == end:
            return ids[:-1]
        return ids or [end if end is not None else 0]

    def _place(self, ids: Sequence[int], segments: Sequence[int] | None, cut: bool) -> EncodedPrompt:
        answer = len(ids) - 1
        if self.words and not self.decoder:
            answer = max(i for i, token in enumerate(ids) if token == self.tokenizer.mask_token_id)
        return EncodedPrompt(tuple(ids), tuple(segments) if segments is not None else None, answer, cut)

    def _shorten(self, texts: Sequence[str]) -> EncodedPrompt:
        spans = [self._spans(text) for text in texts]
        keep = [len(span) for span in spans]
        while True:
            shorter = [t[: span[n - 1][1]] if n else "" for t, span, n in zip(texts, spans, keep, strict=True)]
            ids, segments = self._tokenize([shorter])[0]
            over = len(ids) - self.limit
            if over <= 0:
                return self._place(ids, segments, cut=True)
            longest = max(range(len(keep)), key=keep.__getitem__)
            if not keep[longest]:
                raise InputError(f"the pattern alone is longer than max_length ({len(ids)} > {self.limit} tokens).")
            others = max((n for i, n in enumerate(keep) if i != longest), default=0)
            keep[longest] -= min(over, max(1, keep[longest] - others))

    def _spans(self, text: str) -> list[tuple[int, int]]:
        """Where the pieces lie at whose ends a text may be cut: its tokens, or characters for a slow tokenizer."""
        if not self.tokenizer.is_fast:
            return [(place, place + 1) for place in range(len(text))]
        out = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        spans: list[tuple[int, int]] = out["offset_mapping"]
        return spans

    def _limit(self, max_length: int, shots: int) -> int:
        bare = [""] * len(self.task.fields)
        self.limit = 1 << 30
        self._frame = self._tokenize([bare])[0][0]
        full = len(self._frame)
        prefix, self.prefix = self.prefix, ""
        pattern = len(self._tokenize([bare])[0][0])
        self.prefix = prefix
        if pattern >= max_length:
            raise InputError(f"max_length={max_length}: the pattern alone takes {pattern} tokens (flag --max-length).")
        room = self.max_positions - full
        if room < 8:
            raise InputError(
                f"the prompt with {shots} demonstrations takes {full} tokens before its example, but "
                f"{self.model_name!r} reads {self.max_positions} at most; lower --shots (or --teacher-shots)."
            )
        return min(full - pattern + max_length, self.max_positions)


def label_words(task: Task, given: str) -> tuple[str, ...]:
    """The label words in label order: the task's, or `given` as 'No,Yes' (a space is put before each).

    Raises:
        InputError: the task has none, or the count is not the number of labels, or two are equal.
    """
    words = tuple(f" {word.strip()}" for word in given.split(",")) if given else task.words
    labels = ", ".join(task.labels)
    if not words:
        raise InputError(f"task {task.name!r} has no label words; give one per label ({labels}) with --label-words.")
    if len(words) != len(task.labels) or any(not word.strip() for word in words):
        raise InputError(f"label_words={given}: one word per label is needed ({labels}), comma-separated.")
    if len(set(words)) < len(words):
        raise InputError(f"label_words={given}: two labels have the same word; each label ({labels}) needs its own.")
    return words


def label_ids(tokenizer: Any, words: Sequence[str], before: str, model: str) -> tuple[int, ...]:
    """The one token id of each label word where it would stand: after the text `before`.

    Raises:
        InputError: a word is several tokens, or two share their token; usable words are suggested.
    """
    pieces = [continuation(tokenizer, before, word) for word in words]
    for word, ids in zip(words, pieces, strict=True):
        if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
            tokens = " + ".join(repr(token) for token in tokenizer.convert_ids_to_tokens(ids))
            what = "unknown to" if len(ids) == 1 else f"{len(ids)} tokens ({tokens}) in"
            what = what if ids else f"no token of its own after {before[-8:]!r} in"
            raise InputError(
                f"label word {word!r} is {what} the vocabulary of {model!r}, but a verbalizer reads exactly one token; "
                f"{suggest(tokenizer, before, len(words))}"
            )
    if len({ids[0] for ids in pieces}) < len(pieces):
        raise InputError(
            f"label words {', '.join(map(repr, words))} share their token in {model!r}; "
            f"{suggest(tokenizer, before, len(words))}"
        )
    return tuple(ids[0] for ids in pieces)


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


def check_pattern_name(task: Task, name: str) -> None:
    """An unknown pattern name is an InputError with the nearest."""
    if name:
        lookup(f"pattern of task {task.name!r}", name, task.patterns)
