"""`make audit`: known vulnerabilities of the pinned packages, and the licences of those installed.

It warns and never fails: what is found has to be judged by somebody, and a network may be missing.
"""

import json
import logging
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

PINNED = Path("constraints.txt")
LONGEST = 60
"""Seconds that all questions to the service may take."""
PACKET = 5
"""Seconds to wait for it to answer."""
SERVICE = "osv"
"""https://osv.dev, which is asked for each pinned name and version; nothing else is sent."""
TO_BE_LOOKED_AT = ("gpl", "sspl", "commercial", "proprietary", "unknown")
"""In a licence's name: those that may ask something of who passes the package on."""


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        found = vulnerabilities(ask(PINNED))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        log.warning("warning: vulnerabilities not looked up: %s", reason(error))
    else:
        for each in found:
            log.warning("warning: %s", each)
        log.info("%d known vulnerabilities of the packages in %s", len(found), PINNED)
    log.info("Licences of the packages installed:")
    for name, packages in by_licence(distributions()).items():
        mark = "look at " if any(part in name.lower() for part in TO_BE_LOOKED_AT) else ""
        log.info("  %s%s: %s", mark, name, ", ".join(packages))


def ask(pinned: Path) -> str:
    """pip-audit's JSON. Raises OSError or SubprocessError if it is missing, fails or takes long."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(pinned), "--no-deps"]
    command += ["--disable-pip", "--vulnerability-service", SERVICE, "--timeout", str(PACKET)]
    command += ["--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST, check=False)
    except subprocess.TimeoutExpired:
        raise subprocess.SubprocessError(f"no answer within {LONGEST} seconds") from None
    if not done.stdout.strip():  # with findings it also exits with 1, but prints them
        raise subprocess.SubprocessError(done.stderr.strip() or "pip-audit says nothing")
    return done.stdout


def reason(error: Exception) -> str:
    """The last line, which is what went wrong, at a length that can be read."""
    lines = str(error).strip().splitlines()
    return lines[-1][:200] if lines else type(error).__name__


def vulnerabilities(answer: str) -> list[str]:
    """A line for each finding in pip-audit's JSON. Raises ValueError for something else."""
    content = json.loads(answer)
    if not isinstance(content, dict) or "dependencies" not in content:
        raise ValueError("pip-audit's answer is of another form; see its release notes")
    return [
        _finding(package, finding)
        for package in content["dependencies"]
        for finding in package.get("vulns", [])
    ]


def _finding(package: dict[str, Any], finding: dict[str, Any]) -> str:
    fixed = ", ".join(finding["fix_versions"]) or "no version yet"
    return f"{package['name']} {package['version']}: {finding['id']}, fixed in {fixed}"


def by_licence(packages: Iterable[Distribution]) -> dict[str, list[str]]:
    """Names of packages, ascending, by the name of their licence, ascending."""
    found: dict[str, set[str]] = {}
    for package in packages:
        found.setdefault(licence(package), set()).add(package.name)
    return {name: sorted(found[name], key=str.lower) for name in sorted(found, key=str.lower)}


def licence(package: Distribution) -> str:
    """Its SPDX expression, else what its classifiers or its licence field say, else unknown."""
    metadata = package.metadata
    classifiers = metadata.get_all("Classifier") or []
    named = [
        name.rpartition(" :: ")[2]
        for name in classifiers
        if name.startswith("License :: ") and name != "License :: OSI Approved"
    ]
    text = (metadata.get_all("License") or [""])[0].strip()
    short = text if len(text) < 60 and "\n" not in text else ""  # else it is the whole licence
    expression = (metadata.get_all("License-Expression") or [""])[0]
    return expression or " / ".join(named) or short or "unknown"


if __name__ == "__main__":
    main()
