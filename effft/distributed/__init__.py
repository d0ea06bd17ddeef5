"""The processes that work on one run together: a process group over torch.distributed, and FSDP2 on top of it."""
