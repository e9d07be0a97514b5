from dataclasses import replace

import pytest
import torch
from torch import Tensor

from roundview.camera import Cameras
from roundview.mesh import Mesh, face_normals, mesh_health
from roundview.metrics import psnr
from roundview.surface.isosurface import mesh_from_density
from roundview.surface.raster import render_mesh
from roundview.surface.refine import Refining, refine_mesh
from roundview.views import Views


def ring(side: int = 48, elevation_deg: float = 20.0) -> Cameras:
    return Cameras.orbit(
        [60.0 * k for k in range(6)],
        elevation_deg=elevation_deg,
        radius=1.5,
        fov_deg=49.13,
        size_hw=(side, side),
    )


def ball(radius: float, resolution: int = 14) -> Mesh:
    def inside(points: Tensor) -> Tensor:
        return radius - points.norm(dim=-1)

    mesh = mesh_from_density(inside, level=0.0, half_width=0.5, resolution=resolution)
    return replace(mesh, vertex_rgb=0.5 + mesh.vertices)


def pictures(mesh: Mesh, cameras: Cameras) -> Views:
    return render_mesh(mesh, cameras, supersample=4, geometry=False)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unevenness(mesh: Mesh) -> float:
    """How much the distances of the vertices from the middle differ."""
    return float(mesh.vertices.norm(dim=-1).std())


def test_a_ball_grows_to_its_outlines() -> None:
    small = ball(0.36)
    grown = refine_mesh(small, pictures(ball(0.4, 30), ring()), steps=60, rng=rng())
    before, after = (m.vertices.norm(dim=-1).mean() for m in (small, grown))
    assert float(before) < 0.365
    assert float(after) == pytest.approx(0.4, abs=0.004)
    assert unevenness(grown) < 0.01


def test_pictures_from_elsewhere_gain() -> None:
    truth = ball(0.4, 30)
    stretched = replace(truth, vertices=truth.vertices * torch.tensor([1.0, 0.8, 1.0]))
    start = ball(0.38)
    refined = refine_mesh(start, pictures(stretched, ring()), steps=60, rng=rng())
    wanted = pictures(stretched, ring(elevation_deg=-10.0))
    scores = [
        float(psnr(pictures(mesh, wanted.cameras).rgb, wanted.rgb).mean())
        for mesh in (start, refined)
    ]
    assert scores[1] > scores[0] + 6


def test_a_mesh_that_agrees_stays() -> None:
    mesh = ball(0.4)
    settings = Refining(rate=1e-4)
    after = refine_mesh(mesh, pictures(mesh, ring()), steps=12, rng=rng(), settings=settings)
    assert float((after.vertices - mesh.vertices).norm(dim=-1).max()) < 1e-3


def test_topology_and_colours_stay_and_no_face_turns_over() -> None:
    mesh = ball(0.3)
    # Much too large steps.
    settings = Refining(rate=0.1, smoothing=0.0)
    after = refine_mesh(mesh, pictures(ball(0.45), ring()), steps=20, rng=rng(), settings=settings)
    assert after.faces is mesh.faces
    assert after.vertex_rgb is mesh.vertex_rgb
    assert float((after.vertices - mesh.vertices).norm(dim=-1).max()) > 0.05
    assert bool(((face_normals(after) * face_normals(mesh)).sum(dim=-1) > 0).all())
    assert mesh_health(after) == mesh_health(mesh)


def test_vertices_of_a_seam_stay_together() -> None:
    mesh = ball(0.36)
    loose = Mesh(
        mesh.vertices[mesh.faces].reshape(-1, 3),
        torch.arange(3 * len(mesh.faces)).reshape(-1, 3),
    )
    grey = Mesh(mesh.vertices, mesh.faces)
    target = pictures(ball(0.4), ring())
    apart, together = (refine_mesh(m, target, steps=5, rng=rng()) for m in (loose, grey))
    torch.testing.assert_close(
        apart.vertices, together.vertices[mesh.faces].reshape(-1, 3), rtol=1e-4, atol=1e-5
    )


def test_same_seed_same_vertices() -> None:
    target = pictures(ball(0.4), ring())
    once, again, other = (
        refine_mesh(ball(0.36), target, steps=8, rng=rng(seed)).vertices for seed in (1, 1, 2)
    )
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def test_views_of_no_weight_do_not_count() -> None:
    true, false = pictures(ball(0.4), ring()), pictures(ball(0.2), ring())
    rgb, alpha = true.rgb.clone(), true.alpha.clone()
    rgb[3:], alpha[3:] = false.rgb[3:], false.alpha[3:]
    mixed = Views(rgb, alpha, true.cameras)
    weights = torch.tensor([1.0, 1, 1, 0, 0, 0])
    after = refine_mesh(ball(0.37), mixed, steps=60, rng=rng(), view_weights=weights)
    assert float(after.vertices.norm(dim=-1).mean()) > 0.385


def test_nothing_to_move_is_handed_back() -> None:
    empty = Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64))
    assert refine_mesh(empty, pictures(ball(0.4), ring()), rng=rng()) is empty


@pytest.mark.parametrize("weights", [[1.0], [-1.0] + [1.0] * 5, [0.0] * 6])
def test_weights_that_do_not_fit_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="view_weights"):
        refine_mesh(
            ball(0.4), pictures(ball(0.4), ring()), rng=rng(), view_weights=torch.tensor(weights)
        )


def test_no_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="a step at least"):
        refine_mesh(ball(0.4), pictures(ball(0.4), ring()), steps=0, rng=rng())


def test_progress_is_reported() -> None:
    heard: list[float] = []
    target = pictures(ball(0.4), ring(16))
    refine_mesh(ball(0.4), target, steps=21, rng=rng(), report=heard.append)
    assert heard == [0.0, 10 / 21, 20 / 21, 1.0]
