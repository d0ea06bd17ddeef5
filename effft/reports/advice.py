"""The answer of a report in sentences made from its numbers: what to use, its cost, how sure that is, what fails."""

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np

from effft.config import Amount
from effft.data.table import listed
from effft.evaluation.metric_keys import CROSS_VALIDATED, slices_with
from effft.evaluation.statistics import front, smallest_p
from effft.reports.blocks import Table
from effft.reports.data import ReportData, metric_names, split_title
from effft.reports.groups import HOME, MEMORY, OOD_MEAN, QUERY_TIME, SHARE, TUNED, RunGroup
from effft.reports.pairwise import LEVEL, Pair, pairs_between
from effft.reports.searches import StudyRecord
from effft.reports.slices import ENOUGH, slice_size
from effft.strategies.strategy import SUMMARY

MOST = 8  # Names in one sentence; the others are counted.
HALF = 0.5  # Share of the way from chance to the score in domain below which an OOD set counts as not managed.


def size(megabytes: float) -> str:
    """Memory as a person says it."""
    return f"{megabytes / 1e3:.3g} GB" if megabytes >= 1e3 else f"{megabytes:.3g} MB"


def pareto(groups: list[RunGroup], key: str) -> list[RunGroup]:
    """The groups that no other beats both in a cost and in domain, the cheapest first."""
    known = [group for group in groups if not np.isnan(group.median(key)) and np.isfinite(group.mean())]
    return [known[i] for i in front([group.median(key) for group in known], [group.mean() for group in known])]


def choose(data: ReportData, groups: Sequence[RunGroup]) -> RunGroup | None:
    """The group with the highest mean on validation (or out of fold), the smaller one of equals; never by a test."""
    key = f"{chosen_on(data)}/{data.primary}"
    known = [(stat.mean, -group.median(MEMORY), group) for group in groups if (stat := group.stat(key))]
    return max(known, key=lambda one: one[:2])[2] if known else None


def chosen_on(data: ReportData) -> str:
    """The split that choices are made on."""
    return CROSS_VALIDATED if data.home == CROSS_VALIDATED else "validation"


def _by(data: ReportData) -> str:
    """That split in words."""
    return "out of fold" if chosen_on(data) == CROSS_VALIDATED else "on validation"


def answer(data: ReportData, backbone: str, studies: Sequence[StudyRecord]) -> dict[str, str]:
    """Name -> sentences, at the largest number of examples."""
    amount = max(data.amounts(backbone))
    groups = data.groups_on(backbone, amount)
    chosen = choose(data, groups)
    found: dict[str, Iterator[str]] = {}
    if chosen is not None:
        others = [group for group in groups if group is not chosen]
        pairs = pairs_between([(chosen, other) for other in others], [data.home], data.primary)
        equal = {pair.other for pair in pairs if pair.pairs > 1 and pair.low <= 0}
        found["Use"] = chain(_usefulness(data, chosen, groups), _use(data, chosen, amount, others))
        found["As good"] = _as_good(chosen, [group for group in others if group.variant in equal], pairs)
        found["Cost"] = _cost(data, chosen, groups)
        ood = [pairs_between([(chosen, other) for other in others], [split], data.primary) for split in data.splits[1:]]
        found["How sure"] = _how_sure(data, chosen, [pairs, *ood])
    else:
        found["Use"] = iter([f"No run has a score on {chosen_on(data)}, and nothing here is chosen by a test score."])
    found["What fails"] = _fails(data, groups, chosen)
    controls = [g for g in data.groups_in(data.controls) if (g.backbone, g.amount) == (backbone, amount)]
    found["Controls"] = _controls(data, controls, groups)
    found["Tuning adds"] = _tuning(data, groups, studies)
    return {name: text for name, sentences in found.items() if (text := " ".join(sentences))}


def _usefulness(data: ReportData, chosen: RunGroup, groups: Sequence[RunGroup]) -> Iterator[str]:
    """That the choice, or all, are not told from an answer without knowledge in domain; nothing where it is."""
    known = data.references([chosen], data.home)
    if known is None or not _no_better(data, chosen, data.home, max(known)):
        return
    than = "chance" if known[1] >= known[0] else f"always the most frequent label ({known[0]:.3f})"
    where = f"better than {than} {split_title(data.home)} at {chosen.amount.phrase}"
    able = [group for group in groups if not _no_better(data, group, data.home, max(known))]
    if able:
        reached = _some([f"{group.variant} ({_interval(group.score(HOME))})" for group in able])
        verb = "are" if able[1:] else "is"
        yield f"{chosen.variant}, the highest {_by(data)}, is not {where}; by the interval only {reached} {verb}."
        return
    cheapest = min(groups, key=lambda group: np.nan_to_num(group.median(MEMORY), nan=np.inf))
    memory = cheapest.median(MEMORY)
    cost = f"; if one must be used, {cheapest.variant} is the cheapest ({size(memory)})" if memory == memory else ""
    yield f"Nothing here is {where}{cost}."


def _use(data: ReportData, chosen: RunGroup, amount: Amount, others: Sequence[RunGroup]) -> Iterator[str]:
    split = chosen_on(data)
    score, home = chosen.stat(f"{split}/{data.primary}"), chosen.score(HOME)
    assert score is not None
    assert home is not None
    by, rows = _by(data), chosen.median("validation/examples")
    by += f" ({rows:.0f} examples)" if split != CROSS_VALIDATED and rows == rows else ""
    yield f"{chosen.variant}, with {amount.examples}: the highest {data.primary} {by}, {score.mean:.3f}."
    if chosen.strategy in SUMMARY:
        yield f"({chosen.strategy}: {SUMMARY[chosen.strategy]}.)"
    same = [g for g in others if (stat := g.stat(f"{split}/{data.primary}")) and stat.mean == score.mean]
    if same:
        more = ", with more memory" if all(g.median(MEMORY) > chosen.median(MEMORY) for g in same) else ""
        yield f"{_and([g.variant for g in same])} {'has' if len(same) == 1 else 'have'} the same there{more}."
    reached = [f"{_interval(home)} {split_title(data.home)}"] if split != data.home else []
    reached += [f"{_interval(stat)} on {name} (OOD)" for name in data.sets if (stat := chosen.score(f"ood/{name}"))]
    if reached:
        yield f"{chosen.variant} reaches {_and(reached)}."


def _as_good(chosen: RunGroup, equal: Sequence[RunGroup], pairs: Sequence[Pair]) -> Iterator[str]:
    if not any(pair.pairs > 1 for pair in pairs):
        return  # nothing has an interval
    if not equal:
        yield "None, by the intervals of the paired differences."
        return
    gaps = [f"{g.variant} {next(pair.text for pair in pairs if pair.other == g.variant)}" for g in equal]
    yield f"{_and(gaps)}: {chosen.variant} minus {'it' if len(equal) == 1 else 'each'}, on the same seeds and shots."
    better = [pair.other for pair in pairs if pair.pairs > 1 and pair.high < 0]
    if better:
        yield f"{_and(better)} {'is' if len(better) == 1 else 'are'} better by it; the test may tell, and not choose."
    for key, word in ((MEMORY, "needs less memory"), ("resources/train_seconds", "trains faster")):
        less = [group for group in equal if group.median(key) < chosen.median(key)]
        if less:
            least = min(less, key=lambda group: group.median(key))
            number = size(least.median(key)) if key == MEMORY else f"{least.median(key):.3g} s"
            word = word if key == MEMORY or least.trains else "is ready sooner"
            yield f"{least.variant} {word}: {number}."


def _cost(data: ReportData, chosen: RunGroup, groups: Sequence[RunGroup]) -> Iterator[str]:
    share, seconds, memory, query = (
        chosen.median(key) for key in (SHARE, "resources/train_seconds", MEMORY, QUERY_TIME)
    )
    parts = [f"{100 * share:.3g} % of the parameters trained"] if share == share else []
    parts += [f"{seconds:.3g} s of {'training' if chosen.trains else 'preparation'}"] if seconds == seconds else []
    parts += [f"a peak of {size(memory)} of memory"] if memory == memory else []
    parts += [f"{query:.3g} ms for an answer"] if query == query else []
    if parts:
        yield f"{_and(parts)} (medians)."
    idle = choose(data, [group for group in groups if not group.trains])
    if idle is not None and idle is not chosen:
        known, split = data.references([idle], data.home), chosen_on(data)
        reached = f"{idle.mean():.3f}" + (f" {split_title(data.home)}" if split != data.home else "")
        beside = f"; {_uninformed(*known)}" if known else ""
        yield f"Of what trains nothing, {idle.variant} is highest {_by(data)} and reaches {reached}{beside}."


def _how_sure(data: ReportData, chosen: RunGroup, families: Sequence[Sequence[Pair]]) -> Iterator[str]:
    """families: the comparisons with the choice in domain, then on every OOD set; each corrected on its own."""
    runs = len(chosen.runs)
    if runs < 2:
        yield "Every number of it comes from a single run, so this is no more than a first impression."
        return
    draws = len(set(chosen.draws.tolist()))
    yield f"{runs} runs, {draws} draw{'s' * (draws > 1)} of the examples."
    for split, pairs in zip(data.splits, families, strict=True):
        place = _place(data, split)
        yield from _told_apart(f"{place[0].upper()}{place[1:]}", pairs)
    single = dict.fromkeys(pair.other for pairs in families for pair in pairs if pair.pairs < 2)
    if single:
        yield f"No interval for {_some(list(single))}: a single pair of runs."


def _told_apart(place: str, pairs: Sequence[Pair]) -> Iterator[str]:
    """What the choice is better and worse than in one place: by the test, or only by the interval."""
    several = [pair for pair in pairs if pair.pairs > 1]
    if not several:
        return
    clear = [pair for pair in several if pair.p_holm < LEVEL]
    said = [
        f"{word} than {_some(names)} by the paired test (p < {LEVEL}, {len(pairs)} comparisons, Holm)"
        for word, sign in (("better", 1), ("worse", -1))
        if (names := [pair.other for pair in clear if sign * pair.difference > 0])
    ]
    above = [pair.other for pair in several if pair not in clear and pair.low > 0]
    below = [pair.other for pair in several if pair not in clear and pair.high < 0]
    if above or below:
        most = max(pair.pairs for pair in several)
        few = smallest_p(most) > LEVEL / len(pairs)
        why = f"{most} pairs are too few for the test" if few else "the test does not confirm it"
        sides = [f"{word} {_some(names)}" for word, names in (("above", above), ("below", below)) if names]
        said.append(f"{' and '.join(sides)} by the interval of the paired difference ({why})")
    open_ = [pair.other for pair in several if pair.low <= 0 <= pair.high and pair not in clear]
    if open_:
        said.append(f"not told apart from {_some(open_)}")
    yield f"{place}: {'; '.join(said)}."


def _fails(data: ReportData, groups: Sequence[RunGroup], chosen: RunGroup | None) -> Iterator[str]:
    trained = [group for group in groups if group.trains] or list(groups)
    nobody = "no strategy that trains" if len(trained) < len(groups) else "no strategy"
    for name in data.sets:
        stats = [stat for group in trained if (stat := group.score(f"ood/{name}"))]
        known, home = data.references(list(groups), f"ood/{name}"), (chosen or trained[0]).mean()
        if stats and known is not None:
            least, most = min(s.mean for s in stats), max(s.mean for s in stats)
            if most < known[1] + HALF * (home - known[1]):
                scores = f"{data.primary} {' to '.join(dict.fromkeys([f'{least:.3f}', f'{most:.3f}']))}"
                yield f"{nobody.capitalize()} manages {name}: {scores}; {_uninformed(*known)}."
    hard = [
        (max(means), f"{parts.slice_label} ({split_title(split)}, {slice_size(groups, key)[0]:.0f} examples)")
        for split in data.splits
        for key, parts in slices_with(metric_names(data.frame), split, "accuracy").items()
        if not parts.slice[1:]
        and slice_size(groups, key)[0] >= ENOUGH
        and (means := [stat.mean for group in trained if (stat := group.stat(key))])
    ]
    if hard:
        top, name = min(hard)
        yield f"Hardest slice of {ENOUGH} examples or more: {name}, where {nobody} has an accuracy above {top:.3f}."
    guessed = []
    for split in data.splits:
        known = data.references(list(groups), split)
        names = [g.variant for g in trained if known and _no_better(data, g, split, known[1])]
        every = f"all {len(names)}" + (" that train" if len(trained) < len(groups) else "")
        if names:
            guessed.append(
                f"{_place(data, split)} {every if names[1:] and len(names) == len(trained) else _some(names)}"
            )
    if guessed:
        yield f"No better than chance: {'; '.join(guessed)}."


def _controls(data: ReportData, controls: Sequence[RunGroup], groups: Sequence[RunGroup]) -> Iterator[str]:
    """The controls that some strategy is not told from, or lies below, in domain."""
    for control in controls:
        pairs = pairs_between([(control, group) for group in groups], [data.home], data.primary)
        ends = [(pair.low, pair.high) if pair.pairs > 1 else (pair.difference, pair.difference) for pair in pairs]
        above, same = sum(low > 0 for low, _ in ends), sum(low <= 0 <= high for low, high in ends)
        said = [
            f"{word} {count} of {len(pairs)}" for word, count in (("above", above), ("not told from", same)) if count
        ]
        if said and (stat := control.score(HOME)):
            strategies = "strategy" if len(pairs) == 1 else "strategies"
            yield f"{control.variant} reaches {_interval(stat)} {split_title(data.home)}: {_and(said)} {strategies}."


def _uninformed(majority: float, chance: float) -> str:
    """What scores knowing nothing would reach, in words."""
    most = f"always the most frequent label has {majority:.3f}, guessing" if majority > chance else "guessing has"
    return f"{most} {chance:.3f}"


def _no_better(data: ReportData, group: RunGroup, split: str, reference: float) -> bool:
    """Whether the interval of a score does not lie above the reference."""
    limits = data.limits(group, split)
    return limits is not None and limits[1] <= reference


def _tuning(data: ReportData, groups: Sequence[RunGroup], studies: Sequence[StudyRecord]) -> Iterator[str]:
    plain = {group.variant: group for group in groups}
    for group in groups:
        base = plain.get(group.strategy)
        if TUNED in group.variant and base is not None:
            for pair in pairs_between([(group, base)], [data.home], data.primary):
                yield f"{group.variant}: {pair.text} over the defaults {split_title(data.home)}, {pair.pairs} pairs."
    for study in studies:
        if study.sentences:
            yield f"{study.label}: {study.sentences[0]}"


def _place(data: ReportData, split: str) -> str:
    return split_title(split) if split == data.home else f"on {split.removeprefix('ood/')} (OOD)"


def _interval(stat: object) -> str:
    mean, low, high = (getattr(stat, name) for name in ("mean", "low", "high"))
    return f"{mean:.3f}" + ("" if low is None else f" [{low:.3f}, {high:.3f}]")


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _some(names: Sequence[str]) -> str:
    return _and(names) if len(names) <= MOST else listed(names, MOST)


def oracle(data: ReportData) -> Table | None:
    """OOD metric of the run chosen by validation, and of the run one would choose if OOD labels were known."""
    rows = []
    for backbone in data.backbones:
        for group in data.groups_on(backbone):
            validation, ood = group.values(f"validation/{data.primary}"), group.values(f"score/{OOD_MEAN}")
            both = ~(np.isnan(ood) | np.isnan(validation))
            if both.sum() < 2:
                continue
            ood, validation = ood[both], validation[both]
            numbers = (f"{value:.3f}" for value in (ood.mean(), ood[validation.argmax()], ood.max()))
            rows.append((group.variant, *([backbone] if data.backbones[1:] else []), str(group.amount), *numbers))
    heads = ("strategy", *(["backbone"] if data.backbones[1:] else []), "per label", "mean of runs")
    return Table((*heads, "chosen on validation", "chosen on OOD"), rows) if rows else None
