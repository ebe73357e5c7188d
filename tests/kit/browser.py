"""A real browser without a screen."""

import os
import pathlib
import subprocess

from kit.program import needs

BROWSER_S = 60


def browse(directory: pathlib.Path, url: str, *options: str) -> tuple[str, str]:
    """Open a page in a browser without a screen; return its document and what the browser says."""
    program = needs("chromium", "chromium")
    fixed = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"]
    done = subprocess.run(
        [program, *fixed, f"--user-data-dir={directory}/browser", *options, url],
        capture_output=True,
        text=True,
        timeout=BROWSER_S,
        check=True,
        env={**os.environ, "HOME": str(directory)},
    )
    return done.stdout, done.stderr
