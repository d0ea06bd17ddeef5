"""Difficulty settings do what they say, labels stay right, and a bad value is a sentence before any work."""

from collections import Counter
from pathlib import Path

import grammar_checker
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effft.config import DIFFICULTY_FIELDS, RunConfig, make_config
from effft.errors import InputError
from effft.runs.plan import prepare
from effft.runs.session import Session
from effft.tasks.builtin import SPLITS, generate
from effft.tasks.builtin.lexicon import AS_MADE, CORE, HELD_OUT, LARGEST_LEXICON, SMALLEST_LEXICON, Difficulty
from effft.tasks.task import load_task

DIFFICULTIES = st.builds(
    Difficulty,
    overlap_strength=st.floats(0, 1),
    lexicon_size=st.integers(SMALLEST_LEXICON, LARGEST_LEXICON),
    ood_distance=st.floats(0, 1),
)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), split=st.sampled_from(sorted(SPLITS)), difficulty=DIFFICULTIES)
def test_labels_follow_from_the_words_and_balance_whatever_the_difficulty(
    seed: int, split: str, difficulty: Difficulty
) -> None:
    for row in (rows := generate("agreement", split, 140, seed, difficulty)):
        assert grammar_checker.agreement_label(row["sentence"]) == row["label"], row
    assert len(set(Counter(row["label"] for row in rows).values())) == 1
    for row in (rows := generate("overlap", split, 160, seed, difficulty)):
        assert grammar_checker.overlap_label(row["premise"], row["hypothesis"]) == row["label"], row
    assert len(set(Counter((row["construction"], row["label"]) for row in rows).values())) <= 2


@settings(max_examples=10, deadline=None)
@given(strength=st.floats(0, 1), seed=st.integers(0, 1000))
def test_overlap_strength_is_the_share_that_a_missing_word_gives_away(strength: float, seed: int) -> None:
    rows = generate("overlap", "train", 1000, seed, Difficulty(overlap_strength=strength))
    not_entailed = [row for row in rows if row["label"] == "non_entailment"]
    told = [not grammar_checker.overlaps(row["premise"], row["hypothesis"]) for row in not_entailed]
    assert abs(sum(told) / len(told) - strength) < 0.1
    assert all(told_by == (row["heuristic"] == "holds") for told_by, row in zip(told, not_entailed, strict=True))
    assert all(
        grammar_checker.overlaps(row["premise"], row["hypothesis"]) for row in rows if row["label"] == "entailment"
    )


def forms(lexicon) -> set[str]:
    groups = (lexicon.nouns, lexicon.transitive, lexicon.intransitive)
    return {form for group in groups for word in group for form in word} | set(lexicon.adjectives)


@pytest.mark.parametrize("name", ["agreement", "overlap"])
def test_a_small_lexicon_and_a_far_ood_set(name: str) -> None:
    unused = forms(CORE) - forms(CORE.first(8))
    train = generate(name, "train", 800, 0, Difficulty(lexicon_size=8))
    assert not unused & {word for row in train for text in row.values() for word in text.split()}
    far = generate(name, "ood", 800, 0, Difficulty(ood_distance=1.0))
    assert not forms(CORE) & {word for row in far for text in row.values() for word in text.split()}
    near = generate(name, "ood", 800, 0)
    held_out = [bool(forms(HELD_OUT) & {w for text in row.values() for w in text.split()}) for row in near]
    assert 0 < sum(held_out) < 200


def test_the_default_difficulty_changes_nothing() -> None:
    for name in ("agreement", "overlap"):
        for split in ("train", "ood"):
            assert generate(name, split, 280 if name == "agreement" else 320, 0) == generate(
                name, split, 280 if name == "agreement" else 320, 0, AS_MADE
            )
    task = load_task("overlap")
    assert task.with_difficulty({}) is task
    assert CORE.first(LARGEST_LEXICON) == CORE


def test_a_run_carries_its_difficulty_to_the_rows() -> None:
    session = Session()
    default = prepare(make_config({"strategy": "zero_shot", "task": "overlap"}), session)
    harder = prepare(make_config({"strategy": "zero_shot", "task": "overlap", "overlap_strength": "0.5"}), session)
    assert default.draw.train != harder.draw.train
    assert "overlap_strength 0.5" in harder.evaluated["in_domain"].origin
    assert default.evaluated["ood/traps"].digest == harder.evaluated["ood/traps"].digest
    assert [default.resolved.settings[name] for name in DIFFICULTY_FIELDS] == [1.0, 20, 0.0]
    assert [harder.resolved.settings[name] for name in DIFFICULTY_FIELDS] == [0.5, 20, 0.0]


def test_every_setting_is_a_field_with_the_generators_bounds() -> None:
    assert set(DIFFICULTY_FIELDS) <= set(RunConfig.model_fields)
    for value in (SMALLEST_LEXICON, LARGEST_LEXICON):
        assert make_config({"lexicon_size": value}).lexicon_size == value


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"overlap_strength": "1.2", "task": "overlap"}, "overlap_strength=1.2: must be at most 1"),
        ({"overlap_strength": "-0.1", "task": "overlap"}, "must be at least 0"),
        ({"overlap_strength": "strong", "task": "overlap"}, "must be a number"),
        ({"overlap_strength": "nan", "task": "overlap"}, "must be a finite number"),
        ({"lexicon_size": "7"}, "lexicon_size=7: must be at least 8"),
        ({"lexicon_size": "8.5"}, "must be a whole number"),
        ({"ood_distance": "2"}, "ood_distance=2: must be at most 1"),
        ({"overlap_strength": "0.8"}, "task 'agreement' has no setting overlap_strength .* overlap"),
        ({"lexicon_size": "12", "task": "mnli"}, "task 'mnli' has no setting lexicon_size .* agreement, overlap"),
    ],
)
def test_a_bad_setting_is_one_sentence_before_any_work(values: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        prepare(make_config(values), Session())


TASK = """\
name: mine
fields: [sentence]
labels: [unacceptable, acceptable]
train: {{builtin: agreement, split: train, size: 100, {0}}}
in_domain: {{builtin: agreement, split: in_domain, size: 100}}
"""


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("seed: one", "line 4.*seed.*whole number"),
        ("seed: -1", "line 4.*seed.*at least 0"),
        ("overlap_strength: 0.5", "line 4.*'agreement' has no setting 'overlap_strength'; it has: lexicon_size"),
        ("lexicon_size: 3", "line 4.*lexicon_size.*8"),
    ],
)
def test_a_task_file_with_a_bad_setting_is_one_sentence_with_its_line(tmp_path: Path, extra: str, said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TASK.format(extra), encoding="utf-8")
    with pytest.raises(InputError, match=said):
        load_task(str(path))


@pytest.mark.slow
def test_more_rows_than_the_grammar_has_is_one_sentence() -> None:
    with pytest.raises(InputError, match=r"no more than \d+ rows of this kind .* smaller size"):
        generate("overlap", "train", 400_000, 0, Difficulty(lexicon_size=8))
