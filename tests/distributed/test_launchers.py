"""What a launcher's configuration may ask for, and which commands it may start."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from effft.cli.exit_codes import run_command_line
from effft.distributed.fsdp import wants_fsdp
from effft.distributed.process_group import ProcessGroup, join_process_group, process_group
from effft.errors import InputError, RunError

ROOT = Path(__file__).parents[2]


def as_environment(name: str) -> dict[str, str]:
    """How accelerate passes one of our files on."""
    record = yaml.safe_load((ROOT / "deploy" / "accelerate" / name).read_text())
    told = {key.upper(): str(value).lower() for key, value in record.get("fsdp_config", {}).items()}
    fsdp = {"ACCELERATE_USE_FSDP": "true"} if record["distributed_type"] == "FSDP" else {}
    return told | fsdp | {"ACCELERATE_MIXED_PRECISION": record["mixed_precision"]}


def test_our_configurations_are_served() -> None:
    assert not wants_fsdp(as_environment("ddp.yaml"))
    assert wants_fsdp(as_environment("fsdp2.yaml"))


@pytest.mark.parametrize(
    ("change", "law"),
    [
        ({"FSDP_VERSION": "1"}, "fsdp_version must be 2"),
        ({"FSDP_OFFLOAD_PARAMS": "true"}, "fsdp_offload_params must be false"),
        ({"ACCELERATE_MIXED_PRECISION": "bf16"}, "--precision bf16"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "MULTI_GPU or FSDP"),
    ],
)
def test_what_would_be_ignored_is_refused(change: Mapping[str, str], law: str) -> None:
    with pytest.raises(InputError, match=law):
        wants_fsdp(as_environment("fsdp2.yaml") | change)


@pytest.mark.parametrize(("rank", "said"), [("0", "2 processes were launched together"), ("1", "")])
def test_only_a_run_is_shared(
    rank: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    assert run_command_line(["compare", "--strategies", "lora"]) == 2
    assert said in capsys.readouterr().err


def test_processes_need_a_device_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="need one each"), join_process_group("cuda:0"):
        pass
    assert type(process_group()) is ProcessGroup


def test_processes_with_other_data_are_told() -> None:
    class Two(ProcessGroup):
        size = 2

        def from_first_process(self, value: float) -> float:
            return value + 1

    with pytest.raises(RunError, match="do not have the same examples"):
        Two().must_agree("examples", "a b c")
    ProcessGroup().must_agree("examples", "a b c")
