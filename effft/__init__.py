"""effft: adapt a pre-trained language model with few labelled examples, and compare the ways to do it.

`adapt`, `load`, ... are in `effft.api`; they are imported when they are first used, so that `import effft` is quick.
"""

import os
from typing import TYPE_CHECKING, Any

from effft.version import __version__

if TYPE_CHECKING:
    from effft.adapted_model import Adaptation, AdaptedModel
    from effft.api import adapt, choose, compare, load
    from effft.classifier import Classifier

__all__ = ["Adaptation", "AdaptedModel", "Classifier", "__version__", "adapt", "choose", "compare", "load"]

for _cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    # Compiled products, kept by shape: 1024 of them by default, 2 MB each, and batches have many shapes. LoRA on
    # OPT-125M took 900 MB instead of 500 after eight updates. torch reads this when it is loaded, so it stands here.
    os.environ.setdefault(_cache, "64")

# How long a thread of OpenMP waits for the others before it sleeps; read when torch is loaded. By default 14 ms at
# every barrier where another job has one of the cores: LoRA on MiniLM took 280 s, not 7 (now 19).
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
    os.environ["GOMP_SPINCOUNT"] = "3000"


def __getattr__(name: str) -> Any:
    """A name of the Python interface, imported now."""
    if name == "Classifier":
        from effft.classifier import Classifier

        return Classifier
    if name in __all__:
        from effft import api

        return getattr(api, name)
    raise AttributeError(f"module 'effft' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
