"""How like a reference a picture is, when there is no truth for its side.

A view of the back has no pixels in common with the photograph; what remains is whether it could be
of the same thing.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

ImageTower = Callable[[Float[Tensor, "n h w 3"]], Float[Tensor, "n c"]]
"""Any network that gives one vector a picture; it resizes and normalises inside."""

FeatureMap = Callable[[Float[Tensor, "n h w 3"]], Float[Tensor, "n c hh ww"]]
"""Any network that gives one map of features a picture."""

BANDWIDTH = 0.5
_EPSILON = 1e-5


def clip_similarity(
    tower: ImageTower, picture: Float[Tensor, "n h w 3"], reference: Float[Tensor, "m h2 w2 3"]
) -> Float[Tensor, " n"]:
    """Measure the cosine between embeddings: 1 for the same direction, 0 for none in common.

    Radford et al., "Learning Transferable Visual Models from Natural Language Supervision", 2021.
    Papers average it over views against the one photograph, and often do not say with which model:
    say it (ViT-L/14, ViT-H/14), for values of two models do not compare. Higher is better.

    Args:
        tower: The image encoder, from the user; none ships.
        picture: What is measured.
        reference: One picture for all, or one for each.

    Raises:
        ValueError: If there are neither one nor n references.
    """
    if len(reference) not in (1, len(picture)):
        raise ValueError(f"reference holds {len(reference)} pictures; give 1 or {len(picture)}")
    with torch.no_grad():
        a, b = tower(picture), tower(reference)
    return torch.nn.functional.cosine_similarity(a, b.expand_as(a), dim=-1)


def contextual_distance(
    features: FeatureMap, picture: Float[Tensor, "n h w 3"], truth: Float[Tensor, "n h2 w2 3"]
) -> Float[Tensor, " n"]:
    """Measure how badly a picture's features are found in another's, wherever they lie; 0 is best.

    Mechrez et al., "The Contextual Loss for Image Transformation with Non-Aligned Data", 2018. The
    figures of HiFi-123 (1.6 to 2.2) fit VGG19's relu5_4 at 512 px; say which map was used.
    """
    with torch.no_grad():
        return contextual_distance_of_maps(features(picture), features(truth))


def contextual_distance_of_maps(
    x: Float[Tensor, "n c h w"], y: Float[Tensor, "n c h2 w2"]
) -> Float[Tensor, " n"]:
    """Compare feature maps as `contextual_distance` does: -log CX, from 0 to about 11.5.

    With d_ij the cosine distance between feature i of x and j of y, both less the mean of y:
    d~_ij = d_ij / (min_j d_ij + 1e-5), w_ij = exp((1 - d~_ij) / 0.5), CX_ij = w_ij / sum_j w_ij,
    CX = mean_j max_i CX_ij (eq. 2 to 5); here -log(CX + 1e-5), not below 0.
    """
    mean = y.mean(dim=(2, 3), keepdim=True)
    x, y = (torch.nn.functional.normalize((m - mean).flatten(2), dim=1) for m in (x, y))
    distance = (1 - x.mT @ y).clamp(min=0)
    relative = distance / (distance.amin(dim=2, keepdim=True) + _EPSILON)
    # Softmax over j: exp(1 / h) cancels, and nothing overflows.
    affinity = torch.softmax(-relative / BANDWIDTH, dim=2)
    found = affinity.amax(dim=1).mean(dim=1)
    return -torch.log(found + _EPSILON).clamp(max=0)
