"""The difficulty that runs of a built-in task were made with: another one is another task, never in one mean."""

import pandas as pd

from effft.config import DIFFICULTY_FIELDS


def values_of(frame: pd.DataFrame, knob: str) -> "pd.Series[str]":
    """How the knob stood in every run; '' where the task has none."""
    name = f"param:resolved.{knob}"
    if name not in frame:
        return pd.Series("", index=frame.index, dtype=str)
    return frame[name].replace("None", "")


def with_conditions(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with `condition`: 'overlap_strength=0.5, lexicon_size=20'; '' where the task has no knobs."""
    return frame.assign(condition=condition_but(frame, ""))


def condition_but(frame: pd.DataFrame, left_out: str) -> "pd.Series[str]":
    """The condition of every run without one of its knobs."""
    said = pd.Series("", index=frame.index, dtype=str)
    for knob in DIFFICULTY_FIELDS:
        values = values_of(frame, knob)
        if knob != left_out and len(frame):
            more = (knob + "=" + values).where(values != "", "")
            said = said + more.where((said == "") | (more == ""), ", " + more)
    return said


def usual_condition(frame: pd.DataFrame) -> str:
    """The condition that the report is about: of the runs that turned no knob, else the most frequent one."""
    asked = pd.Series(False, index=frame.index)
    for knob in DIFFICULTY_FIELDS:
        if f"param:{knob}" in frame:
            asked |= ~frame[f"param:{knob}"].isin(["", "None"])
    chosen = frame["condition"][~asked] if (~asked).any() else frame["condition"]
    return str(chosen.mode().iloc[0]) if len(chosen) else ""


def turned_knobs(frame: pd.DataFrame) -> bool:
    """Whether every run of the frame had a knob turned by hand."""
    columns = [f"param:{knob}" for knob in DIFFICULTY_FIELDS if f"param:{knob}" in frame]
    return bool(columns) and bool((~frame[columns].isin(["", "None"])).any(axis=1).all())
