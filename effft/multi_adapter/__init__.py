"""Packed trials: LoRA or BitFit trials that share the passes over one frozen backbone (docs/packed.md).

Off by default (`--executor packed`). Nothing but `search/multi_adapter_executor.py` depends on this package.
"""
