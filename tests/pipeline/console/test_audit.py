import json
import logging
import os
import re
from collections.abc import Callable
from email.message import Message
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest

from pipeline.console import audit
from pipeline.console.audit import by_licence, licence, vulnerabilities

ROOT = Path(__file__).parents[3]
OSI = "License :: OSI Approved"


class Package(Distribution):
    """A distribution of which only the metadata is there."""

    def __init__(self, name: str, **fields: str | list[str]) -> None:
        self.message = Message()
        self.message["Name"] = name
        for key, values in fields.items():
            for value in [values] if isinstance(values, str) else values:
                self.message[key.replace("_", "-")] = value

    def read_text(self, filename: str) -> str | None:
        return self.message.as_string() if filename == "METADATA" else None

    def locate_file(self, path: str | os.PathLike[str]) -> Path:
        return Path(path)


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        (Package("a", License_Expression="MIT", License="Other"), "MIT"),
        (Package("a", Classifier=f"{OSI} :: BSD License", License="x"), "BSD License"),
        (Package("a", Classifier=[f"{OSI} :: MIT", "License :: Other"]), "MIT / Other"),
        (Package("a", Classifier=OSI, License="BSD"), "BSD"),
        (Package("a", License="Copyright (c) somebody, " * 10), "unknown"),
        (Package("a"), "unknown"),
    ],
)  # fmt: skip
def test_licence(package: Package, expected: str) -> None:
    assert licence(package) == expected


def test_packages_by_licence() -> None:
    packages = [
        Package("b", License="MIT"),
        Package("A", License="MIT"),
        Package("c", License="bsd"),
    ]
    assert by_licence(packages) == {"bsd": ["c"], "MIT": ["A", "b"]}
    assert by_licence([Package("b"), Package("b")]) == {"unknown": ["b"]}


def test_the_project_itself_is_listed() -> None:
    listed = {name for names in by_licence(distributions()).values() for name in names}
    assert {"torch", "numpy", "dvc"} <= listed


ANSWER = {
    "dependencies": [
        {"name": "one", "version": "1.0", "vulns": []},
        {"name": "two", "version": "2.0", "vulns": [
            {"id": "PYSEC-1", "fix_versions": ["2.1", "3.0"], "aliases": [], "description": "bad"},
            {"id": "PYSEC-2", "fix_versions": [], "aliases": [], "description": "worse"},
        ]},
        {"name": "three", "skip_reason": "not found"},
    ],
    "fixes": [],
}  # fmt: skip


def test_findings() -> None:
    assert vulnerabilities(json.dumps(ANSWER)) == [
        "two 2.0: PYSEC-1, fixed in 2.1, 3.0",
        "two 2.0: PYSEC-2, fixed in no version yet",
    ]
    for other in ("", "[]", "{}", "<html>"):
        with pytest.raises(ValueError, match=r"Expecting value|of another form"):
            vulnerabilities(other)


@pytest.fixture
def told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Callable[[str], str]:
    """What the audit says where pip-audit is the code given."""

    def tell(code: str) -> str:
        (tmp_path / "pip_audit.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        caplog.set_level(logging.INFO)
        audit.main()
        return caplog.text

    return tell


def test_what_is_found_is_a_warning(told: Callable[[str], str]) -> None:
    text = told(f"import sys\nprint({json.dumps(ANSWER)!r})\nsys.exit(1)")
    assert "warning: two 2.0: PYSEC-1, fixed in 2.1, 3.0" in text
    assert "2 known vulnerabilities of the packages in constraints.txt" in text
    assert re.search(r"look at \S*GPL", text)
    assert "  MIT: " in text


def test_what_is_sent(told: Callable[[str], str]) -> None:
    """By way of a finding that names what the command was."""
    code = "import json, sys\n"
    code += "vuln = {'id': ' '.join(sys.argv[1:]), 'fix_versions': []}\n"
    code += "package = {'name': 'x', 'version': '1', 'vulns': [vuln]}\n"
    sent = told(code + "print(json.dumps({'dependencies': [package]}))").partition("x 1: ")[2]
    assert sent.startswith("--requirement constraints.txt --no-deps --disable-pip")
    assert "--vulnerability-service osv --timeout 5 --format json" in sent


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise ConnectionError('Could not connect to the feed')", "Could not connect to the feed"),
        ("import sys\nsys.exit('no such option')", "no such option"),
        ("", "pip-audit says nothing"),
        ("print('<html>')", "Expecting value"),
        ("print('{}')", "of another form"),
        ("import time\ntime.sleep(60)", "no answer within 1 seconds"),
        ("raise ModuleNotFoundError('No module named pip_audit')", "No module named pip_audit"),
    ],
)
def test_it_goes_on_without_the_service(
    code: str, said: str, told: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "sleep" in code:
        monkeypatch.setattr(audit, "LONGEST", 1)
    (first, *others) = told(code).splitlines()
    assert "warning: vulnerabilities not looked up: " in first
    assert first.endswith(said) or said in first
    assert "Traceback" not in first
    assert any("Licences" in line for line in others)


def test_make_test_audits() -> None:
    """And nothing that it finds ends the build."""
    rules = (ROOT / "Makefile").read_text()
    assert re.search(r"^test: .*\n\t.*MAKE.* audit\b", rules, re.MULTILINE)
    assert "$(BIN)/python -m pipeline.console.audit" in rules
