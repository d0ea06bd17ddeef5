"""LoRA trials that share the passes over one frozen backbone (docs/packed.md)."""
