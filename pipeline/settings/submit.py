"""Section `submit` of `params.yaml`."""

from typing import Literal

from pipeline.common.section import Section


class Submit(Section):
    """`submit`: the leaderboard file."""

    column: Literal["Task1", "Task2", "Task1&2"]
