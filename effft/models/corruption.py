"""Whether a model's files are all there and whole: what a broken download or a full disk leaves behind."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

INDEX = "model.safetensors.index.json"


def find_corruption(folder: Path) -> str:
    """What is wrong with the files of a folder, in words that follow its name; '' where nothing is."""
    begun = sorted(folder.rglob("*.incomplete"))
    if begun:
        return f"its download is not whole ({begun[0].name} in {begun[0].parent})"
    try:
        named = set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values())
    except FileNotFoundError:
        named = set()
    except (OSError, ValueError, KeyError, AttributeError) as error:
        return f"{INDEX} in it is damaged ({error})"
    absent = sorted(name for name in named if not (folder / name).is_file())
    if absent:
        return f"{absent[0]} is missing, which {INDEX} names"
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt"):
                pass
        except (OSError, SafetensorError) as error:
            return f"{path.name} in it is damaged or cut short ({error})"
    return ""


def describe_partial_cache(name: str) -> str:
    """What the hub's cache has of a model that cannot be loaded from it, in words; '' where it has nothing."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    if not folder.is_dir():
        return ""
    faults = [find_corruption(place) for place in (folder, *sorted(folder.glob("snapshots/*")))]
    return next((fault for fault in faults if fault), "files are missing")
