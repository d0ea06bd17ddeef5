import pytest
from hypothesis import given
from hypothesis import strategies as st

from effft.data.draw import draw_demonstrations, draw_per_label, draw_rows, draw_unlabelled, fold_numbers
from effft.data.examples import Example, ExampleSet
from effft.errors import InputError

LABELS = ("no", "yes", "maybe")


def pool_of(count, labels=3):
    rows = [Example((f"text {i}",), i % labels, i) for i in range(count)]
    return ExampleSet("train", tuple(rows), "here")


@given(st.integers(1, 12), st.integers(0, 1000), st.integers(72, 120))
def test_draw_is_balanced_disjoint_and_repeatable(per_label, seed, count):
    pool = pool_of(count)
    drawn = draw_per_label(pool, LABELS, per_label, seed)
    for part in (drawn.train, drawn.validation):
        assert [sum(e.label == i for e in part) for i in range(3)] == [per_label] * 3
    assert not {e.texts for e in drawn.train} & {e.texts for e in drawn.validation}
    assert drawn == draw_per_label(pool, LABELS, per_label, seed)


@given(st.integers(1, 11), st.integers(0, 1000))
def test_a_larger_draw_keeps_the_smaller_one(per_label, seed):
    pool = pool_of(80)
    small, large = (draw_per_label(pool, LABELS, n, seed) for n in (per_label, per_label + 1))
    assert set(small.train) < set(large.train)
    assert set(small.validation) < set(large.validation)


def test_other_data_seed_other_examples():
    assert draw_per_label(pool_of(90), LABELS, 4, 0) != draw_per_label(pool_of(90), LABELS, 4, 1)


def test_a_text_is_drawn_once_even_with_two_labels():
    rows = tuple(Example((f"text {i // 2}",), i % 2, i) for i in range(40)) + tuple(
        Example((f"other {i}",), 1, 40 + i) for i in range(20)
    )
    drawn = draw_per_label(ExampleSet("train", rows, "here"), ("no", "yes"), 10, 3)
    texts = [e.texts for e in drawn.train + drawn.validation]
    assert len(texts) == len(set(texts)) == 40


def test_too_few_names_label_count_and_what_is_possible():
    with pytest.raises(InputError, match=r"'no' has 4 .*here.*8 are needed.*--per-label 2 is possible, and --rows all"):
        draw_per_label(pool_of(12), LABELS, 4, 0)
    with pytest.raises(InputError, match="at least 1"):
        draw_per_label(pool_of(12), LABELS, 0, 0)
    with pytest.raises(InputError, match="needs more rows"):
        draw_per_label(pool_of(1), LABELS, 1, 0)


@given(st.integers(0, 24), st.integers(0, 100))
def test_demonstrations_are_as_balanced_as_can_be(shots, seed):
    train = draw_per_label(pool_of(72), LABELS, 8, 0).train
    chosen = draw_demonstrations(train, 3, shots, seed)
    counts = [sum(e.label == i for e in chosen) for i in range(3)]
    assert len(chosen) == len(set(chosen)) == shots
    assert max(counts) - min(counts) <= 1
    assert chosen == draw_demonstrations(train, 3, shots, seed)


@pytest.mark.parametrize("shots", [-1, 25])
def test_more_demonstrations_than_examples(shots):
    with pytest.raises(InputError, match=f"shots={shots}: 24"):
        draw_demonstrations(draw_per_label(pool_of(72), LABELS, 8, 0).train, 3, shots, 0)


def test_unlabelled_are_new_texts_and_all_when_fewer():
    pool = pool_of(60)
    drawn = draw_per_label(pool, LABELS, 4, 0)
    taken = drawn.train + drawn.validation
    some, every = draw_unlabelled(pool, taken, 10, 0), draw_unlabelled(pool, taken, 1000, 0)
    assert len(some) == 10
    assert set(some) < set(every)
    assert len(every) == 60 - 24
    assert not {e.texts for e in every} & {e.texts for e in taken}


def unequal_pool(counts):
    rows = [Example((f"text {label} {i}",), label, 0) for label, count in enumerate(counts) for i in range(count)]
    return ExampleSet("train", tuple(rows), "here")


COUNTS = st.lists(st.integers(1, 40), min_size=3, max_size=3)


@given(COUNTS, st.integers(0, 99), st.data())
def test_rows_are_nested_and_as_frequent_as_they_are(counts, seed, data):
    pool, total = unequal_pool(counts), sum(counts)
    larger = data.draw(st.integers(3, total))
    smaller = data.draw(st.integers(3, larger))
    drawn = draw_rows(pool, LABELS, str(larger), seed)
    assert draw_rows(pool, LABELS, str(smaller), seed) == drawn[:smaller]
    assert draw_rows(pool, LABELS, "all", seed)[:larger] == drawn
    assert len({e.texts for e in drawn}) == larger
    found = [sum(e.label == label for e in drawn) for label in range(3)]
    assert min(found) >= 1
    for count, own in zip(counts, found, strict=True):  # its share, but for rounding and the row that each label has
        assert abs(own - larger * count / total) < 2


@given(COUNTS, st.integers(2, 12), st.integers(0, 99))
def test_folds_are_equally_large_and_spread_every_label(counts, folds, seed):
    rows = draw_rows(unequal_pool(counts), LABELS, "all", 0)
    numbers = fold_numbers(rows, 3, folds, seed)
    sizes = [numbers.count(fold) for fold in range(folds)]
    assert max(sizes) - min(sizes) <= 1
    for label in range(3):
        own = [n for n, e in zip(numbers, rows, strict=True) if e.label == label]
        assert max(own.count(fold) for fold in range(folds)) <= -(-len(own) // folds)


def test_rows_that_cannot_be_drawn_are_a_sentence():
    with pytest.raises(InputError, match=r"rows=9: here has only 8 distinct rows; --rows all"):
        draw_rows(unequal_pool([5, 2, 1]), LABELS, "9", 0)
    with pytest.raises(InputError, match=r"rows=2: each of the 3 labels needs a row; --rows 3 is possible"):
        draw_rows(unequal_pool([5, 2, 1]), LABELS, "2", 0)
    with pytest.raises(InputError, match="'maybe' has no row in here"):
        draw_rows(unequal_pool([5, 2]), LABELS, "all", 0)
