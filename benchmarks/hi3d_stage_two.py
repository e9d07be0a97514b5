"""What is Hi3D's second stage worth? Marks rings as the first draws them, enlarged, and as refined.

    python benchmarks/hi3d_stage_two.py OBJECTS [-o SHEET] [--names A,B,...] [--weights FOLDER]

Rings are those of the protocol `nvs-syncdreamer` (16 views at elevation 30, the first one given),
marked at the size that the second stage draws. Prints a line for each object and the paired
differences with their 90% intervals; the sheet shows, for each of the first four, the truth, the
enlarged and the refined views.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import torch
from torch import Generator

from roundview.data.objects import find_objects
from roundview.evaluate.hi3d import stage_two_marks, two_stages
from roundview.evaluate.marks import bootstrap_interval
from roundview.evaluate.protocol import NvsProtocol, render_truth
from roundview.export.files import write_png
from roundview.export.sheet import contact_sheet
from roundview.loaders import Wanted, load_features
from roundview.loaders.hi3d import load_hi3d
from roundview.recipes.hi3d import STANDARD

SHOWN = (0, 1, 2, 4, 8, 12, 14, 15)
"""Views on the sheet."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Mark and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("objects", type=Path, help="folder or zip of GLB files")
    parser.add_argument("-o", "--output", type=Path, help="sheet to write")
    parser.add_argument("--names", help="comma-separated; all by default")
    parser.add_argument("--weights", help="folder of cards")
    options = parser.parse_args(arguments)
    found = find_objects(options.objects)
    wanted = options.names.split(",") if options.names else [at.name for at in found]
    loaded = load_hi3d(Wanted(options.weights, use_matte=False, photo_elevation_deg=30.0))
    features = load_features(options.weights)
    settings = replace(STANDARD, **{"refine_steps": 1, **loaded.asks})
    protocol = NvsProtocol(size_px=settings.size_px, views=settings.ring_views)
    marks: dict[str, list[tuple[float, float]]] = {}
    rows: list[torch.Tensor] = []
    for item in [at for at in found if at.name in wanted]:
        truth, began = render_truth(item.read(), protocol), time.process_time()
        rng = Generator().manual_seed(0)
        stages = two_stages(truth, loaded.models, settings, rng)
        here = stage_two_marks(truth, *stages, features)
        print(item.name, json.dumps(here), f"{time.process_time() - began:.1f} s", flush=True)
        for name, pair in here.items():
            marks.setdefault(name, []).append(pair)
        if len(rows) < 3 * 4:
            rows += [views.rgb[list(SHOWN)] for views in (truth.views, *stages)]
    for name, pairs in marks.items():
        old, new = (fmean(column) for column in zip(*pairs, strict=True))
        interval = bootstrap_interval([b - a for a, b in pairs])
        print(f"{name}: {old:.3f} -> {new:.3f}, difference {new - old:+.3f} {interval}")
    if options.output is not None:
        write_png(options.output, contact_sheet(torch.cat(rows), columns=len(SHOWN)))


if __name__ == "__main__":
    main()
