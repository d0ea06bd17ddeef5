"""Answering a file of texts in batches, and keeping what is done when a later row is bad."""

from collections.abc import Callable
from itertools import islice

from effft.errors import InputError
from effft.serving.load import SavedModel
from effft.serving.rows import AnswerWriter, TextRow, TextRows

BATCH = 256
"""Rows answered together."""


def answer_file(model: SavedModel, rows: TextRows, writer: AnswerWriter, watch: Callable[[int, int], None]) -> int:
    """Answer every row; returns their number. watch: called with (bytes read, bytes in all).

    Raises:
        InputError: a bad row, with its line; the rows before it are written.
    """
    source, count = iter(rows), 0
    while True:
        batch: list[TextRow] = []
        fault: InputError | None = None
        try:
            for row in islice(source, BATCH):
                batch.append(row)
        except InputError as error:
            fault = error
        if batch:
            writer.write(batch, model.answers([row.texts for row in batch]))
            count += len(batch)
            watch(rows.done, rows.size)
        if fault is not None:
            kept = f" The {count} rows before it are answered." if count else ""
            raise InputError(f"{fault}{kept}")
        if not batch:
            return count
