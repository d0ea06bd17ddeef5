"""Rows of pre-training text, by source. A row is words with a weight for the prediction of each."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from effft.tasks.builtin.grammar import Words, pick
from effft.tasks.builtin.lexicon import EVERY_WORD
from effft.tiny_lm import relations, sentences
from effft.tiny_lm.vocabulary import (
    BOS,
    EOS,
    LABEL_WORDS,
    LIST_QUESTIONS,
    PAIR_QUESTIONS,
    SENTENCE_QUESTIONS,
    question,
)

DESCRIBED = SENTENCE_QUESTIONS[:6]
FORMS = ("singular", "plural", "base", "third", "past", "ing", "adjective")


@dataclass
class Row:
    """Words and, for each, the weight of its loss (the first has none: nothing predicts it)."""

    words: Words = field(default_factory=lambda: [BOS])
    weights: list[float] = field(default_factory=lambda: [0.0])

    def say(self, words: Words, weight: float = 1.0) -> "Row":
        """Append words that all count `weight`."""
        self.words += words
        self.weights += [weight] * len(words)
        return self


Item = tuple[Words, bool]
"""A text (one sentence, two, or a word) and the answer to one question about it."""

# ---- items: one question, both answers equally frequent ---------------------------------------------------------


def sentence_item(rng: random.Random, name: str) -> Item:
    """A sentence and the answer to a sentence question."""
    wanted = rng.random() < 0.5
    if name in DESCRIBED:
        while True:
            sentence = sentences.described(rng)
            if sentence.facts[name] == wanted:
                return sentence.words, wanted
    if not wanted:
        return sentences.whole_past(rng), False
    return sentences.broken(rng, pick(rng, sentences.NEUTRAL_BREAKS) if name == "broken" else name), True


def pair_item(rng: random.Random, name: str) -> Item:
    """Two texts and the answer to a question about the pair."""
    pair = relations.listed(rng, name) if name in LIST_QUESTIONS else relations.related(rng, name)
    return pair.first + pair.second, pair.facts[name]


def item(rng: random.Random, name: str) -> Item:
    """A text and the answer to any named question."""
    return sentence_item(rng, name) if name in SENTENCE_QUESTIONS else pair_item(rng, name)


def _form(rng: random.Random, kind: str) -> str:
    if kind == "adjective":
        return pick(rng, EVERY_WORD.adjectives)
    if kind in FORMS[:2]:
        return pick(rng, EVERY_WORD.nouns)[FORMS.index(kind)]
    return pick(rng, EVERY_WORD.transitive + EVERY_WORD.intransitive)[FORMS.index(kind) - 2]


# ---- rows -----------------------------------------------------------------------------------------------------


def plain(rng: random.Random) -> Row:
    """A correct sentence, or two."""
    row = Row().say(sentences.plain(rng))
    return (row.say(sentences.plain(rng)) if rng.random() < 0.3 else row).say([EOS])


def repaired(rng: random.Random) -> Row:
    """A sentence with a slip and its repair; noticing the slip counts more than the words around it."""
    row = Row().say(sentences.repaired(rng)).say([EOS])
    row.weights[row.words.index("uh")] = 3.0
    return row


def marked(rng: random.Random) -> Row:
    """Two lists, the second marked word by word."""
    return Row().say(relations.marked_lists(rng))


def _named(rng: random.Random, names: tuple[str, ...], answer_weight: float = 3.0) -> Row:
    name = pick(rng, names)
    words, answer = item(rng, name)
    row = Row().say(words, 0.3).say([question(name), "?"], 0.0)
    return row.say(["Yes" if answer else "No"], answer_weight)


def named_lists(rng: random.Random) -> Row:
    """A question about two lists."""
    return _named(rng, LIST_QUESTIONS)


def named_sentence(rng: random.Random) -> Row:
    """A named question about a sentence, answered Yes or No."""
    return _named(rng, SENTENCE_QUESTIONS)


def named_pair(rng: random.Random) -> Row:
    """A named question about two sentences, answered Yes or No."""
    return _named(rng, PAIR_QUESTIONS)


# ---- episodes: solved examples of one question, with label words and polarity of their own -------------------------


def episode(rng: random.Random, draw: Callable[[], Item], count: int, name: str = "") -> Row:
    """`count` items, each followed by `?` and its answer in this episode's two words.

    The answer to the first item cannot be known and does not count. name: the question, when it is to be told.
    """
    answers = rng.sample(LABEL_WORDS, 2) if rng.random() < 0.7 else ["No", "Yes"]
    if rng.random() < 0.5:
        answers.reverse()
    row = Row()
    ask = [question(name), "?"] if name else ["?"]
    for number in range(count):
        words, answer = draw()
        row.say(words, 0.1).say(ask, 0.0).say([answers[answer]], 1.0 if number else 0.0)
    return row


def pairs(rng: random.Random) -> Row:
    """A few words, each followed by its own answer, again and again: what makes copying heads form."""
    known = rng.sample(relations.EVERY_FORM, rng.randint(2, 5))
    answers = dict(zip(known, rng.sample(LABEL_WORDS, len(known)), strict=True))
    row, seen = Row(), set()
    for _ in range(3 * len(known)):
        word = pick(rng, known)
        row.say([word], 0.0).say([answers[word]], float(word in seen))
        seen.add(word)
    return row


def recall(rng: random.Random) -> Row:
    """As `pairs`, as a question: the seed of in-context learning. Two answers, or one for every word."""
    known = rng.sample(relations.EVERY_FORM, rng.randint(2, 6))
    count = 2 if rng.random() < 0.5 else len(known)
    answers = rng.sample(LABEL_WORDS, count)
    row, seen = Row(), set()
    for _ in range(3 * len(known)):
        number = int(rng.random() * len(known))
        row.say([known[number], ".", "?"], 0.0).say([answers[number % count]], float(number in seen))
        seen.add(number)
    return row


def classes(rng: random.Random) -> Row:
    """Words of two or three classes; the answer is the class."""
    kinds = rng.sample(FORMS, rng.randint(2, 3))
    answers = rng.sample(LABEL_WORDS, len(kinds))
    row, seen = Row(), set()
    for _ in range(20):
        number = int(rng.random() * len(kinds))
        row.say([_form(rng, kinds[number]), ".", "?"], 0.0).say([answers[number]], float(number in seen))
        seen.add(number)
    return row


def _asked(rng: random.Random, names: tuple[str, ...], count: int, told: bool) -> Row:
    name = pick(rng, names)
    return episode(rng, lambda: item(rng, name), count, name if told else "")


def told_sentences(rng: random.Random) -> Row:
    """Sentences under a named question."""
    return _asked(rng, SENTENCE_QUESTIONS, 18, told=True)


def told_pairs(rng: random.Random) -> Row:
    """Pairs under a named question."""
    return _asked(rng, PAIR_QUESTIONS + LIST_QUESTIONS, 14, told=True)


def shown_sentences(rng: random.Random) -> Row:
    """Sentences under a question that only the answers show."""
    return _asked(rng, SENTENCE_QUESTIONS, 22, told=False)


def shown_pairs(rng: random.Random) -> Row:
    """Pairs under a question that only the answers show."""
    return _asked(rng, PAIR_QUESTIONS + LIST_QUESTIONS, 17, told=False)


SOURCES: dict[str, Callable[[random.Random], Row]] = {
    "plain": plain,
    "repaired": repaired,
    "marked": marked,
    "named_lists": named_lists,
    "named_sentence": named_sentence,
    "named_pair": named_pair,
    "pairs": pairs,
    "recall": recall,
    "classes": classes,
    "told_sentences": told_sentences,
    "told_pairs": told_pairs,
    "shown_sentences": shown_sentences,
    "shown_pairs": shown_pairs,
}
"""Source name (as in the recipe) -> a row."""
