"""The built-in tasks keep their promises: labels follow from the words, slices balance, splits share nothing."""

import time
from collections import Counter
from itertools import combinations, pairwise

import grammar_checker
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effft.errors import InputError
from effft.tasks.builtin import GENERATORS, SPLITS, generate
from effft.tasks.builtin.agreement import IN_DOMAIN, OOD
from effft.tasks.builtin.lexicon import HELD_OUT
from effft.tasks.builtin.sampling import part_of

FIELDS = {"agreement": ("sentence",), "overlap": ("premise", "hypothesis")}
SLICES = {"agreement": ("phenomenon",), "overlap": ("construction", "heuristic")}
SIZE = 1120


@pytest.fixture(scope="module")
def tables() -> dict[tuple[str, str], list[dict[str, str]]]:
    return {(name, split): generate(name, split, SIZE, 0) for name in GENERATORS for split in SPLITS}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), split=st.sampled_from(sorted(SPLITS)))
def test_an_independent_parser_finds_the_same_labels(seed: int, split: str) -> None:
    for row in generate("agreement", split, 140, seed):
        assert grammar_checker.agreement_label(row["sentence"]) == row["label"], row
    for row in generate("overlap", split, 160, seed):
        assert grammar_checker.overlap_label(row["premise"], row["hypothesis"]) == row["label"], row


@pytest.mark.parametrize("name", sorted(GENERATORS))
@pytest.mark.parametrize("split", sorted(SPLITS))
def test_labels_balance_in_total_and_inside_every_slice(name: str, split: str, tables) -> None:
    rows = tables[name, split]
    for column in ("", *SLICES[name]):
        counts = Counter((row.get(column, ""), row["label"]) for row in rows)
        for value in {value for value, _ in counts}:
            assert len({count for (v, _), count in counts.items() if v == value}) == 1
            assert len([1 for v, _ in counts if v == value]) == 2


@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_no_text_in_two_splits_whatever_the_seeds(name: str, tables) -> None:
    for first, second in combinations(SPLITS, 2):
        if {first, second} == {"development", "development_ood"}:
            continue
        texts = [
            {row[field] for row in tables[name, first] for field in FIELDS[name]},
            {row[field] for row in generate(name, second, SIZE, 5) for field in FIELDS[name]},
        ]
        assert not texts[0] & texts[1]


@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_rows_differ_and_belong_to_their_part(name: str, tables) -> None:
    for split, (part, _) in SPLITS.items():
        rows = tables[name, split]
        assert len({tuple(row[field] for field in FIELDS[name]) for row in rows}) == len(rows) == SIZE
        assert {part_of(row[field]) for row in rows for field in FIELDS[name]} == {part}


def test_in_domain_overlap_tells_the_label_and_in_the_traps_it_is_full() -> None:
    for split in ("train", "in_domain", "ood"):
        for row in generate("overlap", split, 800, 1):
            full = grammar_checker.overlaps(row["premise"], row["hypothesis"])
            assert full == (row["label"] == "entailment") if row["heuristic"] == "holds" else full
            assert row["premise"] != row["hypothesis"]


def test_ood_phenomena_and_words_are_absent_from_train() -> None:
    assert set(OOD).isdisjoint(IN_DOMAIN)
    held_out = {
        form for group in (HELD_OUT.nouns, HELD_OUT.transitive, HELD_OUT.intransitive) for w in group for form in w
    }
    held_out |= set(HELD_OUT.adjectives)
    agreement = [row["sentence"].split() for row in generate("agreement", "train", 2000, 3)]
    overlap = [row[f].split() for row in generate("overlap", "train", 2000, 3) for f in FIELDS["overlap"]]
    for words in agreement + overlap:
        assert held_out.isdisjoint(words)
        assert {"himself", "themselves", "there", "by", "if", "unless", "because"}.isdisjoint(words) or words in overlap
    for words in agreement:
        assert {"near", "behind", "beside", "with"}.isdisjoint(words)
        assert not any(a == "that" and b.endswith("ed") for a, b in pairwise(words))
    for words in overlap:
        assert {"by", "that", "if", "unless", ","}.isdisjoint(words)


@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_same_arguments_same_rows_other_seed_other_rows(name: str, tables) -> None:
    assert generate(name, "train", SIZE, 0) == tables[name, "train"]
    assert generate(name, "train", SIZE, 1) != tables[name, "train"]


@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_generation_is_fast(name: str) -> None:
    start = time.process_time()
    generate(name, "train", 4000, 0)
    assert 4000 / (time.process_time() - start) > 2500, "rows a second (10,000 on an idle core)"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("agrement", "train", 100, 0), "Did you mean 'agreement'"),
        (("agreement", "test", 100, 0), "built-in split"),
        (("agreement", "train", 101, 0), "multiple of 2"),
        (("agreement", "train", 2, 0), "at least 10"),
        (("agreement", "train", 100, -1), "whole number"),
        (("agreement", "train", 100, "0"), "whole number"),
    ],
)
def test_bad_arguments_are_one_sentence(arguments, said: str) -> None:
    with pytest.raises(InputError, match=said):
        generate(*arguments)


def test_the_parser_itself() -> None:
    assert grammar_checker.agreement_label("the author near the judges laughs .") == "acceptable"
    assert grammar_checker.agreement_label("the author near the judges laugh .") == "unacceptable"
    assert grammar_checker.agreement_label("the author and the judge laugh .") == "acceptable"
    assert grammar_checker.agreement_label("the author admires the judge and the actor .") == "acceptable"
    assert grammar_checker.agreement_label("the author admired the judge and the actors laughs .") == "unacceptable"
    with pytest.raises(ValueError, match="expected"):
        grammar_checker.agreement_label("author the laughs .")
    label = grammar_checker.overlap_label
    assert label("the judge was admired by the author .", "the author admired the judge .") == "entailment"
    assert label("if the author laughed , the judge waited .", "the judge waited .") == "non_entailment"
