"""`effft run` whose second process dies after its first step: `python -m tests.scale.dies run ...` under a launcher."""

import os
from collections.abc import Iterator
from typing import Any

from effft import experiment
from effft.__main__ import main
from effft.training.loop import Step, train


def dying(*given: Any) -> Iterator[Step]:
    for step in train(*given):
        if os.environ["RANK"] == "1":
            os._exit(9)
        yield step


if __name__ == "__main__":
    experiment.train = dying  # type: ignore[assignment]
    main()
