"""How a command ends: one sentence on stderr and an exit code, whatever happened.

0 done, 1 a failure while running, 2 bad input, 130 Ctrl-C, 143 SIGTERM.
"""

import os
import sys
import traceback
from collections.abc import Sequence

import click

from effft.cli.app import app
from effft.errors import EffftError, InputError, nearest
from effft.redaction import redact

INTERRUPTED = 130


def run_command_line(arguments: Sequence[str]) -> int:
    """Run `effft` with these arguments; return the exit code."""
    from effft.tracking.tracker import sigterm_exits

    words = [word for word in arguments if word != "--traceback"]
    try:
        check_distributed_launch(words)
        with sigterm_exits():
            code = app.main(words, prog_name="effft", standalone_mode=False)
            return code if isinstance(code, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.UsageError as error:
        return print_error(usage_sentence(error), 2)
    except EffftError as error:
        return print_error(str(error), error.exit_code)
    except PermissionError as error:  # a path that was given; what a run writes has sentences of its own
        return print_error(f"no permission for {error.filename}; name another place, or have it opened for you.", 2)
    except (click.Abort, KeyboardInterrupt):
        return print_error("stopped by Ctrl-C.", INTERRUPTED)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
        return print_error("stopped by SIGTERM.", code) if code > 128 else code
    except Exception as error:
        return unexpected(error, arguments)


def is_distributed_launch() -> bool:
    """Whether a launcher started this process together with others."""
    return os.environ.get("WORLD_SIZE", "1") not in ("", "1")


def check_distributed_launch(words: Sequence[str]) -> None:
    """Several processes launched together (`accelerate launch`) can share the work of one run, and of nothing else."""
    if is_distributed_launch() and "run" not in words[:1]:
        raise InputError(
            f"{os.environ['WORLD_SIZE']} processes were launched together, which serves one run "
            "(`accelerate launch -m effft run ...`); "
            f"start `effft {' '.join(words[:1])}` once, without a launcher."
        )


def print_error(sentence: str, code: int) -> int:
    """One line on stderr, without secrets; returns the exit code. Bad input all processes of a run see; one says so."""
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
    """Type and message in one sentence; the whole traceback only where it was asked for."""
    if "--traceback" in arguments or os.environ.get("EFFFT_TRACEBACK", "") not in ("", "0"):
        sys.stderr.write(redact("".join(traceback.format_exception(error))))
    message = " ".join(str(error).split())[:500] or "no message"
    return print_error(f"{type(error).__name__}: {message} (EFFFT_TRACEBACK=1 shows where.)", 1)
