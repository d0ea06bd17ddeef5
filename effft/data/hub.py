"""The Hugging Face hub: whether it answers, why it refuses, whether what came is what it has; the files of models."""

import contextlib
import functools
import glob
import hashlib
import logging
import os
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TypeVar

from effft.errors import InputError
from effft.progress import current_display, say

T = TypeVar("T")

ANSWER_SECONDS = 5.0  # Seconds to wait for a host before only the cache is asked.
SILENT_SECONDS = 8  # Seconds without a byte after which a download is begun again where it was.
LONGEST_WAIT = 15  # Seconds to wait at most where the hub asks for patience.
QUIET_SECONDS = 2.0  # A download that takes longer shows how far it is.


def cache_place(kind: str, name: str) -> Path:
    """The folder of a repository in the hub's cache."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"{kind}--{name.replace('/', '--')}"


def patiently(ask: Callable[[], T]) -> T:
    """Ask the hub again some times where it is busy or has a fault, as the library does for files only."""
    for seconds in (1, 2, 4):
        try:
            return ask()
        except Exception as error:
            if is_final(error):
                raise
            response = getattr(error, "response", None)
            told = str(response.headers.get("Retry-After", "")) if response is not None else ""
            time.sleep(min(int(told) + 1, LONGEST_WAIT) if told.isdigit() else seconds)
    return ask()


def refusal(error: BaseException, page: str) -> str:
    """Why the hub did not give what stands at `page` there, as a clause with a remedy."""
    from huggingface_hub import constants, errors

    chain = _causes(error)
    status = _status(chain)
    if any(isinstance(e, errors.GatedRepoError) for e in chain) or "gated dataset" in str(error):
        return (
            f"access to it is restricted; ask for it at {constants.ENDPOINT}/{page} and give the token of your account "
            "(`export HF_TOKEN=...`, or `hf auth login`)"
        )
    if any(isinstance(e, errors.RevisionNotFoundError) for e in chain):
        return "it has no such revision; name another branch, tag or commit, or leave it out for the main branch"
    if status == 429:
        return (
            "the hub takes no more requests at the moment; wait some minutes, or give a token (`export HF_TOKEN=...`)"
        )
    if status >= 500:
        return f"the hub has a fault of its own (status {status}); try again later"
    if status in (401, 403, 404) or any(isinstance(e, errors.RepositoryNotFoundError) for e in chain):
        return (
            "the hub knows no such name, or it is private; check the spelling, or give a token (`export HF_TOKEN=...`)"
        )
    if any(kind.__name__ == "TransportError" for e in chain for kind in type(e).__mro__):  # of the library for HTTP
        return "the connection broke off again and again; run the command again, which goes on where it was"
    if str(error).startswith("Config name is missing"):  # of `datasets`, which lists them in its next line
        known = str(error).splitlines()[1].partition(": ")[2][:200]
        return f"it has several configurations, {known}; name one in a task file, as `config` beside `hub`"
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def is_final(error: BaseException) -> bool:
    """Whether the hub refused; otherwise it is away or has a fault, and a copy in the cache may serve."""
    return 400 <= (status := _status(_causes(error))) < 500 and status not in (408, 429)


def _causes(error: BaseException) -> list[BaseException]:
    """The error and those that led to it."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    return chain


def _status(chain: list[BaseException]) -> int:
    """What the hub answered; 0 where it did not."""
    from huggingface_hub.errors import HfHubHTTPError

    return next((e.response.status_code for e in chain if isinstance(e, HfHubHTTPError)), 0)


def fetch_model(name: str, revision: str, wanted: Callable[[Collection[str]], list[str]]) -> Path | None:
    """The folder of a model in the hub's cache, with the wanted files; None where the hub is away and it is not there.

    Args:
        name: Hub id.
        revision: '' is the main branch.
        wanted: Called with the names of the files at the top of the repository; returns those to fetch.

    Raises:
        InputError: a file is not what the hub has.
        Exception: what the hub refuses, unless it has a fault of its own and the cache has a copy.
    """
    from huggingface_hub import HfApi, constants, snapshot_download

    cached = cached_model(name, revision)
    if not reachable(constants.ENDPOINT):
        return cached
    prepare_library()
    try:
        info = patiently(lambda: HfApi().model_info(name, revision=revision or None, files_metadata=True))
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or () if "/" not in file.rfilename}
        files = wanted(sizes)
        place = cache_place("models", name)
        there = place / "snapshots" / str(info.sha)
        missing = sum(sizes.get(file, 0) for file in files if not (there / file).exists())
        with shown_download(f"{name} @ {str(info.sha)[:12]}", missing, place), checked_downloads(place):
            return Path(snapshot_download(name, revision=revision or None, allow_patterns=[*map(glob.escape, files)]))
    except Exception as error:
        if cached is None or isinstance(error, InputError) or is_final(error) or not _is_whole(cached, wanted):
            raise
        say(f"{name}: {refusal(error, name)}; the copy in the cache is taken ({cached.name[:12]})")
        return cached


def _is_whole(folder: Path, wanted: Callable[[Collection[str]], list[str]]) -> bool:
    files = wanted(os.listdir(folder))
    return bool(files) and all((folder / file).exists() for file in files)


def cached_model(name: str, revision: str) -> Path | None:
    """The folder of a model in the hub's cache; None where its configuration is not there."""
    from huggingface_hub import try_to_load_from_cache

    for file in ("config.json", "adapter_config.json"):
        path = try_to_load_from_cache(name, file, revision=revision or "main")
        if isinstance(path, str):
            return Path(path).parent
    return None


@contextlib.contextmanager
def checked_downloads(place: Path) -> Iterator[None]:
    """Compare every large file that comes to `place` while this is open with the hash that the hub gave for it.

    Raises:
        InputError: a file is not what the hub has; it is removed, so that nobody reads it later.
    """
    begun = time.time()
    yield
    for blob in place.glob("blobs/*"):
        if not re.fullmatch("[0-9a-f]{64}", blob.name) or blob.stat().st_mtime < begun - 1:
            continue
        with blob.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != blob.name:
            blob.resolve().unlink(missing_ok=True)
            blob.unlink(missing_ok=True)
            repository = place.name.partition("--")[2].replace("--", "/")
            raise InputError(
                f"a file of {repository} was damaged on its way from the hub (its SHA-256 begins with {digest[:8]}, "
                f"not {blob.name[:8]}) and has been removed from the cache; run the command again."
            )


def prepare_library() -> None:
    """No bars and no warning about every attempt (`shown_download` shows what comes); six attempts in a minute."""
    from huggingface_hub import constants
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if "HF_HUB_DOWNLOAD_TIMEOUT" not in os.environ:
        constants.HF_HUB_DOWNLOAD_TIMEOUT = SILENT_SECONDS
    for library in ("huggingface_hub", "datasets"):
        logging.getLogger(library).setLevel(logging.ERROR)
    disable_progress_bars()


@contextlib.contextmanager
def shown_download(what: str, size: int, place: Path) -> Iterator[None]:
    """Say what will be fetched (`size` bytes), and after two seconds again and again how much has come to `place`."""
    display, ended = current_display(), threading.Event()
    if display is None or size <= 0:
        yield
        return

    def held() -> int:
        return sum(file.stat().st_size for file in (place / "blobs").glob("*") if file.exists())

    def watch() -> None:
        while not ended.wait(QUIET_SECONDS):
            display(f"fetch {what} (MB)", (held() - before) // 1_000_000, -(-size // 1_000_000))

    before, watcher = held(), threading.Thread(target=watch, daemon=True)
    display.line(f"fetching {size / 1e6:,.1f} MB of {what} into {place}")
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


@functools.cache
def reachable(address: str) -> bool:
    """Whether the host answers at all, whatever it says; `datasets` alone would retry for half a minute."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    parts = urllib.parse.urlsplit(address)
    host = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()  # without user and password
    request = urllib.request.Request(host, method="HEAD")  # noqa: S310 - https, or the user's own endpoint
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS):  # noqa: S310 # nosec B310 # as above
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False
