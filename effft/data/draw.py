"""Which examples a few-shot run sees: drawn by `data_seed` alone, nested over `per_label` and over `rows`.

Draws and folds are balanced by label. A row that has several labels counts for its rarest.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from effft.data.examples import Example, ExampleSet
from effft.errors import InputError


@dataclass(frozen=True)
class Draw:
    """The shots, and a disjoint validation set, () where none was asked for."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]


def draw_per_label(
    pool: ExampleSet, labels: tuple[str, ...], per_label: int, data_seed: int, validates: bool = True
) -> Draw:
    """`per_label` examples of each label for training and, where asked for, as many for validation.

    Each label's distinct examples are shuffled once by `data_seed`; training takes the first `per_label`, validation
    the last, so a larger `per_label` keeps the smaller one's examples. A text occurs once, whatever its labels.

    Raises:
        InputError: a label has fewer than (with validation twice) `per_label` examples.
    """
    if per_label < 1:
        raise InputError(f"per_label={per_label}: at least 1 example per label is needed (flag --per-label).")
    members = _by_label(distinct(pool.examples), len(labels))
    occurring = {label for example in pool.examples for label in example.labels}
    fewest = min(
        (place for place, own in enumerate(members) if own or place not in occurring), key=lambda p: len(members[p])
    )
    count = len(members[fewest])
    needed, what = (2 * per_label, " (training and validation)") if validates else (per_label, "")
    if count < needed:
        most = count * per_label // needed
        counts = "is the rarest of" if any(len(example.labels) != 1 for example in pool.examples) else "has"
        possible = f"--per-label {most} is possible, and --rows all" if most else "the task needs more rows of it"
        raise InputError(
            f"per_label={per_label}: label {(*labels, 'none')[fewest]!r} {counts} {count} distinct examples in "
            f"{pool.origin}, but {needed} are needed{what}; {possible}."
        )
    train: list[Example] = []
    validation: list[Example] = []
    for label, of_label in enumerate(members):
        random.Random(f"{data_seed}/label {label}").shuffle(of_label)
        train += of_label[:per_label]
        validation += of_label[-per_label:] if validates else ()
    random.Random(f"{data_seed}/train").shuffle(train)
    random.Random(f"{data_seed}/validation").shuffle(validation)
    return Draw(tuple(train), tuple(validation))


def draw_rows(pool: ExampleSet, labels: tuple[str, ...], rows: str, data_seed: int) -> tuple[Example, ...]:
    """`rows` examples ('all' or a number) whose labels are as frequent as in the pool, each label at least once.

    The shares are rounded by the method of Webster (Sainte-Lague): the next row goes to the label with the largest
    members / (2 * drawn + 1), after one row of each label. So a draw of fewer rows is the beginning of a draw of more,
    which the method of largest remainders does not promise (the Alabama paradox; Balinski and Young 1982). A text
    occurs once, whatever its labels.

    Raises:
        InputError: fewer distinct examples than `rows`, fewer `rows` than labels, a label without any, or one label
            only.
    """
    members = _by_label(distinct(pool.examples), len(labels))
    total = sum(map(len, members))
    occurring = {label for example in pool.examples for label in example.labels}
    missing = [name for label, name in enumerate(labels) if label not in occurring]
    if missing:
        raise InputError(
            f"label {missing[0]!r} has no row in {pool.origin}, so nothing can learn it; add rows of it, or take it "
            "out of the task's `labels`."
        )
    if rows != "all" and int(rows) > total:
        raise InputError(
            f"rows={rows}: {pool.origin} has only {total} distinct rows; --rows all takes them, --rows {total} too."
        )
    if rows != "all" and int(rows) < len(labels) and all(len(example.labels) == 1 for example in pool.examples):
        raise InputError(
            f"rows={rows}: each of the {len(labels)} labels needs a row; --rows {len(labels)} is possible."
        )
    for label, of_label in enumerate(members):
        random.Random(f"{data_seed}/label {label}").shuffle(of_label)
    order = sorted(
        (place > 0, -len(of_label) / (2 * place + 1), label, place)
        for label, of_label in enumerate(members)
        for place in range(len(of_label))
    )
    count = total if rows == "all" else int(rows)
    return tuple(members[label][place] for _, _, label, place in order[:count])


def fold_numbers(examples: Sequence[Example], labels: int, folds: int, seed: int) -> list[int]:
    """The fold (from 0) of each example: as large as each other, each label spread over as many as it can.

    No two rows of a label with fewer rows than folds share a fold.
    """
    numbers, place, rarest = [0] * len(examples), 0, _rarest_labels(examples, labels)
    for label in range(labels + 1):
        rows = [i for i, known in enumerate(rarest) if known == label]
        random.Random(f"{seed}/folds/label {label}").shuffle(rows)
        for i in rows:
            numbers[i] = place % folds
            place += 1
    return numbers


def hold_out(examples: Sequence[Example], numbers: Sequence[int], fold: int) -> Draw:
    """The examples of fold `fold` validate, the others train."""
    pairs = list(zip(examples, numbers, strict=True))
    return Draw(tuple(e for e, n in pairs if n != fold), tuple(e for e, n in pairs if n == fold))


def split_fold(drawn: Draw, labels: int, fold: int, folds: int, seed: int) -> Draw:
    """The shots alone, cut by `seed` into `folds` parts balanced by label: part `fold` validates, the rest trains.

    Raises:
        InputError: a label has fewer examples than there are folds.
    """
    members = _by_label(drawn.train, labels)
    fewest = min(len(own) for own in members if own)
    if not 2 <= folds <= fewest:
        raise InputError(f"folds={folds}: at least 2 and at most {fewest}, the examples per label (flag --folds).")
    held: set[int] = set()
    for label, of_label in enumerate(members):
        random.Random(f"{seed}/folds/label {label}").shuffle(of_label)
        held |= {example.index for example in of_label[fold::folds]}
    train = tuple(example for example in drawn.train if example.index not in held)
    return Draw(train, tuple(example for example in drawn.train if example.index in held))


def draw_demonstrations(
    train: Sequence[Example], labels: int, shots: int, seed: int, which: str = "balanced", order: str = "random"
) -> tuple[Example, ...]:
    """`shots` of the training examples to solve before a prompt; `seed` draws and orders them.

    which: `random`, or else as balanced by label as can be. order: `by-label`, in that of the labels; else random.

    Raises:
        InputError: fewer than `shots` examples.
    """
    if not 0 <= shots <= len(train):
        raise InputError(
            f"shots={shots}: {len(train)} labelled examples are drawn; lower --shots or raise --per-label or --rows."
        )
    rng = random.Random(f"{seed}/demonstrations")
    members = [list(train)] if which == "random" else _by_label(train, labels)
    for of_label in members:
        rng.shuffle(of_label)
    rng.shuffle(members)
    chosen: list[Example] = []
    while len(chosen) < shots:
        for of_label in members:
            if of_label and len(chosen) < shots:
                chosen.append(of_label.pop())
    rng.shuffle(chosen)
    return tuple(sorted(chosen, key=lambda example: example.labels) if order == "by-label" else chosen)


def draw_unlabelled(pool: ExampleSet, taken: Sequence[Example], count: int, data_seed: int) -> tuple[Example, ...]:
    """`count` distinct examples of the pool whose texts are not in `taken`; all of those when there are fewer."""
    used = {example.texts for example in taken}
    free = [example for example in distinct(pool.examples) if example.texts not in used]
    random.Random(f"{data_seed}/unlabelled").shuffle(free)
    return tuple(free[: max(count, 0)])


def distinct(examples: Sequence[Example]) -> list[Example]:
    """The examples without repeated texts; the first of each stays."""
    first: dict[tuple[str, ...], Example] = {}
    for example in examples:
        first.setdefault(example.texts, example)
    return list(first.values())


def _by_label(examples: Sequence[Example], labels: int) -> list[list[Example]]:
    """The examples of each label; those without any come last."""
    rarest = _rarest_labels(examples, labels)
    members: list[list[Example]] = [[] for _ in range(max([labels, *(label + 1 for label in rarest)]))]
    for example, label in zip(examples, rarest, strict=True):
        members[label].append(example)
    return members


def _rarest_labels(examples: Sequence[Example], labels: int) -> list[int]:
    """Of each example the label that the fewest of them have; `labels` where it has none."""
    rows = Counter(label for example in examples for label in example.labels)
    return [min(example.labels, key=lambda label: (rows[label], label), default=labels) for example in examples]
