"""Draw assets of several methods beside one another: a row a photograph, a group a method.

python tools/gallery.py PHOTOS -o gallery.png im3d=out/im3d hi3d=out/hi3d

PHOTOS is a folder of photographs; each METHOD=FOLDER holds one asset folder a photograph, of the
photograph's name without its suffix. What is not there stays empty.
"""

import argparse
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image as PilImage
from PIL import ImageDraw
from torch import Tensor

from roundview.camera import Cameras
from roundview.export.files import atomic_path
from roundview.export.glb import load_glb
from roundview.image import composite, resize
from roundview.photo import load_image
from roundview.surface.raster import render_mesh

SIDES_DEG = (0.0, 60.0, 180.0, 270.0)
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}
LABEL_PX = 18


def sides(path: Path, size_px: int) -> Float[Tensor, "h w 3"]:
    """Draw the mesh of an asset from its sides, or grey where there is none."""
    if not path.is_file():
        return torch.full((size_px, size_px * len(SIDES_DEG), 3), 0.93)
    cameras = Cameras.orbit(
        list(SIDES_DEG), elevation_deg=15.0, radius=1.9, fov_deg=40.0, size_hw=(size_px, size_px)
    )
    views = render_mesh(load_glb(path), cameras, supersample=2, geometry=False)
    return torch.cat(list(views.rgb), dim=1)


def shown(path: Path, size_px: int) -> Float[Tensor, "h w 3"]:
    """Fit a photograph into a square over white."""
    image = load_image(path)
    rgb = image.rgb if image.alpha is None else composite(image.rgb, image.alpha, (1.0, 1.0, 1.0))
    h, w = rgb.shape[:2]
    scale = size_px / max(h, w)
    small = resize(rgb[None], (max(1, round(h * scale)), max(1, round(w * scale))))[0].clamp(0, 1)
    square = torch.ones(size_px, size_px, 3)
    top, left = (size_px - small.shape[0]) // 2, (size_px - small.shape[1]) // 2
    square[top : top + small.shape[0], left : left + small.shape[1]] = small
    return square


def main() -> None:
    """Read the command line and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("photos", type=Path)
    parser.add_argument("methods", nargs="+", help="METHOD=FOLDER")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--size", type=int, default=96, help="side of each picture, pixels")
    given = parser.parse_args()
    photos = sorted(p for p in given.photos.iterdir() if p.suffix.lower() in SUFFIXES)
    methods = [tuple(word.split("=", 1)) for word in given.methods]
    rows = []
    for photo in photos:
        found = [
            sides(Path(folder) / photo.stem / "asset.glb", given.size) for _, folder in methods
        ]
        rows.append(torch.cat([shown(photo, given.size), *found], dim=1))
    grid = (torch.cat(rows).numpy() * 255).round().astype("uint8")
    sheet = PilImage.new("RGB", (grid.shape[1], grid.shape[0] + LABEL_PX), "white")
    sheet.paste(PilImage.fromarray(grid), (0, LABEL_PX))
    draw = ImageDraw.Draw(sheet)
    draw.text((4, 3), "photograph", fill="black")
    for k, (name, _) in enumerate(methods):
        left = given.size * (1 + k * len(SIDES_DEG))
        draw.text((left + 4, 3), name, fill="black")
        draw.line([(left, 0), (left, sheet.height)], fill="grey")
    with atomic_path(given.output) as temporary:
        sheet.save(temporary)
    print(f"wrote {given.output}: {len(photos)} photographs, {len(methods)} methods")


if __name__ == "__main__":
    main()
