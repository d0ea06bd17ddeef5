"""FSDP2 (`fully_shard`): every process holds a shard of each parameter, as the launcher's configuration asks."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from effft.errors import InputError

ALWAYS: dict[str, tuple[tuple[str, ...], str]] = {
    "ACCELERATE_USE_DEEPSPEED": (("", "false"), "distributed_type must be MULTI_GPU or FSDP"),
    "ACCELERATE_USE_MEGATRON_LM": (("", "false"), "distributed_type must be MULTI_GPU or FSDP"),
    "ACCELERATE_USE_PARALLELISM_CONFIG": (("", "false"), "there is no parallelism_config"),
    "ACCELERATE_MIXED_PRECISION": (("", "no"), "mixed_precision must be no; --precision bf16 does it"),
}
"""Variables by which accelerate passes on its configuration -> the values that are supported, and the rule."""

WITH_FSDP: dict[str, tuple[tuple[str, ...], str]] = {
    "FSDP_VERSION": (("2",), "fsdp_version must be 2"),
    "FSDP_OFFLOAD_PARAMS": (("", "false"), "fsdp_offload_params must be false"),
    "FSDP_ACTIVATION_CHECKPOINTING": (("", "false"), "fsdp_activation_checkpointing must be false"),
    "FSDP_CPU_RAM_EFFICIENT_LOADING": (("", "false"), "fsdp_cpu_ram_efficient_loading must be false"),
}
"""More of them, read where the configuration asks for FSDP."""


def wants_fsdp(environment: Mapping[str, str]) -> bool:
    """Whether the launcher asks for FSDP.

    Raises:
        InputError: it asks for something that is not supported and would silently be ignored.
    """
    wanted = environment.get("ACCELERATE_USE_FSDP", "").lower() == "true"
    for variable, (allowed, rule) in (ALWAYS | WITH_FSDP if wanted else ALWAYS).items():
        if (value := environment.get(variable, "")).lower() not in allowed:
            raise InputError(
                f"accelerate's configuration: {rule} (it is {value!r}); deploy/accelerate has files that work."
            )
    return wanted


def apply_fsdp(root: nn.Module, blocks: Sequence[nn.Module], device: torch.device, bf16: bool) -> None:
    """Shard every parameter over the processes, in place; a block is gathered while it computes.

    Args:
        root: the module that is called. All tied parameters must be in it and outside the blocks.
        blocks: modules that are gathered one at a time.
        device: where the shards go.
        bf16: communicate and compute in bf16; the shards and their gradients stay fp32.
    """
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if bf16 else MixedPrecisionPolicy()
    for module in (*blocks, root):
        # also the root is resharded after a pass, as weights change between two evaluations
        fully_shard(module, mesh=mesh, reshard_after_forward=True, mp_policy=policy)
        assert isinstance(module, FSDPModule)
        module.set_gradient_divide_factor(1.0)  # the losses of the processes are parts of a sum, not means
