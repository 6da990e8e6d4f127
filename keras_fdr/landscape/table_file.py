"""The JSON file of a sweep's table."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from keras_fdr.files import write_atomically


def write_table(
    path: str | os.PathLike[str], settings: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    """Writes a table. A file of that name is replaced by a complete one.

    Args:
        path: File name or path object.
        settings: Dictionary of the settings of the sweep.
        rows: List of one dictionary for each row.
    """
    # Every row has a separate line.
    lines = ",\n".join(map(json.dumps, rows))
    text = (
        f'{{"settings": {json.dumps(settings)},\n'
        f'"checksum": "{_checksum(settings, rows)}",\n'
        f'"rows": [\n{lines}\n]}}\n'
    )
    write_atomically(path, lambda file: file.write(text.encode()))


def read_table(file: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Reads a table that `write_table` wrote.

    Args:
        file: Path object.

    Returns:
        `(settings, rows)`, as `write_table` takes them.

    Raises:
        ValueError: If the file does not hold what was written.
    """
    content = json.loads(file.read_text())
    if not isinstance(content, dict) or not {"settings", "rows"} <= set(content):
        raise ValueError("it must hold settings and rows")
    settings, rows = content["settings"], content["rows"]
    if not isinstance(settings, dict):
        raise ValueError("its settings must be a dictionary")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("its rows must be a list of dictionaries")
    # Files of older versions have no checksum. Files of the examples have more keys:
    # they say when they were made, and with what.
    if "checksum" in content and content["checksum"] != _checksum(settings, rows):
        raise ValueError("its numbers are not those that were written")
    return settings, rows


def _checksum(settings: Any, rows: Any) -> str:
    """A digest that does not depend on the layout of the file."""
    text = json.dumps([settings, rows], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
