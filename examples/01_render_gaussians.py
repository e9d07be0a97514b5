"""Make a cloud of Gaussians by hand, look at it from all round, and save pictures and cameras."""

import math

import torch

import roundview as rv
from roundview.export.ply import save_splats
from roundview.export.transforms import save_views

# A helix of small balls whose colour turns with the height.
turn = torch.linspace(0, 4 * math.pi, 300)
height = torch.linspace(-0.45, 0.45, 300)
hue = torch.stack([turn.sin(), (turn + 2).sin(), (turn + 4).sin()], dim=-1)
gaussians = rv.Gaussians(
    centre=torch.stack([0.35 * turn.sin(), height, 0.35 * turn.cos()], dim=-1),
    log_scale=torch.full((300, 3), math.log(0.02)),
    quat_wxyz=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(300, 1),
    opacity_logit=torch.full((300,), 3.0),
    sh=1.5 * hue[:, None, :],
)

cameras = rv.Cameras.orbit(
    [0.0, 90.0, 180.0, 270.0], elevation_deg=20.0, radius=1.5, fov_deg=49.13, size_hw=(256, 256)
)
views = rv.render_gaussians(gaussians, cameras)

save_views(views, "out/helix")
save_splats(gaussians, "out/helix/helix.ply")
print(f"{len(views)} pictures and helix.ply in out/helix; {views.alpha.mean():.1%} is covered")
