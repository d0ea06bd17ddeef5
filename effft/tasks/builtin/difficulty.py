"""How hard a built-in task is: the shortcut's strength, the number of words, the distance of the OOD sets.

Each knob is a key of a built-in source in a task file, a field of RunConfig, a flag and an MLproject parameter. The
values here change nothing: with them the generators draw what they draw without difficulty.
"""

from dataclasses import dataclass

from effft.tasks.builtin.lexicon import CORE, Lexicon

SMALLEST_LEXICON = 8
LARGEST_LEXICON = len(CORE.nouns)


@dataclass(frozen=True)
class Difficulty:
    """overlap_strength: share of the not entailed in-domain pairs that a missing word gives away, 0 to 1.

    lexicon_size: nouns of the train pool and the in-domain sets (other words in proportion). ood_distance: share of
    the OOD rows, whatever their phenomenon, made of held-out words.
    """

    overlap_strength: float = 1.0
    lexicon_size: int = LARGEST_LEXICON
    ood_distance: float = 0.0

    @property
    def words(self) -> Lexicon:
        """The core words in use."""
        return CORE.first(self.lexicon_size)


DEFAULT_DIFFICULTY = Difficulty()

DIFFICULTY_SETTINGS: dict[str, tuple[str, ...]] = {
    "agreement": ("lexicon_size", "ood_distance"),
    "overlap": ("overlap_strength", "lexicon_size", "ood_distance"),
}
"""Built-in task -> the difficulty settings it has."""
