"""Rows from the Hugging Face hub, or from a file at an address; kept in the caches of `datasets` and of ours."""

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from effft.data import hub
from effft.data.files import FORMATS, Layout, open_table
from effft.data.limits import data_limit, too_large
from effft.data.table import SourceRow, Table
from effft.disk import cache_folder, written_whole
from effft.errors import InputError
from effft.progress import say


def read_hub(name: str, config: str, split: str, revision: str, layout: Layout | None = None) -> Table:
    """The rows of one split of a hub data set. Class indices become class names where the data set has them.

    layout: of csv and tsv files, where it is not what their suffix and the data set say.

    Raises:
        InputError: not reachable and not in the cache, or no such data set, config, split or revision.
    """
    from huggingface_hub import constants

    _must_be_remote(name)
    part = ", ".join(word for word in (config, split or "train") if word)
    origin, place = f"{name} ({part}) @ {revision or 'main'}", hub.cache_place("datasets", name)
    with hub.checked_downloads(place):
        options = {"path": name, "name": config or None, "revision": revision or None}
        prepared = partial(_prepared, origin, place, split or "train", options, layout or Layout())
        return _load(constants.ENDPOINT, origin, f"datasets/{name}", prepared)


def _must_be_remote(name: str) -> None:
    """`datasets` would take a folder of that name, or the files of the current one, for the hub's."""
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES as FORMATS

    if name in FORMATS or Path(name).exists():
        what = "a file format" if name in FORMATS else "also a file or folder here"
        raise InputError(
            f"hub {name!r}: this is {what}, and a hub source reads the hub alone; name a file with its "
            "ending, or run in another folder."
        )


def read_url(url: str, layout: Layout) -> Table:
    """The rows of a file at an address, read as a file of that name here; without a known suffix it is a `.txt`.

    Raises:
        InputError: not reachable and not in the cache, or not what its suffix says.
    """
    if not url.startswith("https://"):
        raise InputError(f"url {url!r}: only https addresses are read.")
    name = Path(urlsplit(url).path).name
    known = {suffix.lower() for suffix in Path(name).suffixes[-2:]} & FORMATS.keys()
    place = _kept(url, name if known else "rows.txt")

    def prepared(online: bool) -> Table:
        if online:
            import datasets

            datasets.disable_progress_bars()
            with written_whole(place) as new:
                shutil.copyfile(datasets.DownloadManager().download(url), new)
        elif not place.exists():
            raise LookupError
        return replace(open_table(place, layout), origin=url)

    return _load(url, url, "", prepared)


def _kept(origin: str, name: str) -> Path:
    """Where we keep what is needed to read a source without a network."""
    folder = cache_folder() / "sources" / hashlib.sha256(origin.encode()).hexdigest()[:32]
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def _load(host: str, origin: str, page: str, prepared: Callable[[bool], Table]) -> Table:
    """The rows as the hub or, where that is away or has a fault, the cache has them.

    prepared: reads them, from the network or (False) from the cache.
    """
    online = hub.reachable(host)
    try:
        return prepared(online)
    except InputError:
        raise
    except Exception as error:  # the libraries below raise a dozen kinds
        why = (
            hub.refusal(error, page)
            if online
            else f"{host} is not reachable and it is not in the cache; check the network"
        )
        try:
            if not online or hub.is_final(error):
                raise
            table = prepared(False)
        except Exception:
            raise InputError(f"{origin} could not be read: {why}") from None
        say(f"{origin}: {why}; the copy in the cache is taken")
        return table


def _prepared(origin: str, place: Path, split: str, options: dict[str, Any], layout: Layout, online: bool) -> Table:
    """The split as `datasets` prepares it; of delimited files the values as they stand there, which it would guess."""
    import datasets
    from huggingface_hub import HfFileSystem

    datasets.disable_progress_bars()
    hub.prepare_library()
    index = _kept(origin, "index.json")
    if not online and index.exists():
        return _delimited(origin, layout, **json.loads(index.read_text(encoding="utf-8")))
    commit = _commit(options["path"], options["revision"] or "", online)
    with contextlib.nullcontext() if online else _offline():
        builder = datasets.load_dataset_builder(**options)  # nosec B615 # the task file pins it (`revision`)
        if commit and builder.hash != commit:  # `datasets` takes any revision that its cache has
            raise LookupError(f"the cache holds another revision of it ({builder.hash[:12]})")
        parts = builder.config.data_files or {}
        is_delimited = "csv" in (builder.name, builder.info.builder_name)
        if is_delimited and (not online or split not in parts):
            raise LookupError(f"it has no split {split!r}; it has: {', '.join(parts)}")
        size = 0
        if online and not Path(builder.cache_dir).is_dir():
            files = parts[split] if is_delimited else [file for part in parts.values() for file in part]
            size = builder.info.download_size or sum(HfFileSystem().info(file)["size"] for file in files)
        with hub.shown_download(origin, size, place):
            if is_delimited:
                files = [str(file) for file in datasets.DownloadManager().download(list(parts[split]))]
                known: dict[str, Any] = {"files": files, "told": _told(builder.config), "commit": str(builder.hash)}
                known["names"] = _class_names(builder.info.features)
                with written_whole(index) as new:
                    new.write_text(json.dumps(known), encoding="utf-8")
                return _delimited(origin, layout, **known)
            builder.download_and_prepare()
        data = builder.as_dataset(split=split)
    if data.data.nbytes > data_limit():
        raise too_large(origin, data_limit())
    names = _class_names(data.features)
    columns = [[_class_name(value, names[key]) for value in data[key]] for key in data.column_names]
    return _table(origin, str(builder.hash), data.column_names, lambda: zip(*columns, strict=True))


def _told(config: Any) -> dict[str, Any]:
    """What the configuration of a data set says of its delimited files: the keys of a `Layout`."""
    header = None if config.header == "infer" else config.header is not None
    told = {"columns": config.names or config.column_names, "header": header, "quoting": config.quoting != 3}
    return told | {"delimiter": config.delimiter or ("" if config.sep == "," else config.sep)}


def _delimited(
    origin: str, layout: Layout, files: list[str], told: dict[str, Any], commit: str, names: dict[str, Any]
) -> Table:
    """The rows of a split's files, one after another."""
    if not all(Path(file).exists() for file in files):
        raise LookupError
    given = {key: value for key, value in asdict(layout).items() if value not in ((), None, "")}
    both = told | {"columns": tuple(told["columns"] or ())} | given
    tables = [open_table(Path(file), Layout(**both)) for file in files]
    columns = tables[0].columns

    def rows() -> Iterator[list[Any]]:
        for row in chain.from_iterable(tables):
            yield [_class_name(row.values.get(column), names.get(column)) for column in columns]

    return _table(origin, commit, columns, rows)


def _table(origin: str, commit: str, columns: Sequence[str], rows: Callable[[], Iterable[Sequence[Any]]]) -> Table:
    def read() -> Iterator[SourceRow]:
        for number, values in enumerate(rows()):
            yield SourceRow(number, dict(zip(columns, values, strict=True)))

    at = f" ({commit})" if re.fullmatch("[0-9a-f]{40}", commit) and commit not in origin else ""
    return Table(origin + at, tuple(columns), read)


def _commit(name: str, revision: str, online: bool) -> str:
    """The commit of a data set's revision, as the hub or its cache has it; '' where that is not known."""
    from huggingface_hub import HfApi, try_to_load_from_cache

    if online:
        return str(hub.patiently(lambda: HfApi().dataset_info(name, revision=revision or None)).sha)
    readme = try_to_load_from_cache(name, "README.md", repo_type="dataset", revision=revision or "main")
    return Path(readme).parent.name if isinstance(readme, str) else revision if len(revision) == 40 else ""


def _class_names(features: Mapping[str, Any] | None) -> dict[str, list[str] | None]:
    one = {key: getattr(feature, "feature", feature) for key, feature in (features or {}).items()}  # of a list
    return {key: getattr(feature, "names", None) for key, feature in one.items()}


def _class_name(value: Any, names: list[str] | None) -> Any:
    """The name of a class index, given as a number or in a file as its digits; of a list the names."""
    if not names:
        return value
    if isinstance(value, list):
        return [_class_name(one, names) for one in value]
    place = int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value) else value
    return names[place] if isinstance(place, int) and 0 <= place < len(names) else value


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
