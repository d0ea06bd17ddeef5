"""What can be said of a Ray cluster before it is joined; nothing heavy is imported."""

import socket
from importlib.util import find_spec

from effft.errors import InputError
from effft.redaction import redact

SECONDS_TO_CONNECT = 3.0


def check_ray(executor: str, address: str, gpus: float) -> None:
    """Whether Ray, where it is asked for, is installed, somebody answers at its address, and the share of a GPU is one.

    Raises:
        InputError: with the remedy.
    """
    if executor != "ray":
        if gpus:
            raise InputError(f"ray_gpus={gpus:g} counts with --executor ray only.")
        return
    if not 0 <= gpus <= 1:
        raise InputError(f"ray_gpus={gpus:g}: a trial takes a share of one GPU, from 0 to 1 (flag --ray-gpus).")
    if find_spec("ray") is None:
        raise InputError("executor=ray: Ray is not installed: pip install '.[ray]', here and on every node.")
    if address not in ("auto", "local"):
        _must_answer(address)


def _must_answer(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in address:
        raise InputError(
            f"ray_address={address}: must be auto (the cluster of this machine), local (one of its own), or host:port "
            "(flag --ray-address)."
        )
    if said := refused(address):
        raise nobody(address, said)


def refused(address: str) -> str:
    """Why nobody answers at host:port; '' where somebody does."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_CONNECT).close()
    except (OSError, OverflowError) as error:
        return str(error)
    return ""


def nobody(address: str, said: str) -> InputError:
    """What to say where there is no cluster to join."""
    return InputError(
        f"ray_address={address}: no cluster can be joined there ({redact(said)}); `ray start --head` starts "
        "one on this machine, and --ray-address local needs none."
    )
