import json

import pytest

from roundview.cli.progress import Bars, JsonLines, Lines, Silence, told
from roundview.stages import Listener, Stages, seeded


@pytest.mark.parametrize("kind", [Silence, JsonLines, Lines, Bars])
def test_every_way_to_tell_listens_to_stages(kind: type[Silence]) -> None:
    with kind() as listener:
        assert isinstance(listener, Listener)
        Stages(seeded(0), listener=listener)("one", lambda report: report(0.5))
        listener.say("done", output="out")


def test_json_is_one_object_a_line_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    with told(quiet=False, as_json=True) as listener:
        Stages(seeded(0), listener=listener)("one", lambda report: report(0.5))
        listener.say("wrote out", output="out")
    captured = capsys.readouterr()
    events = [json.loads(line) for line in captured.out.splitlines()]
    assert [event["event"] for event in events] == ["began", "progress", "finished", "message"]
    assert events[1] == {"event": "progress", "stage": "one", "fraction": 0.5}
    assert events[3]["output"] == "out"
    assert captured.err == ""


def test_quiet_says_nothing_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    with told(quiet=True, as_json=False) as listener:
        Stages(seeded(0), listener=listener)("one", lambda report: report(0.5))
        listener.say("wrote out")
    assert capsys.readouterr() == ("", "")


def test_without_a_terminal_each_stage_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with told(quiet=False, as_json=False) as listener:
        assert isinstance(listener, Lines)
        listener.finished("matte", 1.25, resumed=False)
        listener.finished("draw", 3.0, resumed=True)
    assert capsys.readouterr().err == "matte: 1.2 s\ndraw: kept\n"
