"""`python -m reports`, which is `python -m effft reference-report`."""

import sys

from effft.cli.ending import run_command_line

if __name__ == "__main__":
    sys.exit(run_command_line(["reference-report", *sys.argv[1:]]))
