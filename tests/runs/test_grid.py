"""Comparisons as data: which runs a file, a preset and flags stand for, and what is wrong in a file."""

from pathlib import Path

import pytest
import yaml

from effft.errors import InputError
from effft.runs.comparison_file import PRESETS, comparison_of, read_comparison
from effft.runs.grid import ComparedRun, Grid
from effft.strategies.strategy import NAMED, compose


def runs(**fields: object) -> list[ComparedRun]:
    return list(Grid(**{"seeds": 1, **fields}).runs())


def names(found: list[ComparedRun]) -> list[tuple[str, int, int]]:
    return [(run.config.strategy, run.config.seed, run.config.data_seed) for run in found]


def test_every_strategy_meets_every_draw() -> None:
    grid = {"strategies": ["vanilla", "lora"], "per_label": [16, 32], "seeds": 2, "data_seeds": 2}
    configs = [run.config for run in runs(**grid, settings={"epochs": "2", "seed": 3})]
    assert len(set(configs)) == len(configs) == 16
    assert {c.epochs for c in configs} == {2}
    assert {c.seed for c in configs} == {3, 4}
    draws = {s: {(c.per_label, c.data_seed) for c in configs if c.strategy == s} for s in ("vanilla", "lora")}
    assert draws["vanilla"] == draws["lora"]


def test_runs_that_would_repeat_are_left_out() -> None:
    seeds = {"seeds": 2, "data_seeds": 2, "settings": {"data_seed": 5}}
    assert names(runs(strategies=["icl"], **seeds)) == [("icl", 0, 5), ("icl", 0, 6)]
    assert names(runs(strategies=["zero_shot"], **seeds)) == [("zero_shot", 0, 5)]
    assert len(runs(strategies=["zero_shot"], **{**seeds, "settings": {"shots": 4}})) == 2
    assert len(runs(strategies=["zero_shot"], **{**seeds, "settings": {"calibration": "fitted"}})) == 2
    assert len(runs(strategies=["lora"], controls=["bag_of_words"], **seeds)) == 4 + 2


def test_draws_of_demonstrations_count_like_seeds() -> None:
    found = runs(strategies=["lora", "icl", "zero_shot"], seeds=2, demo_seeds=2, settings={"demo_seed": 4})
    shown = [(r.config.strategy, r.config.seed, r.config.demo_seed) for r in found]
    assert shown == [("lora", 0, None), ("icl", 0, 4), ("zero_shot", 0, None), ("lora", 1, None), ("icl", 0, 5)]
    (plain,) = runs(strategies=["icl"])
    assert plain.config.demo_seed is None


def test_orders_count_like_seeds_where_steps_are_taken() -> None:
    found = runs(strategies=["lora", "probe", "icl"], seeds=2, order_seeds=2)
    shown = [(run.config.strategy, run.config.seed, run.config.order_seed) for run in found]
    assert [run for run in shown if run[0] == "lora"] == [("lora", s, o) for o in range(2) for s in range(2)]
    assert {run for run in shown if run[0] != "lora"} == {("probe", 0, None), ("probe", 1, None), ("icl", 0, None)}
    later = runs(strategies=["lora"], order_seeds=2, settings={"order_seed": 7})
    assert [run.config.order_seed for run in later] == [7, 8]


def test_a_bare_off_of_yaml_turns_chats_off() -> None:
    found = runs(strategies=["icl"], settings=yaml.safe_load("chat: [off, turns]"))
    assert [run.config.chat for run in found] == ["off", "turns"]


def test_a_row_that_reads_the_test_texts_says_so() -> None:
    found = runs(strategies=["icl", "lora"], settings={"calibration": ["none", "batch"]})
    names = [run.variant for run in found if run.config.strategy == "icl"]
    assert names == ["icl calibration none", "icl calibration batch transductive"]


def test_part_parameters_go_to_the_strategies_that_have_them() -> None:
    found = runs(strategies=["lora", "vanilla", "lora+pbft"], settings={"rank": 2})
    assert [run.config.rank for run in found] == [2, None, 2]
    icl, zero_shot = runs(strategies=["icl", "zero_shot"], settings={"shots": 4})
    assert (icl.config.shots, zero_shot.config.shots) == (4, None)
    with pytest.raises(InputError, match=r"none of the strategies compared .lora, icl. has the parameter 'layers'"):
        runs(strategies=["lora", "icl"], settings={"layers": 1})


def test_all_stands_for_the_named_strategies_on_the_command_line_too() -> None:
    assert comparison_of(strategies="all") == comparison_of()
    assert {run.config.strategy for run in comparison_of("quick", "all").runs()} == {*NAMED}


def test_a_list_of_values_makes_rows() -> None:
    found = runs(tasks=["overlap"], strategies=["lora"], settings={"overlap_strength": [0.9, 0]})
    assert [(r.variant, r.config.overlap_strength) for r in found] == [
        ("lora overlap_strength 0.9", 0.9),
        ("lora overlap_strength 0", 0.0),
    ]


def test_every_pair_has_a_seed_and_a_draw_of_its_own() -> None:
    pairs = {"pairs": 2, "settings": {"seed": 4}}
    assert names(runs(strategies=["lora"], **pairs)) == [("lora", 4, 0), ("lora", 5, 1)]
    assert names(runs(strategies=["icl"], **pairs)) == [("icl", 4, 0), ("icl", 5, 1)]
    assert len(runs(strategies=["zero_shot"], **pairs)) == 1


def test_models_of_a_file_are_those_of_grids_that_name_none(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("""
models: [a/one, a/two]
grids:
  - {strategies: [lora, pbft], pairs: 1}
  - {strategies: [lora], pairs: 3, models: [an/encoder]}
""")
    found = comparison_of(str(file)).runs()
    assert [run.variant for run in found[:4]] == [f"{s} on a/{m}" for m in ("one", "two") for s in ("lora", "pbft")]
    assert [run.config.model for run in found[4:]] == ["an/encoder"] * 3
    part = comparison_of(str(file), model="an/encoder").runs()
    assert [(run.variant, run.config.seed) for run in part] == [("lora", 0), ("lora", 1), ("lora", 2)]
    assert {run.config.task for run in comparison_of(str(file), task="mnli").runs()} == {"mnli"}
    (pbft,) = comparison_of(str(file), "pbft").grids
    assert (pbft.strategies, pbft.models) == (("pbft",), ("a/one", "a/two"))
    assert [grid.strategies for grid in comparison_of(str(file), "lora,probe").grids] == [("lora", "probe"), ("lora",)]
    other = comparison_of(str(file), model="other", seeds=1).runs()
    assert [(run.variant, run.config.model) for run in other] == [("lora", "other"), ("pbft", "other")]


def test_numbers_of_examples_choose_the_grids_that_name_them(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("""
grids:
  - {tasks: [cola], strategies: [lora], per_label: [16], pairs: 10}
  - {tasks: [cola], strategies: [lora], per_label: [16, 64], pairs: 5}
  - {tasks: [mnli], strategies: [lora], rows: [100], pairs: 2}
""")

    def chosen(**given: str) -> list[tuple[str, tuple[int, ...], tuple[str, ...], int]]:
        grids = comparison_of(str(file), **given).grids
        return [(*grid.tasks, grid.per_label, grid.rows, grid.pairs) for grid in grids]

    assert chosen(per_label="64") == [("cola", (64,), (), 5)]
    assert chosen(per_label="16,64") == [("cola", (16,), (), 10), ("cola", (16, 64), (), 5)]
    assert chosen(rows="100") == [("mnli", (), ("100",), 2)]
    assert chosen(per_label="8") == [("cola", (8,), (), 10), ("cola", (8,), (), 5), ("mnli", (8,), (), 2)]
    assert chosen(rows="all", task="mnli") == [("mnli", (), ("all",), 2)]


@pytest.mark.parametrize(
    ("one", "other", "names"),
    [
        ("settings: {rank: 4}", "settings: {rank: 16}", ["lora rank 4", "lora rank 16"]),
        ("settings: {rank: 4}", "settings: {seed: 9}", ["lora rank 4", "lora"]),
        ("settings: {seed: 1}", "settings: {seed: 9}", ["lora", "lora"]),
        ("settings: {epochs: [1, 2]}", "settings: {epochs: 1, warmup: 0}",
         ["lora epochs 1", "lora epochs 2", "lora"]),
        ("per_label: [4], settings: {rank: 4}", "per_label: [8], settings: {rank: 8}", ["lora", "lora"]),
    ],
)  # fmt: skip
def test_runs_of_one_row_differ_in_their_seeds_alone(tmp_path: Path, one: str, other: str, names: list[str]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("".join(f"- {{strategies: [lora], seeds: 1, {own}}}\n" for own in (one, other)))
    file.write_text("grids:\n" + file.read_text())
    found = comparison_of(str(file)).runs()
    assert [run.variant for run in found] == names
    free = {"seed": 0, "data_seed": 0}
    rows = {(run.variant, run.config.per_label, run.config.model_copy(update=free)) for run in found}
    assert len({row[:2] for row in rows}) == len(rows)


def test_flags_replace_what_a_preset_says() -> None:
    whole = comparison_of("reference").runs()
    assert {r.config.task for r in whole} == {"agreement", "overlap"}
    assert {r.config.strategy for r in whole} == set(NAMED)
    assert {r.config.evaluation_limit for r in whole} == {500}
    # A seed counts where something trains, a draw where examples are read; of the controls the same: 3, 6 and 3.
    known = [compose(name) for name in NAMED]
    every = [(2 if s.trains else 1) * (3 if s.trains or s.shots else 1) for s in known]
    assert len(whole) == 2 * 2 * (sum(every) + 3 + 6 + 3) + 3 * 3 * 2 * 3
    assert {r.config.overlap_strength for r in whole if r.config.task == "overlap"} == {None, 0.9, 0.5, 0.0}
    part = comparison_of("reference", per_label="8, 8", seeds=1, data_seeds=1, task="agreement", seed="10").runs()
    assert len(part) == len(NAMED) + 3
    assert {(r.config.per_label, r.config.seed, r.config.data_seed) for r in part} == {(8, 10, 0)}
    curve = comparison_of("reference", "icl,lora", task="overlap").grids
    assert [grid.strategies for grid in curve] == [("icl", "lora"), ("lora",)]
    assert [grid.tasks for grid in comparison_of("quick", task="cola").grids] == [("cola",)]


def test_the_published_settings() -> None:
    flags = {"task": "cola", "learning_rate": "", "rank": "4"}
    configs = [
        run.config for run in comparison_of("published", "vanilla,lora,adaptive,pattern+classifier", **flags).runs()
    ]
    assert {(c.learning_rate, c.epochs, c.batch_size, c.max_length) for c in configs} == {(1e-5, 40, 32, 128)}
    assert {c.per_label for c in configs} == {2, 16, 32, 64, 128}
    by = {c.strategy: c for c in configs}
    assert (by["lora"].rank, by["lora"].alpha, by["lora"].lora_modules) == (4, 8.0, "query_value")
    assert (by["adaptive"].layers, by["adaptive"].train_embeddings) == (2, True)
    assert by["pattern+classifier"].pattern == "published"
    assert comparison_of("published", "pbft", task="agreement").runs()[0].config.pattern is None
    assert len(comparison_of("published", "vanilla").runs()) == 5 * 3  # what no strategy has is left out


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("grids: [{strategis: [lora]}]", r"unknown key grids\.0\.strategis; .* Did you mean 'strategies'"),
        ("grids: [{per_label: [0]}]", r"grids\.0\.per_label\.0: must be at least 1\. Given: 0"),
        ("grids: [{settings: {epoch: 3}}]", r"unknown setting 'epoch'; .*Did you mean 'epochs'\?"),
        ("grids: [{settings: {strategy: lora}}]", "strategies, per_label and rows are keys of the grid itself"),
        ("grids: [{controls: [random]}]", r"grids\.0\.controls\.0: must be one of 'bag_of_words'"),
        ("grids: [", r"mine.yaml, line 1: no valid YAML: expected"),
        ("just text", r"the file: .*Given: just text"),
    ],
)
def test_what_is_wrong_in_a_file_is_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_comparison(str(tmp_path / "mine.yaml"))


def test_an_unknown_preset_is_a_sentence(tmp_path: Path) -> None:
    assert set(PRESETS) == {"quick", "reference", "published"}
    with pytest.raises(InputError, match="Did you mean 'published'"):
        read_comparison("publish")
    with pytest.raises(InputError, match=r"no.yaml: no such file"):
        read_comparison(str(tmp_path / "no.yaml"))
