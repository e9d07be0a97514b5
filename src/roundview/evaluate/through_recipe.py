"""Run a whole recipe on a photograph whose truth is known, and look at what each stage made."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from jaxtyping import Float
from torch import Generator, Tensor, nn

from ..camera import Cameras
from ..gaussians import Gaussians
from ..image import Foreground, Image
from ..mesh import Asset, Mesh
from ..models import (
    Kept,
    NothingKept,
    PlainStages,
    Report,
    StageRunner,
    Value,
    silent,
)
from ..pipeline import peak_memory_mb
from ..splat.render import render_gaussians
from ..stages import counted_calls
from ..surface.raster import render_mesh

Recipe = Callable[[Image, Generator, StageRunner], Asset]
"""A recipe whose models and settings are chosen already."""


class WatchedStages(PlainStages):
    """A `StageRunner` that keeps every stage's result by its name, and can give one away unrun.

    Args:
        given: Results of stages that need not run.
        report: Called with the fraction of `expected` stages that are done.
        expected: How many stages there will be, about.
    """

    def __init__(
        self, given: dict[str, Any], *, report: Report = silent, expected: int = 1
    ) -> None:
        super().__init__()
        self.results: dict[str, Any] = {}
        self._given = given
        self._report = report
        self._expected = expected

    def __call__(self, name: str, work: Callable[[Report], Value]) -> Value:
        """Run the stage, unless its result was given."""
        done = float(len(self.results))
        value = self._given[name] if name in self._given else work(lambda f: self._tell(done + f))
        self.results[name] = value
        self._tell(done + 1)
        return value

    def long(self, name: str, work: Callable[[Report, Kept], Value]) -> Value:
        """Run the stage from its start, unless its result was given."""
        return self(name, lambda report: work(report, NothingKept()))

    def _tell(self, stages_done: float) -> None:
        self._report(min(1.0, stages_done / self._expected))


@contextmanager
def costs(networks: Mapping[str, nn.Module]) -> Iterator[dict[str, float]]:
    """Measure what the block costs; the marks are there when it has ended.

    `network_calls` is the sum over all networks; each call may be of several views at once, with
    guidance of each twice. `peak_memory_mb` is the most that this process has held so far.
    """
    marks: dict[str, float] = {}
    begin = time.perf_counter()
    with counted_calls(networks) as calls:
        yield marks
    marks["seconds"] = round(time.perf_counter() - begin, 2)
    if networks:
        marks["network_calls"] = float(sum(calls.values()))
    peak = peak_memory_mb()
    if peak is not None:
        marks["peak_memory_mb"] = peak


def recipe_pictures(
    recipe: Recipe,
    photo: Foreground,
    cameras_at: Callable[[float], Cameras],
    rng: Generator,
    *,
    supersample: int,
    expected_stages: int,
    report: Report = silent,
) -> dict[str, Float[Tensor, "n h w 3"]]:
    """Make an asset, and draw what it looked like all round while it came to be.

    The stage `matte` is not run: the photograph's own alpha and framing are the truth, and the
    cameras would not fit a subject that was framed anew. No other stage is helped.

    Args:
        recipe: Takes a photograph, a generator and a runner of stages.
        photo: The framed photograph.
        cameras_at: Gives the cameras for the elevation that the recipe took the photograph to be
            from; they stand in the frame that it draws and fits in.
        rng: Of the recipe.
        supersample: Of the drawings of the mesh.
        expected_stages: For `report`.
        report: Called with the fraction done.

    Returns:
        Pictures over white: one entry for each stage that gave Gaussians, by the stage's name, and
        `mesh`, the asset's mesh moved back to where it was fitted.
    """
    stages = WatchedStages({"matte": photo}, report=report, expected=expected_stages)
    asset = recipe(Image(photo.rgb, photo.alpha), rng, stages)
    cameras = cameras_at(stages.notes["photo_elevation_deg"])
    pictures = {
        name: render_gaussians(value, cameras).rgb.detach()
        for name, value in stages.results.items()
        if isinstance(value, Gaussians)
    }
    mesh = unmoved(asset.mesh, stages.notes["world_from_fitted"])
    pictures["mesh"] = render_mesh(mesh, cameras, supersample=supersample, geometry=False).rgb
    return pictures


def unmoved(mesh: Mesh, world_from_fitted: dict[str, Any]) -> Mesh:
    """Undo the centring of an asset: p_world = scale * p_fitted + shift."""
    vertices = mesh.vertices
    shift = vertices.new_tensor(world_from_fitted["shift"])
    return replace(mesh, vertices=(vertices - shift) / world_from_fitted["scale"])
