"""`--help` answers without the heavy libraries."""

import os
import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "mlflow", "optuna", "datasets", "peft", "plotly", "pandas", "sklearn", "scipy")


@pytest.mark.parametrize(
    "words", [["--help"], ["run", "--help"], ["run", "lora", "--help"], ["compare", "--help"], ["--version"]]
)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys\nfrom effft.__main__ import main\n"
        f"sys.argv = ['effft', *{words!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("HEAVY []")


def test_the_cache_of_kernels_is_bounded_before_torch_reads_it() -> None:
    code = (
        "import os, sys\nimport effft\nassert 'torch' not in sys.modules\n"
        "print(os.environ['ONEDNN_PRIMITIVE_CACHE_CAPACITY'], os.environ['LRU_CACHE_CAPACITY'])"
    )
    clean = {k: v for k, v in os.environ.items() if not k.endswith("CACHE_CAPACITY")}
    for own, said in ({}, "64 64"), ({"LRU_CACHE_CAPACITY": "9"}, "64 9"):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=clean | own)
        assert done.stdout.strip() == said
