"""A command that crashes, in a process of its own: it says where and as what, and quotes nothing."""

import re
import subprocess
import sys

WORDS = "+8613907654321 Vogelsang"
CRASHING = f"""
import sys
from gateway import cli

@cli.app.command()
def crash():
    try:
        int({WORDS!r})
    except ValueError as error:
        raise RuntimeError({WORDS!r}) from error

sys.argv = ["reminder-gateway", "crash"]
cli.main()
"""


def test_a_crash_quotes_nothing() -> None:
    ran = subprocess.run([sys.executable, "-c", CRASHING], check=False, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout) == (70, "")
    assert re.fullmatch(
        r"reminder-gateway crashed: error=RuntimeError causes=\['ValueError'\] at=gateway\.cli:\d+\n", ran.stderr
    )
