"""Which tools a run may do without: none where they are installed, none in CI."""

import os
import shutil


def insisted() -> bool:
    """Is a run incomplete without every tool? True in CI and with REQUIRE_ALL=1."""
    return any(os.environ.get(name, "") not in ("", "0", "false") for name in ("CI", "REQUIRE_ALL"))


def required(*tools: str) -> bool:
    """May nothing stand in for these tools here? True in CI, with REQUIRE_ALL=1, and wherever they are installed."""
    return insisted() or all(map(shutil.which, tools))
