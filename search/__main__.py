"""`python -m search --strategy lora --trials 20`, which is `python -m effft search ...`."""

import sys

from effft.cli.ending import run_command_line

if __name__ == "__main__":
    sys.exit(run_command_line(["search", *sys.argv[1:]]))
