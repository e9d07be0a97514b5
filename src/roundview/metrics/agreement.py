"""How well views agree with one another, with the silhouette, and with the camera they are from."""

import torch
from jaxtyping import Float
from torch import Tensor

from ..camera import lift, project
from ..views import Views

_SAME_SURFACE = 0.02


def view_consistency(views: Views) -> Float[Tensor, " n"]:
    """Measure how differently views colour the same points of a surface; 0 is best, at most 1.

    Each pixel of a view is lifted by the view's depth and looked up, bilinearly, in the next view;
    the last one's next is the first. The root mean square over channels and over the pixels that
    both views see: solid in both (alpha above 0.5), and there within 0.02 of the depth in the next
    view (chosen by us: twice the Chamfer distance of a fair fit). Depth is of what was fitted to
    the views, so that no truth is needed; what the fit cannot explain is taken out of nobody's
    count, so read it beside PSNR against the fit's own renders.

    Args:
        views: Two or more pictures with the depth of one shape in each; neighbours overlap.

    Returns:
        One value a view; NaN where the next view sees nothing of it.

    Raises:
        ValueError: If there is no depth or only one view.
    """
    if views.depth is None or len(views) < 2:
        raise ValueError("view consistency needs two or more views with depth")
    points = lift(views.depth, views.cameras)
    found = []
    for at in range(len(views)):
        after = (at + 1) % len(views)
        solid = views.alpha[at] > 0.5
        pixel, depth = project(points[at][solid], views.cameras[after])
        there = torch.cat(
            [views.rgb[after], views.depth[after][..., None], views.alpha[after][..., None]], dim=-1
        )
        seen = _sampled(there, pixel[0])
        same = (seen[:, 4] > 0.5) & ((seen[:, 3] - depth[0]).abs() < _SAME_SURFACE)
        error = (seen[same, :3] - views.rgb[at][solid][same]).square().mean().sqrt()
        found.append(error)
    return torch.stack(found)


def elevation_error_deg(
    estimate_deg: Float[Tensor, " n"], truth_deg: Float[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Measure how far estimated elevations are off, degrees, from 0 up; lower is better."""
    return (estimate_deg - truth_deg).abs()


def matte_iou(alpha: Float[Tensor, "n h w"], truth: Float[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """Measure the overlap of two silhouettes: pixels in both over pixels in either, 0 to 1.

    A pixel is inside where alpha is above 0.5. Two empty silhouettes are equal. This is the Jaccard
    index; torchmetrics' `binary_jaccard_index` of each picture.
    """
    a, b = alpha > 0.5, truth > 0.5
    either = (a | b).sum(dim=(1, 2))
    both = (a & b).sum(dim=(1, 2))
    return torch.where(either > 0, both / either.clamp(min=1), 1.0)


def _sampled(picture: Float[Tensor, "h w c"], pixel: Float[Tensor, "p 2"]) -> Float[Tensor, "p c"]:
    """Look a picture up between pixel centres; zero outside of it."""
    h, w = picture.shape[:2]
    grid = pixel / torch.tensor([w, h]).to(pixel) * 2 - 1
    out = torch.nn.functional.grid_sample(
        picture.permute(2, 0, 1)[None], grid[None, None], align_corners=False
    )
    return out[0, :, 0].T
