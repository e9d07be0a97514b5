"""Claims about reduced meshes: few enough faces, the old colours at the old places."""

import torch

from roundview.camera import Cameras
from roundview.export.reduce import reduced
from roundview.mesh import Mesh, Texture, mesh_health
from roundview.surface.raster import render_mesh


def ball(sides: int = 24) -> Mesh:
    """A textured ball, red where x < 0, blue where x > 0; a seam along one meridian."""
    u = torch.linspace(0, 1, 2 * sides + 1)
    v = torch.linspace(0, 1, sides + 1)
    uv = torch.stack(torch.meshgrid(u, v, indexing="ij"), dim=-1).reshape(-1, 2)
    turn, polar = 2 * torch.pi * (uv[:, 0] % 1), torch.pi * uv[:, 1]
    # Rows of the poles fall into one place each.
    across = polar.sin() * ((uv[:, 1] > 0) & (uv[:, 1] < 1))
    place = torch.stack([across * turn.sin(), polar.cos(), across * turn.cos()], dim=-1) / 2
    width = sides + 1
    first = torch.arange(2 * sides * width).reshape(2 * sides, width)[:, :-1].reshape(-1)
    faces = torch.cat(
        [
            torch.stack([first, first + 1, first + width], dim=-1),
            torch.stack([first + 1, first + width + 1, first + width], dim=-1),
        ]
    )
    keep = torch.linalg.cross(
        place[faces[:, 1]] - place[faces[:, 0]], place[faces[:, 2]] - place[faces[:, 0]]
    ).norm(dim=-1)
    rgb = torch.zeros(64, 128, 3)
    rgb[:, :64, 2], rgb[:, 64:, 0] = 1.0, 1.0
    return Mesh(place, faces[keep > 1e-9], uv, Texture(rgb))


def seen(mesh: Mesh) -> torch.Tensor:
    cameras = Cameras.orbit(
        [0.0, 90.0, 180.0, 270.0], elevation_deg=20.0, radius=2.0, fov_deg=40.0, size_hw=(32, 32)
    )
    return render_mesh(mesh, cameras).rgb


def test_a_textured_mesh_keeps_its_looks() -> None:
    mesh = ball()
    small = reduced(mesh, 300)
    assert len(small.faces) <= 300
    assert mesh_health(small).watertight
    assert small.texture is not None
    assert tuple(small.texture.rgb.shape) == (128, 128, 3)
    assert float((seen(small) - seen(mesh)).abs().mean()) < 0.03
    side = seen(small)[1, 16, 16]
    assert int(side.argmax()) == 2  # blue towards +X


def test_vertex_colours_come_from_the_nearest_vertex() -> None:
    mesh = ball()
    rgb = (mesh.vertices[:, :1] > 0).float() * torch.tensor([0.0, 0.0, 1.0])
    small = reduced(Mesh(mesh.vertices, mesh.faces, vertex_rgb=rgb), 200)
    assert small.vertex_rgb is not None
    clear = small.vertices[:, 0].abs() > 0.1
    assert torch.equal(small.vertex_rgb[clear, 2] > 0.5, small.vertices[clear, 0] > 0)


def test_bare_and_small_meshes_pass() -> None:
    mesh = ball()
    assert reduced(mesh, len(mesh.faces)) is mesh
    bare = reduced(Mesh(mesh.vertices, mesh.faces), 100)
    assert len(bare.faces) <= 100
    assert bare.texture is None
    assert bare.vertex_rgb is None
