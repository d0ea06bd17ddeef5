"""effft: adapt a pre-trained language model with few labelled examples, and compare the ways to do it."""

__version__ = "0.1.0"

import os

for _cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    # Compiled products, kept by shape: 1024 of them by default, 2 MB each, and batches have many shapes. LoRA on
    # OPT-125M took 900 MB instead of 500 after eight updates. torch reads this when it is loaded, so it stands here.
    os.environ.setdefault(_cache, "64")
