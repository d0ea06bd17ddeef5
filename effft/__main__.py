"""`python -m effft`, and the console script `effft`."""

import os
import signal
import sys

from effft.garbage import expect_libraries


def main() -> None:
    """Run the command line and leave with its exit code; Ctrl-C before it has begun to listen is no traceback."""
    try:
        run()
    except KeyboardInterrupt:
        sys.stderr.write("effft: stopped by Ctrl-C.\n")
        sys.exit(130)


def run() -> None:
    """Listen to signals, run, and leave with the exit code."""
    ignore_current_folder()
    expect_libraries()
    from effft.cli.exit_codes import is_distributed_launch, run_command_line
    from effft.cli.streams import flush_streams, protect_streams

    protect_streams()
    code = run_command_line(sys.argv[1:])
    if code > 128:  # stopped: a second Ctrl-C must not break the end of the interpreter, which takes a second
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            signal.signal(getattr(signal, name, signal.SIGINT), signal.SIG_IGN)
    code = flush_streams(code)
    if is_distributed_launch():
        import logging

        # Threads of torch.distributed now and then abort the interpreter's shutdown, after all work is done: skip it.
        logging.shutdown()
        os._exit(code)
    sys.exit(code)


def ignore_current_folder() -> None:
    """Remove the current folder, which `python -m` puts first on the path: a `random.py` there would be imported."""
    here = os.getcwd()
    if sys.path[:1] == [here] and here != os.path.dirname(os.path.dirname(os.path.abspath(__file__))):
        del sys.path[0]


if __name__ == "__main__":
    main()
