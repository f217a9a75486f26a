"""The working directory with other data in it."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from pathlib import Path

import numpy as np

from pipeline.common.files import write_array


@contextmanager
def world_with(arrays: Mapping[Path, np.ndarray]) -> Iterator[None]:
    """Work in a copy of the working directory, of links, which has `arrays` at their paths."""
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder)
        changed = {path.parent for path in arrays}
        for path in changed:
            (there / path).mkdir(parents=True)
        for path in (here, *(here / path for path in changed)):
            for each in path.iterdir():
                link = there / each.relative_to(here)
                if not link.exists():
                    link.symlink_to(each)
        with chdir(there):
            for path, array in arrays.items():
                write_array(path, array)  # in the place of a link, and not through it
            yield
