"""Memory that was too short: the sentence says what the run would have taken."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from effft.errors import MemoryShortError, RunError

if TYPE_CHECKING:
    from effft.config import RunConfig

REMEDY = "lower --max-length, take a smaller --model, or a strategy that moves fewer parameters."


@contextmanager
def with_estimate(config: "RunConfig") -> Iterator[None]:
    """Add the estimate of this run to what is said when memory is short, wherever that was."""
    from effft.models.out_of_memory import out_of_memory, release_memory

    try:
        yield
    except (MemoryShortError, MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryShortError) and not out_of_memory(error):
            raise
        release_memory(error)
        said = str(error) if isinstance(error, MemoryShortError) else f"memory is short; {REMEDY}"
    else:
        return
    raise RunError(f"{said}{_estimate(config)}")


def _estimate(config: "RunConfig") -> str:
    from effft.runs.estimate import Skeletons, estimate

    try:
        found = estimate(config, Skeletons())
    except Exception:  # memory is short for it as well
        return ""
    sizes = {"weights": found.weights, "gradients": found.gradients, "optimizer": found.optimizer}
    parts = ", ".join(f"{name} {size / 1e6:,.0f}" for name, size in {**sizes, "activations": found.activations}.items())
    return f" The estimate for this run is {found.peak / 1e6:,.0f} MB ({parts}); `effft estimate` compares strategies."
