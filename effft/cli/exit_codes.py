"""How a command ends: one sentence on stderr and an exit code, whatever happened.

0 done, 1 a failure while running, 2 bad input, 129 SIGHUP, 130 Ctrl-C, 143 SIGTERM.
"""

import errno
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from effft.cli.app import app
from effft.errors import EffftError, InputError, MemoryShortError, RunError, nearest, shortened
from effft.redaction import redact

if TYPE_CHECKING:
    from effft.config import RunConfig

INTERRUPTED = 130
LONGEST_MESSAGE = 500  # Characters of an unexpected error's message.


def run_command_line(arguments: Sequence[str], command: click.Command = app) -> int:
    """Run `effft`, or another click command, with these arguments; return the exit code."""
    from effft.tracking.tracker import stop_signals

    words = [word for word in arguments if word != "--traceback"]
    try:
        check_distributed_launch(words)
        with stop_signals():
            code = command.main(words, prog_name="effft", standalone_mode=False)
            return code if isinstance(code, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.UsageError as error:
        return print_error(usage_sentence(error), 2)
    except EffftError as error:
        return print_error(str(error), error.exit_code)
    except PermissionError as error:  # a path that was given; the places a run writes to have sentences of their own
        return print_error(f"no permission for {error.filename}; name another path, or change its permissions.", 2)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            return unexpected(error, arguments)
        return print_error(f"{shortened(error.filename)}: longer than names of files can be; give a shorter one.", 2)
    except (click.Abort, KeyboardInterrupt):
        return print_error("stopped by Ctrl-C.", INTERRUPTED)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
        return print_error(f"stopped by {signal.Signals(code - 128).name}.", code) if code > 128 else code
    except Exception as error:
        return unexpected(error, arguments)


def is_distributed_launch() -> bool:
    """Whether a launcher started this process together with others."""
    return os.environ.get("WORLD_SIZE", "1") not in ("", "1")


def check_distributed_launch(words: Sequence[str]) -> None:
    """Refuse everything but `run` in processes launched together (`accelerate launch`): only one run can be shared."""
    if is_distributed_launch() and "run" not in words[:1]:
        raise InputError(
            f"{os.environ['WORLD_SIZE']} processes were launched together, which serves one run "
            "(`accelerate launch -m effft run ...`); "
            f"start `effft {' '.join(words[:1])}` once, without a launcher."
        )


def print_error(sentence: str, code: int) -> int:
    """One line on stderr, without secrets; returns the exit code. Of a distributed run, rank 0 reports bad input."""
    if code == InputError.exit_code and os.environ.get("RANK", "0") not in ("", "0"):
        return code
    click.echo("effft: " + redact(" ".join(sentence.split())), err=True)
    return code


def usage_sentence(error: click.UsageError) -> str:
    """Click's complaint with the nearest option, ending in a full stop."""
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        options = [option for option in error.ctx.command.get_params(error.ctx) if not getattr(option, "hidden", False)]
        near = nearest(error.option_name, [name for option in options for name in option.opts])
        return f"unknown option {error.option_name!r}.{near} `{error.ctx.command_path} --help` lists them."
    message = error.format_message()
    return message if message.endswith((".", "?")) else message + "."


def unexpected(error: Exception, arguments: Sequence[str]) -> int:
    """Type and message in one sentence; the traceback only where it was asked for."""
    if "--traceback" in arguments or os.environ.get("EFFFT_TRACEBACK", "") not in ("", "0"):
        sys.stderr.write(redact("".join(traceback.format_exception(error))))
    message = " ".join(str(error).split())[:LONGEST_MESSAGE] or "no message"
    return print_error(f"{type(error).__name__}: {message} (EFFFT_TRACEBACK=1 shows where.)", 1)


@contextmanager
def with_estimate(config: "RunConfig") -> Iterator[None]:
    """Add the estimate of this run to the error when memory is short."""
    from effft.models.out_of_memory import out_of_memory, release_memory

    try:
        yield
        return
    except (MemoryShortError, MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryShortError) and not out_of_memory(error):
            raise
        release_memory(error)
        remedy = "lower --max-length, take a smaller --model, or a strategy that trains fewer parameters."
        sentence = str(error) if isinstance(error, MemoryShortError) else f"memory is short; {remedy}"
    raise RunError(f"{sentence}{_estimate(config)}")  # outside of the handler, which keeps the tensors alive


def _estimate(config: "RunConfig") -> str:
    from effft.runs.estimate import Skeletons, estimate

    try:
        needs = estimate(config, Skeletons())
    except Exception:  # memory may be short for the estimate as well
        return ""
    sizes = {"weights": needs.weights, "gradients": needs.gradients, "optimizer": needs.optimizer}
    parts = ", ".join(f"{name} {size / 1e6:,.0f}" for name, size in {**sizes, "activations": needs.activations}.items())
    return f" The estimate for this run is {needs.peak / 1e6:,.0f} MB ({parts}); `effft estimate` compares strategies."
