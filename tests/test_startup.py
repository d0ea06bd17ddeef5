"""`--help` answers without the heavy libraries."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "mlflow", "optuna", "datasets", "peft", "plotly", "pandas", "sklearn", "scipy")


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["run", "lora", "--help"], ["strategies", "--help"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys\nfrom effft.__main__ import main\n"
        f"sys.argv = ['effft', *{words!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("HEAVY []")
