"""What the mesh rasteriser costs, against rays and OpenGL, and what antialiasing adds to it.

    python benchmarks/mesh_raster.py [--quick]

Peers, each left out if it is not installed: embreex (Intel Embree, a ray a pixel), which gives the
face, depth and shares at each pixel as our z-buffer does; and pyrender (OpenGL without a window;
needs EGL, without a GPU that of Mesa's llvmpipe), which gives colour and depth as our plain picture
does. "Forward" draws the antialiased picture, "and back" goes back to vertices and texture as well.
All run in one process, in turn, on one thread; the figures are the least processor time of several
rounds, so that other programs on the machine count little.
"""

import argparse
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["ROUNDVIEW_THREADS"] = "1"
os.environ["LP_NUM_THREADS"] = "0"  # llvmpipe: draw in the thread that asks
os.environ.setdefault("PYOPENGL_PLATFORM", "egl")

import numpy as np
import torch
from torch import Tensor

from roundview.camera import Cameras, rays
from roundview.mesh import Mesh, Texture
from roundview.surface.antialias import edges_of
from roundview.surface.antialias_render import render_mesh_antialiased
from roundview.surface.raster import nearest_faces, render_mesh

SIZES = ((8_000, 256), (8_000, 512), (100_000, 512))
FOV_DEG = 49.13
Draw = Callable[[], np.ndarray]


def bumpy_ball(faces: int) -> Mesh:
    """A ball with bumps and a texture of noise, of about this many faces."""
    count = round(math.sqrt(faces / 2))
    u, v = torch.meshgrid(*(torch.linspace(0, 1, count + 1) for _ in range(2)), indexing="xy")
    around, down = 2 * math.pi * u, math.pi * v
    radius = 0.4 + 0.05 * (7 * around).sin() * (9 * down).sin() * down.sin()
    place = torch.stack([down.sin() * around.sin(), down.cos(), down.sin() * around.cos()], -1)
    number = torch.arange(u.numel()).reshape(u.shape)
    a, b, c, d = number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]
    corners = torch.cat([torch.stack([a, b, c], -1), torch.stack([a, c, d], -1)]).reshape(-1, 3)
    return Mesh(
        (place * radius[..., None]).reshape(-1, 3),
        corners,
        torch.stack([u, v], dim=-1).reshape(-1, 2),
        Texture(torch.rand(1024, 1024, 3, generator=torch.Generator().manual_seed(0))),
    )


def embree_depth(mesh: Mesh, cameras: Cameras) -> Draw | None:
    """Depth at each pixel by one ray each."""
    try:
        from embreex.mesh_construction import TriangleMesh  # noqa: PLC0415  an optional peer
        from embreex.rtcore_scene import EmbreeScene  # noqa: PLC0415
    except ImportError:
        return None
    scene = EmbreeScene()
    TriangleMesh(scene, mesh.vertices.numpy(), mesh.faces.numpy().astype(np.int32))
    # Not of unit length: what Embree calls distance is then depth along the axis.
    direction = rays(cameras).reshape(-1, 3).numpy()
    origin = np.tile(cameras.origin.numpy(), (len(direction), 1))

    def draw() -> np.ndarray:
        hit = scene.run(origin, direction, output=True)
        return np.where(hit["primID"] >= 0, hit["tfar"], 0).reshape(cameras.size_hw)

    return draw


def opengl_depth(mesh: Mesh, cameras: Cameras) -> Draw | None:
    """Colour and depth by OpenGL; its depth is handed back."""
    np.__dict__.setdefault("infty", np.inf)  # pyrender is written for NumPy 1
    try:
        import pyrender  # noqa: PLC0415  an optional peer  # pyright: ignore[reportMissingImports]

        assert mesh.uv is not None
        assert mesh.texture is not None
        picture = (mesh.texture.rgb * 255).byte().numpy()
        flipped = mesh.uv.numpy() * [1, -1] + [0, 1]
        material = pyrender.MetallicRoughnessMaterial(
            baseColorTexture=pyrender.Texture(source=picture, source_channels="RGB")
        )
        primitive = pyrender.Primitive(
            positions=mesh.vertices.numpy(),
            indices=mesh.faces.numpy(),
            texcoord_0=flipped,
            material=material,
        )
        h, w = cameras.size_hw
        renderer = pyrender.OffscreenRenderer(w, h)
    except (ImportError, AttributeError) as problem:
        print(f"pyrender is left out: {problem}", file=sys.stderr)
        return None
    scene = pyrender.Scene(ambient_light=[1.0, 1.0, 1.0], bg_color=[1.0, 1.0, 1.0])
    scene.add(pyrender.Mesh([primitive]))
    # OpenGL's camera looks along -z with y up; ours along +z with y down.
    pose = cameras.world_from_camera[0].numpy() @ np.diag([1.0, -1.0, -1.0, 1.0])
    scene.add(pyrender.PerspectiveCamera(yfov=math.radians(FOV_DEG), znear=0.1), pose=pose)
    flags = pyrender.RenderFlags.FLAT | pyrender.RenderFlags.SKIP_CULL_FACES
    return lambda: renderer.render(scene, flags=flags)[1]


def antialiased_there_and_back(mesh: Mesh, cameras: Cameras) -> tuple[Draw, Draw]:
    """The differentiable picture, without and with its slopes."""
    assert mesh.texture is not None
    vertices, texels = (t.clone().requires_grad_() for t in (mesh.vertices, mesh.texture.rgb))
    moving = replace(mesh, vertices=vertices, texture=Texture(texels))
    edges = edges_of(mesh)

    def forward() -> np.ndarray:
        return render_mesh_antialiased(mesh, cameras, edges=edges).rgb.numpy()

    def back() -> np.ndarray:
        rgb: Tensor = render_mesh_antialiased(moving, cameras, edges=edges).rgb
        return torch.autograd.grad(rgb.square().sum(), (vertices, texels))[0].numpy()

    return forward, back


def compare(faces: int, side: int, rounds: int) -> str:
    """One row of the table."""
    mesh = bumpy_ball(faces)
    cameras = Cameras.orbit(
        [20.0], elevation_deg=20.0, radius=1.5, fov_deg=FOV_DEG, size_hw=(side, side)
    )
    forward, back = antialiased_there_and_back(mesh, cameras)

    def buffer() -> np.ndarray:
        return nearest_faces(mesh, cameras)[1][0].numpy()

    def plain() -> np.ndarray:
        return render_mesh(mesh, cameras, supersample=1, geometry=False).rgb.numpy()

    draws: dict[str, Draw | None] = {
        "buffer": buffer,
        "rays": embree_depth(mesh, cameras),
        "plain": plain,
        "opengl": opengl_depth(mesh, cameras),
        "forward": forward,
        "back": back,
    }
    drawers = {name: draw for name, draw in draws.items() if draw is not None}
    for name in {"rays", "opengl"} & drawers.keys():
        # Pixels at the outline may fall to either side, and OpenGL's depth is that of one of the
        # samples of a pixel, not of its middle.
        wrong = float((np.abs(drawers[name]() - buffer()) > 1e-2).mean())
        assert wrong < 0.02, f"{name} sees something else at {wrong:.1%} of the pixels"
    least = dict.fromkeys(draws, math.inf)
    for _ in range(rounds):
        for name, draw in drawers.items():
            start = time.process_time()
            draw()
            least[name] = min(least[name], time.process_time() - start)

    def ratio(one: str, other: str) -> str:
        value = least[one] / least[other]
        return f"{value:.1f}x" if math.isfinite(value) else "-"

    return (
        f"| {faces // 1000}k @ {side} | {1e3 * least['buffer']:.1f} | {ratio('rays', 'buffer')} "
        f"| {1e3 * least['plain']:.1f} | {ratio('opengl', 'plain')} "
        f"| {ratio('forward', 'plain')} | {ratio('back', 'plain')} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the smallest size, 5 rounds")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    print("Processor ms on one thread; ratios over the column to their left that is in ms")
    print(
        "| faces @ side | z-buffer | rays | plain picture | OpenGL | antialiased, forward "
        "| and back |"
    )
    print("|---|---|---|---|---|---|---|")
    for faces, side in SIZES[:1] if quick else SIZES:
        print(compare(faces, side, 5 if quick else 15), flush=True)


if __name__ == "__main__":
    main()
