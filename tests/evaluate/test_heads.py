import math

import numpy as np
import pytest
import torch
from torch import Tensor

from roundview.camera import Cameras
from roundview.data.objects import ObjectFile
from roundview.data.procedural import procedural_object
from roundview.evaluate.heads import HeadsProtocol, depth_marks, evaluate_heads, pearson
from roundview.mesh import Mesh
from roundview.surface.raster import render_mesh
from roundview.views import Views

SMALL = HeadsProtocol(size_px=16, azimuths=2, elevations_deg=(0.0, 30.0), supersample=1)


def thing() -> Mesh:
    return procedural_object(np.random.default_rng(3))


def test_correlation_is_worked_by_hand() -> None:
    first = torch.tensor([[1.0, 2.0, 3.0, 99.0]])
    second = torch.tensor([[1.0, 3.0, 2.0, 0.0]])
    inside = torch.tensor([[True, True, True, False]])
    assert pearson(first, second, inside) == pytest.approx(0.5)  # 1 / (sqrt 2 sqrt 2)
    assert pearson(first, torch.zeros(1, 4), inside) == 0.0


def test_scale_and_shift_do_not_matter() -> None:
    level = torch.rand(4, 5, generator=torch.Generator().manual_seed(0))
    assert pearson(3 * level + 7, level, torch.ones(4, 5, dtype=torch.bool)) == pytest.approx(1.0)


def test_a_normal_turned_by_an_angle_is_off_by_it() -> None:
    cameras = Cameras.orbit([90.0], elevation_deg=0.0, radius=2.0, fov_deg=40.0, size_hw=(1, 2))
    world = torch.tensor([1.0, 0.0, 0.0]).expand(1, 1, 2, 3)  # Towards the camera at +X.
    ones = torch.ones(1, 1, 2)
    views = Views(world, ones, cameras, torch.tensor([[[1.0, 2.0]]]), world)
    turned = torch.tensor([math.sin(0.5), 0.0, -math.cos(0.5)]).expand(1, 1, 2, 3)
    marks = depth_marks(torch.tensor([[[2.0, 1.0]]]), turned, views)
    assert marks["normal_deg"] == [pytest.approx(math.degrees(0.5), rel=1e-4)]
    assert marks["depth_pearson"] == [pytest.approx(1.0)]


def test_views_without_geometry_are_refused() -> None:
    views = render_mesh(thing(), SMALL.cameras(0.0), supersample=1, geometry=False)
    with pytest.raises(ValueError, match="with geometry"):
        depth_marks(torch.zeros(2, 16, 16), torch.zeros(2, 16, 16, 3), views)


def test_the_truth_itself_is_marked_perfect_and_a_constant_by_its_distance() -> None:
    mesh, asked = thing(), []

    def oracle(rgb: Tensor) -> tuple[Tensor, Tensor]:
        cameras = SMALL.cameras(SMALL.elevations_deg[len(asked)])
        asked.append(len(rgb))
        views = render_mesh(mesh, cameras, supersample=1)
        assert views.depth is not None
        assert views.normal is not None
        rotation = cameras.world_from_camera[:, :3, :3]
        return 1 / views.depth.clamp(min=0.1), torch.einsum(
            "nhwi,nij->nhwj", views.normal, rotation
        )

    found = evaluate_heads(
        [ObjectFile("thing", lambda: mesh)],
        depth=oracle,
        elevation=lambda frames: 10.0,  # noqa: ARG005  it looks at nothing
        protocol=SMALL,
    )
    assert found["mean"]["depth_pearson"] == pytest.approx(1.0, abs=1e-4)
    assert found["mean"]["normal_deg"] < 0.1
    assert found["mean"]["elevation_1_deg"] == pytest.approx(15.0)  # 10 and 20 off
    assert found["mean"]["elevation_ring_deg"] == pytest.approx(15.0)
    assert [row["object"] for row in found["objects"]] == ["thing"]
