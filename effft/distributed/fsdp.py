"""A model in pieces, one a process: FSDP2 (`fully_shard`), as the launcher's configuration asks for it."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from effft.errors import InputError

OURS: dict[str, tuple[tuple[str, ...], str]] = {
    "ACCELERATE_USE_DEEPSPEED": (("", "false"), "distributed_type must be MULTI_GPU or FSDP"),
    "ACCELERATE_USE_MEGATRON_LM": (("", "false"), "distributed_type must be MULTI_GPU or FSDP"),
    "ACCELERATE_USE_PARALLELISM_CONFIG": (("", "false"), "there is no parallelism_config"),
    "ACCELERATE_MIXED_PRECISION": (("", "no"), "mixed_precision must be no; --precision bf16 does it"),
}
"""What accelerate's configuration says by these variables -> the values that we serve, and the law."""

OF_FSDP: dict[str, tuple[tuple[str, ...], str]] = {
    "FSDP_VERSION": (("2",), "fsdp_version must be 2"),
    "FSDP_OFFLOAD_PARAMS": (("", "false"), "fsdp_offload_params must be false"),
    "FSDP_ACTIVATION_CHECKPOINTING": (("", "false"), "fsdp_activation_checkpointing must be false"),
    "FSDP_CPU_RAM_EFFICIENT_LOADING": (("", "false"), "fsdp_cpu_ram_efficient_loading must be false"),
}
"""The same, where it asks for FSDP."""


def wants_fsdp(environment: Mapping[str, str]) -> bool:
    """Whether the launcher asks for a model in pieces.

    Raises:
        InputError: it asks for something that is not done here, which would be silently ignored.
    """
    wanted = environment.get("ACCELERATE_USE_FSDP", "").lower() == "true"
    for variable, (allowed, law) in (OURS | OF_FSDP if wanted else OURS).items():
        if (value := environment.get(variable, "")).lower() not in allowed:
            raise InputError(
                f"accelerate's configuration: {law} (it is {value!r}); deploy/accelerate has files that work."
            )
    return wanted


def apply_fsdp(root: nn.Module, blocks: Sequence[nn.Module], device: torch.device, bf16: bool) -> None:
    """Leave every process its piece of each parameter; a block is whole while it computes. In place.

    root: the module that is called; tied parameters must all lie in it and outside the blocks. bf16: what is sent
    around and computed with; the pieces and their gradients stay fp32, so they are the masters.
    """
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if bf16 else MixedPrecisionPolicy()
    for module in (*blocks, root):
        # Also the root goes back to pieces after a pass: weights change between two evaluations.
        fully_shard(module, mesh=mesh, reshard_after_forward=True, mp_policy=policy)
        assert isinstance(module, FSDPModule)
        module.set_gradient_divide_factor(1.0)  # our losses are shares of a sum, not means
