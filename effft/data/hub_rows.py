"""Rows from the Hugging Face hub, or from a text file at an address; `datasets` keeps them in its cache."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from effft.data.files import data_limit, too_large
from effft.data.hub import (
    cache_place,
    checked_downloads,
    is_final,
    patiently,
    prepare_library,
    reachable,
    refusal,
    say,
    shown_download,
)  # fmt: skip
from effft.data.table import SourceRow, Table
from effft.errors import InputError


def read_hub(name: str, config: str, split: str, revision: str) -> Table:
    """The rows of one split of a hub data set. Class indices become class names where the data set has them.

    Raises:
        InputError: not reachable and not in the cache, or no such data set, config, split or revision.
    """
    from huggingface_hub import constants

    _must_be_remote(name)
    part = ", ".join(word for word in (config, split or "train") if word)
    origin, place = f"{name} ({part}) @ {revision or 'main'}", cache_place("datasets", name)
    with checked_downloads(place):
        options = {"path": name, "name": config or None, "revision": revision or None}
        return _load(constants.ENDPOINT, origin, place, split or "train", **options)


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
    form = {"delimiter": delimiter or "\t", "quoting": 3, "keep_default_na": False}
    return _load(url, url, None, "train", path="csv", data_files=url, **form)


def _load(host: str, origin: str, place: Path | None, split: str, **options: Any) -> Table:
    """The rows as the hub or, where that is away or has a fault, the cache has them."""
    online = reachable(host)
    try:
        data, commit = _prepared(origin, place, split, online, **options)
    except Exception as error:  # the libraries below raise a dozen kinds
        why = (
            refusal(error, f"datasets/{options['path']}")
            if online
            else f"{host} is not reachable and it is not in the cache"
        )
        try:
            if not online or is_final(error):
                raise
            data, commit = _prepared(origin, place, split, False, **options)
        except Exception:
            raise InputError(f"{origin} could not be read: {why}") from None
        say(f"{origin}: {why}; the copy in the cache is taken")
    if data.data.nbytes > data_limit():
        raise too_large(origin, data_limit())
    names = {key: getattr(feature, "names", None) for key, feature in data.features.items()}
    columns = [_named(data[key], names[key]) for key in data.column_names]

    def read() -> Iterator[SourceRow]:
        for number, values in enumerate(zip(*columns, strict=True)):
            yield SourceRow(number, dict(zip(data.column_names, values, strict=True)))

    at = f" ({commit})" if re.fullmatch("[0-9a-f]{40}", commit) and commit not in origin else ""
    return Table(origin + at, tuple(data.column_names), read)


def _prepared(origin: str, place: Path | None, split: str, online: bool, **options: Any) -> tuple[Any, str]:
    """The split as `datasets` prepares it, and the commit that it is of."""
    import datasets
    from huggingface_hub import HfFileSystem

    datasets.disable_progress_bars()
    prepare_library()
    commit = _commit(options["path"], options["revision"] or "", online) if place else ""
    with contextlib.nullcontext() if online else _offline():
        builder = datasets.load_dataset_builder(**options)  # nosec B615 # the task file pins it (`revision`)
        if commit and builder.hash != commit:  # `datasets` takes any revision that its cache has
            raise LookupError(f"the cache holds another revision of it ({builder.hash[:12]})")
        size = 0
        if online and place and not Path(builder.cache_dir).is_dir():
            files = [file for part in (builder.config.data_files or {}).values() for file in part]
            size = builder.info.download_size or sum(HfFileSystem().info(file)["size"] for file in files)
        with shown_download(origin, size, place or Path()):
            builder.download_and_prepare()
        return builder.as_dataset(split=split), str(builder.hash)


def _commit(name: str, revision: str, online: bool) -> str:
    """The commit of a data set's revision, as the hub or its cache has it; '' where that is not known."""
    from huggingface_hub import HfApi, try_to_load_from_cache

    if online:
        return str(patiently(lambda: HfApi().dataset_info(name, revision=revision or None)).sha)
    readme = try_to_load_from_cache(name, "README.md", repo_type="dataset", revision=revision or "main")
    return Path(readme).parent.name if isinstance(readme, str) else revision if len(revision) == 40 else ""


def _named(values: Any, names: list[str] | None) -> list[Any]:
    if names is None:
        return list(values)
    return [names[v] if isinstance(v, int) and 0 <= v < len(names) else v for v in values]


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
