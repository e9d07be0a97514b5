"""Claims about our files in other people's programs: three.js in Chromium, and Blender.

Each runs where the program is installed: `npm install --no-save three`, a Chromium on the path,
`pip install bpy`.
"""

import functools
import http.server
import importlib.util
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fakes import block

from roundview.export.convert import save_as
from roundview.export.files import read_png
from roundview.export.glb import save_glb
from roundview.export.three_mf import save_3mf
from roundview.mesh import Mesh, Texture

THREE = Path("node_modules/three").absolute()
CHROMIUM = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    ),
    None,
)
SIZE = 256
RED, YELLOW, BLUE, GREEN = (0.8, 0.1, 0.1), (0.9, 0.8, 0.1), (0.1, 0.2, 0.7), (0.1, 0.6, 0.2)

PAGE = """<!DOCTYPE html>
<style>body { margin: 0; background: white }</style>
<script type="importmap">{"imports": {"three": "/three/build/three.module.js"}}</script>
<script type="module">
import * as THREE from "three";
import { LOADER } from "/three/examples/jsm/loaders/MODULE.js";
const renderer = new THREE.WebGLRenderer({antialias: true, preserveDrawingBuffer: true});
renderer.setSize(SIZE, SIZE);
document.body.appendChild(renderer.domElement);
const scene = new THREE.Scene();
scene.background = new THREE.Color("white");
scene.add(new THREE.AmbientLight("white", Math.PI));
const camera = new THREE.PerspectiveCamera(49.13, 1, 0.1, 10);
camera.position.set(...EYE);
camera.lookAt(0, 0, 0);
new LOADER().load("/FILE", (loaded) => {
  const asset = loaded.scene ?? loaded;
  if ("FILE".endsWith(".3mf")) {  // +Z up, 80 mm tall, standing on the plate
    asset.rotation.x = -Math.PI / 2;
    asset.scale.setScalar(1 / 80);
    asset.position.y = -0.5;
  }
  scene.add(asset);
  // Again and again: some loaders finish before their pictures are decoded.
  renderer.setAnimationLoop(() => renderer.render(scene, camera));
});
</script>
"""


def sided() -> Mesh:
    """The block in a texture: red in front with a yellow upper left, blue behind, green at +X."""
    mesh = block()
    assert mesh.vertex_rgb is not None
    rgb = torch.full((4, 4, 3), 0.5)
    rgb[:2, :2] = torch.tensor(RED)
    rgb[0, 0] = torch.tensor(YELLOW)
    rgb[:2, 2:], rgb[2:, :2] = torch.tensor(BLUE), torch.tensor(GREEN)
    rgb = rgb.repeat_interleave(16, 0).repeat_interleave(16, 1)  # no texel near another's rim
    uv = torch.full((24, 2), 0.75)
    for side, (left, top) in {"+z": (0.0, 0.0), "-z": (0.5, 0.0), "+x": (0.0, 0.5)}.items():
        axis, sign = "xyz".index(side[1]), 1 if side[0] == "+" else -1
        members = torch.arange(24) // 4 == 2 * axis + (sign < 0)
        place = mesh.vertices[members]
        across = place[:, 0] * sign if axis == 2 else -place[:, 2] * sign
        # What is left in the picture is left when one stands before that side.
        uv[members, 0] = left + torch.where(across < 0, 0.02, 0.48)
        uv[members, 1] = top + torch.where(place[:, 1] > 0, 0.02, 0.48)
    return Mesh(mesh.vertices, mesh.faces, uv, Texture(rgb))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder with three.js in it, and its address."""
    if CHROMIUM is None or not (THREE / "build" / "three.module.js").is_file():
        pytest.skip("needs Chromium and node_modules/three (npm install --no-save three)")
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "three").symlink_to(THREE)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def screenshot(
    folder: Path, address: str, eye: tuple[float, float, float], *, file: str = "asset.glb"
) -> torch.Tensor:
    """Draw the file from there, looking at the origin."""
    loader = {".glb": ("GLTFLoader", "GLTFLoader"), ".3mf": ("ThreeMFLoader", "3MFLoader")}
    name, module = loader[Path(file).suffix]
    page = PAGE.replace("SIZE", str(SIZE)).replace("EYE", str(list(eye))).replace("FILE", file)
    page = page.replace("LOADER", name).replace("MODULE", module)
    (folder / "index.html").write_text(page)
    picture = folder / "seen.png"
    assert CHROMIUM is not None
    command = [
        *(CHROMIUM, "--headless", "--no-sandbox", "--use-angle=swiftshader", "--disable-quic"),
        *("--enable-unsafe-swiftshader", "--no-first-run", "--disable-background-networking"),
        *("--disable-component-update", "--disable-sync", "--hide-scrollbars"),
        *(f"--user-data-dir={folder / 'profile'}", f"--window-size={SIZE},{SIZE}"),
        *("--virtual-time-budget=20000", f"--screenshot={picture}", f"{address}/index.html"),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=180)
    return read_png(picture)[:SIZE, :SIZE, :3]


def colour_at(picture: torch.Tensor, x: float, y: float) -> tuple[float, float, float]:
    """Look up a colour at fractions of the picture, from the left and from the top."""
    r, g, b = picture[int(y * SIZE), int(x * SIZE)].tolist()
    return r, g, b


@pytest.mark.slow
@pytest.mark.parametrize("quantize", [False, True])
def test_three_js_shows_the_photographed_side_towards_plus_z(
    quantize: bool, served: tuple[Path, str]
) -> None:
    folder, address = served
    save_glb(sided(), folder / "asset.glb", quantize=quantize)
    front = screenshot(folder, address, (0.0, 0.0, 1.5))
    assert_front(front)
    assert colour_at(screenshot(folder, address, (1.5, 0.0, 0.0)), 0.5, 0.5) == pytest.approx(
        GREEN, abs=0.03
    )
    assert colour_at(screenshot(folder, address, (0.0, 0.0, -1.5)), 0.5, 0.5) == pytest.approx(
        BLUE, abs=0.03
    )


@pytest.mark.slow
def test_three_js_shows_the_texture_of_a_3mf(served: tuple[Path, str]) -> None:
    folder, address = served
    save_3mf(sided(), folder / "asset.3mf")
    assert_front(screenshot(folder, address, (0.0, 0.0, 1.5), file="asset.3mf"))


def assert_front(front: torch.Tensor) -> None:
    # The front is 0.6 by 1, 1.25 away: half of the height of the picture is 0.571 there.
    tall = (front.mean(dim=-1) < 0.9).any(dim=1).nonzero()
    assert int(tall.max() - tall.min()) == pytest.approx(SIZE * 0.5 / 0.571, abs=3)
    for (x, y), wanted in {
        (0.4, 0.3): YELLOW,
        (0.6, 0.3): RED,
        (0.4, 0.7): RED,
        (0.05, 0.5): (1.0, 1.0, 1.0),
    }.items():
        assert colour_at(front, x, y) == pytest.approx(wanted, abs=0.03)


BLENDER = """
import json, sys
import bpy
bpy.ops.wm.read_factory_settings(use_empty=True)
read = bpy.ops.wm.usd_import if sys.argv[-1].endswith(".usdz") else bpy.ops.import_scene.gltf
read(filepath=sys.argv[-1])
meshes = [one for one in bpy.data.objects if one.type == "MESH"]
corners = [tuple(one.matrix_world @ v.co) for one in meshes for v in one.data.vertices]
nodes = [n for m in bpy.data.materials if m.use_nodes for n in m.node_tree.nodes]
images = [n.image for n in nodes if n.type == "TEX_IMAGE"]
print("FOUND" + json.dumps({
    "meshes": len(meshes),
    "faces": sum(len(one.data.polygons) for one in meshes),
    "low": [min(c[k] for c in corners) for k in range(3)],
    "high": [max(c[k] for c in corners) for k in range(3)],
    "textures": [list(image.size) for image in images],
    "spaces": [image.colorspace_settings.name for image in images],
}))
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("bpy") is None, reason="pip install bpy")
@pytest.mark.parametrize("name", ["b.glb", "small.glb", "b.usdz"])
def test_blender_finds_one_upright_mesh_with_its_texture(name: str, tmp_path: Path) -> None:
    if name == "b.usdz":
        pytest.importorskip("pxr", reason="pip install roundview[usd]")
    mesh = sided()
    # Taller above than below, further to the front than to the back.
    moved = Mesh(mesh.vertices + torch.tensor([0.0, 0.2, 0.1]), mesh.faces, mesh.uv, mesh.texture)
    save_as(moved, tmp_path / name, quantize=name == "small.glb")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BLENDER, str(tmp_path / name)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND")]
    assert lines, done.stderr[-2000:]
    found = json.loads(lines[0].removeprefix("FOUND"))
    assert (found["meshes"], found["faces"]) == (1, 12)
    assert found["textures"] == [[64, 64]]
    assert found["spaces"] == ["sRGB"]
    # Blender's up is +Z, and our front faces its -Y.
    assert found["low"] == pytest.approx([-0.3, -0.35, -0.3], abs=1e-4)
    assert found["high"] == pytest.approx([0.3, 0.15, 0.7], abs=1e-4)
