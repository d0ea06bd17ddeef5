"""When Python frees what nobody needs: hardly ever while libraries load, whose million objects all stay."""

import gc
import traceback
from functools import cache

WHILE_LOADING = 100_000
"""New objects between two collections at the start; with Python's 700 they take a sixth of the time of a short run."""

USUAL = gc.get_threshold()


def expect_libraries() -> None:
    """Collect rarely from now on, until the first run begins."""
    gc.set_threshold(WHILE_LOADING)


def leave_libraries_out() -> None:
    """Collect as usual; what is alive now, the libraries, is not looked through again, which takes 0.3 s a run."""
    if gc.get_threshold()[0] == WHILE_LOADING:  # this process is ours, so that nothing but libraries was loaded before
        gc.freeze()
        gc.set_threshold(*USUAL)
    else:
        _freeze_once()


@cache
def _freeze_once() -> None:
    """Unless something is frozen already; asked once a process, as the answer counts its million objects."""
    if not gc.get_freeze_count():
        gc.collect()
        gc.freeze()


def release_frames(error: BaseException | None) -> None:
    """Free reference cycles and what the frames of an error and of its causes hold, which a debugger then misses."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__
    gc.collect()
