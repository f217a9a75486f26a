"""Memory of processes. Linux only (/proc)."""

from pathlib import Path

ROLLUP = "Pss"
"""Fields of shared pages, each process with its part of them, stand in a file that costs time."""


def memory(field: str, process: int | str = "self") -> int:
    """Bytes, as /proc gives them (`VmHWM` is the peak); 0 for a process that has just ended."""
    file = "smaps_rollup" if field.startswith(ROLLUP) else "status"
    for line in Path(f"/proc/{process}/{file}").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0
