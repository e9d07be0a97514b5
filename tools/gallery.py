"""Draw assets of several methods beside one another, as one picture or as a page.

python tools/gallery.py PHOTOS -o gallery.png im3d=out/im3d hi3d=out/hi3d
python tools/gallery.py PHOTOS -o docs/site/gallery.md --pictures docs/images/gallery im3d=out/im3d

PHOTOS is a folder of photographs; each METHOD=FOLDER holds one asset folder a photograph, of the
photograph's name without its suffix. What is not there stays empty. The page shows the photographs
that `credits.json` in its folder of pictures names: what cannot be credited is not published.
"""

import argparse
import os
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image as PilImage
from PIL import ImageDraw
from torch import Tensor

from roundview.camera import Cameras
from roundview.export.files import atomic_path, encoded, quantised, read_json, write_bytes
from roundview.export.glb import load_glb
from roundview.image import composite, resize
from roundview.photo import load_image
from roundview.surface.raster import render_mesh

SIDES_DEG = (0.0, 60.0, 180.0, 270.0)
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}
LABEL_PX = 18
WEBP_QUALITY = 70
"""Chosen by us: below it the edges of 144 pixel pictures fray."""

HEAD = """# Gallery

What the five recipes make of the same photographs: quality draft, seed 0, 20,000 triangles, the small models that are part of the package, on a CPU. Each strip shows the mesh from the front, 60 degrees round, from behind and from its right side, and its shape (the normals, 60 degrees round). Nothing was chosen: one run each. What they cost and how good they are by measure: [results](../results.md). The page and its pictures are made by `tools/gallery.py`.
"""  # noqa: E501  a paragraph of the page


def sides(path: Path, size_px: int) -> Float[Tensor, "h w 4"]:
    """Draw the mesh of an asset from its sides, then its normals, on nothing."""
    cameras = Cameras.orbit(
        list(SIDES_DEG), elevation_deg=15.0, radius=1.75, fov_deg=40.0, size_hw=(size_px, size_px)
    )
    views = render_mesh(load_glb(path), cameras, supersample=3)
    assert views.normal is not None
    # As the camera sees them: the world's would colour the back like the front.
    rotation = cameras.world_from_camera[1, :3, :3]
    shape = 0.5 + 0.5 * views.normal[1] @ rotation * torch.tensor([1.0, -1.0, -1.0])
    rgb = torch.cat([views.straight_rgb(), shape[None]])
    alpha = torch.cat([views.alpha, views.alpha[1:2]])
    return torch.cat(list(torch.cat([rgb, alpha[..., None]], dim=-1)), dim=1).clamp(0, 1)


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


def write_sheet(
    photos: list[Path], methods: dict[str, Path], output: Path, *, size_px: int
) -> None:
    """Write one picture: a row a photograph, a group of columns a method."""
    wide = size_px * (len(SIDES_DEG) + 1)
    rows = []
    for photo in photos:
        row = [shown(photo, size_px)]
        for folder in methods.values():
            path = folder / photo.stem / "asset.glb"
            strip = sides(path, size_px) if path.is_file() else torch.zeros(size_px, wide, 4)
            row.append(composite(strip[..., :3], strip[..., 3], (1.0, 1.0, 1.0)))
        rows.append(torch.cat(row, dim=1))
    grid = quantised(torch.cat(rows), bits=8)
    sheet = PilImage.new("RGB", (grid.shape[1], grid.shape[0] + LABEL_PX), "white")
    sheet.paste(PilImage.fromarray(grid), (0, LABEL_PX))
    draw = ImageDraw.Draw(sheet)
    draw.text((4, 3), "photograph", fill="black")
    for k, name in enumerate(methods):
        left = size_px + wide * k
        draw.text((left + 4, 3), name, fill="black")
        draw.line([(left, 0), (left, sheet.height)], fill="grey")
    with atomic_path(output) as temporary:
        sheet.save(temporary)


def write_page(
    photos: list[Path], methods: dict[str, Path], output: Path, *, pictures: Path, size_px: int
) -> None:
    """Write a page in Markdown, and its pictures; a table a photograph, a row a method."""
    credits = read_json(pictures / "credits.json")
    at = Path(os.path.relpath(pictures, output.parent)).as_posix()
    lines = [HEAD]
    for photo in photos:
        if photo.stem not in credits:
            continue
        title, credit = credits[photo.stem]
        name = f"{photo.stem}.webp"
        _write_webp(pictures / name, shown(photo, size_px))
        lines += [f"## {title}", "", f"![The photograph of the {title.lower()}]({at}/{name})", ""]
        lines += [f"*Photograph: {credit}.*", ""]
        for method, folder in methods.items():
            asset = folder / photo.stem / "asset.glb"
            lines += [f"[{method}](recipes/{method}.md)", ""]
            if not asset.is_file():
                lines += ["Not made.", ""]
                continue
            name = f"{photo.stem}-{method}.webp"
            _write_webp(pictures / name, sides(asset, size_px))
            alt = f"{title} by {method}: front, 60 degrees round, back, right side; its shape"
            lines += [f"![{alt}]({at}/{name})", ""]
    write_bytes(output, "\n".join(lines).encode())


def _write_webp(path: Path, picture: Float[Tensor, "h w c"]) -> None:
    levels = quantised(picture, bits=8)
    write_bytes(path, encoded(levels, "WEBP", quality=WEBP_QUALITY, method=6))


def main() -> None:
    """Read the command line and write the picture or the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("photos", type=Path)
    parser.add_argument("methods", nargs="+", help="METHOD=FOLDER")
    parser.add_argument("-o", "--output", type=Path, required=True, help=".png or .md")
    parser.add_argument("--pictures", type=Path, help="folder of a page's pictures")
    parser.add_argument("--size", type=int, default=144, help="side of each picture, pixels")
    given = parser.parse_args()
    photos = sorted(p for p in given.photos.iterdir() if p.suffix.lower() in SUFFIXES)
    methods = {}
    for word in given.methods:
        name, _, folder = word.partition("=")
        methods[name] = Path(folder)
    if given.output.suffix == ".md":
        if given.pictures is None:
            parser.error("a page needs --pictures, the folder of its pictures and credits.json")
        write_page(photos, methods, given.output, pictures=given.pictures, size_px=given.size)
    else:
        write_sheet(photos, methods, given.output, size_px=given.size)
    print(f"wrote {given.output}: {len(photos)} photographs, {len(methods)} methods")


if __name__ == "__main__":
    main()
