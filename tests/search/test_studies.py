"""The studies that come with the project: one file for each strategy, which says what is searched anyway."""

from pathlib import Path

import pytest

from effft.cli.exit_codes import run_command_line
from effft.cli.search import STUDIES, search
from effft.search.spaces import is_range, narrowed, read_space_file
from effft.strategies.strategy import NAMED, compose

ROOT = Path(__file__).parents[2]


def test_the_folder_search_holds_one_for_every_strategy() -> None:
    assert (ROOT / "search").resolve() == STUDIES.resolve()
    assert {path.stem for path in STUDIES.iterdir()} == set(NAMED)


@pytest.mark.parametrize("name", NAMED)
def test_a_study_file_says_what_the_strategy_searches(name: str) -> None:
    values = read_space_file(str(STUDIES / f"{name}.yaml"))
    assert values["strategy"] == name
    ranges = {key: text for key, text in values.items() if is_range(text)}
    space = compose(name).space(768)
    assert {key: narrowed(key, text, space) for key, text in ranges.items()} == {key: space[key] for key in ranges}
    left = set(space) - set(ranges)  # what depends on the model, the task or the examples
    assert left <= set("learning_rate pattern layers shots label_score teacher_shots cut windows label_words".split())


@pytest.mark.parametrize("study", ["lora", "search/lora.yaml"])
def test_options_replace_the_values_of_the_file(study: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with search.make_context("search", ["--study", study, "--trials", "7", "--sampler", ""]) as context:
        params = context.params
    assert (params["study"], params["strategy"], params["trials"], params["sampler"]) == ("", "lora", 7, "auto")
    assert params["rank"] == "1:64:log2"


def test_another_text_is_the_name_of_the_study() -> None:
    with search.make_context("search", ["--study", "mine"]) as context:
        assert context.params["study"] == "mine"


@pytest.mark.parametrize(("rank", "flags"), [("4:32", "--rank 4096"), ("4096", ""), ("4096", "--study lora")])
def test_a_flag_replaces_the_space_file_and_that_a_study_file(
    rank: str, flags: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "space.yaml").write_text(f"rank: {rank}\n")
    words = ["--space", str(tmp_path / "space.yaml"), "--storage", "sqlite:////nowhere/x.db", "--per-label", "4"]
    assert run_command_line(["search", *words, *flags.split()]) == 2
    assert "rank=4096" in capsys.readouterr().err


def test_a_key_that_is_no_option_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.yaml").write_text("strategy: lora\ntrails: 3\n")
    assert run_command_line(["search", "--study", str(tmp_path / "x.yaml")]) == 2
    assert "no option is called 'trails'. Did you mean 'trials'?" in capsys.readouterr().err
