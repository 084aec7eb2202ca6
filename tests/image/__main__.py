"""The replay in real roots, by hand: `python -m tests.image BASE PLACE`, as root, BASE a Debian made by debootstrap
(--include=python3,python3-venv,python3-pip,ca-certificates).

Here nothing is mapped: every step runs as it is written, by chroot, in a copy of BASE.  What is left then runs as the
image's user, its root mounted read-only, with `/tmp` alone to write to: what a cluster gives it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.e2e.secrets_of import provide
from tests.image.here import ROOT
from tests.image.replay import Image, Replay

_READ_ONLY = """
set -e
mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; mount -t tmpfs -o mode=1777 tmp "$1/tmp"
mount --bind "$2" "$1/mnt"
user=$3; root=$1; shift 3
exec /usr/sbin/chroot --userspec="$user" "$root" "$@"
"""


class Rooted(Replay):
    def __init__(self, context: Path, base: Path, place: Path) -> None:
        super().__init__(context, place)
        self._base = base

    def _lay_base(self) -> None:
        subprocess.run(["cp", "--archive", self._base, self._place], check=True)
        python = self._place / "usr" / "local" / "bin" / "python"
        python.symlink_to("/usr/bin/python3")  # where the image of Python has it
        for mark in self._place.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
            mark.unlink()
        shutil.copy2("/etc/resolv.conf", self._place / "etc" / "resolv.conf")

    def _run(self, image: Image, words: list[str]) -> None:
        kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        command = ["/usr/sbin/chroot", image.root, "/usr/bin/env", "-C", image.workdir, *words]
        subprocess.run(command, env=kept | image.environ, check=True)


def as_in_a_cluster(image: Image, shared: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = ["unshare", "--mount", "sh", "-c", _READ_ONLY, "-", image.root, shared, image.user, *words]
    return subprocess.run(command, env=image.environ | environ, capture_output=True, text=True, check=False)


def main(base: Path, place: Path) -> None:
    image = Rooted(ROOT, base, place).run()
    shared = place.with_name(f"{place.name}-config")
    shared.mkdir()
    shared.chmod(0o755)
    example = (ROOT / "docs" / "examples" / "gateway.yaml").read_text(encoding="utf-8")
    text, secrets = provide(example, "/nowhere", shared, {})
    (shared / "gateway.yaml").write_text(text, encoding="utf-8")

    def told(*words: str, code: int = 0) -> None:
        done = as_in_a_cluster(image, shared, *words, **secrets)
        print("$", *words, "->", done.returncode)
        print(*(done.stdout + done.stderr).splitlines()[:4], "…", sep="\n")
        assert done.returncode == code, done.stderr

    told("/usr/bin/id")
    told("/usr/bin/touch", "/opt/reminder-gateway/x", code=1)
    told(*image.entrypoint, "--help")
    told(*image.entrypoint, "check-config", "--config", "/mnt/gateway.yaml")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
