"""What running gateways tell on their internal listeners."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.cli.common import WRONG, fail

_SECONDS: Final = 30.0


async def scrape(urls: Sequence[str]) -> list[str]:
    """The metrics of each in Prometheus' text format; exits with 2 where there are none."""
    import aiohttp

    texts = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS)) as session:
        for url in urls:
            try:
                async with session.get(url) as answer:
                    answer.raise_for_status()
                    texts.append(await answer.text())
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                raise fail(f"no metrics at {url}: {type(error).__name__}", WRONG) from None
    return texts
