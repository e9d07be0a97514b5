"""Turn a photo into a textured mesh and splats, and look into the record."""

from pathlib import Path

import roundview as rv

photo = rv.load_image(Path(__file__).parent / "photos" / "chair.png")
asset = rv.make(photo, quality="draft", seed=0)
rv.save_asset(asset, "out/chair")

record = asset.record
print(f"{record['mesh']['faces']} faces, {record['gaussians']} Gaussians, in out/chair")
print(f"photographed from {record['notes']['photo_elevation_deg']:.0f} degrees above the horizon")
for stage, seconds in record["seconds"].items():
    print(f"  {stage:10} {seconds:6.1f} s")
