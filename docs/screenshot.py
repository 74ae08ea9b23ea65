"""A picture of a report for the README: `python docs/screenshot.py runs/NAME/report.html [docs/report.png]`. Needs Chromium."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

WIDTH, HEIGHT = 1200, 1650


def main(report: Path, picture: Path) -> None:
    """Show the top of the page as a desk does in light, and keep what is seen."""
    program = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
    if program is None:
        sys.exit("no Chromium here: `apt-get install chromium`")
    with tempfile.TemporaryDirectory() as profile:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--hide-scrollbars"]
        size = [f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={picture.resolve()}", f"--user-data-dir={profile}"]
        subprocess.run([program, *flags, *size, report.resolve().as_uri()], check=True, stderr=subprocess.DEVNULL, timeout=60)
    print(f"{picture}: {picture.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).with_name("report.png"))
