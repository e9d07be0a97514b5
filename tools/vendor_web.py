"""Bundle what the web page uses of three.js into one file of the package, with its licence.

And copy what the documentation's site needs to be searched from the disk.

    python tools/vendor_web.py

Needs npm and its registry; run it to take a newer version, then look at the page. Users need none
of this: the bundle is part of the package.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

THREE, ESBUILD, WORKER = "three@0.187.0", "esbuild@0.28.2", "iframe-worker@1.0.4"
REPOSITORY = Path(__file__).resolve().parents[1]
VENDOR = REPOSITORY / "src" / "roundview" / "serve" / "page" / "vendor"
ASSETS = REPOSITORY / "docs" / "assets"
NAMES = (
    *("AmbientLight", "Box3", "BufferAttribute", "CustomBlending", "DataTexture"),
    *("DirectionalLight", "FloatType", "GLSL3", "InstancedBufferAttribute"),
    *("InstancedBufferGeometry", "Mesh", "MeshBasicMaterial", "MeshNormalMaterial"),
    *("MeshStandardMaterial", "OneFactor", "OneMinusSrcAlphaFactor", "PerspectiveCamera"),
    *("RawShaderMaterial", "Scene", "Vector2", "Vector3", "WebGLRenderer"),
)
"""What the page imports; the rest of the library is left out where it can be."""


def main() -> None:
    """Install, bundle and copy."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "package.json").write_text('{"private": true}')
        install = ["npm", "install", "--no-fund", "--no-audit", "--ignore-scripts"]
        subprocess.run([*install, THREE, ESBUILD, WORKER], cwd=folder, check=True)
        entry = folder / "entry.js"
        entry.write_text(
            f'export {{ {", ".join(NAMES)} }} from "three";\n'
            'export { GLTFLoader } from "three/addons/loaders/GLTFLoader.js";\n'
            'export { OrbitControls } from "three/addons/controls/OrbitControls.js";\n'
        )
        VENDOR.mkdir(parents=True, exist_ok=True)
        bundle = VENDOR / "three.min.js"
        banner = f"--banner:js=/* {THREE}, MIT licence: see three.LICENSE.txt */"
        options = ["--bundle", "--format=esm", "--minify", "--legal-comments=none", banner]
        esbuild = folder / "node_modules" / ".bin" / "esbuild"
        subprocess.run([esbuild, entry, *options, f"--outfile={bundle}"], cwd=folder, check=True)
        shutil.copy(folder / "node_modules" / "three" / "LICENSE", VENDOR / "three.LICENSE.txt")
        worker = folder / "node_modules" / "iframe-worker"
        ASSETS.mkdir(parents=True, exist_ok=True)
        shutil.copy(worker / "shim" / "index.js", ASSETS / "iframe-worker.min.js")
        shutil.copy(worker / "LICENSE", ASSETS / "iframe-worker.LICENSE.txt")
        print(f"wrote {bundle}: {bundle.stat().st_size} bytes")


if __name__ == "__main__":
    main()
