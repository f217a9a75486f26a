import re
from pathlib import Path

import numpy as np
import pytest

from serving import rank
from serving.scorer import Scorer
from tests.serving.packaged import FOLDER, IDS, TITLES, UNKNOWN
from tests.support.worlds.tiny_world import HISTORY, ITEMS

HISTORY_GIVEN = IDS[[3, 9, 4, 12]]
ROW = re.compile(r"^\s*(\d+)\s+(\d+)\s+(0\.\d{4})\s*(.*?)\s*$")
Found = list[tuple[int, float, str]]


@pytest.fixture(autouse=True)
def _in_the_world(qin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(qin)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> "Asked":
    return Asked(monkeypatch, capsys)


class Asked:
    """The command in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *arguments: str) -> str:
        self.monkeypatch.setattr("sys.argv", ["rank", *arguments])
        rank.main()
        return self.capsys.readouterr().out

    def refused(self, *arguments: str) -> tuple[object, str]:
        """The exit code, or the message in its place, and what else is said."""
        with pytest.raises(SystemExit) as ended:
            self(*arguments)
        return ended.value.code, self.capsys.readouterr().err


def listed(ids: np.ndarray) -> str:
    return ",".join(map(str, ids.tolist()))


def rows(output: str) -> Found:
    """Ids, probabilities and titles, numbered from 1 on."""
    found = [match.groups() for line in output.splitlines() if (match := ROW.match(line))]
    assert [int(row[0]) for row in found] == [*range(1, len(found) + 1)]
    return [(int(item), float(probability), title) for _, item, probability, title in found]


def expected(k: int, *, seen: bool = False) -> Found:
    items, probabilities, titles = Scorer.load().rank(HISTORY_GIVEN, k, seen=seen)
    shown = (float(f"{probability:.4f}") for probability in probabilities)
    return [*zip(items.tolist(), shown, titles, strict=True)]


@pytest.mark.parametrize("seen", [False, True])
def test_the_most_likely_items(asked: Asked, seen: bool) -> None:
    more = ["--seen"] if seen else []
    output = asked("--history", listed(HISTORY_GIVEN), "--top", str(ITEMS), *more)
    assert rows(output) == expected(ITEMS, seen=seen)
    assert len(rows(output)) == ITEMS - (0 if seen else 4)
    last = f"after 4 items: ..., {TITLES[9]}, item {IDS[4]}, {TITLES[12]}"
    assert output.splitlines()[0].rstrip() == last  # item 4 has no title


def test_ten_where_no_number_is_named_and_spaces_where_one_likes(asked: Asked) -> None:
    output = asked("--history", listed(HISTORY_GIVEN).replace(",", " , ") + ",")
    assert rows(output) == expected(10)


def test_another_folder(asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = FOLDER.resolve()
    monkeypatch.chdir(tmp_path)
    output = asked("--history", listed(HISTORY_GIVEN), "--package", str(folder), "--top", "2")
    monkeypatch.chdir(folder.parents[1])
    assert rows(output) == expected(2)


def test_somebody_new(asked: Asked) -> None:
    output = asked("--top", "3")
    assert output.splitlines()[0].rstrip() == "after 0 items"
    assert [row[0] for row in rows(output)] == Scorer.load().rank([], 3).items.tolist()
    assert rows(asked("--top", "3", "--why")) == rows(output)


def test_what_spoke_for_each(asked: Asked) -> None:
    """At most three items of the history, what they add, the most first, and nothing against."""
    output = asked("--history", listed(HISTORY_GIVEN), "--top", "5", "--why")
    person = Scorer.load().read(HISTORY_GIVEN)
    ranking = person.rank(5)
    names = [TITLES[3], TITLES[9], f"item {IDS[4]}", TITLES[12]]
    lines = []
    for added in person.why(ranking.items):
        strongest = sorted(range(4), key=lambda place: -added[place])[:3]
        lines.append([f"{added[i]:+.2f} {names[i]}" for i in strongest if added[i] > 0])
    assert any(lines)
    found = re.findall(r"[+-]\d+\.\d\d (?:item \d+|thing \[\d+\])", output)
    assert found == [line for of_row in lines for line in of_row]
    assert "spoke for it, in log odds" in output
    assert "spoke for it" not in asked("--history", listed(HISTORY_GIVEN))


def test_what_is_left_out_of_a_history_is_told(
    asked: Asked, caplog: pytest.LogCaptureFixture
) -> None:
    history = [*IDS[1 : HISTORY + 2], UNKNOWN, *HISTORY_GIVEN]
    output = asked("--history", listed(np.array(history)), "--top", "1")
    window = Scorer.load().window
    assert caplog.messages == [
        f"history: unknown and left out: {UNKNOWN}",
        f"history: its {len(history) - 1 - window} oldest items are not read",
    ]
    assert output.startswith(f"after {window} items: ..., ")


@pytest.mark.parametrize("given", ["12,x", "1.5", "12;7", "12 7", "12,,7", ",12", "1_000"])
def test_ids_that_are_none(asked: Asked, given: str) -> None:
    code, told = asked.refused("--history", given)
    assert code == 2
    assert f"argument --history: {given!r}: expected whole numbers and commas, as 12,7,99" in told


def test_no_items_are_not_listed(asked: Asked) -> None:
    code, told = asked.refused("--top", "0")
    assert code == 2
    assert told.endswith("error: --top is 0; expected 1 or more\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--package", "nowhere"], "error: nowhere: no such folder; expected one that "),
        (["--package", "data"], "error: data/SHA256SUMS: not there, so the package is not whole"),
    ],
)
def test_what_cannot_be_answered_is_one_line(asked: Asked, arguments: list[str], told: str) -> None:
    message, rest = asked.refused(*arguments)  # which ends with code 1
    assert isinstance(message, str)
    assert message.startswith(told)
    assert "\n" not in message
    assert rest == ""
