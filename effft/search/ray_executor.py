"""Units as tasks of a Ray cluster; the only importer of ray. The driver stays the one writer."""

import logging
import os
import shutil
import signal
import tempfile
import threading
import warnings
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effft.errors import InputError
from effft.redaction import redact
from effft.search.cluster import nobody, refused
from effft.search.jobs import TRIES, JobResult, TrainingJob, measure

if TYPE_CHECKING:
    from effft.runs.session import Session

ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_ZERO_COPY_TORCH_TENSORS": "1"}
"""No reports to anybody; weights lie once in a node's shared memory, and its workers read them there."""

SECONDS_TO_WARN = 60.0
SHORTEST_TEMP = "/tmp"  # noqa: S108 # nosec B108 # a socket's path may have 107 bytes; the folder in it is private
STORE_BYTES = 100_000_000
"""Object store of a cluster of our own, beside the weights."""

log = logging.getLogger(__name__)


class RayTasks:
    """A unit is a task of one CPU and a share of a GPU; Ray repeats those that a worker or a node took with it.

    The session (task, training split, weights) is put into the cluster once and fetched once a node; a worker
    process builds its own from it at its first unit. Our packages travel with the job.
    """

    def __init__(self, width: int, address: str, gpus: float, session: "Session") -> None:
        self.width = width
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        import ray

        self._ray: Any = ray
        self._folder = ""
        self._flying: dict[Any, Hashable] = {}
        self._join(address, session)
        try:
            self._must_have(gpus)
            with warnings.catch_warnings(action="ignore"):  # of writing to what is shared: a session hands out copies
                self._session = ray.put(session)
            task: Any = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=TRIES - 1)
            self._task = task(work)
        except BaseException:
            self.close()
            raise

    def _join(self, address: str, session: "Session") -> None:
        own: dict[str, Any] = {"address": address}
        if address == "local":
            base = SHORTEST_TEMP if os.access(SHORTEST_TEMP, os.W_OK) else None
            self._folder = tempfile.mkdtemp(prefix="ray-", dir=base)
            own |= {"num_cpus": self.width, "include_dashboard": False}
            own |= {"_temp_dir": self._folder, "object_store_memory": STORE_BYTES + 2 * session.weight_bytes}
        try:
            with _own_sigterm(), _way_to(address):
                self._ray.init(**own, log_to_driver=False, logging_level=logging.ERROR, runtime_env=_code())
        except (OSError, RuntimeError, ValueError, self._ray.exceptions.RayError) as error:
            self.close()
            if isinstance(error, InputError):
                raise
            raise nobody(address, " ".join(str(error).split())[:200].rstrip(". ")) from None

    def _must_have(self, gpus: float) -> None:
        there = self._ray.cluster_resources()
        if gpus > there.get("GPU", 0):
            raise InputError(
                f"ray_gpus={gpus:g}: the cluster has {there.get('GPU', 0):g} GPUs; start a node with one "
                "(`ray start --num-gpus 1`), or leave --ray-gpus at 0."
            )
        if there.get("CPU", 0) < self.width:
            log.warning("effft: the cluster has %g CPUs for %d --workers.", there.get("CPU", 0), self.width)

    def submit(self, key: Hashable, unit: TrainingJob) -> None:
        """Make it a task; the cluster takes as many at a time as it can."""
        self._flying[self._task.remote(unit, [self._session])] = key

    def next_result(self) -> tuple[Hashable, JobResult]:
        """A task that has ended."""
        while not (ended := self._ray.wait(list(self._flying), timeout=SECONDS_TO_WARN)[0]):
            if not self._ray.cluster_resources().get("CPU", 0):
                log.warning("effft: the cluster has no node that could take a trial; waiting for one.")
        key = self._flying.pop(ended[0])
        try:
            return key, self._ray.get(ended[0])
        except self._ray.exceptions.RayError as error:
            said = redact(" ".join(str(error).split()))[:300]
            return key, JobResult(float("nan"), {}, f"no worker of the cluster lived through it: {said}")

    def close(self) -> None:
        """Leave the cluster, which ends what our workers have in hand; end it where it is our own."""
        self._ray.shutdown()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def _way_to(address: str) -> Iterator[None]:
    """What Ray has no option for: to keep to 127.0.0.1, to give an address up after one try, and to be brief.

    It turns an address of 127.0.0.1 into the machine's own, unless it thinks that machines of this kind have no
    clusters; a cluster of our own, or one that listens there alone, is then neither made nor found.
    """
    from ray._private import ray_constants, services, worker

    before = ray_constants.ENABLE_RAY_CLUSTER, ray_constants.NUM_REDIS_GET_RETRIES
    worker.print_to_stdstream = _say
    try:
        if address == "local":
            ray_constants.ENABLE_RAY_CLUSTER = False
        else:
            ray_constants.NUM_REDIS_GET_RETRIES = 1
            found = services.canonicalize_bootstrap_address(address)
            if found and (said := refused(found)):  # also where `auto` finds the traces of a cluster that is no more
                if address == "auto" or refused(address):
                    raise nobody(address, said)
                ray_constants.ENABLE_RAY_CLUSTER = False
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER, ray_constants.NUM_REDIS_GET_RETRIES = before


def _say(data: dict[str, Any], **_more: object) -> None:
    """The first sentence of what the cluster reports; Ray would print it with pages of a node's log."""
    said = " ".join(" ".join(map(str, data.get("lines", ()))).split())
    log.warning("effft: the cluster says: %s.", redact(said.split(". ")[0][:200].rstrip(".")))


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep our answer to SIGTERM: Ray's own would end us without a word."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _code() -> dict[str, Any]:
    """Our packages as they are here; no token, which the cluster's pages would show."""
    import effft

    kept = {name: os.environ[name] for name in ("HF_HUB_OFFLINE",) if name in os.environ}
    return {"py_modules": [str(Path(str(effft.__file__)).parent)], "excludes": ["__pycache__"], "env_vars": kept}


_SESSION: "list[Session]" = []
"""A worker process's own."""


def work(unit: TrainingJob, session: list[Any]) -> JobResult:
    """What a worker does. session: a reference in a list, so that Ray does not fetch it again for every unit."""
    if not _SESSION:
        import ray

        os.environ.pop("MLFLOW_RUN_ID", None)
        _SESSION.append(ray.get(session[0]))
    return measure(unit, _SESSION[0])
