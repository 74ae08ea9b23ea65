"""A process that is killed, as far as its ledger goes: what is on disk at that moment is all that the next one finds."""

from __future__ import annotations

import shutil
from pathlib import Path


def keep_what_is_on_disk(ledger_file: Path) -> None:
    """Set the ledger aside as it lies there now."""
    image = ledger_file.with_name("killed")
    shutil.rmtree(image, ignore_errors=True)
    image.mkdir()
    for file in ledger_file.parent.glob("ledger.sqlite*"):
        shutil.copy(file, image)


def restore(ledger_file: Path) -> None:
    """Put the ledger that was set aside, if one was, in the place of the one that was written to since."""
    image = ledger_file.with_name("killed")
    if not image.exists():
        return
    for file in ledger_file.parent.glob("ledger.sqlite*"):
        file.unlink()
    for file in image.iterdir():
        shutil.move(file, ledger_file.parent)
    image.rmdir()
