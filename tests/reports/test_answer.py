"""What the report recommends: by validation alone, and nothing as better that the paired test does not tell apart."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import InMemory, stored

from effft.config import Amount
from effft.errors import InputError
from effft.reports.advice import answer, choose
from effft.reports.colors import MARKS, NAMED, OTHERS, colour, mark
from effft.reports.data import ReportData, as_frame, select_runs
from effft.reports.report import build
from effft.reports.slices import slice_tables
from effft.strategies.strategy import NAMED as NAMED_STRATEGIES
from effft.tracking.reading import StoredRun


def data_of(*runs: StoredRun) -> ReportData:
    return select_runs(as_frame(runs), "dogs")


def runs_of(strategy: str, scores: list[float], validation: float = 0.5) -> list[StoredRun]:
    return [
        stored(strategy, seed, in_domain__accuracy=score, validation__accuracy=validation)
        for seed, score in enumerate(scores)
    ]


@settings(max_examples=12)
@given(st.permutations([0.5, 0.6, 0.7]), st.permutations([0.51, 0.61, 0.71]))
@pytest.mark.slow
def test_the_choice_follows_validation_whatever_the_tests_say(validation: list[float], test: list[float]) -> None:
    names = ("lora", "pbft", "probe")
    runs = [run for n, v, t in zip(names, validation, test, strict=True) for run in runs_of(n, [t, t + 0.01], v)]
    data = data_of(*runs)
    chosen = choose(data, data.groups)
    assert chosen is not None
    assert chosen.variant == names[int(np.argmax(validation))]
    assert f"{chosen.variant}, with 8 examples per label: the highest" in answer(data, "m", [])["Use"]


def test_better_is_said_of_what_the_test_tells_apart_and_of_nothing_else() -> None:
    high, low = ([start + i / 1000 for i in range(10)] for start in (0.9, 0.7))
    near = [score + (-1) ** i / 100 for i, score in enumerate(high)]
    many = answer(data_of(*runs_of("lora", high, 0.9), *runs_of("probe", low), *runs_of("pbft", near)), "m", [])
    assert "better than probe and pbft" not in many["How sure"]
    assert "In domain: better than probe by the paired test" in many["How sure"]
    few = answer(data_of(*runs_of("lora", high[:3], 0.9), *runs_of("probe", low[:3])), "m", [])
    assert "better" not in few["How sure"]
    assert "In domain: above probe by the interval of the paired difference (3 pairs are too few" in few["How sure"]
    same = answer(data_of(*runs_of("lora", [0.8, 0.9], 0.9), *runs_of("pbft", [0.9, 0.8])), "m", [])
    assert same["As good"].startswith("pbft +0.000 [-1.271, +1.271]: lora minus it, on the same seeds")
    behind = answer(data_of(*runs_of("lora", low, 0.9), *runs_of("probe", high)), "m", [])
    assert "probe is better by it; the test may tell, and not choose." in behind["As good"]
    assert "above" not in same["How sure"]
    assert "In domain: not told apart from pbft." in same["How sure"]


def test_how_sure_speaks_of_every_ood_set_too() -> None:
    def runs(name: str, validation: float, far: float) -> list[StoredRun]:
        scores = {"in_domain__accuracy": 0.8, "validation__accuracy": validation}
        return [stored(name, seed, **scores | {"ood__far__accuracy": far + seed / 1000}) for seed in range(10)]

    said = answer(data_of(*runs("lora", 0.9, 0.6), *runs("probe", 0.5, 0.5), *runs("pbft", 0.5, 0.7)), "m", [])
    assert "In domain: not told apart from pbft and probe." in said["How sure"]
    assert "On far (OOD): better than probe by the paired test" in said["How sure"]
    assert "; worse than pbft by the paired test" in said["How sure"]


def at(level: float, **more: float) -> dict[str, float]:
    """Metrics of a run with this score everywhere, where guessing has 0.5 and the most frequent label 0.6."""
    scores = {"in_domain__accuracy": level, "ood__far__accuracy": level, "validation__accuracy": 0.9}
    splits = ("in_domain", "ood__far")
    return scores | {f"{s}__{n}": v for s in splits for n, v in (("majority", 0.6), ("chance", 0.5))} | more


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([0.5, 0.58, 0.9]), min_size=2, max_size=3))
@pytest.mark.slow
def test_what_knows_nothing_is_not_recommended(levels: list[float]) -> None:
    names = ("lora", "pbft", "probe")[: len(levels)]
    highest = {name: 0.9 - place / 10 for place, name in enumerate(names)}
    data = data_of(
        *(
            stored(name, seed, **at(level + seed / 100, validation__accuracy=highest[name]))
            for name, level in zip(names, levels, strict=True)
            for seed in (0, 1)
        )
    )
    said, able = answer(data, "m", []), [name for name, level in zip(names, levels, strict=True) if level > 0.6]
    than = "better than always the most frequent label (0.600) in domain at 8 per label"
    if not able:
        start, _, rest = said["Use"].partition("; if one must be used, ")
        assert start == f"Nothing here is {than}"
        cheapest, _, rest = rest.partition(" is the cheapest (4.5 MB).")
        assert rest
        assert levels[names.index(cheapest)] == max(levels[:2])  # these two take as much, the third takes 5.5
    elif "lora" in able:
        assert said["Use"].startswith("lora, with 8 examples per label: the highest accuracy on validation (50 ex")
    else:
        start, _, rest = said["Use"].partition("; by the interval only ")
        assert start == f"lora, the highest on validation, is not {than}"
        told = rest.partition(" are. " if able[1:] else " is. ")[0]
        assert [name for name in names if f"{name} (0." in told] == able
    guessing = [name for name, level in zip(names, levels, strict=True) if level == 0.5]
    for place in ("in domain", "on far (OOD)"):
        words = f"all {len(names)}" if guessing == [*names] else " and ".join(guessing)
        assert (f"{place} {words}" in said["What fails"].partition("No better than chance: ")[2]) == bool(guessing)


@pytest.mark.parametrize(
    ("score", "words"),
    [(0.7, "not told from 2 of 2"), (1.0, "above 2 of 2"), (0.8, "above 1 of 2 and not told from 1 of 2"), (0.4, "")],
)
def test_a_control_that_ties_or_beats_strategies_is_told(score: float, words: str) -> None:
    scores = {"lora": (0.9, 0.7), "pbft": (0.71, 0.69), "bag of words": (score, score)}
    runs = [stored(name, seed, **at(pair[seed % 2])) for name, pair in scores.items() for seed in range(4)]
    runs = [replace(run, tags={**run.tags, "kind": "control"}) if "bag" in run.name else run for run in runs]
    said = answer(data_of(*(replace(run, name=run.name.replace(" ", " · ", 1)) for run in runs)), "m", [])
    assert said.get("Controls", "") == (
        words and f"bag reaches {score:.3f} [{score:.3f}, {score:.3f}] in domain: {words} strategies."
    )


def test_only_a_slice_with_enough_examples_is_the_hardest() -> None:
    few = {"ood/far/slice/topic.a/examples": 7.0}
    many = {"ood/far/slice/topic.b/accuracy": 0.2, "ood/far/slice/topic.b/examples": 60.0}
    runs = [
        stored(name, seed, **at(0.9, **few, **many) | {"ood/far/slice/topic.a/accuracy": contested})
        for name, contested in (("lora", 0.0), ("pbft", 0.1))
        for seed in (0, 1)
    ]
    said = answer(data_of(*runs), "m", [])["What fails"]
    assert "Hardest slice of 30 examples or more: topic = b (ood/far, 60 examples)" in said
    assert [row[:2] for table in slice_tables(data_of(*runs), "m", Amount(8)) for row in table.rows][-2:] == [
        ["b", "60"],
        ["a", "7"],
    ]


def test_slices_say_who_is_below_the_most_frequent_label_on_the_whole() -> None:
    levels = {"lora": 0.9, "pbft": 0.55}
    tables = slice_tables(data_of(*(stored(name, 0, **at(level)) for name, level in levels.items())), "m", Amount(8))
    (table,) = tables
    assert table.middle == 0.6
    assert table.caption.endswith("has 0.600: red below it, blue above. On the whole split below it: pbft.")


@pytest.mark.parametrize("idle", ["", "icl"])
def test_what_fails_is_said_of_no_more_strategies_than_it_holds_for(idle: str) -> None:
    known = {
        f"{split}__{name}": v for split in ("in_domain", "ood__far") for name, v in (("majority", 0.6), ("chance", 0.5))
    }
    weak = {"ood__far__accuracy": 0.52, "ood/far/slice/topic.a/accuracy": 0.1}
    runs = [stored("lora", seed, in_domain__accuracy=0.9, validation__accuracy=0.9, **weak, **known) for seed in (0, 1)]
    runs += [stored(idle, 0, in_domain__accuracy=0.6, ood__far__accuracy=0.95, **known)] if idle else []
    said = answer(data_of(*runs), "m", [])
    who = "strategy that trains" if idle else "strategy"
    beside = "always the most frequent label has 0.600, guessing 0.500."
    assert said["What fails"].startswith(f"No {who} manages far: accuracy 0.520; {beside} Hardest slice of ")
    assert f"where no {who} has an accuracy above 0.100" in said["What fails"]
    assert (f"icl is highest on validation and reaches 0.600 in domain; {beside}" in said["Cost"]) == bool(idle)


def test_no_test_score_chooses_where_nothing_was_validated() -> None:
    runs = [stored(name, seed) for name in ("lora", "pbft") for seed in (0, 1)]
    for run in runs:
        assert isinstance(run.metrics, dict)
        del run.metrics["validation/accuracy"]
    assert answer(data_of(*runs), "m", [])["Use"].startswith("No run has a score on validation")


def test_a_run_far_below_the_others_is_named() -> None:
    group = data_of(*runs_of("lora", [0.9, 0.91, 0.92, 0.5, 0.9])).groups[0]
    assert group.fallen() == [(3, 0, 0.5)]
    assert data_of(*runs_of("lora", [0.9, 0.91, 0.92, 0.85])).groups[0].fallen() == []


def test_a_single_pair_decides_nothing() -> None:
    single = answer(data_of(*runs_of("lora", [0.9], 0.9), *runs_of("probe", [0.5])), "m", [])
    assert "As good" not in single
    assert (
        single["How sure"] == "Every number of it comes from a single run, so this is no more than a first impression."
    )


def test_a_link_leads_to_a_server_and_to_nothing_else() -> None:
    reader = InMemory(runs_of("lora", [0.8, 0.9]))
    page = build(reader, "dogs", mlflow_url="https://tracking.example/").files["report.html"]
    assert '"mlflow": "https://tracking.example"' in page
    with pytest.raises(InputError, match="--mlflow-url"):
        build(reader, "dogs", mlflow_url="javascript:alert(1)")


# Machado, Oliveira and Fernandes (2009): what people without one kind of cone see, in linear RGB.
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "deuteranopia": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
    "tritanopia": np.array([[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]),
}


def linear(hexadecimal: str) -> np.ndarray:
    value = np.array([int(hexadecimal[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ np.clip(rgb, 0, 1)
    f = np.cbrt(xyz / np.array([0.9505, 1, 1.089]))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("kind", BLINDNESS)
@pytest.mark.parametrize("theme", [0, 1])
def test_colours_or_marks_tell_strategies_apart_for_every_eye(kind: str, theme: int) -> None:
    seen = {name: lab(BLINDNESS[kind] @ linear(pair[theme])) for name, pair in NAMED.items()}
    close = {pair for pair in combinations(seen, 2) if np.linalg.norm(seen[pair[0]] - seen[pair[1]]) < 15}
    assert all(mark(one) != mark(other) for one, other in combinations(NAMED, 2))
    assert close == set()
    paper = 0.0 if theme else 1.0
    for pair in (*NAMED.values(), *OTHERS):
        shine = linear(pair[theme]) @ np.array([0.2126, 0.7152, 0.0722])
        dark, light = sorted((shine + 0.05, paper + 0.05 + 0.008 * theme))
        assert light / dark >= 3, "graphics stand out from the page (WCAG 1.4.11)"


def test_every_named_strategy_has_a_colour_of_its_own() -> None:
    assert set(NAMED_STRATEGIES) <= set(NAMED)


@settings(max_examples=30)
@given(st.text(), st.text())
def test_any_name_has_a_colour_and_a_mark_of_its_own(strategy: str, variant: str) -> None:
    assert colour(strategy) == colour(strategy)
    assert 0 <= mark(variant) < len(MARKS)
    assert colour(strategy) in (*NAMED.values(), *OTHERS)


@pytest.mark.slow
@pytest.mark.parametrize(("memory", "more"), [(5.0, ""), (7.0, ", with more memory")])
def test_more_memory_is_said_of_what_takes_more(memory: float, more: str) -> None:
    runs = [
        stored(name, 0, validation__accuracy=0.7, resources__peak_memory_mb=amount)
        for name, amount in (("lora", 5.0), ("dora", memory))
    ]
    assert f"ora has the same there{more}." in build(InMemory(runs), "dogs").files["report.md"]
