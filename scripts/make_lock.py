"""Write requirements.lock: every version for every platform, accelerator libraries left out.

torch's own requirements name the accelerator libraries of its build, so a CPU build installs none.
Run by `make lock`, which first needs `pip install uv`.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

CAPS = ("torch==2.14.1", "torchvision==0.29.1")
LEFT_OUT = re.compile(r"(nvidia-|cuda-|triton==|#)")
HEAD = """\
# Locked versions of all that FMbSeg, its pipeline and its checks need; `make lock` writes it.
# torch's accelerator libraries are left to torch's own requirements, which differ by build.
"""


def main() -> None:
    """Compile, filter, write; versions stay as they are unless `--upgrade` is given."""
    lock = Path("requirements.lock")
    with tempfile.TemporaryDirectory() as folder:
        caps, out = Path(folder) / "caps.txt", Path(folder) / "lock.txt"
        caps.write_text("\n".join(CAPS) + "\n")
        if "--upgrade" not in sys.argv[1:]:
            out.write_text(lock.read_text())
        command = [
            sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal",
            "--python-version", "3.11", "--extra", "pipeline", "--extra", "dask",
            "--extra", "s3", "--extra", "transformers", "--extra", "onnx", "--extra", "dev",
            "--constraint", str(caps), "--no-annotate", "--no-emit-index-url",
            "pyproject.toml", "--output-file", str(out),
        ]  # fmt: skip
        subprocess.run(command, check=True)
        lines = [line for line in out.read_text().splitlines() if not LEFT_OUT.match(line)]
    lock.write_text(HEAD + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
