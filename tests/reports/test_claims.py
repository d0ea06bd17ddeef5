"""Claims are judged by the pairs alone, and a study's folder says what was run and what was not."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from place import make_place
from runs import InMemory, log, stored

from effft.cli.exit_codes import run_command_line
from effft.errors import InputError
from effft.evaluation.statistics import PairedDifference, front, interval
from effft.reports.advice import oracle
from effft.reports.blocks import Table
from effft.reports.claims import Claim, Finding, judge, p_value, read_claims
from effft.reports.data import ReportData, as_frame, select_runs
from effft.reports.other_setting import setting_table
from effft.reports.report import build
from effft.reports.results import results_table
from effft.reports.study import BEGIN, END, break_even, costs, coverage, write_study
from effft.reports.study_csv import kept_runs, study_csv
from effft.reports.variance import components, variance_table
from effft.runs.comparison_file import comparison_of
from effft.tracking.reading import RunReader, StoredRun
from effft.tracking.study_runs import FORMER

DISTANCES = st.lists(st.floats(0.001, 0.3), min_size=6, max_size=12)


def claim(difference: str = "above", **more: object) -> Claim:
    given_ = {"claim": "1", "one": "lora", "other": "vanilla", "measure": "in domain", "difference": difference}
    return Claim.model_validate({**given_, **more})


def finding(difference: str, values: list[float]) -> Finding:
    found, asked = np.array(values), claim(difference)
    p = p_value(found, asked.region)
    return Finding(asked, "m", PairedDifference(found), ["dogs"], [], p, p)


@given(DISTANCES)
@pytest.mark.slow
def test_pairs_that_agree_decide_and_five_never_do(values: list[float]) -> None:
    assert finding("above", values).verdict == "holds"
    assert finding("below", values).verdict == "does not hold"
    assert finding("above", values[:5]).verdict == "cannot be told"
    assert finding("comparable", [0.05 + value for value in values]).verdict == "does not hold"
    assert finding("not above", [0.05 + value for value in values]).verdict == "does not hold"
    assert finding("comparable", [min(value, 0.049) for value in values]).verdict == "holds"
    assert finding("not above", [-value for value in values]).verdict == "holds"


@given(st.lists(st.floats(-0.3, 0.3), min_size=2, max_size=9))
def test_the_order_of_the_two_does_not_matter(values: list[float]) -> None:
    turned = [-value for value in values]
    assert finding("above", values).verdict == finding("below", turned).verdict
    assert finding("comparable", values).p == pytest.approx(finding("comparable", turned).p)


def test_more_spread_needs_more_pairs() -> None:
    few, many = finding("above", [0.1, 0.2, 0.3]), finding("above", [-0.3, 0.2, 0.7])
    assert int(few.pairs_needed) == 6  # with fewer, no sign-flip test can reach 0.05
    assert int(many.pairs_needed) > 30
    assert finding("above", [0.1, -0.1, 0.3, -0.2999]).pairs_needed == "over 1000"


def test_draws_of_tasks_are_pairs_and_numbers_of_examples_are_not() -> None:
    runs = []
    for draw in range(4):
        for per_label in (8, 16):
            for name, score in (("lora", 0.7 + per_label / 1000), ("vanilla", 0.6 + draw / 100)):
                scores = {"in_domain__balanced_accuracy": score}
                runs.append(stored(name, draw, draw, per_label=per_label, backbone="m", **scores))
    data = select_runs(as_frame(InMemory(runs).runs_of("")), "dogs")
    (found,) = judge([claim(), claim(one="adaptive")], {"dogs": data})
    assert found.difference.count == 4
    assert found.difference.values == pytest.approx([0.112 - draw / 100 for draw in range(4)])
    (both,) = judge([claim()], {"dogs": data, "cats": data})
    assert (both.difference.count, list(both.tasks)) == (8, ["dogs", "cats"])
    assert both.verdict == "holds"


def test_a_task_on_which_neither_works_says_nothing() -> None:
    def runs(score: float) -> ReportData:
        made = [
            stored(name, draw, draw, in_domain__balanced_accuracy=score + draw / 500, in_domain__labels=2)
            for draw in range(12)
            for name in ("lora", "vanilla")
        ]
        return select_runs(as_frame(made), "dogs")

    works, fails = {"dogs": runs(0.7)}, {"cats": runs(0.49)}
    (one,), (none,) = (judge([claim("comparable")], tasks) for tasks in (works, fails))
    (both,) = judge([claim("comparable")], works | fails)
    assert (one.verdict, none.verdict, both.verdict) == ("holds", "cannot be told", "holds")
    assert (none.tasks, none.at_chance, both.tasks, both.at_chance) == ([], ["cats"], ["dogs"], ["cats"])
    assert both.difference.count == 12


def test_a_setting_is_set_against_another_on_the_same_draws() -> None:
    def runs(lora: float, vanilla: float) -> ReportData:
        scores = {"lora": lora, "vanilla": vanilla}
        made = [
            stored(name, draw, draw, in_domain__balanced_accuracy=score + draw / 100)
            for draw in range(3)
            for name, score in scores.items()
        ]
        return select_runs(as_frame(made), "dogs")

    table = setting_table({"dogs": runs(0.8, 0.7)}, {"dogs": runs(0.5, 0.6)})
    assert table is not None
    lora, vanilla = table.rows
    assert lora[2:6] == ("lora", "in domain", "+0.300 [+0.300, +0.300]", "3")
    assert lora[8:] == ("+0.100 [+0.100, +0.100]", "-0.100 [-0.100, -0.100]")
    assert (vanilla[4], vanilla[8:]) == ("+0.100 [+0.100, +0.100]", ("-", "-"))
    assert "cannot pass" in table.caption
    assert setting_table({"dogs": runs(0.8, 0.7)}, {}) is None


@given(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1))
def test_the_spread_is_told_apart_by_its_source(seed: float, draw: float) -> None:
    seeds, draws = seed * np.arange(4)[:, None], draw * np.arange(3)[None, :]
    found = components(0.5 + seeds + draws)
    expected = np.std([0, 1, 2, 3], ddof=1) * abs(seed), np.std([0, 1, 2], ddof=1) * abs(draw), 0.0
    assert (found.first, found.second, found.rest) == pytest.approx(expected, abs=1e-7)


def test_only_seeds_that_meet_all_draws_are_decomposed() -> None:
    def table(places: list[tuple[int, int]]) -> Table | None:
        made = [stored("lora", s, d, in_domain__balanced_accuracy=0.5 + s / 10) for s, d in places]
        return variance_table({"dogs": select_runs(as_frame(made), "dogs")})

    crossed = table([(s, d) for s in range(3) for d in range(2)])
    assert crossed is not None
    assert crossed.rows[0][4:] == ("2 draws x 3 seeds", "0.600", "0.089", "0.000", "0.100", "0.000")
    assert table([(0, 0), (1, 1), (2, 2)]) is None


def test_orders_with_seeds_of_their_own_are_a_source_beside_the_plain_runs() -> None:
    def made(seed: int, draw: int, second: int) -> StoredRun:
        score = 0.5 + seed / 100 + second / 10
        return stored("lora", seed, draw, in_domain__balanced_accuracy=score, in_domain__accuracy=score)

    plain = [made(s, d, 3 + d) for s in range(2) for d in range(2)]
    ordered = [replace(made(s, 0, o), params={"order_seed": str(o)}) for s in range(3) for o in range(2)]
    table = variance_table({"dogs": select_runs(as_frame([*plain, *ordered]), "dogs")})
    assert table is not None
    assert [row[4:] for row in table.rows] == [
        ("2 draws x 2 seeds", "0.855", "0.058", "0.071", "0.007", "0.000"),
        ("3 seeds x 2 orders", "0.560", "0.055", "0.010", "0.071", "0.000"),
    ]


@pytest.mark.slow
def test_every_kind_of_seed_makes_another_run(tracking_uri: str, tmp_path: Path) -> None:
    file, settings = tmp_path / "seeds.yaml", "settings: {steps: 4, batch_size: 2, evaluation_limit: 20, threads: 1}"
    grids = [(name, f"seeds: 2, {name}_seeds: 2") for name in ("data", "demo", "order")]
    lines = [f"{{strategies: [{'icl' if name == 'demo' else 'lora'}], {kinds}, {settings}}}" for name, kinds in grids]
    file.write_text(f"grids: [{', '.join(lines)}]")
    assert run_command_line(["compare", "--study", str(file), "--per-label", "4", "--tracking-uri", tracking_uri]) == 0
    reader = RunReader(MlflowClient(tracking_uri))
    data = select_runs(as_frame(reader.runs_of("effft/agreement")), "agreement")
    assert {group.strategy: (len(group.runs), group.repeats) for group in data.groups} == {
        "lora": (8, 0),
        "icl": (2, 0),
    }


def test_runs_with_draws_of_their_own_are_resampled_as_runs() -> None:
    values, places = np.array([0.6, 0.65, 0.7, 0.62, 0.71]), np.arange(5)
    assert interval(values, places, places) == interval(values, 0 * places, places)


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_an_interval_of_few_pairs_holds_the_true_difference_as_often_as_it_says(count: int) -> None:
    draws, place = np.random.default_rng(0).normal(0.03, 0.05, size=(2000, count)), np.arange(count)
    pairs = [PairedDifference(values).interval for values in draws]
    cells = [interval(values, place, place) or (0, 0) for values in draws]
    for ends in (pairs, cells):
        assert 0.935 < np.mean([low <= 0.03 <= high for low, high in ends]) < 0.965


@pytest.mark.parametrize("by", [(0.01, 0.05, 0.05), (0.05, 0.05, 0.05), (0, 0.05, 0.02)])
@pytest.mark.parametrize("levels", [(2, 3), (3, 5)])
def test_an_interval_of_crossed_seeds_and_draws_holds_the_true_mean(
    levels: tuple[int, int], by: tuple[float, float, float]
) -> None:
    rng, held = np.random.default_rng(0), []
    seeds, draws = (level.ravel() for level in np.meshgrid(*map(np.arange, levels)))
    for _ in range(400):
        noise = rng.normal(0, by[0], levels[0])[seeds] + rng.normal(0, by[1], levels[1])[draws]
        noise += rng.normal(0, by[2], len(seeds))
        low, high = interval(0.7 + noise, seeds, draws) or (0, 0)
        held.append(low <= 0.7 <= high)
    assert np.mean(held) > 0.93


def test_what_is_wrong_in_a_file_of_claims_is_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "claims.yaml"
    cases = {"claims: [{claim: x, compared: [{one: lora}]}]": "other: Field required", "- x": "with `claim` and"}
    cases["claims: [{claim: x, compared: [{one: lorra, other: lora}]}]"] = "one: .*lorra.*lora"
    for text, sentence in cases.items():
        file.write_text(text)
        with pytest.raises(InputError, match=sentence):
            read_claims(file)


def test_a_study_is_a_folder(client: MlflowClient, tmp_path: Path) -> None:
    home = str(client.create_experiment("effft/agreement"))
    for strategy, seed in (("lora", 0), ("lora", 1), ("vanilla", 0)):
        log(client, home, strategy, seed, seed, task="agreement", backbone="tiny-lm")
    file, out = tmp_path / "study.yaml", tmp_path / "out"
    file.write_text("grids: [{tasks: [agreement, cola], strategies: [lora, vanilla], per_label: [8], pairs: 2}]")
    out.mkdir()
    (out / "README.md").write_text(f"# Mine\n{BEGIN}\nold\n{END}\nlast words\n")
    text = write_study(RunReader(client), str(file), out).read_text()
    assert text.startswith("# Mine\n")
    assert text.endswith("\nlast words\n")
    assert "old" not in text
    assert "| tiny-lm | agreement | 8 | 3 | 4 | vanilla (1) |" in text
    assert "| tiny-lm | cola | 8 | 0 | 4 | lora, vanilla |" in text
    with (out / "runs.csv").open() as lines:
        assert [(row["task"], row["strategy"], row["seed"]) for row in csv.DictReader(lines)] == [
            ("agreement", "lora", "0"), ("agreement", "lora", "1"), ("agreement", "vanilla", "0")
        ]  # fmt: skip
    assert (out / "agreement" / "report.md").is_file()
    file.write_text("grids: [{tasks: [cola]}]")
    with pytest.raises(InputError, match="no finished run of its tasks"):
        write_study(RunReader(client), str(file), out)


@pytest.mark.slow
def test_what_one_store_lacks_stays_as_another_had_it(client: MlflowClient, tmp_path: Path) -> None:
    """Two stores one after the other, or none at all but the file, say what one store with all runs says."""
    two, none = (MlflowClient(f"sqlite:///{tmp_path}/{name}.db") for name in ("two", "none"))
    files = {"study": "pairs: 3", "published": "pairs: 2", "variance": "pairs: 2"}
    for name, pairs in files.items():
        grids = f"grids: [{{tasks: [agreement], strategies: [lora, vanilla], per_label: [8], {pairs}}}]"
        (tmp_path / f"{name}.yaml").write_text(grids)
    for part, experiment in (("study", ""), ("published", "-published"), ("variance", "-variance")):
        for store, seeds in ((client, (0, 1, 2)), (two, (2,))):
            home = str(store.create_experiment(f"effft/agreement{experiment}"))
            for seed in seeds:
                about = {"task": "agreement", "backbone": "tiny-lm", "rank": 4 + len(part)}
                about |= {"settings": {"epochs": 3 + seed % 2, "pattern": "=1\n+a, b"}}
                log(store, home, "lora", seed, seed, **about)
                log(store, home, "vanilla", seed, seed, **about, score=0.5 + seed / 10)
                log(store, home, "vanilla", seed, seed, **about, kind="control")

    def told(store: MlflowClient, out: Path) -> dict[str, str]:
        write_study(RunReader(store), str(tmp_path / "study.yaml"), out)
        return {str(file.relative_to(out)): file.read_text() for file in out.rglob("*.*")}

    whole = told(client, tmp_path / "whole")
    assert told(client, tmp_path / "whole") == whole, "no run is counted twice"
    assert told(none, tmp_path / "whole") == whole
    first = (tmp_path / "whole" / "runs.csv").read_text().splitlines(keepends=True)
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "runs.csv").write_text("".join(line for line in first if ",2,2," not in line))
    parts = told(two, tmp_path / "parts")
    assert sorted(parts["runs.csv"].splitlines()) == sorted(whole["runs.csv"].splitlines())
    assert parts["README.md"] == whole["README.md"]
    (tmp_path / "parts" / "runs.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="no table of a study's runs"):
        told(none, tmp_path / "parts")


def kept(tmp_path: Path, runs: list[StoredRun], stored_runs: list[StoredRun]) -> list[StoredRun]:
    """The runs that the file of a study of `runs` adds to a store that has `stored_runs`."""
    file = tmp_path / "runs.csv"
    file.write_text(study_csv({"": {"dogs": select_runs(as_frame(runs), "dogs")}}))
    return kept_runs(file, "", "dogs", stored_runs)


@pytest.mark.parametrize(
    ("metrics", "params", "given_", "tags"),
    [
        ({"macro_f1": 0.5, "macro_f1_majority": 0.49, "macro_f1_chance": 0.4}, {"metric": "macro_f1"}, {}, {}),
        ({"micro_f1": 0.5, "subset_accuracy": 0.4, "labels": 3}, {}, {}, {}),
        ({"balanced_accuracy": 0.5, "labels": 1}, {"metric": "balanced_accuracy"}, {}, {}),
        ({"quadratic_kappa": 0.5, "mean_absolute_error": 0.4}, {}, {}, {}),
        ({}, {}, {}, {"notes": "cut\n3 of the training texts also occur in in_domain.\n4 x also stand in train and y"}),
        ({}, {"shots": "4"}, {}, {"strategy": "icl"}),
        ({}, {"cut": "'quoted'", "pattern": "-1"}, {}, {"backbone": "@me/model"}),
        ({}, {"overlap_strength": "0.1"}, {"overlap_strength": "0.1"}, {}),
    ],
)
@pytest.mark.slow
def test_a_run_kept_in_a_file_says_all_that_it_said_in_the_store(
    tmp_path: Path,
    metrics: dict[str, float],
    params: dict[str, str],
    given_: dict[str, str],
    tags: dict[str, str],
) -> None:
    values = {f"in_domain__{name}": value for name, value in metrics.items()}
    usual = [stored("lora", 0, 0, backbone="@me/model"), stored("lora", 1, 1, backbone="@me/model")]
    usual = [replace(run, params=run.params | {"overlap_strength": "0.5"}) for run in usual]
    runs = [
        replace(run, params=run.params | params, given=given_, tags=run.tags | tags)
        for run in (stored("lora", seed, seed, **values) for seed in (2, 3, 4))
    ]
    runs += usual if given_ or "strategy" in tags else []
    first, second = (build(InMemory(some), "dogs") for some in (runs, kept(tmp_path, runs, [])))
    for name in first.files.keys() - {"report.html", "runs.csv", "measures.csv"}:
        assert second.files[name] == first.files[name]


def test_what_a_study_has_replaced_does_not_come_back_from_the_file(tmp_path: Path) -> None:
    finals = [
        replace(run, tags=run.tags | {"kind": "final", "tuned": "true", "study": "s"})
        for run in (stored("lora", seed) for seed in (0, 1))
    ]
    former = [replace(run, tags=run.tags | {"kind": FORMER}) for run in finals]
    assert kept(tmp_path, finals, former) == []


@pytest.mark.parametrize(
    "words",
    [["--task", "cola"], ["--watch", "5"], ["--export", "peft"], ["--parent", "x"], ["--import", "x.json"], ["--json"]],
)
def test_what_is_for_one_task_is_refused_beside_a_study(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["report", "--study", "study.yaml", *words]) == 2
    assert f"{words[0]}: only for the report of one task" in capsys.readouterr().err


def test_a_difference_of_one_pair_has_no_interval() -> None:
    assert str(PairedDifference(np.array([0.25]))) == "+0.2500 (one pair)"
    assert str(PairedDifference(np.array([0.25, 0.25]))) == "+0.2500 [+0.2500, +0.2500], 2 pairs"


def test_each_setting_of_a_strategy_has_a_row_of_its_own_in_a_study() -> None:
    runs = [
        replace(run := stored(name, seed, in_domain__balanced_accuracy=score + seed / 100), params=run.params | setting)
        for seed in (0, 1, 2)
        for name, score, setting in (("lora", 0.9, {}), ("lora", 0.6, {"rank": "4"}), ("probe", 0.7, {}))
    ]
    tasks = {"dogs": select_runs(as_frame(runs), "dogs")}
    (found,), (even,) = costs(tasks), break_even(tasks)
    scores = {row[0]: row[-1][:5] for row in found.rows}
    assert scores == {"lora [rank=8]": "0.910", "probe": "0.710", "lora [rank=4]": "0.610"}
    assert {row[0]: row[1][:7] for row in even.rows} == {"lora [rank=8]": "8 (+0.2", "lora [rank=4]": "at none"}


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=9))
def test_a_front_holds_what_no_other_beats_in_one_and_equals_in_the_other(points: list[tuple[int, int]]) -> None:
    kept = {
        place
        for place, (cost, gain) in enumerate(points)
        if not any(c <= cost and g >= gain and (c, g) != (cost, gain) for c, g in points)
    }
    assert set(front(*zip(*points, strict=True)) if points else []) == kept


def test_the_best_that_leaves_the_model_as_it_is_is_so_in_the_metric_that_is_compared() -> None:
    runs = [
        stored(name, draw, draw, in_domain__balanced_accuracy=score, in_domain__accuracy=accuracy + draw / 100)
        for draw in range(4)
        for name, score, accuracy in (("lora", 0.75 + draw / 100, 0.5), ("icl", 0.6, 0.9), ("probe", 0.8, 0.6))
    ]
    (even,) = break_even({"dogs": select_runs(as_frame(runs), "dogs")})
    assert list(even.rows) == [("lora", "at none")]


def test_a_strategy_is_at_none_only_where_it_was_measured() -> None:
    tasks = {}
    for task, names in (("dogs", ("lora", "probe")), ("cats", ("dora", "probe"))):
        runs = [stored(name, 0, in_domain__balanced_accuracy=0.7) for name in names]
        tasks[task] = select_runs(as_frame([replace(run, tags=run.tags | {"task": task}) for run in runs]), task)
    (even,) = break_even(tasks)
    assert list(even.rows) == [("lora", "at none", "-"), ("dora", "-", "at none")]


@pytest.mark.parametrize(
    ("asked", "strategy", "made", "told"),
    [
        ("settings: {rank: [4, 8]}", "lora", {}, ("1", "2", "lora (1)")),
        ("demo_seeds: 3", "icl", {"demo_seed": "0"}, ("1", "3", "icl (2)")),
        ("order_seeds: 2", "lora", {"order_seed": "1"}, ("1", "2", "lora (1)")),
        ("settings: {overlap_strength: [0.1, 0.5]}", "lora", {"overlap_strength": "0.1"}, ("1", "2", "lora (1)")),
    ],
)
def test_each_run_that_was_asked_for_needs_one_of_its_own(
    tmp_path: Path, asked: str, strategy: str, made: dict[str, str], told: tuple[str, ...]
) -> None:
    file, run = tmp_path / "study.yaml", stored(strategy, 0, backbone="tiny-lm")
    file.write_text(f"grids: [{{tasks: [agreement], strategies: [{strategy}], per_label: [8], pairs: 1, {asked}}}]")
    twice = [replace(run, run_id=name, tags=run.tags | {"task": "agreement"}, given=made) for name in "ab"]
    data = select_runs(as_frame(twice), "agreement")
    assert coverage(comparison_of(str(file)).runs(), {"agreement": data}).rows[0][3:] == told


@pytest.mark.slow
def test_a_study_takes_the_file_of_a_task(client: MlflowClient, tmp_path: Path) -> None:
    log(client, str(client.create_experiment("effft/dogs")), "lora", backbone="tiny-lm")
    file, place = tmp_path / "study.yaml", make_place(tmp_path)
    file.write_text(f"grids: [{{tasks: [{place}/task.yaml], strategies: [lora], per_label: [8], pairs: 1}}]")
    text = write_study(RunReader(client), str(file), tmp_path / "out").read_text()
    assert "| tiny-lm | dogs | 8 | 1 | 1 | - |" in text
    assert (tmp_path / "out" / "dogs" / "report.md").is_file()


def test_a_task_without_a_test_file_is_judged_out_of_fold() -> None:
    runs = [
        stored(name, draw, draw, without="in_domain", cross_validated__accuracy=0.7,
               cross_validated__balanced_accuracy=score + draw / 100)
        for draw in range(6)
        for name, score in (("lora", 0.8), ("probe", 0.7))
    ]  # fmt: skip
    tasks = {"dogs": select_runs(as_frame(runs), "dogs")}
    (found,) = judge([claim(other="probe")], tasks)
    assert (found.difference.mean, found.verdict) == (pytest.approx(0.1), "holds")
    (cost,), (even,) = costs(tasks), break_even(tasks)
    assert [row[-1][:5] for row in cost.rows] == ["0.825", "0.725"]
    assert even.rows[0][1].startswith("8 (+0.100")


@pytest.mark.slow
def test_a_claim_that_no_runs_are_about_is_named(
    client: MlflowClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log(client, str(client.create_experiment("effft/agreement")), "lora", task="agreement", backbone="tiny-lm")
    (tmp_path / "study.yaml").write_text("grids: [{tasks: [agreement], strategies: [lora], per_label: [8]}]")
    asked = "[{one: lora, other: vanilla, measure: OOD, difference: above}]"
    (tmp_path / "claims.yaml").write_text(f"claims: [{{claim: x, compared: {asked}}}]")
    words = ["report", "--study", str(tmp_path / "study.yaml"), "--out", str(tmp_path / "out")]
    assert run_command_line([*words, "--tracking-uri", str(client.tracking_uri)]) == 0
    assert "lora - vanilla (OOD) is left out" in " ".join(capsys.readouterr().err.split())


def test_what_was_not_measured_is_no_nan() -> None:
    runs = [stored("lora", s, in_domain__balanced_accuracy=0.7, validation__accuracy=s / 9) for s in (0, 1)]
    bare = stored("lora", 2, without="ood/", in_domain__balanced_accuracy=0.7, validation__accuracy=0.9)
    data = select_runs(as_frame([*runs, bare]), "dogs")
    tables = [*costs({"dogs": data}), oracle(data)]
    assert not [cell for table in tables if table for row in table.rows for cell in row if "nan" in cell]


def test_settings_of_a_strategy_are_told_apart_beside_another_setting() -> None:
    one = [stored("lora", s, in_domain__balanced_accuracy=0.6 + s / 100) for s in (0, 1)]
    two = [
        replace(run := stored("lora", s, in_domain__balanced_accuracy=score), params=run.params | {"rank": rank})
        for s in (0, 1)
        for rank, score in (("4", 0.5 + s / 100), ("8", 0.9 + s / 100))
    ]
    one_data, two_data = ({"dogs": select_runs(as_frame(runs), "dogs")} for runs in (one, two))
    there, here = setting_table(one_data, two_data), setting_table(two_data, one_data)
    assert there is not None
    assert here is not None
    assert [(row[2], row[4][:6]) for row in there.rows] == [
        ("lora - lora [rank=4]", "+0.100"),
        ("lora - lora [rank=8]", "-0.300"),
    ]
    assert [row[2] for row in here.rows] == ["lora [rank=4] - lora", "lora [rank=8] - lora"]


def test_controls_stand_beside_the_runs_that_read_what_they_read() -> None:
    runs = [
        replace(run := stored("lora", s), tags=run.tags | {"task_digest": digest})
        for s, digest in enumerate(("old", "old", "new", "new"))
    ]
    control = stored("vanilla", 0)
    tags = control.tags | {"kind": "control", "task_digest": "new"}
    data = select_runs(as_frame([*runs, replace(control, name="bag of words · dogs", tags=tags)]), "dogs")
    tables = {name: [row.group.variant for row in results_table(data, name).rows] for name in data.backbones}
    assert tables == {"m (task old)": ["lora"], "m (task new)": ["lora", "bag of words"]}
