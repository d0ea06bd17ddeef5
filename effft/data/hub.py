"""Rows from the Hugging Face hub, or from a text file at an address; `datasets` keeps them in its cache.

Also what models need of the hub: whether it answers, why it refuses, and whether what came is what it has.
"""

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
import urllib.request
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from effft.data.files import data_limit, too_large
from effft.data.table import SourceRow, Table
from effft.errors import InputError
from effft.progress import current_display

ANSWER_SECONDS = 5.0
"""Seconds to wait for a host before only the cache is asked."""

QUIET_SECONDS = 2.0
"""A download that takes longer shows how far it is."""


def read_hub(name: str, config: str, split: str, revision: str) -> Table:
    """The rows of one split of a hub data set. Class indices become class names where the data set has them.

    Raises:
        InputError: not reachable and not in the cache, or no such data set, config, split or revision.
    """
    from huggingface_hub import constants

    _must_be_remote(name)
    part = ", ".join(word for word in (config, split) if word)
    origin = f"{name} ({part}) @ {revision or 'main'}"
    with checked_downloads():
        return _load(
            constants.ENDPOINT, origin, name, config or None, split=split or "train", revision=revision or None
        )


def _must_be_remote(name: str) -> None:
    """`datasets` would take a folder of that name, or the files of the current one, for the hub's."""
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES as FORMATS

    if name in FORMATS or Path(name).exists():
        what = "a file format" if name in FORMATS else "also a file or folder here"
        raise InputError(f"hub {name!r}: this is {what}, and a hub source reads the hub alone; name files with `file`.")


def read_url(url: str, delimiter: str) -> Table:
    """The rows of a delimited text file with a header, without quoting, at an address.

    Raises:
        InputError: not reachable and not in the cache.
    """
    if not url.startswith("https://"):
        raise InputError(f"url {url!r}: only https addresses are read.")
    form = {"delimiter": delimiter or "\t", "quoting": 3, "dtype": "str", "keep_default_na": False}
    return _load(url, url, "csv", None, data_files=url, split="train", **form)


def _load(host: str, origin: str, *place: str | None, **options: Any) -> Table:
    import datasets

    online = reachable(host)
    try:
        with contextlib.nullcontext() if online else _offline():
            data = datasets.load_dataset(*place, **options)  # nosec B615 # the task file pins it (`revision`)
    except Exception as error:  # the libraries below raise a dozen kinds
        why = refusal(error) if online else f"{host} is not reachable and it is not in the cache"
        raise InputError(f"{origin} could not be read: {why}") from None
    if data.data.nbytes > data_limit():
        raise too_large(origin, data_limit())
    names = {key: getattr(feature, "names", None) for key, feature in data.features.items()}
    columns = [_named(data[key], names[key]) for key in data.column_names]

    def read() -> Iterator[SourceRow]:
        for number, values in enumerate(zip(*columns, strict=True)):
            yield SourceRow(number, dict(zip(data.column_names, values, strict=True)))

    return Table(origin, tuple(data.column_names), read)


def _named(values: Any, names: list[str] | None) -> list[Any]:
    if names is None:
        return list(values)
    return [names[v] if isinstance(v, int) and 0 <= v < len(names) else v for v in values]


def refusal(error: BaseException) -> str:
    """Why the hub did not give something, as a clause with a remedy; looks through the errors that led to this one."""
    from huggingface_hub import constants, errors

    chain = _causes(error)
    status = _status(chain)
    if any(isinstance(e, errors.GatedRepoError) for e in chain):
        return (
            f"access to it is restricted; ask for it on its page at {constants.ENDPOINT} and give the token of your "
            "account (`export HF_TOKEN=...`, or `hf auth login`)"
        )
    if any(isinstance(e, errors.RevisionNotFoundError) for e in chain):
        return "it has no such revision; name another branch, tag or commit, or leave it out for the main branch"
    if status == 429:
        return (
            "the hub takes no more requests at the moment; wait some minutes, or give a token (`export HF_TOKEN=...`)"
        )
    if status >= 500:
        return f"the hub has a fault of its own (status {status}); try again later"
    if status in (401, 403) or any(isinstance(e, errors.RepositoryNotFoundError) for e in chain):
        return (
            "the hub knows no such name, or it is private; check the spelling, or give a token (`export HF_TOKEN=...`)"
        )
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


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
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it warns about every attempt
    try:
        info = HfApi().model_info(name, revision=revision or None, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or () if "/" not in file.rfilename}
        files = wanted(sizes)
        place = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
        there = place / "snapshots" / str(info.sha)
        missing = sum(sizes.get(file, 0) for file in files if not (there / file).exists())
        with shown_download(f"{name} @ {str(info.sha)[:12]}", missing, place), checked_downloads():
            return Path(snapshot_download(name, revision=revision or None, allow_patterns=[*map(glob.escape, files)]))
    except Exception as error:
        status = _status(_causes(error))
        refused = isinstance(error, InputError) or (400 <= status < 500 and status != 429)
        if cached is None or refused or not _is_whole(cached, wanted):
            raise
        return cached


def _is_whole(folder: Path, wanted: Callable[[Collection[str]], list[str]]) -> bool:
    files = wanted(os.listdir(folder))
    return bool(files) and all((folder / file).exists() for file in files)


def cached_model(name: str, revision: str) -> Path | None:
    """The folder of a model in the hub's cache; None where its configuration is not there."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(name, "config.json", revision=revision or "main")
    return Path(path).parent if isinstance(path, str) else None


@contextlib.contextmanager
def checked_downloads() -> Iterator[None]:
    """Compare every large file that the hub's cache gets while this is open with the hash that the hub gave for it.

    Raises:
        InputError: a file is not what the hub has; it is removed, so that nobody reads it later.
    """
    from huggingface_hub import constants

    begun = time.time()
    yield
    for blob in Path(constants.HF_HUB_CACHE).glob("*/blobs/*"):
        if not re.fullmatch("[0-9a-f]{64}", blob.name) or blob.stat().st_mtime < begun - 1:
            continue
        with blob.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != blob.name:
            blob.resolve().unlink(missing_ok=True)
            blob.unlink(missing_ok=True)
            repository = blob.parent.parent.name.partition("--")[2].replace("--", "/")
            raise InputError(
                f"a file of {repository} was damaged on its way from the hub (its SHA-256 begins with {digest[:8]}, "
                f"not {blob.name[:8]}) and has been removed from the cache; run the command again."
            )


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
    request = urllib.request.Request(address, method="HEAD")  # noqa: S310 - https, or the user's own endpoint
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS):  # noqa: S310 # nosec B310 # as above
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Only the cache is asked while this is open."""
    import datasets
    from huggingface_hub import constants

    before = (datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE)
    datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before
