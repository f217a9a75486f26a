"""The project's own code, files and messages: no pickle, no shell, no foreign code, no secrets."""

import re
from pathlib import Path

import pytest

from tests.support.code.safety_rules import faults

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ctr", "embed", "gallery", "pipeline", "sample", "serving", "benchmarks")
SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
TEXTS = ("Makefile", "pyproject.toml", "*.yaml", "recipes/*.yaml", "microlens_1m/*", ".ci/*")
ADDRESS = re.compile(r"(?:http|ftp)://[^\s\"'`)]+")

UNSAFE = {
    "import pickle": "imports pickle",
    "from joblib import load": "imports joblib",
    "import torch\ntorch.load('m.pt')": "torch.load without weights_only=True",
    "from torch import load as l\nl('m.pt', weights_only=False)": "torch.load without",
    "import numpy as np\nnp.load('a.npy', mmap_mode='r')": "numpy.load without allow_pickle=False",
    "import numpy\nnumpy.load('a.npy', allow_pickle=True)": "numpy.load without",
    "import pandas as pd\npd.read_pickle('a')": "reads pickle",
    "frame.to_pickle('a')": "writes pickle",
    "AutoModel.from_pretrained(name, trust_remote_code=True)": "trust_remote_code is not False",
    "AutoModel.from_pretrained(name, trust_remote_code=trusted)": "trust_remote_code is not False",
    "source = {'trust_remote_code': True}": "trust_remote_code is not False",
    "import yaml\nyaml.load(text)": "reads YAML with Python objects",
    "from ruamel.yaml import YAML\nYAML(typ='unsafe')": "YAML with Python objects",
    "from ruamel import yaml\nyaml.YAML(typ='base')": "YAML with Python objects",
    "session.get(url, verify=False)": "verify is not True",
    "session.verify = False": "verify is not True",
    "context.check_hostname = False": "check_hostname is not True",
    "ROOT = 'http://example.org/'": "names the address http://example.org/",
    "ROOT = f'ftp://{host}/a'\nX = 'ftp://host/'": "names the address ftp://host/",
    "import requests\nrequests.get(url)": "downloads beside",
    "from urllib.request import urlopen\nurlopen(url)": "downloads beside",
    "eval('1')": "evaluates text",
    "exec('1')": "executes text",
    "import subprocess\nsubprocess.run('ls', shell=True)": "shell is not False",
    "import os\nos.system('ls')": "starts a shell",
    "archive.extractall(folder)": "unpacks beside",
    "import tempfile\ntempfile.mktemp()": "another may make first",
    "import os\nprint(dict(os.environ))": "the whole environment",
    "from os import environ as e\nwrite(e)": "the whole environment",
    "import os\nos.environ.items()": "the whole environment",
    "import os\n{n: v for n, v in os.environ.items()}": "the whole environment",
}
SAFE = """
import os
import numpy as np
import torch
from ruamel.yaml import YAML
model.eval()
np.load(path, mmap_mode="r", allow_pickle=False)
torch.load(path, weights_only=True)
YAML(typ="safe", pure=True)
YAML()
session.mount("http://", adapter)
source = {"trust_remote_code": False}
if "DVC_STAGE" in os.environ and os.environ.get("RANK", "0") == os.environ["RANK"]:
    subprocess.run(["ls"], env=os.environ | {"A": "b"}, check=True)
foreign = [name for name in os.environ if name.startswith("ACCELERATE_")]
"""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_source(path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8")) == []


def test_all_sources_are_read() -> None:
    assert len(SOURCES) > 80
    assert {path.relative_to(ROOT).parts[0] for path in SOURCES} == set(PACKAGES)


@pytest.mark.parametrize(("source", "fault"), UNSAFE.items())
def test_an_unsafe_line_is_found(source: str, fault: str) -> None:
    ((line, what),) = faults(source)
    assert fault in what
    assert line == source.count("\n") + 1


def test_safe_lines_pass() -> None:
    assert faults(SAFE) == []


def test_settings_and_scripts_name_no_insecure_address() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {address}"
        for pattern in TEXTS
        for path in ROOT.glob(pattern)
        if path.is_file()
        for address in ADDRESS.findall(path.read_text(encoding="utf-8"))
    ]
    assert found == []
    assert ADDRESS.findall("root: http://example.org/x") == ["http://example.org/x"]
