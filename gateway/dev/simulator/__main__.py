"""`python -m gateway.dev.simulator --config simulator.yaml`"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml
from pydantic import ValidationError

from gateway.dev.simulator.serve import serve


def main(arguments: list[str] | None = None) -> int:
    """The command line.  Returns 2 when the settings are wrong, with every problem on standard error."""
    parser = argparse.ArgumentParser(prog="simulate", description="The simulated providers, on loopback.")
    parser.add_argument("--config", type=Path, help="YAML or JSON settings")
    parser.add_argument("--port", type=int, help="port to listen on; 0 lets the system choose")
    parser.add_argument("--log", type=Path, help="the durable log")
    parser.add_argument("--credentials", type=Path, help="credentials file; made when missing")
    parser.add_argument("--fsync", action="store_true", default=None, help="flush every log line to the disk")
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    try:
        serve(given.pop("config", None), **given)
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        sys.stderr.write("\n".join(problems) + "\n")
        return 2
    except (OSError, yaml.YAMLError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
