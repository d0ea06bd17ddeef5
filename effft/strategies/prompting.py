"""How an example becomes text and the text becomes ids: patterns, demonstrations, label words, truncation."""

from collections.abc import Sequence
from string import Formatter
from typing import NamedTuple

from effft.data.examples import Example
from effft.errors import InputError, lookup
from effft.models.backbone import Backbone
from effft.models.forward.shared_prefix import can_share
from effft.models.forward.token_tree import TokenTree
from effft.strategies.chat import ChatTemplate
from effft.strategies.demonstrations import NearestDemonstrations
from effft.strategies.label_words import LabelTokens, label_tokens, label_words
from effft.strategies.long_texts import Span, cut, windows
from effft.strategies.parts import ALL_PATTERNS, Pattern, Verbalizer
from effft.strategies.strategy import Strategy
from effft.tasks.task import Task

BETWEEN = "\n"
"""The separator of demonstrations."""

SENTINEL = "<extra_id_0>"
"""T5 was trained to fill what this token stands for: its decoder writes the token, then the words."""

MANY_UNKNOWN = 0.2
"""Share of unknown tokens above which a model is said not to read a text."""


Frame = tuple[str, str]
"""What stands before the pattern of an example, and between it and the answer."""


class EncodedPrompt(NamedTuple):
    """One prompt as ids. answer: position whose state predicts the label word; cut: whether a text was shortened.

    label_tokens: what is read at the answer slot; None for a classifier. windows: what is read instead where an answer
    is asked for, of a text that does not fit. pattern: number of its pattern among those that are read. patterns: the
    same texts in each of them, where there are several.
    """

    ids: tuple[int, ...]
    segments: tuple[int, ...] | None
    answer: int
    cut: bool
    label_tokens: LabelTokens | None = None
    windows: "tuple[EncodedPrompt, ...]" = ()
    pattern: int = 0
    patterns: "tuple[EncodedPrompt, ...]" = ()

    @property
    def reads(self) -> "tuple[EncodedPrompt, ...]":
        """What is read for an answer: its windows where it has some, else itself; in each of its patterns."""
        return tuple(read for prompt in self.patterns or (self,) for read in prompt.windows or (prompt,))

    @property
    def size(self) -> int:
        """Tokens that the model reads for it."""
        return self.label_tokens.size(len(self.ids)) if self.label_tokens else len(self.ids)

    @property
    def tree(self) -> TokenTree | None:
        """The contexts of the label words, where they follow the prompt in its row."""
        return self.label_tokens.tree if self.label_tokens else None

    @property
    def sequences(self) -> "list[EncodedPrompt]":
        """What the model reads where each context of the label words has a sequence of its own, else the prompt."""
        if self.label_tokens is None or self.label_tokens.sequences == 1:
            return [self]
        mask = self.label_tokens.mask
        start = self.answer + (mask is None)
        before, after = slice(0, start), slice(self.answer + 1, None)
        found = []
        for context in self.label_tokens.contexts:
            ids = (*self.ids[before], *context, *self.ids[after])
            kinds = self.segments
            kinds = kinds and (*kinds[before], *(kinds[self.answer],) * len(context), *kinds[after])
            read = self.answer + (
                len(context) if self.label_tokens.mask is None else context.index(self.label_tokens.mask)
            )
            found.append(EncodedPrompt(ids, kinds, read, self.cut))
        return found


class PromptEncoder:
    """Turns texts into ids for one strategy, task and tokenizer.

    Args:
        max_length: bounds the tokens of an example with its pattern; with the demonstrations before it, the prompt
            must fit into the model's positions.
        demos: solved examples (demonstrations) before every prompt; those to choose from where each text has its own.

    Attributes:
        task: what one prompt asks: the task, or of a row with several labels the question about one (`Task.question`).
        label_words: as they follow a prompt; the answer of a chat, or of the decoder of an encoder-decoder, begins
            without their space.
        start: what the decoder of an encoder-decoder reads before a word; else ().
        mark: what stands in the answer slot while the answer is unknown: an encoder's mask token, T5's sentinel, or ''.
        positions: most tokens of a prompt, so that every label word fits behind it.
        pattern_names: the patterns that are read; others: an encoder for each but the first.
        nearest: chooses the demonstrations of each text; None where all texts have the same.
        frame: what surrounds the pattern of every text; where each text has its own, the longest.
        limit: tokens of a prompt in that frame.
    """

    def __init__(
        self, strategy: Strategy, task: Task, backbone: Backbone, max_length: int, demos: Sequence[Example] = ()
    ) -> None:
        self.rows = task if strategy.needs_lm_head else None
        self.task = self.rows.question if self.rows else task
        self.tokenizer, self.decoder = backbone.tokenizer, backbone.decoder
        self.start, self.mark = backbone.decoder_start, ""
        self.model_name = backbone.name
        self.max_positions = backbone.max_positions - strategy.trainable.virtual_tokens
        self.segmented = "token_type_ids" in self.tokenizer.model_input_names
        self.label_words: tuple[str, ...] = ()
        self.label_tokens: LabelTokens | None = None
        self.template = ""
        self.demos = tuple(demos)
        self.chat: ChatTemplate | None = None
        self.nearest: NearestDemonstrations | None = None
        self.pattern_names: tuple[str, ...] = ()
        self.cut, self.windows = (str(strategy.parameters[name]) for name in ("cut", "windows"))
        if isinstance(strategy.input, Pattern):
            part = strategy.input
            self.pattern_names = tuple(task.patterns) if part.pattern == ALL_PATTERNS else (part.pattern,)
            self.template = self.task.pattern(next(iter(self.pattern_names), ""))
            if part.chat != "off":
                self.chat = ChatTemplate(backbone, part.chat == "turns")
            if demos and "nearest" in (part.demonstrations, part.demo_order.partition("-")[0]):
                shots = strategy.shots if part.demonstrations == "nearest" else len(demos)
                self.nearest = NearestDemonstrations(backbone, demos, shots, part.demo_order, max_length)
        if strategy.needs_lm_head or demos:
            given = strategy.head.label_words if isinstance(strategy.head, Verbalizer) else ""
            self.shown_words = label_words(self.task, given)
            begins = self.chat or self.start
            self.label_words = tuple(word.strip() for word in self.shown_words) if begins else self.shown_words
            self._mark_slot()
        if isinstance(strategy.head, Verbalizer):
            self._check_slot()
            mask = None if self.decoder or self.start else self.tokenizer.mask_token_id
            self.label_tokens = label_tokens(
                self.tokenizer, self.label_words, self._before_slot(), strategy.head.label_score, backbone.name, mask,
                can_share(backbone) and not strategy.trainable.virtual_tokens, self.start,
            )  # fmt: skip
        self.positions = self.max_positions - (self.label_tokens.longest if self.label_tokens else 0)
        demos = sorted(demos, key=lambda d: sum(map(len, d.texts)))[-self.nearest.shots :] if self.nearest else demos
        self.frame = self._surround(demos)
        self._pattern_room = self._check_room(max_length, len(demos))
        self.limit = self._limit(self.frame)
        each = [strategy.with_parameters({"pattern": name}) for name in self.pattern_names[1:]]
        self.others = [PromptEncoder(one, task, backbone, max_length, self.demos) for one in each]
        for name, other in zip(self.pattern_names[1:], self.others, strict=True):
            other.nearest = self.nearest
            if other.label_tokens != self.label_tokens:
                raise InputError(
                    f"pattern=all: {self.model_name!r} reads other tokens as label words after pattern {name!r} than "
                    f"after {self.pattern_names[0]!r}, so their scores have no mean; take one --pattern."
                )

    @property
    def shown(self) -> set[int]:
        """Rows whose answers stand in every prompt, in those about their own texts too."""
        own = self.nearest is not None and self.nearest.shots < len(self.demos)  # each prompt has its own, never itself
        return set() if own else {example.index for example in self.demos}

    def learned(self, rows: Sequence[Example]) -> Sequence[Example]:
        """Those to train on: the rows that are not shown, or all where all are."""
        return [row for row in rows if row.index not in self.shown] or rows

    def questions(self, examples: Sequence[Example]) -> list[Example]:
        """Examples of the task as those of one prompt each (`Task.questions`)."""
        return self.rows.questions(examples) if self.rows else list(examples)

    # ---- text ----

    def fill(self, texts: Sequence[str], answer: str) -> str:
        """The pattern with the texts in it and `answer` in the slot (at the end when the pattern names none)."""
        values = dict(zip(self.task.fields, texts, strict=True)) | {"answer": answer}
        template = self.template if "{answer}" in self.template else self.template + "{answer}"
        return "".join(literal + (values[name] if name else "") for literal, name, _, _ in Formatter().parse(template))

    def prompt(self, texts: Sequence[str], frame: Frame | None = None) -> str:
        """What the model reads, as text (without the special tokens of the tokenizer). frame: None = the fixed one."""
        if not self.template:
            return BETWEEN.join(texts)
        before, after = frame or self.frame
        return before + self.fill(texts, self.slot()) + after

    def _surround(self, demos: Sequence[Example]) -> Frame:
        """Demonstrations, and the marks of a chat."""
        if self.chat is not None and self.chat.turns:
            return self.chat.around([(self.fill(d.texts, ""), self.label_words[d.labels[0]]) for d in demos])
        solved = "".join(self.fill(d.texts, self.shown_words[d.labels[0]]) + BETWEEN for d in demos)
        return self.chat.around([], solved) if self.chat else (solved, "")

    def _frame_of(self, texts: Sequence[str], leave_out: bool) -> Frame:
        if self.nearest is not None:
            return self._surround(self.nearest(texts, leave_out or self.nearest.shots < len(self.demos)))
        others = [d for d in self.demos if d.texts != tuple(texts)] if leave_out else self.demos
        return self.frame if len(others) == len(self.demos) else self._surround(others)

    def slot(self) -> str:
        """The text of the answer slot while the answer is unknown."""
        return (" " if self.mark and self.shown_words[0].startswith(" ") else "") + self.mark

    def _mark_slot(self) -> None:
        """Decide what stands in the slot.

        T5's sentinel stands where the pattern has it or goes on after the slot; then its decoder starts with it too.
        """
        if not self.decoder and not self.start:
            self.mark = self.tokenizer.mask_token or ""
        sentinel = self.tokenizer.convert_tokens_to_ids(SENTINEL)
        if not self.start or sentinel in (None, self.tokenizer.unk_token_id):
            return
        asked = SENTINEL in self.template
        self.template = self.template.replace(f" {SENTINEL}", SENTINEL).replace(SENTINEL, "{answer}")
        if asked or self._around_slot()[1].strip():
            self.mark, self.start = SENTINEL, (*self.start, sentinel)

    def _around_slot(self, text: str = "") -> list[str]:
        return self.fill([text] * len(self.task.fields), "\0").split("\0")

    def _before_slot(self) -> str:
        if self.chat:
            return self.chat.around([])[1]
        return "" if self.start else (self._around_slot()[0] or self._around_slot("a")[0])[-12:]  # a text, of any kind

    def _check_slot(self) -> None:
        if not self.decoder and not self.start and not self.mark:
            raise InputError(f"model {self.model_name!r}: its tokenizer has no mask token, so there is no answer slot.")
        if self._around_slot()[1].strip() and not self.mark:
            reads = "answers after the prompt" if self.start else "reads left to right"
            raise InputError(
                f"pattern {self.template!r} goes on after its answer slot; {self.model_name!r} {reads}, "
                "so the slot must come last. Take another --pattern or an encoder with a masked-LM head."
            )

    # ---- ids ----

    def encode(self, examples: Sequence[Sequence[str]], leave_out: bool = False) -> list[EncodedPrompt]:
        """Prompts of many texts as ids; too long ones lose a part of their longest text (`cut`), never the answer slot.

        leave_out: show no demonstration that has an example's own texts.
        """
        if not examples:
            return []
        frames = [self._frame_of(texts, leave_out) for texts in examples]
        limits = [self.limit if frame is self.frame else self._limit(frame) for frame in frames]
        prompts = [
            self._place(ids, segments, cut=False) if len(ids) <= limit else self._shorten(texts, frame, limit)
            for texts, frame, limit, (ids, segments) in zip(
                examples, frames, limits, self._tokenize(examples, frames), strict=True
            )
        ]
        if not self.others:
            return prompts
        columns = [prompts, *(other.encode(examples, leave_out) for other in self.others)]
        rows = [
            [p._replace(pattern=i, windows=tuple(w._replace(pattern=i) for w in p.windows)) for i, p in enumerate(row)]
            for row in zip(*columns, strict=True)
        ]
        return [row[0]._replace(cut=any(p.cut for p in row), patterns=tuple(row)) for row in rows]

    @property
    def without_texts(self) -> EncodedPrompt:
        """The prompt with empty texts, after which `pmi` measures the label words."""
        return self.encode([[""] * len(self.task.fields)])[0]

    def _tokenize(
        self, examples: Sequence[Sequence[str]], frames: Sequence[Frame]
    ) -> list[tuple[list[int], list[int] | None]]:
        if self.template:
            prompts = [self.prompt([*map(self._clean, t)], frame) for t, frame in zip(examples, frames, strict=True)]
            out = self.tokenizer(prompts, add_special_tokens=self.chat is None, verbose=False)
        elif self.encodes_pairs:
            firsts = [texts[0] for texts in examples]
            out = self.tokenizer(firsts, [BETWEEN.join(texts[1:]) for texts in examples], verbose=False)
        else:
            out = self.tokenizer([self.prompt(texts) for texts in examples], verbose=False)
        ids = [self._without_end(row) for row in out["input_ids"]]
        segments = out.get("token_type_ids") if self.segmented else None
        return [(row, segments[i][: len(row)] if segments else None) for i, row in enumerate(ids)]

    @property
    def slot_marks(self) -> list[str]:
        """What would be an answer slot, and is therefore taken out of the texts."""
        return [mark for mark in dict.fromkeys((self.tokenizer.mask_token, self.mark)) if mark]

    def _clean(self, text: str) -> str:
        """A text without what would be an answer slot or the end of a message."""
        for mark in self.slot_marks:
            text = text.replace(mark, "")
        return self.chat.clean(text) if self.chat else text

    def unknown_share(self, prompts: Sequence[EncodedPrompt]) -> float:
        """Share of the texts' tokens that the vocabulary does not hold; 0 for tokenizers that know every text."""
        unknown = self.tokenizer.unk_token_id
        if unknown is None or unknown in (self.tokenizer.eos_token_id, self.tokenizer.pad_token_id):
            return 0.0
        tokens = sum(len(prompt.ids) - len(self._bare) for prompt in prompts)
        count = sum(prompt.ids.count(unknown) - self._bare.count(unknown) for prompt in prompts)
        return max(0.0, count / max(1, tokens))

    @property
    def encodes_pairs(self) -> bool:
        """Whether several texts without a pattern are read as a pair, with the tokenizer's own marks between them."""
        count = self.tokenizer.num_special_tokens_to_add
        return not self.template and len(self.task.fields) > 1 and bool(count(pair=True) > count(pair=False))

    def _without_end(self, ids: list[int]) -> list[int]:
        end = self.tokenizer.eos_token_id
        if self.decoder and self.template and not self.chat and len(ids) > 1 and end is not None and ids[-1] == end:
            return ids[:-1]
        return ids or [end if end is not None else 0]

    def _place(self, ids: Sequence[int], segments: Sequence[int] | None, cut: bool) -> EncodedPrompt:
        answer = len(ids) - 1
        if self.mark and not self.start:
            answer = max(i for i, token in enumerate(ids) if token == self.tokenizer.mask_token_id)
        segments = tuple(segments) if segments is not None else None
        return EncodedPrompt(tuple(ids), segments, answer, cut, self.label_tokens)

    def _shorten(self, texts: Sequence[str], frame: Frame, limit: int) -> EncodedPrompt:
        spans = [self._spans(text) for text in texts]
        prompt, kept = self._fit(texts, spans, frame, limit)
        if self.windows == "none":
            return prompt
        pieces = [(piece, [self._spans(text) for text in piece]) for piece in windows(texts, spans, kept)]
        return prompt._replace(windows=tuple(self._fit(*piece, frame, limit)[0] for piece in pieces))

    def _fit(
        self, texts: Sequence[str], spans: Sequence[Sequence[Span]], frame: Frame, limit: int
    ) -> tuple[EncodedPrompt, list[int]]:
        """The prompt of what fits of the texts, and how many tokens of each that is."""
        keep = [len(span) for span in spans]
        while True:
            shorter = [cut(t, span, n, self.cut) for t, span, n in zip(texts, spans, keep, strict=True)]
            ids, segments = self._tokenize([shorter], [frame])[0]
            over = len(ids) - limit
            if over <= 0:
                return self._place(ids, segments, cut=True), keep
            longest = max(range(len(keep)), key=keep.__getitem__)
            if not keep[longest]:
                raise InputError(f"the pattern alone is longer than max_length ({len(ids)} > {limit} tokens).")
            others = max((n for i, n in enumerate(keep) if i != longest), default=0)
            keep[longest] -= min(over, max(1, keep[longest] - others))

    def _spans(self, text: str) -> list[Span]:
        """Where the pieces lie at whose ends a text may be cut: its tokens, or characters for a slow tokenizer."""
        if not self.tokenizer.is_fast:
            return [(place, place + 1) for place in range(len(text))]
        out = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        spans: list[Span] = out["offset_mapping"]
        return spans

    def tokens_around(self, demos: Sequence[Example]) -> int:
        """Tokens of a prompt with these demonstrations and no text; in the longest pattern."""
        return max([len(self._ids_of(self._surround(demos))), *(one.tokens_around(demos) for one in self.others)])

    def _ids_of(self, frame: Frame) -> list[int]:
        return self._tokenize([[""] * len(self.task.fields)], [frame])[0][0]

    def _limit(self, frame: Frame) -> int:
        """Tokens of a prompt in this frame."""
        return min(len(self._ids_of(frame)) + self._pattern_room, self.positions)

    def _check_room(self, max_length: int, shots: int) -> int:
        """Tokens that `max_length` leaves to the texts of an example."""
        self._bare = self._ids_of(self.frame)
        full, pattern = len(self._bare), len(self._ids_of(self._surround(())))
        if pattern >= max_length:
            raise InputError(f"max_length={max_length}: the pattern alone takes {pattern} tokens (flag --max-length).")
        if self.positions - full < 8:
            shorter = "take another --pattern, or a" if self.template else "take a"
            remedy = "lower --shots (or --teacher-shots)" if shots else f"{shorter} --model that reads more"
            raise InputError(
                f"the prompt with {shots} demonstrations takes {full} tokens before its example, but "
                f"{self.model_name!r} reads {self.max_positions} at most; {remedy}."
            )
        return max_length - pattern


def check_pattern_name(task: Task, name: str) -> None:
    """An unknown pattern name is an InputError with the nearest."""
    if name and name != ALL_PATTERNS:
        lookup(f"pattern of task {task.name!r}", name, task.patterns)
