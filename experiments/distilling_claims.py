"""HiFi-123's small claims on training objects that no model was trained on: RGNV, and inversion.

    python experiments/distilling_claims.py --data objects.zip --objects 20 -o marks.jsonl

One line an object: PSNR of novel views as the orbit model and as Zero-1-to-3's kind draw them and
after RGNV, and of one picture inverted and drawn again without and with its true depth. Objects
that the file holds already are left out, so that the same command goes on. At the end the means
with paired 90% intervals.
"""

import argparse
import hashlib
import json
import random
from pathlib import Path

import torch

from roundview.data.objects import find_objects
from roundview.diffusion.depth2image import Rgnv
from roundview.evaluate.hifi import compared, enhancement_marks, inversion_marks
from roundview.evaluate.protocol import NvsProtocol, render_truth
from roundview.loaders import Wanted, load_orbit_model
from roundview.loaders.hifi123 import load_hifi123
from roundview.recipes.framing import photo_view
from roundview.stages import seeded
from roundview.surface.raster import render_mesh

PROTOCOL = NvsProtocol(size_px=128, views=5)
"""The models' size; four novel views, 72 degrees apart."""
SETTINGS = Rgnv(steps=20, kept_steps=12)
"""Of a draft."""


def main() -> None:
    """Mark the objects, one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--objects", type=int, default=20)
    parser.add_argument("--only", choices=("all", "inversion"), default="all")
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    left_out = [
        each
        for each in find_objects(asked.data)
        if hashlib.sha256(each.name.encode()).digest()[0] < 26
    ]
    random.Random(0).shuffle(left_out)
    lines = asked.output.read_text().splitlines() if asked.output.exists() else []
    marks = {entry["object"]: entry for entry in map(json.loads, lines)}
    models = load_hifi123(Wanted(use_matte=False, photo_elevation_deg=30.0)).models
    orbit = load_orbit_model(None, [], device=torch.device("cpu"), memory_gb=None)
    for each in left_out[: asked.objects]:
        if each.name in marks:
            continue
        mesh = each.read()
        truth = render_truth(mesh, PROTOCOL)
        with_depth = render_mesh(mesh, PROTOCOL.cameras()[[0]])
        prompts = models.enhancer.prompts(truth.photo)
        entry: dict[str, object] = {
            "object": each.name,
            "inversion": inversion_marks(with_depth, prompts, models.enhancer, SETTINGS),
        }
        if asked.only == "all":
            cameras, front = (
                truth.views.cameras,
                photo_view(
                    truth.photo,
                    elevation_deg=PROTOCOL.elevation_deg,
                    distance=PROTOCOL.distance,
                    fov_deg=PROTOCOL.fov_deg,
                ),
            )
            drawn = {
                "orbit": orbit.draw(
                    truth.photo,
                    cameras,
                    seeded(0),
                    photo_elevation_deg=PROTOCOL.elevation_deg,
                    steps=4,
                ),
                "zero123": models.views.draw(front, cameras, seeded(0), steps=models.steps or 4),
            }
            for name, views in drawn.items():
                entry[name] = enhancement_marks(truth, views, models.enhancer, SETTINGS)
        marks[each.name] = entry
        with asked.output.open("a") as file:
            file.write(json.dumps(entry) + "\n")
        print(json.dumps(entry), flush=True)
    for name in ("inversion", "orbit", "zero123"):
        pairs = [tuple(entry[name]) for entry in marks.values() if name in entry]
        if pairs:
            print(name, compared(pairs))


if __name__ == "__main__":
    main()
