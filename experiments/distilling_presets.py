"""Make an asset by an earlier method of score distillation, for comparison.

    python experiments/distilling_presets.py PHOTO --preset magic123 --steps 200 -o asset.glb

Presets are DreamFusion's, Zero-1-to-3's (threestudio's way) and Magic123's; HiFi-123's models stand
for theirs. Their renderings grow to 256 px: `--px` bounds them, for a CPU.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from roundview.export.glb import save_glb
from roundview.loaders import Wanted
from roundview.loaders.hifi123 import load_hifi123
from roundview.photo import load_image
from roundview.recipes.distilling_presets import PRESETS, asset_by_preset
from roundview.stages import seeded


def main() -> None:
    """Make one asset."""
    parser = argparse.ArgumentParser(description="An asset by an earlier method of distillation.")
    parser.add_argument("photo", type=Path)
    parser.add_argument("--preset", choices=tuple(PRESETS), default="zero123-sds")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--px", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, default=Path("asset.glb"))
    asked = parser.parse_args()
    preset = PRESETS[asked.preset](asked.steps)
    sizes = tuple(
        (begin, min(side, asked.px), views) for begin, side, views in preset.distilling.sizes
    )
    photo = replace(preset.distilling.photo, size_px=min(preset.distilling.photo.size_px, asked.px))
    preset = replace(preset, distilling=replace(preset.distilling, sizes=sizes, photo=photo))
    models = load_hifi123(Wanted()).models
    asset = asset_by_preset(load_image(asked.photo), models, seeded(asked.seed), preset)
    save_glb(asset.mesh, asked.output)


if __name__ == "__main__":
    main()
