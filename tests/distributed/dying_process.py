"""`effft run` whose second process dies after its first step.

Under a launcher: `python -m tests.distributed.dying_process run ...`.

Which comes first at the other process is chance, so FIRST chooses: "silence", its next message to the dead one fails
(the launcher's signal is ignored); "signal", the launcher stops it while it computes.
"""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

from effft.__main__ import main
from effft.runs import fit
from effft.training.loop import Step, train


def dying(*given: Any) -> Iterator[Step]:
    for step in train(*given):
        if os.environ["RANK"] == "1":
            os._exit(9)
        if os.environ["FIRST"] == "silence":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        else:
            time.sleep(60)
        yield step


if __name__ == "__main__":
    fit.train = dying  # type: ignore[assignment]
    main()
