"""The main table of the report, and what its columns mean."""

from collections.abc import Iterator
from dataclasses import replace

from effft.reports.blocks import Part, Text
from effft.reports.data import ReportData
from effft.reports.results import results_table

ROUGH = 5
"""Distinct runs below which an interval is called rough."""


def main_part(material: ReportData, backbone: str) -> Iterator[Part]:
    """The table of one backbone, with reference rows, and what its columns mean."""
    yield replace(results_table(material, backbone).block(intervals=True), key=f"main-{backbone}")
    yield Text(
        (
            f"Mean ± standard deviation over distinct runs, and a 95 % bootstrap interval over seed x data_seed of "
            f"{material.primary}; gap = in domain minus the mean of the OOD sets; costs are medians. “At chance” means "
            f"that the interval holds what guessing gets. An interval from fewer than {ROUGH} runs is rough.",
        )
    )
