"""Memory of processes. Linux only (/proc)."""

from pathlib import Path


def memory(field: str, process: int | str = "self") -> int:
    """Bytes, as /proc gives them (`VmHWM` is the peak); 0 for a process that has just ended."""
    for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0
