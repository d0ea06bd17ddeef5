"""Whole studies on a tiny backbone: what they see, what they keep, how they go on."""

from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import optuna
import pytest
from mlflow import MlflowClient
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta

from effft.cli.exit_codes import run_command_line
from effft.config import make_config
from effft.errors import InputError
from effft.runs.plan import prepare, prepare_validation
from effft.runs.session import Session
from effft.search.finals import Final
from effft.search.jobs import TrainingJob, measure
from effft.search.planning import plan_study
from effft.search.plots import importances
from effft.search.settings import Settings
from effft.search.verdict import Verdict, verdict
from effft.tracking.mlflow_tracker import MlflowTracker
from effft.tracking.study_runs import settle_finals
from tests.backbones import save_backbone
from tests.place import make_place
from tests.runs import runs_in

SMALL = (
    "--task agreement --per-label 4 --folds 2 --reseeds 1 --seeds 1 --evaluation-limit 8 --steps 1 --epochs 1 "
    "--bootstrap 0 --precision fp32"
).split()


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_backbone(tmp_path_factory.mktemp("backbone"), "gpt2")


@pytest.fixture
def search(tracking_uri: str, backbone: Path) -> Callable[..., int]:
    """Run `effft search` with these words in a folder of its own."""

    def run(*words: str) -> int:
        return run_command_line(["search", *SMALL, "--model", str(backbone), "--tracking-uri", tracking_uri, *words])

    return run


@pytest.mark.parametrize("fold", [None, (0, 2, 0)])
@pytest.mark.parametrize("strategy", ["lora", "adaptive", "icl"])
@pytest.mark.slow
def test_a_trial_opens_no_source_but_train(strategy: str, fold: tuple[int, int, int] | None, tmp_path: Path) -> None:
    place = make_place(tmp_path, "gpt2")
    for file in ("test.csv", "far.csv"):
        (place / file).unlink()
    values = {"task": str(place / "task.yaml"), "model": str(place / "gpt2"), "per_label": 4}
    config = make_config({**values, "strategy": strategy, "epochs": 1, "bootstrap": 0, "max_length": 32})
    assert measure(TrainingJob(config, fold), Session()).failure == ""
    with pytest.raises(InputError, match="no file of it lies in"):
        prepare(config, Session())


@pytest.mark.parametrize("selection", ["last", "validation"])
@pytest.mark.parametrize("amount", [{"per_label": 8}, {"rows": "40"}])
@pytest.mark.parametrize("tested", [True, False])
def test_what_scores_a_trial_does_not_choose_its_epoch(
    amount: dict[str, object], selection: str, tested: bool, tmp_path: Path
) -> None:
    place = make_place(tmp_path, "gpt2")
    task = (place / "task.yaml").read_text()
    lines = [line for line in task.splitlines() if tested or "in_domain" not in line]
    (place / "task.yaml").write_text("\n".join(lines))
    values = {"task": str(place / "task.yaml"), "model": str(place / "gpt2"), "selection": selection, **amount}
    config, session = make_config({**values, "strategy": "lora", "epochs": 1}), Session()
    plans = [prepare_validation(config, session, (fold, 4, 0)) for fold in range(4)]
    held = [{e.index for e in plan.evaluated["validation"].examples} for plan in plans]
    trained = [{e.index for e in plan.draw.train} for plan in plans]
    assert len(set.union(*held)) == sum(map(len, held)), "a row is in one fold"
    whole = prepare(config, session)
    assert set.union(*held) == {e.index for e in whole.draw.train}, "the folds are of what the final run trains on"
    for own, rows, plan in zip(held, trained, plans, strict=True):
        assert own | rows == set.union(*held)
        assert not own & rows
        judges = {e.index for e in plan.draw.validation}
        assert judges == ({e.index for e in whole.draw.validation} if selection == "validation" else own)
        assert selection == "last" or not judges & (own | rows)


def test_a_search_on_folds_needs_no_more_rows_than_its_final_runs(tmp_path: Path) -> None:
    place = make_place(tmp_path, "gpt2")
    task = (place / "task.yaml").read_text().replace("  in_domain: {file: test.csv, slices: [length]}\n", "")
    (place / "task.yaml").write_text(task)
    values = {"task": str(place / "task.yaml"), "model": str(place / "gpt2"), "strategy": "lora", "per_label": "40"}
    plan = plan_study(values, {"rank": "4"}, Settings(folds=4), "", Session())
    assert plan.excluded == ("rank=8",)
    with pytest.raises(InputError, match="training and validation"):
        plan_study({**values, "selection": "validation"}, {}, Settings(folds=4), "", Session())


def study_of(folder: Path) -> optuna.Study:
    (name,) = optuna.get_all_study_names(f"sqlite:///{folder}/optuna.db")
    return optuna.load_study(study_name=name, storage=f"sqlite:///{folder}/optuna.db")


@pytest.mark.slow
def test_a_study_end_to_end(search: Callable[..., int], tracking_uri: str, tmp_path: Path) -> None:
    assert search("--trials", "2") == 0
    assert search("--trials", "3") == 0  # goes on
    study = study_of(tmp_path)
    states = [t.state.name for t in study.trials if t.state.is_finished()]
    assert len(states) == 3
    client = MlflowClient(tracking_uri=tracking_uri)
    runs = runs_in(tracking_uri, "effft/agreement")
    trials, finals, former, (parent,) = (
        [r for r in runs if r.data.tags["kind"] == kind] for kind in ("trial", "final", "former final", "study")
    )
    assert sorted(int(r.data.tags["optuna.trial"]) for r in trials) == [0, 1, 2]
    assert {r.data.tags["mlflow.parentRunId"] for r in (*trials, *finals, *former)} == {parent.info.run_id}
    assert {r.info.status for r in runs} == {"FINISHED"}
    assert not any(key.startswith(("in_domain", "ood")) for r in trials for key in r.data.metrics)
    for run in trials:
        number = int(run.data.tags["optuna.trial"])
        assert run.data.metrics["validation/mcc"] == pytest.approx(
            fmean(study.trials[number].user_attrs["measured"]["scores"])
        )
    tried = [(r.data.params["learning_rate"], r.data.params["lora_modules"]) for r in (*finals, *former)]
    assert len(set(tried)) == len(tried), "none is made twice; another winner is another run"
    assert [r.data.tags["role"] for r in finals if r.data.tags["tuned"] == "true"] == ["winner"]
    assert len(finals) <= 2, "those of an earlier winner are results no more"
    assert all("in_domain/mcc" in r.data.metrics and "ood/far/mcc" in r.data.metrics for r in finals)
    (version,) = client.search_model_versions("name = 'effft-agreement'")
    assert version.tags["study"] == study.study_name
    names = [f.path for f in client.list_artifacts(parent.info.run_id)]
    assert {"study.html", "verdict.md"} <= set(names)
    assert study.metric_names == ["validation mcc"]
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/optuna.db")
    note = storage.get_study_system_attrs(storage.get_study_id_from_name(study.study_name))
    kept = Path(client.download_artifacts(parent.info.run_id, "verdict.md", str(tmp_path))).read_text()
    assert note["dashboard:note_str:0"] == kept, "optuna-dashboard shows the verdict"
    assert note["dashboard:note_ver"] == 2, "one for each time that the search ended"
    shown = {meta.filename: meta.artifact_id for meta in get_all_artifact_meta(study)}
    assert set(shown) == {"study.html", "verdict.md"}
    files = FileSystemArtifactStore(f"{tmp_path}/optuna.db-artifacts")
    assert files.open_reader(shown["verdict.md"]).read().decode() == kept, "that of the latest end"


@pytest.mark.slow
def test_final_runs_are_tagged_with_what_they_are_now(tracking_uri: str) -> None:
    client = MlflowClient(tracking_uri=tracking_uri)
    parent = MlflowTracker.open("effft/dogs", "search", {"kind": "study"}, tracking_uri)
    old, default, new, later = (
        parent.child(name, {"kind": "final", "role": role, "tuned": str(role == "winner").lower()}).run_id
        for name, role in (("old", "winner"), ("default", "default"), ("new", "winner"), ("later", "default"))
    )

    def told(roles: dict[str, str], trial: int) -> list[tuple[str, str]]:
        settle_finals(parent, roles, [old, default, new, later, "elsewhere"], trial)
        tags = [client.get_run(run_id).data.tags for run_id in (old, default, new, later)]
        return [(one["kind"], one["role"]) for one in tags]

    former, kept = ("former final", "winner"), ("final", "default")
    assert told({new: "winner", default: "default"}, 2) == [former, kept, ("final", "winner"), kept]
    assert told({default: "winner"}, 0) == [former, ("final", "winner"), former, kept]
    assert told({new: "winner", default: "default"}, 2) == [former, kept, ("final", "winner"), kept]
    assert told({}, 2)[2] == ("final", "winner"), "a seed that is not asked for now is one of the winner's all the same"
    parent.close()


@pytest.mark.slow
def test_the_same_seed_is_the_same_study_also_when_interrupted(search: Callable[..., int], tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path}/"
    whole, parts = f"{place}whole.db", f"{place}parts.db"
    assert search("--no-tracking", "--storage", whole, "--trials", "4", "--sampler", "tpe") == 0
    for count in ("1", "4"):
        assert search("--no-tracking", "--storage", parts, "--trials", count, "--sampler", "tpe") == 0

    def numbers(url: str) -> list[object]:
        (name,) = optuna.get_all_study_names(url)
        return [(t.params, t.values) for t in optuna.load_study(study_name=name, storage=url).trials if t.values]

    def finals(url: str) -> dict[str, dict[str, float]]:
        (name,) = optuna.get_all_study_names(url)
        kept = optuna.load_study(study_name=name, storage=url).user_attrs
        return {
            key: {n: v for n, v in kept[key]["metrics"].items() if not n.startswith("resources/")}
            for key in kept
            if key.startswith("final/")
        }

    assert numbers(whole) == numbers(parts)
    assert len(finals(whole)) > 1
    assert finals(whole).items() <= finals(parts).items(), "those of the first winner stand under a name of their own"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--strategy", "lorra"], "Did you mean 'lora'?"),
        (["--task", "agrement"], "agreement"),
        (["--sampler", "gpp"], "Did you mean 'gp'?"),
        (["--pruner", "wilcox"], "Did you mean 'wilcoxon'?"),
        (["--objectives", "validation,memory"], "unknown objective 'memory'"),
        (["--learning-rate", "1e-3:1e-5"], "low <= high must hold"),
        (["--layers", "1:3"], "has no 'layers'"),
        (["--strategy", "adaptive", "--layers", "1:9"], "blocks"),
        (["--rank", "1:4096"], "rank"),
        (["--rank", "4|4096"], "rank=4096"),
        (["--strategy", "pbft", "--pattern", "minimal|minimum"], "Did you mean 'minimal'?"),
        (["--strategy", "zero_shot"], "strategy 'zero_shot' trains nothing, so --"),
        (["--folds", "5"], "only 4 examples per label"),
        (["--storage", "sqlite:////nowhere/x.db"], "cannot be opened"),
        (["--storage", "nonsense"], "cannot be opened"),
        (["--alpha-ratio", "-1"], "above 0"),
        (["--strategy", "ia3", "--peft-options", '{"nope": 1}'], "nope"),
        (["--ensemble", "2"], "ensemble=2: several models are not saved as one"),
        (["--quantize", "nf4"], "quantize=nf4: a saved model needs the backbone in full precision"),
    ],
)
def test_bad_input_is_one_sentence(
    words: list[str], said: str, search: Callable[..., int], capsys: pytest.CaptureFixture[str], tracking_uri: str
) -> None:
    assert search("--trials", "1", *words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    client = MlflowClient(tracking_uri=tracking_uri)
    ids = [e.experiment_id for e in client.search_experiments()]
    assert client.search_runs(ids) == []


@pytest.mark.slow
def test_another_study_of_the_same_name_is_refused(
    search: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert search("--trials", "1", "--study", "mine", "--no-tracking") == 0
    assert search("--trials", "1", "--study", "mine", "--no-tracking", "--strategy", "adaptive") == 2
    assert "study 'mine' exists with" in capsys.readouterr().err
    assert search("--trials", "1", "--study", "mine", "--no-tracking", "--rank", "4") == 2
    assert "study 'mine' exists with" in capsys.readouterr().err


@pytest.mark.slow
def test_five_failures_in_a_row_stop_the_study(
    search: Callable[..., int], capsys: pytest.CaptureFixture[str], tracking_uri: str
) -> None:
    diverges = "--strategy vanilla --steps 9 --learning-rate 9 --weight-decay 1e6 --warmup 0 --schedule constant"
    assert search("--trials", "3", *diverges.split()) == 1
    assert "5 trials failed one after another; the last said: DivergedError: the loss is nan" in capsys.readouterr().err
    runs = runs_in(tracking_uri, "effft/agreement")
    assert sorted(r.info.status for r in runs) == ["FAILED"] * 6
    assert sum("the loss is nan at step" in r.data.tags.get("trial.failure", "") for r in runs) == 5


@pytest.mark.slow
def test_a_trial_that_diverges_when_trained_anew_ends_no_search(
    search: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    # Every step multiplies the weights by 1000: those of a fold's two steps can be evaluated, all rows take more.
    words = "--strategy vanilla --steps 0 --epochs 1 --batch-size 2 --learning-rate 1 --warmup 0 --schedule constant"
    assert search("--trials", "6", "--weight-decay", "0.01:1000", "--no-tracking", *words.split()) == 0
    said = capsys.readouterr().out
    assert "is left out, as it diverged when trained anew: the " in said
    assert "Keep the default" in said
    assert search("--trials", "6", "--weight-decay", "0.01:1000", "--no-tracking", *words.split()) == 0
    assert capsys.readouterr().out == said, "what is known to diverge is not trained again"


@pytest.mark.slow
def test_objectives_and_constraints(
    search: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "--no-tracking --trials 2 --objectives validation,peak_memory --max-trainable-parameters 1e9".split()
    assert search(*words) == 0
    assert all(len(t.values) == 2 for t in study_of(tmp_path).trials if t.values)
    assert "no trial is pruned (--pruner wilcoxon means nothing)" in capsys.readouterr().err


def test_the_verdict_leads_with_what_to_do() -> None:
    """Issue kind 10: the search says one thing and does another."""
    rank = {"rank": optuna.distributions.IntDistribution(1, 64)}
    winner = optuna.trial.create_trial(params={"rank": 4}, distributions=rank, value=0.9)
    winner.number = 7

    def final(role: str, seed: int, value: float) -> Final:
        return Final(role, seed, 0, {"validation/mcc": value, "in_domain/mcc": value})

    def judged(winner_value: float, default: float, median: float) -> Verdict:
        values = {"winner": winner_value, "default": default, "median": median}
        found = [final(role, seed, value + seed / 10) for role, value in values.items() for seed in range(5)]
        return verdict(found, "mcc", winner, 0.6, 0)

    same = judged(0.5, 0.5, 0.5)
    assert same.sentences[0].startswith("Keep the default: trial 7 is not better on fresh seeds")
    assert "did not surely beat a random pick" in same.sentences[-1]
    worse = judged(0.4, 0.5, 0.1)
    assert worse.sentences[0].startswith("Keep the default: better than trial 7 by 0.1000 on fresh seeds (-0.1000 [")
    assert (worse.recommended, worse.trial, worse.final_mean) == ("default", 0, pytest.approx(0.7))
    better = judged(0.5, 0.1, 0.5)
    assert better.sentences[0].startswith("Use trial 7: better than the default by 0.4000 on fresh seeds (+0.4000 [")
    assert (better.recommended, better.trial, better.final_mean) == ("winner", 7, pytest.approx(0.7))
    assert better.sentences[-2] == "The winner is above the default configuration."
    assert "search score 0.9000, re-evaluation 0.6000" in better.sentences[1]
    assert "winner 0.7000, default 0.3000, median 0.7000" in better.sentences[1]
    assert "The search paid" in judged(0.5, 0.1, 0.2).sentences[-1]


def test_a_default_that_breaks_a_constraint_is_not_recommended() -> None:
    winner = optuna.trial.create_trial(value=0.4)
    winner.number = 7

    def judged(trained: float) -> Verdict:
        numbers = {"winner": (0.4, trained), "default": (0.5, 900.0), "median": (0.3, trained)}
        found = [
            Final(role, seed, 0, {"validation/mcc": value, "resources/trainable_parameters": count})
            for role, (value, count) in numbers.items()
            for seed in range(5)
        ]
        return verdict(found, "mcc", winner, 0.4, 0, [("trainable_parameters", 500.0)])

    kept = judged(400.0)
    assert (kept.recommended, kept.trial, kept.final_mean) == ("winner", 7, pytest.approx(0.4))
    assert kept.sentences[0].startswith("Use trial 7: trainable_parameters of the default is 900, more than 500")
    none = judged(800.0)
    assert none.recommended == "default"
    assert none.sentences[-1].startswith("What is recommended breaks a constraint: trainable_parameters of the default")


def test_importances_are_shares() -> None:
    study = optuna.create_study(direction="maximize")
    study.sampler = optuna.samplers.RandomSampler(seed=0)
    assert importances(study) == {}
    study.optimize(lambda t: t.suggest_float("matters", 0, 1) + 0 * t.suggest_float("not", 0, 1), n_trials=10)
    found = importances(study)
    assert sum(found.values()) == pytest.approx(1)
    assert found["matters"] > 0.8
