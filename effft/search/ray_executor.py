"""Units as tasks of a Ray cluster; the only importer of ray. The driver stays the one writer."""

import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
import warnings
from collections.abc import Hashable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effft.errors import InputError
from effft.redaction import redact
from effft.runs.runner import ATTEMPTS, WorkerDiedError
from effft.search.jobs import JobResult, TrainingJob, measure

if TYPE_CHECKING:
    from effft.runs.session import Session

ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_ZERO_COPY_TORCH_TENSORS": "1"}
"""No reports to anybody; weights lie once in a node's shared memory, and its workers read them there."""

LOCAL_ENVIRONMENT = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""A cluster of our own listens on 127.0.0.1 alone, as where Ray supports a single machine only."""

JOIN_ENVIRONMENT = {"RAY_NUM_REDIS_GET_RETRIES": "3"}  # Attempts to join a cluster that exists (20 by default).
SECONDS_TO_CONNECT = 3.0
SECONDS_TO_WARN = 60.0
SHORTEST_TEMP = "/tmp"  # noqa: S108 # nosec B108 # a socket's path may have 107 bytes; the folder in it is private
STORE_BYTES = 100_000_000  # Object store of a cluster of our own, beside the weights.
log = logging.getLogger(__name__)


def check_ray(executor: str, address: str, gpus: float) -> None:
    """Whether Ray, where it is asked for, is installed and answers at its address, and the share of a GPU is one."""
    if executor != "ray":
        if gpus or address != "auto":
            idle = f"ray_gpus={gpus:g}" if gpus else f"ray_address={address}"
            raise InputError(f"{idle} counts with --executor ray only.")
        return
    if not 0 <= gpus <= 1:
        raise InputError(f"ray_gpus={gpus:g}: a trial takes a share of one GPU, from 0 to 1 (flag --ray-gpus).")
    if find_spec("ray") is None:
        raise InputError("executor=ray: Ray is not installed: pip install '.[ray]', here and on every node.")
    if address in ("auto", "local"):
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in address:
        raise InputError(
            f"ray_address={address}: must be auto (the cluster of this machine), local (one of its own), or host:port "
            "(flag --ray-address)."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_CONNECT).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from None


def _no_cluster(address: str, error: Exception) -> InputError:
    reason = redact(" ".join(str(error).split())[:200].rstrip(". "))
    return InputError(
        f"ray_address={address}: no cluster can be joined there ({reason}); `ray start --head` starts one on this "
        "machine, and --ray-address local needs none."
    )


class RayTasks:
    """A unit is a task of one CPU and a share of a GPU; Ray repeats those that a worker or a node took with it.

    The session (task, training split, weights) is put into the cluster once and fetched once a node; a worker
    process builds its own from it at its first unit. Our packages travel with the job.
    """

    def __init__(self, workers: int, address: str, gpus: float, session: "Session") -> None:
        self.workers = workers
        for name, value in (ENVIRONMENT | (LOCAL_ENVIRONMENT if address == "local" else JOIN_ENVIRONMENT)).items():
            os.environ.setdefault(name, value)  # Ray reads them when it is imported
        import ray

        self._ray: Any = ray
        self._folder = ""
        self._flying: dict[Any, Hashable] = {}
        self._join(address, session)
        try:
            self._must_have(gpus)
            with warnings.catch_warnings(action="ignore"):  # of writing to what is shared: a session hands out copies
                self._session = ray.put(session)
            task: Any = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=ATTEMPTS - 1)
            self._task = task(work)
        except BaseException:
            self.close()
            raise

    def _join(self, address: str, session: "Session") -> None:
        own: dict[str, Any] = {"address": address}
        if address == "local":
            base = SHORTEST_TEMP if os.access(SHORTEST_TEMP, os.W_OK) else None
            self._folder = tempfile.mkdtemp(prefix="ray-", dir=base)
            own |= {"num_cpus": self.workers, "include_dashboard": False}
            own |= {"_temp_dir": self._folder, "object_store_memory": STORE_BYTES + 2 * session.weight_bytes}
        _shorten_messages()
        on_sigterm = signal.getsignal(signal.SIGTERM)
        try:
            self._ray.init(**own, log_to_driver=False, logging_level=logging.ERROR, runtime_env=_code())
        except (OSError, RuntimeError, ValueError, self._ray.exceptions.RayError) as error:
            self.close()
            raise _no_cluster(address, error) from None
        finally:
            if threading.current_thread() is threading.main_thread():  # Ray's own handler ends us without a word
                signal.signal(signal.SIGTERM, on_sigterm)

    def _must_have(self, gpus: float) -> None:
        there = self._ray.cluster_resources()
        if gpus > there.get("GPU", 0):
            raise InputError(
                f"ray_gpus={gpus:g}: the cluster has {there.get('GPU', 0):g} GPUs; start a node with one "
                "(`ray start --num-gpus 1`), or leave --ray-gpus at 0."
            )
        if there.get("CPU", 0) < self.workers:
            log.warning("effft: the cluster has %g CPUs for %d --workers.", there.get("CPU", 0), self.workers)

    def submit(self, key: Hashable, unit: TrainingJob) -> None:
        """Make it a task; the cluster takes as many at a time as it can."""
        self._flying[self._task.remote(unit, [self._session])] = key

    def next_result(self) -> tuple[Hashable, JobResult | WorkerDiedError]:
        """A task that has ended."""
        while not (ended := self._ray.wait(list(self._flying), timeout=SECONDS_TO_WARN)[0]):
            if not self._ray.cluster_resources().get("CPU", 0):
                log.warning("effft: the cluster has no node that could take a trial; waiting for one.")
        key = self._flying.pop(ended[0])
        try:
            return key, self._ray.get(ended[0])
        except self._ray.exceptions.RayError as error:
            return key, WorkerDiedError(f"no worker of the cluster lived through it: {error}")

    def close(self) -> None:
        """Leave the cluster, which ends what our workers have in hand; end it where it is our own."""
        self._ray.shutdown()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)


def _shorten_messages() -> None:
    """Log the first sentence of what the cluster reports; Ray has no option but to print pages of a node's log."""
    from ray._private import worker

    def log_first_sentence(data: dict[str, Any], **_more: object) -> None:
        message = " ".join(" ".join(map(str, data.get("lines", ()))).split())
        log.warning("effft: the cluster says: %s.", redact(message.split(". ")[0][:200].rstrip(".")))

    worker.print_to_stdstream = log_first_sentence


def _code() -> dict[str, Any]:
    """Our packages as they are here; no token, which the cluster's pages would show."""
    kept = {name: os.environ[name] for name in ("HF_HUB_OFFLINE",) if name in os.environ}
    return {"py_modules": [str(Path(__file__).parents[1])], "excludes": ["__pycache__"], "env_vars": kept}


_SESSION: "list[Session]" = []  # A worker process's own.


def work(unit: TrainingJob, session: list[Any]) -> JobResult:
    """What a worker does. session: a reference in a list, so that Ray does not fetch it again for every unit."""
    if not _SESSION:
        import ray

        os.environ.pop("MLFLOW_RUN_ID", None)
        _SESSION.append(ray.get(session[0]))
    return measure(unit, _SESSION[0])
