"""Settings of other people's comparisons, as values that stand where a user gives none."""

from collections.abc import Mapping

from effft.config import PART_FIELDS
from effft.errors import lookup
from effft.runs.compare import holders
from effft.strategies.strategy import compose

PRESETS: dict[str, dict[str, str]] = {
    "published": {
        "strategies": "vanilla,pattern+classifier,adaptive,lora,context_distillation",
        "per_label": "2,16,32,64,128",
        "pattern": "published",
        "learning_rate": "1e-5",
        "epochs": "40",
        "batch_size": "32",
        "schedule": "linear",
        "warmup": "0.1",
        "weight_decay": "0",
        "selection": "last",
        "max_length": "128",
        "layers": "2",
        "train_embeddings": "true",
        "train_final_norm": "true",
        "rank": "8",
        "alpha": "8",
        "lora_dropout": "0.1",
        "lora_modules": "query_value",
        "kl_weight": "0.5",
        "metric": "accuracy",
    }
}
"""arXiv 2405.13181, from its text and the authors' notebooks.

Not repeated: padding to 128 tokens (it changes no score), rank 1, 2, 4 and 64 (give --rank), a teacher that reads the
student's prompt, and seeds that are all the same.
"""

HELD_BY_ALL = "pattern"
"""A task without the pattern of that name keeps its own first one."""


def with_preset(name: str, values: Mapping[str, str | None], patterns: Mapping[str, str]) -> dict[str, str | None]:
    """The values, and the preset's where none is given ('' counts as none).

    Raises:
        InputError: no such preset.
    """
    given = {key: value for key, value in values.items() if value is not None and value != ""}
    if not name:
        return dict(given)
    preset = dict(lookup("preset", name, PRESETS))
    if preset[HELD_BY_ALL] not in patterns:
        del preset[HELD_BY_ALL]
    composed = [compose(word.strip()) for word in str(given.get("strategies") or preset["strategies"]).split(",")]
    idle = [key for key in preset if key in PART_FIELDS and not holders(key, composed)]
    return {**{key: value for key, value in preset.items() if key not in idle}, **given}
