import errno
import shutil
from pathlib import Path

import pytest

from pipeline.common.files import InputError
from pipeline.download.disk import require_space, writing


def test_what_fits_and_what_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil._ntuple_diskusage(10_000, 7_500, 2_500)
    monkeypatch.setattr("pipeline.download.disk.shutil.disk_usage", lambda _: usage)
    require_space(tmp_path, 2_500, "covers.rar")
    message = "4,000 bytes of covers.rar are to come and 2,500 are free, 1,500 too few; .*XDG_CACHE"
    with pytest.raises(InputError, match=f"^{tmp_path}: {message}"):
        require_space(tmp_path, 4_000, "covers.rar")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_by_the_files_name(number: int, tmp_path: Path) -> None:
    path = tmp_path / "covers.rar"
    with pytest.raises(InputError, match=f"^{path}: could not be written: "), writing(path):
        raise OSError(number, "full")


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), writing(tmp_path):
        raise PermissionError(errno.EACCES, "no")
