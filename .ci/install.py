"""Install requirements by hash into the Python that runs this: `install.py requirements.txt`. For the Makefile.

uv does it, in a tenth of pip's time, told what pip is configured with (index, certificates): whoever has set up
pip for a mirror need not set up uv as well. Where uv fails, pip tries. Nothing is there yet but uv and tomli.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main(name: str) -> int:
    """Install the requirements of one file; the exit code."""
    sys.path.insert(0, str(ROOT))
    from mlpkg.spec.model import PythonTable  # noqa: PLC0415 - not installed yet, found in this folder
    from mlpkg.wheels.requirements import Requirements  # noqa: PLC0415
    from mlpkg.wheels.sources import wheel_sources  # noqa: PLC0415
    from mlpkg.wheels.uv import run_uv  # noqa: PLC0415

    options = ["--quiet", "--require-hashes", "--requirement", str(Path(name).resolve())]
    with tempfile.TemporaryDirectory() as folder:
        done = run_uv(
            ["pip", "install", "--python", sys.executable, *options],
            folder=Path(folder),
            sources=wheel_sources(PythonTable(), Requirements(), folder=ROOT),
        )
    if not done.code:
        return 0
    print(f"uv cannot install {name}, pip tries:\n{done.reason}", file=sys.stderr)  # noqa: T201
    python = [sys.executable, "-m"]
    subprocess.run([*python, "ensurepip"], check=True, stdout=subprocess.DEVNULL)
    return subprocess.run(
        [*python, "pip", "install", "--disable-pip-version-check", *options], check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
