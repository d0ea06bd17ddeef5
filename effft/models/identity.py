"""The identity of a model: a digest of its weights' files, whatever the path or the name that leads to them."""

import hashlib
from pathlib import Path

from effft.models.pretrained import BUILT_IN

WHOLE_BYTES = 1 << 30
"""Files up to this size are read whole; larger ones in `SAMPLES` evenly spaced pieces of `PIECE_BYTES`."""

SAMPLES = 512
PIECE_BYTES = 1 << 16


def weights_digest(name: str, revision: str = "") -> str:
    """16 hex digits over the weights' files of a built-in model, a folder, or a cached hub model.

    A hub model that is not in the cache is identified by its name and revision.
    """
    folder = BUILT_IN.get(name, Path(name).expanduser())
    if not folder.is_dir():
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(name, "config.json", revision=revision or "main")
        if not isinstance(cached, str):
            return hashlib.sha256(f"{name}@{revision}".encode()).hexdigest()[:16]
        folder = Path(cached).parent
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.safetensors.index.json")]):
        _add_file(path, digest)
    return digest.hexdigest()[:16]


def _add_file(path: Path, digest: "hashlib._Hash") -> None:
    size = path.stat().st_size
    digest.update(size.to_bytes(8, "big"))
    with path.open("rb") as file:
        if size <= WHOLE_BYTES:
            digest.update(hashlib.file_digest(file, "sha256").digest())
            return
        for sample in range(SAMPLES):
            file.seek((size - PIECE_BYTES) * sample // (SAMPLES - 1))
            digest.update(file.read(PIECE_BYTES))
