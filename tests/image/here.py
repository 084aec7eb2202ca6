"""One replay for all tests of a run, in a directory that somebody else may enter."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from gateway.dev.host import Home
from tests.image.replay import Image, Replay

ROOT = Path(__file__).parents[2]


@contextmanager
def replayed() -> Iterator[Image]:
    with closing(Home("image")) as home:
        yield Replay(ROOT, home.path / "image").run()
