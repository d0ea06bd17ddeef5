"""`python -m effft`, and the console script `effft`."""

import atexit
import os
import sys

from effft.cli.exit_codes import is_distributed_launch, run_command_line


def main() -> None:
    """Run the command line and leave with its exit code."""
    code = run_command_line(sys.argv[1:])
    if (
        is_distributed_launch()
    ):  # torch's threads abort now and then as the interpreter ends beside others, when all is done
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
