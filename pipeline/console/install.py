"""What `make` installs with: the virtual environment, the packages in it, and which faiss.

Runs before anything is installed, so by the standard library alone. An empty file
`.installed-<extra>` in the environment, whose time `make` compares, says that all of it is there.
"""

import argparse
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

PLATFORM = "linux-x86_64"
"""The one that faiss-gpu is published for, with CUDA 12 as packages beside it."""
CAPABILITY, DRIVER = 7.0, 525
"""Of NVIDIA's GPUs and of their driver, the lowest that faiss-gpu is compiled for and runs on."""
PROBE = ("nvidia-smi", "--query-gpu=compute_cap,driver_version", "--format=csv,noheader")
LONGEST = 120
"""Seconds that the driver may take to answer, and the GPU to search."""
SEARCH = """
import faiss, numpy as np
index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, faiss.IndexFlatIP(64))
index.add(np.eye(64, dtype=np.float32))
found = index.search(np.eye(64, dtype=np.float32), 1)[1]
assert (found[:, 0] == np.arange(64)).all()
"""
FAISS = ("cpu", "gpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uv", default="", metavar="PATH", help="uv, in place of venv and pip")
    parser.add_argument("venv", type=Path)
    parser.add_argument("extra", choices=(*FAISS, "auto", "dev"))
    asked = parser.parse_args()
    try:
        Environment(asked.venv, asked.uv).install(asked.extra)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"error: {asked.venv} is not complete: {error}")


class Environment:
    def __init__(self, folder: Path, uv: str = "") -> None:
        """`uv` is the path of that program; without one it is venv and pip."""
        self.folder = folder
        self.python = str(folder / "bin/python")
        self.uv = uv

    def install(self, extra: str) -> None:
        what = (
            "what lint, types and tests need" if extra == "dev" else "all that the pipeline needs"
        )
        tell(f"installing into {self.folder} {what} (some minutes the first time)")
        if extra != "dev":
            self.prepare()
        if extra == "auto":
            extra = self.put_chosen()
        else:
            self.by_uv_or_pip(lambda: self.put(extra))
        (self.folder / f".installed-{extra}").touch()

    def prepare(self) -> None:
        """Make it anew unless it is sound; either way nothing in it is said to be installed."""
        if not self.is_sound():
            self.by_uv_or_pip(self.make)
        for mark in self.marks():
            mark.unlink()

    def marks(self) -> list[Path]:
        return sorted(self.folder.glob(".installed-*"))

    def is_sound(self) -> bool:
        """Whether an installation ended in it, and its Python is of the version that runs this."""
        ask = [self.python, "-c", "import pip, sys; print(sys.version_info[:3])"]
        try:
            told = subprocess.run(ask, capture_output=True, text=True, check=False).stdout
        except OSError:
            return False
        return bool(self.marks()) and told.strip() == str(sys.version_info[:3])

    def by_uv_or_pip(self, step: Callable[[], None]) -> None:
        """Where uv fails pip goes on: it may know another index, or a way through the network."""
        try:
            step()
        except subprocess.CalledProcessError:
            if not self.uv:
                raise
            tell(f"{self.uv} failed: venv and pip in its place")
            self.uv = ""
            step()

    def make(self) -> None:
        """Of the Python that runs this, or that its environment is of."""
        base, folder = getattr(sys, "_base_executable", sys.executable), str(self.folder)
        if self.uv:
            run(self.uv, "venv", "--quiet", "--clear", "--python", base, folder)
            self.pip("install", "pip")  # as venv has it, for whoever types it there
        else:
            run(base, "-m", "venv", "--clear", folder)

    def put_chosen(self) -> str:
        """Install faiss-gpu where it works, else faiss-cpu: which one."""
        kind, reason = choice(sysconfig.get_platform(), driver())
        tell(f"faiss-{kind}: {reason}")
        if kind == "gpu" and not self.searches_on_gpu():
            tell("faiss-cpu in its place: it could not be installed, or cannot search here")
            kind = "cpu"
        if kind == "cpu":
            self.by_uv_or_pip(lambda: self.put("cpu"))
        return kind

    def searches_on_gpu(self) -> bool:
        """Whether faiss-gpu, once installed, finds the nearest rows on the first GPU."""
        try:
            self.put("gpu")
            search = [self.python, "-c", SEARCH]
            subprocess.run(search, capture_output=True, timeout=LONGEST, check=True)
        except subprocess.SubprocessError:
            return False
        return True

    def put(self, extra: str) -> None:
        if extra in FAISS and any(self.folder.glob("lib/python*/site-packages/faiss*")):
            yes = [] if self.uv else ["--yes"]
            self.pip("uninstall", *yes, "faiss-cpu", "faiss-gpu")  # either is the module `faiss`
        self.pip("install", *self.compiled(), "-c", "constraints.txt", "-e", f".[{extra}]")

    def compiled(self) -> list[str]:
        """No module, since Python compiles those that it imports, a fifth of them, and keeps them.

        Every module where it may not keep them (PYTHONDONTWRITEBYTECODE): else each process would
        compile them again.
        """
        if self.uv:
            return ["--compile-bytecode"] if sys.dont_write_bytecode else []
        return [] if sys.dont_write_bytecode else ["--no-compile"]

    def pip(self, verb: str, *arguments: str) -> None:
        if self.uv:
            run(self.uv, "pip", verb, "--quiet", "--python", self.python, *arguments)
        else:
            quiet = ("--quiet", "--disable-pip-version-check")
            run(self.python, "-m", "pip", verb, *quiet, *arguments)


def choice(platform: str, gpus: str) -> tuple[str, str]:
    """cpu or gpu, and why, by `sysconfig`'s platform and what `driver` found."""
    if platform != PLATFORM:
        return "cpu", f"faiss-gpu is published for {PLATFORM} alone, this is {platform}"
    if not gpus:
        return "cpu", "nvidia-smi finds no GPU"
    kinds = sorted(set(gpus.splitlines()))
    for gpu in kinds:
        found = re.fullmatch(r"(\d+\.\d+), (\d+)\.[\d.]+", gpu)
        if not found or float(found[1]) < CAPABILITY or int(found[2]) < DRIVER:
            least = f"expected compute capability {CAPABILITY} and driver {DRIVER} or higher"
            return "cpu", f"nvidia-smi says {gpu!r}; {least}"
    return "gpu", f"nvidia-smi finds compute capability and driver {'; '.join(kinds)}"


def driver() -> str:
    """Compute capability and driver of each NVIDIA GPU, a line each; nothing without one."""
    try:
        told = subprocess.run(PROBE, capture_output=True, text=True, timeout=LONGEST, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return told.stdout.strip()


def tell(line: str) -> None:
    print(line, flush=True)


def run(*command: str) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
