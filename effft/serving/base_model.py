"""The pre-trained model under a saved one: pinned by reference, or copied when it is small."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from effft.disk import file_digest
from effft.errors import InputError
from effft.models.backbone import Backbone
from effft.models.files import PACKAGED, is_made, local_place, weights_digest, with_weights
from effft.serving.manifest import BaseReference

SMALL = 100_000_000  # Bytes below which the base goes inside the saved model.

WANTED = ("*.json", "*.safetensors", "*.model", "*.txt", "*.codes", "*.bpe", "*.spm", "*.jinja")
"""Configuration, weights, tokenizer, chat template: what a transformers folder is made of."""

PLACE = "EFFFT_BASE"  # Environment variable: the folder of the base on this machine, where it is not where it was.


def files_of(folder: Path) -> list[Path]:
    """The files of a transformers folder, sorted by name."""
    return sorted({path for pattern in WANTED for path in folder.glob(pattern) if path.is_file()})


def digest_of(folder: Path, without: str = "") -> str:
    """SHA-256 over names and contents of a transformers folder. without: a suffix of files that do not count."""
    state = hashlib.sha256()
    for path in files_of(folder):
        if path.suffix == without:
            continue
        state.update(path.name.encode() + b"\0" + bytes.fromhex(file_digest(path)))
    return state.hexdigest()


def pin(backbone: Backbone, folder: Path) -> BaseReference:
    """A reference to the backbone's base; a small one is copied to `folder`/base."""
    name, source = backbone.name, backbone.folder
    assert source is not None
    if sum(path.stat().st_size for path in files_of(source)) < SMALL:
        inside = folder / "base"
        inside.mkdir(parents=True)
        for path in files_of(source):
            shutil.copyfile(path, inside / path.name)
        return BaseReference(kind="inside", name=name, revision=backbone.revision)
    place = local_place(name)
    if place is None:
        return BaseReference(kind="hub", name=name, revision=backbone.revision)
    where = name if name in PACKAGED else str(place.resolve())
    return BaseReference(kind="folder", name=name, path=where, sha256=next(_digests(where, place)))


def _digests(name: str, place: Path) -> Iterator[str]:
    """What a record may hold as the digest of a local base, today's first."""
    if is_made(name):
        yield weights_digest(name)  # as the last bits of what is made here may differ
        return
    whole = with_weights(place, name)
    yield digest_of(whole)
    yield digest_of(whole, ".jinja")  # records of before chats hold no template


def locate(base: BaseReference, folder: Path) -> tuple[str, str]:
    """Name and revision to load the base by, checked against its hash."""
    if base.kind == "inside":
        return str(folder / "base"), ""
    given = os.environ.get(PLACE, "")
    if base.kind == "hub" and not given:
        return base.name, base.revision
    name = given or base.path
    place = local_place(name)
    if place is None:
        raise InputError(
            f"the base of this model is {base.name!r}, which was at {base.path or 'the hub'} and is not at {name}; "
            f"set {PLACE} to its folder or GGUF file."
        )
    if base.sha256 and base.sha256 not in _digests(name, place):
        raise InputError(
            f"{name} holds another model than {base.name!r}: its SHA-256 is not {base.sha256[:12]}...; "
            f"set {PLACE} to the folder of the right one."
        )
    return name, ""
