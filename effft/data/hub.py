"""Rows from the Hugging Face hub, or from a text file at an address; `datasets` keeps them in its cache.

Also what models need of the hub: whether it answers, why it refuses, and whether what came is what it has.
"""

import contextlib
import hashlib
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from effft.data.files import data_limit, too_large
from effft.data.table import SourceRow, Table
from effft.errors import InputError

ANSWER_SECONDS = 5.0
"""Seconds to wait for a host before only the cache is asked."""


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

    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    status = next((e.response.status_code for e in chain if isinstance(e, errors.HfHubHTTPError)), 0)
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


def cached_commit(name: str, revision: str) -> str:
    """The commit of a model's configuration in the hub's cache; '' where it is not there, as for a local folder."""
    from huggingface_hub import try_to_load_from_cache

    if Path(name).is_dir():
        return ""
    path = try_to_load_from_cache(name, "config.json", revision=revision or "main")
    return Path(path).parent.name if isinstance(path, str) else ""


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
            blob.unlink()
            repository = blob.parent.parent.name.partition("--")[2].replace("--", "/")
            raise InputError(
                f"a file of {repository} was damaged on its way from the hub (its SHA-256 begins with {digest[:8]}, "
                f"not {blob.name[:8]}) and has been removed from the cache; run the command again."
            )


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
