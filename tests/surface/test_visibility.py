import numpy as np
import pytest
import torch
from torch import Tensor

from roundview.camera import Cameras, project
from roundview.mesh import Mesh, vertex_normals
from roundview.surface.isosurface import mesh_from_density
from roundview.surface.raster import mesh_depth, render_mesh
from roundview.surface.texels import texels_of
from roundview.surface.texture_views import prepared_sources
from roundview.surface.unwrap import unwrap
from roundview.surface.visibility import (
    framed_and_facing,
    visible_by_depth,
    visible_by_rays,
    visible_points,
)

TOWARDS = torch.tensor([[0.0, 0.0, 1.0]])


def front(size: int = 64) -> Cameras:
    return Cameras.orbit([0.0], elevation_deg=0.0, radius=2.0, fov_deg=60.0, size_hw=(size, size))


def two_plates() -> Mesh:
    """A small plate at z = 0.5 before a large one at z = 0; both face +Z."""
    square = torch.tensor([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    near = square * 0.25 + torch.tensor([0.0, 0.0, 0.5])
    return Mesh(torch.cat([square, near]), torch.cat([faces, faces + 4]))


def balls() -> Mesh:
    def inside(points: Tensor) -> Tensor:
        shift = torch.tensor([0.2, 0.0, 0.0])
        return torch.maximum(
            0.15 - (points - shift).norm(dim=-1), 0.15 - (points + shift).norm(dim=-1)
        )

    return mesh_from_density(inside, level=0.0, half_width=0.5, resolution=32)


def asked(points: list[list[float]]) -> tuple[Tensor, Tensor]:
    return torch.tensor(points), TOWARDS.expand(len(points), 3)


def test_plate_hides_what_lies_in_its_shadow_to_the_hair() -> None:
    pytest.importorskip("embreex")
    # From z = 2 the plate of half-width 0.25 at z = 0.5 shades 1/3 to each side at z = 0.
    points, normals = asked([[0, 0, 0], [0.3332, 0, 0], [0.3335, 0, 0], [0, 0, 0.5], [0.9, 0, 0]])
    seen = visible_points(two_plates(), points, normals, front())
    assert seen[0].tolist() == [False, False, True, True, True]


def test_tolerance_lets_points_lie_behind_the_surface() -> None:
    pytest.importorskip("embreex")
    points, _ = asked([[0, 0, 0.48], [0, 0, 0.4]])
    assert visible_by_rays(two_plates(), points, front(), tolerance=0.05)[0].tolist() == [
        True,
        False,
    ]
    assert visible_by_rays(two_plates(), points, front())[0].tolist() == [False, False]


def test_depth_maps_say_the_same_half_a_pixel_off_the_edge() -> None:
    mesh, cameras = two_plates(), front()
    points, normals = asked([[0, 0, 0], [0.3, 0, 0], [0.37, 0, 0], [0, 0, 0.5], [0.9, 0, 0]])
    depth = mesh_depth(mesh, cameras)
    seen = visible_by_depth(points, normals, cameras, depth, tolerance=1e-4)
    assert seen[0].tolist() == [False, False, True, True, True]


def test_points_outside_the_picture_or_turned_away_are_not_seen() -> None:
    points, _ = asked([[0, 0, 0], [5.0, 0, 0], [0, 0, 3.0], [0, 0, 0]])
    normals = torch.tensor([[0.0, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, -1]])
    seen, cosine = framed_and_facing(points, normals, front())
    assert seen[0].tolist() == [True, False, False, False]
    torch.testing.assert_close(cosine[0, [0, 3]], torch.tensor([1.0, -1.0]))


def test_only_what_is_asked_about_is_answered() -> None:
    pytest.importorskip("embreex")
    points, _ = asked([[0.9, 0, 0], [0.8, 0, 0]])
    among = torch.tensor([[True, False]])
    assert visible_by_rays(two_plates(), points, front(), among=among)[0].tolist() == [True, False]
    none = torch.zeros(1, 2, dtype=torch.bool)
    assert not bool(visible_by_rays(two_plates(), points, front(), among=none).any())


def test_rays_and_depth_maps_agree_away_from_edges() -> None:
    pytest.importorskip("embreex")
    mesh = unwrap(balls(), texture_size=128)
    cameras = Cameras.orbit(
        [0.0, 40.0, 80.0], elevation_deg=20.0, radius=1.5, fov_deg=49.13, size_hw=(128, 128)
    )
    texels = texels_of(mesh, 128)
    sources = prepared_sources(mesh, render_mesh(mesh, cameras))
    facing, cosine = framed_and_facing(texels.position, texels.normal, cameras)
    rays = facing & visible_by_rays(mesh, texels.position, cameras, tolerance=0.003)
    maps = visible_by_depth(texels.position, texels.normal, cameras, sources.depth, tolerance=0.003)
    pixel = project(texels.position, cameras)[0] * sources.depth.shape[1] / 128
    at = pixel.long().clamp(0, sources.depth.shape[1] - 1)
    margin = sources.margin_px[torch.arange(3)[:, None], at[..., 1], at[..., 0]]
    inside = (margin > 1.5) & (cosine > 0.2)
    assert int(inside.sum()) > 5000
    assert int((rays & ~maps & inside).sum() + (maps & ~rays & inside).sum()) <= 0.002 * int(
        inside.sum()
    )
    # Both see some and hide some of what faces the cameras.
    assert 0.5 < float(rays[facing].float().mean()) < 1.0


def test_without_rays_depth_maps_answer_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roundview.surface.visibility.has_rays", lambda: False)
    points, normals = asked([[0, 0, 0], [0.9, 0, 0]])
    with pytest.warns(UserWarning, match="embreex"):
        seen = visible_points(two_plates(), points, normals, front(), tolerance=1e-3)
    assert seen[0].tolist() == [False, True]


def test_a_mesh_does_not_hide_itself_by_rounding() -> None:
    pytest.importorskip("embreex")
    mesh = balls()
    cameras = front(256)
    seen, cosine = framed_and_facing(mesh.vertices, vertex_normals(mesh), cameras)
    hidden = seen & ~visible_by_rays(mesh, mesh.vertices, cameras)
    # From the front the balls stand side by side: only what is turned away is hidden.
    assert float(hidden[seen & (cosine > 0.2)].float().mean()) == 0.0
    assert np.isfinite(cosine.numpy()).all()
