"""The reference table: its cells, its rows that know less, its text."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from effft.cli.reference import reference as command
from effft.runs import cells as measuring
from effft.runs.cells import BAG, Cell, Kept, Measured, measure, measure_kept
from effft.runs.reference import RANDOM, SWAPPED, cells, markdown, slices, spread, table
from effft.runs.session import Session
from effft.strategies.strategy import NAMED


def test_cells_hold_every_row_and_pair_once() -> None:
    every = cells("tiny-lm", "somewhere", ["agreement"], [8, 32], 3, 10)
    counted = {row: sum(cell.row == row for cell in every) for row in (*NAMED, SWAPPED, RANDOM, BAG)}
    assert counted.pop("zero_shot") == 1, "no example changes it"
    assert set(counted.values()) == {2 * 3}
    assert {cell.config.model for cell in every if cell.row == RANDOM} == {"somewhere"}
    assert {cell.config.label_words for cell in every if cell.row == SWAPPED} == {"Yes,No"}
    assert len(set(every)) == len(every)


def test_two_rows_measured_and_shown() -> None:
    every = [c for c in cells("tiny-lm", "", ["agreement"], [8], 1, 60) if c.row in ("zero_shot", BAG)]
    measured = list(measure(every, 1))
    bag = next(m for m in measured if m.cell.row == BAG)
    assert abs(bag.metrics["in_domain/mcc"]) < 0.5, "counting words does not tell agreement"
    heads, lines = table(measured, "agreement")
    assert heads == ["mcc", "in domain, 8", "OOD, 8"]
    known = {line[0]: line[1:] for line in lines}
    assert known["zero_shot"] == [spread([m.metrics[f"{s}/mcc"]]) for m in measured if m.cell.row == "zero_shot"
                                  for s in ("in_domain", "ood/far")]  # fmt: skip
    assert known["majority"] == [".00", ".00"]
    assert known["lora"] == ["-", "-"]
    shown = markdown(*slices(measured, "agreement", 8))
    assert "attractor_relative" in shown
    assert BAG not in shown


def test_what_was_measured_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = [c for c in cells("tiny-lm", "", ["agreement"], [8], 2, 20) if c.row == BAG]
    first, second = every
    path, session = tmp_path / "cells.jsonl", Session()
    (found,) = measure_kept([first], 1, Kept(path, session))
    with path.open("a") as file:
        file.write('{"cell": "half of a li')
    asked: list[Cell] = []

    def counted(cell: Cell) -> dict[str, float]:
        asked.append(cell)
        return {"in_domain/mcc": 0.0}

    monkeypatch.setattr(measuring, "measure_one", counted)
    again = list(measure_kept(every, 1, Kept(path, session)))
    assert asked == [second]
    assert again[0] == found
    assert list(measure_kept(every, 1, Kept(path, session))) == again
    assert asked == [second]
    other = first.config.model_copy(update={"evaluation_limit": 21})
    kept = Kept(path, session)
    assert kept.key(Cell(BAG, other)) != kept.key(first) == Kept(path, Session()).key(first)


def test_spread_is_mean_and_sample_deviation() -> None:
    assert spread([0.5, 0.7]) == ".60 ± .14"
    assert spread([-0.25]) == "-.25"
    assert spread([1.0]) == "1.00"
    assert spread([]) == "-"


def test_the_command_keeps_its_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pretend(every: list[Cell], workers: int) -> list[Measured]:
        values = {"in_domain/mcc": 0.1, "ood/far/mcc": 0.2, "ood/far/longer/accuracy": 0.3}
        return [Measured(cell, values) for cell in every]

    monkeypatch.setattr(measuring, "measure", pretend)
    words = ["--tasks", "agreement", "--per-label", "8", "--pairs", "2", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(command, words, catch_exceptions=False)
    assert done.exit_code == 0
    assert "| lora | .10 ± .00 | .20 ± .00 |" in done.output
    kept = (tmp_path / "out" / "reference.csv").read_text().splitlines()
    assert kept[0] == "row,task,per_label,seed,data_seed,overlap_strength,metric,value"
    assert "lora,agreement,8,1,1,,ood/far/mcc,0.2" in kept
    assert (tmp_path / "out" / "reference.md").read_text() in done.output


def test_the_curve_stands_apart_from_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pretend(every: list[Cell], workers: int) -> list[Measured]:
        def values(cell: Cell) -> dict[str, float]:
            strength = cell.config.overlap_strength
            accuracy = 0.5 if strength is None else 1 - strength / 2
            keys = ("in_domain/accuracy", "ood/traps/accuracy", "ood/traps/swap/accuracy")
            return dict.fromkeys(keys, accuracy) | {"in_domain/majority": 0.53, "ood/traps/majority": 0.53}

        return [Measured(cell, values(cell)) for cell in every]

    monkeypatch.setattr(measuring, "measure", pretend)
    words = ["--tasks", "overlap", "--per-label", "8", "--pairs", "2", "--strengths", "0.5,1"]
    done = CliRunner().invoke(command, [*words, "--out", str(tmp_path / "out")], catch_exceptions=False)
    assert "| shortcut strength | 1 | 0.5 |" in done.output
    assert "| majority | .53 | .53 |" in done.output, "the drawn examples' own share, not one half"
    assert "| lora, OOD, swap | .50 ± .00 | .75 ± .00 |" in done.output
    assert "| lora | .50 ± .00 | .50 ± .00 |" in done.output, "runs of the curve are no rows of the table"
    assert "lora,overlap,8,1,1,0.5,ood/traps/accuracy,0.75" in (tmp_path / "out" / "reference.csv").read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--per-label", "x"], "per_label=x"),
        (["--tasks", "agrement"], "agreement"),
        (["--per-label", "0"], "per_label=0"),
        (["--strengths", "1,2"], "overlap_strength=2: must be at most 1"),
        (["--strengths", ","], "--strengths is empty"),
    ],
)
def test_bad_input_is_a_sentence(words: list[str], told: str, tmp_path: Path) -> None:
    from effft.errors import InputError

    with pytest.raises(InputError, match=told):
        CliRunner().invoke(command, [*words, "--out", str(tmp_path)], catch_exceptions=False)
