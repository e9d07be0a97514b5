from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from torch import Generator

from roundview.camera import Cameras
from roundview.export.files import read_png
from roundview.gaussians import Gaussians
from roundview.image import Foreground
from roundview.mesh import Mesh, Texture
from roundview.models import Kept, Report, StageRunner
from roundview.stages import FOLDER, PROGRESS, Stages, seeded
from roundview.views import Views


class Heard:
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.finishes: list[tuple[str, bool]] = []
        self.fractions: list[float] = []

    def began(self, stage: str) -> None:
        self.fractions.append(0.0)

    def progressed(self, stage: str, fraction: float) -> None:
        self.fractions.append(fraction)

    def finished(self, stage: str, seconds: float, *, resumed: bool) -> None:
        assert seconds >= 0
        self.finishes.append((stage, resumed))


def three_stages(stage: Stages, rng: Generator, *, fail_in: str = "") -> torch.Tensor:
    """A recipe in small: each stage draws from the generator."""

    def work(name: str) -> Callable[[object], torch.Tensor]:
        def draw(_: object) -> torch.Tensor:
            if name == fail_in:
                raise KeyboardInterrupt
            return torch.randn(3, 2, generator=rng).T

        return draw

    first = stage("first", work("first"))
    second = stage("second", work("second"))
    return stage("third", lambda report: first @ second.T + work("third")(report)[:, :2])


def started(directory: Path, *, identity: str = "a", resume: bool = False, heard: Heard) -> Stages:
    return Stages(
        seeded(7), directory=directory / FOLDER, identity=identity, resume=resume, listener=heard
    )


def test_a_resumed_run_gives_the_same_bits_as_one_that_ran_through(tmp_path: Path) -> None:
    whole = Stages(seeded(7))
    expected = three_stages(whole, whole.rng)
    broken = started(tmp_path, heard=Heard())
    with pytest.raises(KeyboardInterrupt):
        three_stages(broken, broken.rng, fail_in="third")
    heard = Heard()
    resumed = started(tmp_path, resume=True, heard=heard)
    result = three_stages(resumed, resumed.rng)
    assert torch.equal(result, expected)
    assert heard.finishes == [("first", True), ("second", True), ("third", False)]
    assert resumed.seconds["first"] == broken.seconds["first"]


def test_results_of_another_identity_are_not_taken(tmp_path: Path) -> None:
    old = started(tmp_path, heard=Heard())
    three_stages(old, old.rng)
    heard = Heard()
    other = started(tmp_path, identity="b", resume=True, heard=heard)
    assert other.started_over is not None
    three_stages(other, other.rng)
    assert not any(resumed for _, resumed in heard.finishes)


def test_without_resume_old_results_are_replaced(tmp_path: Path) -> None:
    old = started(tmp_path, heard=Heard())
    three_stages(old, old.rng)
    heard = Heard()
    new = started(tmp_path, heard=heard)
    new("first", lambda _: torch.zeros(1))
    assert new.started_over is None
    assert heard.finishes == [("first", False)]
    assert len(list((tmp_path / FOLDER).iterdir())) == 1


def test_a_damaged_result_starts_the_run_over(tmp_path: Path) -> None:
    old = started(tmp_path, heard=Heard())
    three_stages(old, old.rng)
    first = min((tmp_path / FOLDER).iterdir())
    first.write_bytes(first.read_bytes()[:20])
    assert started(tmp_path, resume=True, heard=Heard()).started_over is not None


def test_a_run_that_fails_in_its_first_stage_leaves_nothing(tmp_path: Path) -> None:
    stages = started(tmp_path / "out", heard=Heard())

    def refuse(_: object) -> None:
        raise ValueError("no object found")

    with pytest.raises(ValueError, match="no object"):
        stages("matte", refuse)
    assert list(tmp_path.iterdir()) == []


def test_every_noun_and_plain_value_comes_back(tmp_path: Path) -> None:
    cameras = Cameras.orbit(
        [0.0, 90.0], elevation_deg=10.0, radius=2.0, fov_deg=40.0, size_hw=(3, 4)
    )
    views = Views(torch.rand(2, 3, 4, 3), torch.rand(2, 3, 4), cameras, depth=torch.rand(2, 3, 4))
    texture = Texture(torch.rand(2, 2, 3))
    mesh = Mesh(torch.rand(3, 3), torch.tensor([[0, 1, 2]]), torch.rand(3, 2), texture)
    cloud = Gaussians(*(torch.rand(2, *shape) for shape in ((3,), (3,), (4,), (), (4, 3))))
    value = {
        "views": views,
        "many": [mesh, (cloud, Foreground(torch.rand(2, 2, 3), torch.rand(2, 2)))],
        "plain": (1, 2.5, "three", None, True),
    }
    started(tmp_path, heard=Heard())("all", lambda _: value)
    again = started(tmp_path, resume=True, heard=Heard())("all", lambda _: {})
    assert again["plain"] == value["plain"]
    back, (back_cloud, _) = again["many"]
    assert back.texture is not None
    assert torch.equal(back.texture.rgb, texture.rgb)
    assert torch.equal(back.faces, mesh.faces)
    assert back.vertex_rgb is None
    assert again["views"].cameras.size_hw == (3, 4)
    assert views.depth is not None
    assert torch.equal(again["views"].depth, views.depth)
    assert again["views"].normal is None
    for field in fields(cloud):
        assert torch.equal(getattr(back_cloud, field.name), getattr(cloud, field.name))


def test_what_cannot_be_saved_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot save a Generator"):
        Stages(seeded(0))("odd", lambda _: seeded(1))


def test_stages_are_a_stage_runner_and_pass_progress_on() -> None:
    heard = Heard()
    stages = Stages(seeded(0), listener=heard)
    assert isinstance(stages, StageRunner)
    stages("one", lambda report: report(0.5))
    stages.note("elevation", 12.5)
    assert heard.fractions == [0.0, 0.5]
    assert stages.notes == {"elevation": 12.5}


def long_stage(stage: Stages, *, stop_after: int | None = None) -> torch.Tensor:
    """Adds random numbers one by one, and keeps where it is after each."""

    def work(report: Report, kept: Kept) -> torch.Tensor:
        state = kept.found or {"done": 0, "total": torch.zeros(2), "rng": stage.rng.get_state()}
        stage.rng.set_state(state["rng"])
        total = state["total"]
        for done in range(state["done"], 6):
            if done == stop_after:
                raise KeyboardInterrupt
            total = total + torch.randn(2, generator=stage.rng)
            report((done + 1) / 6)
            kept.keep({"done": done + 1, "total": total, "rng": stage.rng.get_state()})
        return total

    first = stage("first", lambda _: torch.randn(2, generator=stage.rng))
    return first + stage.long("long", work)


def test_a_long_stage_goes_on_from_its_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roundview.stages._KEEP_SECONDS", 0.0)
    expected = long_stage(Stages(seeded(7)))
    with pytest.raises(KeyboardInterrupt):
        long_stage(started(tmp_path, heard=Heard()), stop_after=4)
    heard = Heard()
    assert torch.equal(long_stage(started(tmp_path, resume=True, heard=heard)), expected)
    assert heard.fractions[-2:] == pytest.approx([5 / 6, 1.0])
    assert len([f for f in heard.fractions if f > 0]) == 2
    assert not list((tmp_path / FOLDER).glob("*.part"))


def test_the_state_of_another_run_is_not_gone_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roundview.stages._KEEP_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        long_stage(started(tmp_path, heard=Heard()), stop_after=4)
    heard = Heard()
    stages = started(tmp_path, identity="b", resume=True, heard=heard)
    assert torch.equal(long_stage(stages), long_stage(Stages(seeded(7))))
    assert len([f for f in heard.fractions if f > 0]) == 6


def test_a_picture_shows_how_far_the_work_has_come(tmp_path: Path) -> None:
    stages = started(tmp_path, heard=Heard())
    stages.show(torch.full((4, 6, 3), 0.5))
    assert read_png(tmp_path / PROGRESS).shape == (4, 6, 3)
    stages.discard()
    assert not (tmp_path / PROGRESS).exists()
    Stages(seeded(0)).show(torch.zeros(2, 2, 3))  # Nowhere to show it.


def test_calls_of_networks_are_counted_and_survive_an_interruption(tmp_path: Path) -> None:
    network = torch.nn.Linear(2, 2)

    def run(stages: Stages, *, fail: bool) -> None:
        with stages.counting({"small": network}):
            stages("draw", lambda _: torch.stack([network(torch.zeros(2)) for _ in range(3)]))
            if fail:
                raise KeyboardInterrupt
            stages("redraw", lambda _: network(torch.zeros(2)))

    with pytest.raises(KeyboardInterrupt):
        run(started(tmp_path, heard=Heard()), fail=True)
    stages = started(tmp_path, resume=True, heard=Heard())
    run(stages, fail=False)
    assert stages.calls == {"draw": {"small": 3}, "redraw": {"small": 1}}
    assert stages.network_calls() == {"small": 4}
    network(torch.zeros(2))
    assert stages.network_calls() == {"small": 4}
