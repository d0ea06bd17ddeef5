"""`effft choose`: the race, the answer, whole choices on a tiny backbone, and what is refused."""

import csv
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient

from effft.choice.answer import chosen, judge
from effft.choice.candidates import Candidate
from effft.choice.ledger import Arm, Unit
from effft.choice.race import FINALISTS, race
from effft.cli.exit_codes import run_command_line
from effft.config import RunConfig
from tests.backbones import save_backbone
from tests.reliability.lives import life, wait

UNITS = [(seed, fold) for seed in range(3) for fold in range(4)]


class Told:
    """A ledger whose measurements are a table: arm -> (score of each unit, seconds)."""

    def __init__(self, known: dict[str, tuple[list[float], float]]) -> None:
        self.known, self.spent = known, 0.0

    def measure(self, arm: Arm, unit: Unit, limit: float) -> None:
        scores, seconds = self.known[arm.candidate.name]
        arm.scores[unit] = scores[UNITS.index(unit)]
        arm.seconds.append(seconds)
        self.spent += seconds


def arms_of(known: dict[str, tuple[list[float], float]], ledger: Told) -> list[Arm]:
    arms = [Arm(Candidate(name, RunConfig()), seconds) for name, (_, seconds) in known.items()]
    for arm in arms:
        ledger.measure(arm, UNITS[0], 1e9)
    return arms


SCORES = st.lists(st.floats(0, 1), min_size=len(UNITS), max_size=len(UNITS))


@given(st.lists(st.tuples(SCORES, st.floats(0.1, 10)), min_size=1, max_size=9), st.floats(0, 500))
def test_a_race_keeps_pairs_whole_and_its_time(rows: list[tuple[list[float], float]], more: float) -> None:
    known = {f"arm {place}": row for place, row in enumerate(rows)}
    ledger = Told(known)
    arms = arms_of(known, ledger)
    deadline = ledger.spent + more
    left = race(ledger, arms, UNITS, deadline, deadline, lambda line: None)  # type: ignore[arg-type]
    assert 1 <= len(left) <= max(FINALISTS, 1)
    assert len({tuple(arm.scores) for arm in left}) == 1, "those that are left were measured on the same units"
    assert ledger.spent <= deadline + 1e-6
    assert [arm.mean for arm in left] == sorted((arm.mean for arm in left), reverse=True)


@given(st.integers(1, 8), st.floats(10, 500))
def test_what_is_better_everywhere_wins(others: int, seconds: float) -> None:
    rng = np.random.default_rng(others)
    known = {f"arm {n}": ([float(v) for v in rng.uniform(0, 0.6, len(UNITS))], 1.0) for n in range(others)}
    known |= {"best": ([0.7] * len(UNITS), 5.0)}
    ledger = Told(known)
    left = race(ledger, arms_of(known, ledger), UNITS, ledger.spent + seconds, 1e9, lambda line: None)  # type: ignore[arg-type]
    assert left[0].candidate.name == "best"


def measured(scores: Sequence[Sequence[float]]) -> list[Arm]:
    return [
        Arm(Candidate(f"arm {place}", RunConfig()), place + 1.0, dict(zip(UNITS, own, strict=False)), [place + 1.0])
        for place, own in enumerate(scores)
    ]


@given(st.integers(2, 4).flatmap(lambda n: st.lists(SCORES, min_size=n, max_size=n)), st.integers(1, len(UNITS)))
def test_the_probabilities_are_of_one_best(scores: list[list[float]], units: int) -> None:
    judged = judge(measured(scores), UNITS[:units], folds=4)
    assert sum(one.best for one in judged) == pytest.approx(1)
    assert all(one.regret >= 0 for one in judged)
    assert judged[0].within_noise
    assert judged[0].regret == pytest.approx(min(one.regret for one in judged), abs=0.02)


def test_less_than_all_folds_tells_nothing() -> None:
    judged = judge(measured([[0.1, 0.2], [0.9, 0.9]]), UNITS[:2], folds=4)
    assert all(one.within_noise and one.interval is None for one in judged)
    assert [one.best for one in judged] == [0.5, 0.5]
    assert chosen(judged, 16, 0.0).arm.candidate.name == "arm 1", "the higher mean is all there is"


def test_equal_arms_share_and_a_gap_is_sure() -> None:
    same = judge(measured([[0.5, 0.7, 0.6, 0.8]] * 2), UNITS[:4], folds=4)
    assert [one.best for one in same] == [0.5, 0.5]
    far = judge(measured([[0.1, 0.2, 0.1, 0.2], [0.9, 0.9, 0.8, 0.9]]), UNITS[:4], folds=4)
    assert (far[0].arm.candidate.name, far[0].best, far[1].within_noise) == ("arm 1", 1.0, False)


def test_few_rows_take_the_cheapest_that_is_safe() -> None:
    scores = [[0.1, 0.0, 0.2, 0.1], [0.5, 0.6, 0.7, 0.6], [0.6, 0.7, 0.5, 0.8]]
    judged = judge(measured(scores), UNITS[:4], folds=4)
    assert chosen(judged, 64, 0.3).arm.candidate.name == "arm 2"
    assert chosen(judged, 16, 0.3).arm.candidate.name == "arm 1", "arm 0 is cheaper, but below always the same answer"


# ---- whole choices ------------------------------------------------------------------------------------------------


def write_rows(path: Path, counts: dict[str, int]) -> Path:
    rng = random.Random(0)
    words = {"yes": "the cat dog runs good old".split(), "no": "cats dogs see old bad a".split()}
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["text", "label"])
        for label, count in counts.items():
            for row in range(count):
                out.writerow([" ".join(rng.choices([*words[label], "new", "run"], k=6)) + f" {row}", label])
    return path


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_backbone(tmp_path_factory.mktemp("backbone"), "gpt2", positions=512))


def command(data: Path, backbone: str, *more: str) -> list[str]:
    return ["choose", "--data", str(data), "--model", backbone, "--epochs", "1", "--precision", "fp32", *more]


def trials_in(folder: Path) -> list[tuple[dict[str, Any], Any]]:
    storage = f"sqlite:///{folder}/optuna.db"
    (name,) = [n for n in optuna.get_all_study_names(storage) if n.split("/")[-1].count("-")]
    return [(t.params, t.values) for t in optuna.load_study(study_name=name, storage=storage).trials]


def answers(place: Path) -> list[dict[str, Any]]:
    """What the processes of a place printed."""
    parts = (place / "log").read_text().split('{\n  "use"')[1:]
    return [json.JSONDecoder().raw_decode('{"use"' + part)[0] for part in parts]


@pytest.mark.slow
@pytest.mark.usefixtures("tracking_uri")  # for its clean environment
def test_a_killed_choice_gives_the_undisturbed_answer(template_store: Path, backbone: str, tmp_path: Path) -> None:
    """With time for everything: what ends a stage is then how much there is to do, not the clock."""
    import effft.choice.choice  # noqa: F401 - loaded before the forks

    (tmp_path / "elsewhere.csv").write_text("text\n" + "".join(f"the cat sees old dogs {n}\n" for n in range(9)))
    kills, rng = int(os.environ.get("EFFFT_KILLS", "3")), random.Random(3)
    words = command(write_rows(tmp_path / "rows.csv", {"yes": 12, "no": 12}), backbone, "--minutes", "60", "--json")
    words += ["--ood", str(tmp_path / "elsewhere.csv")]
    places = [tmp_path / "whole", tmp_path / "torn"]
    for place in places:
        place.mkdir()
        shutil.copy(template_store, place / "mlflow.db")

    def start(place: Path) -> int:
        return life([*words, "--tracking-uri", f"sqlite:///{place}/mlflow.db"], place / "log", lambda: os.chdir(place))

    began = time.monotonic()
    assert wait(start(places[0])) == 0, (places[0] / "log").read_text()[-3000:]
    took = time.monotonic() - began
    for _ in range(kills):
        pid = start(places[1])
        time.sleep(rng.uniform(0.3, 0.8) * took)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert wait(start(places[1])) == 0, (places[1] / "log").read_text()[-3000:]
    assert wait(start(places[1])) == 0, "once more, with nothing left to do"
    whole, torn = ({json.dumps(values): score for values, score in trials_in(place)} for place in places)
    assert {"majority", "bag of words", "zero_shot", "icl", "probe", "lora", "pbft"} <= {
        json.loads(key)["strategy"] for key in whole
    }
    common = whole.keys() & torn.keys()
    assert {key: torn[key] for key in common} == {key: whole[key] for key in common}
    first, *_ = answers(places[0])
    *_, last, again = answers(places[1])
    near = {one["candidate"] for one in first["finalists"] if one["within_noise"]}
    assert last["use"] in near, "of those within noise the cheapest, which two processes may time differently"
    assert again == last
    for word in ("mostly noise", "32 more labels", "texts of ood/elsewhere"):
        assert any(word in sentence for sentence in last["sentences"]), word
    client = MlflowClient(tracking_uri=f"sqlite:///{places[1]}/mlflow.db")
    run = client.get_run(last["run_id"])
    parent = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert (parent.data.tags["kind"], parent.info.status, run.info.status) == ("choice", "FINISHED", "FINISHED")
    assert {"answer.md", "disagreement.csv"} <= {file.path for file in client.list_artifacts(parent.info.run_id)}
    version = client.get_model_version_by_alias("effft-rows", "champion")
    assert (version.run_id, version.tags["chosen_on"]) == (last["run_id"], "cross_validated")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--minutes", "0"], "minutes=0: must be a number above 0"),
        (["--minutes", "soon"], "minutes=soon"),
        (["--memory", "8 apples"], "memory=8 apples: must be a number above 0 with a unit (KB, MB, GB, TB)"),
        (["--latency", "50"], "(flag --latency)"),
        (["--memory", "1MB"], "nothing fits"),
        (["--latency", "0.000001ms"], "nothing fits"),
        (["--models", "no/such/model"], "no/such/model"),
        (["--rows", "3"], "--rows"),
        (["--per-label", "1"], "per_label=1: a choice needs at least 2"),
    ],
)
def test_bad_input_is_a_sentence_before_training(
    words: list[str], told: str, backbone: str, tracking_uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_rows(tmp_path / "rows.csv", {"yes": 12, "no": 12})
    assert run_command_line([*command(data, backbone, *words), "--tracking-uri", tracking_uri]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "optuna.db").exists() or trials_in(tmp_path) == []


@pytest.mark.parametrize("counts", [{"yes": 12}, {"yes": 12, "no": 1}])
def test_labels_that_cannot_be_measured_are_refused(
    counts: dict[str, int], backbone: str, tracking_uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_rows(tmp_path / "rows.csv", counts)
    assert run_command_line([*command(data, backbone), "--tracking-uri", tracking_uri]) == 2
    assert "label" in capsys.readouterr().err
    assert not (tmp_path / "optuna.db").exists()
