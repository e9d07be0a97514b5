"""What keeps a distilled shape in order, and what ties it to the photograph.

Definitions are threestudio's (Guo et al., 2023), where the papers leave them open. All are
differentiable; each gives one number unless it says otherwise.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from .noise import randn


def orientation_loss(
    weights: Float[Tensor, "r s"],
    normals: Float[Tensor, "r s 3"],
    direction: Float[Tensor, "r 3"],
) -> Float[Tensor, ""]:
    """Punish density whose normal faces away from the camera: sum w max(0, n . d)^2 a ray.

    Verbin et al., "Ref-NeRF: Structured View-Dependent Appearance for Neural Radiance Fields",
    2022, equation 11, with weights held fixed, averaged over the rays that meet anything.

    Args:
        weights: Share of each of s samples in the colour of its ray.
        normals: Unit normals there, outward.
        direction: Unit direction of each ray, away from the camera.
    """
    facing = (normals * direction[:, None]).sum(dim=-1).clamp(min=0)
    met = (weights.sum(dim=1) > 0).sum().clamp(min=1)
    return (weights.detach() * facing.square()).sum() / met


def sparsity_loss(opacity: Float[Tensor, "*n"]) -> Float[Tensor, ""]:
    """Punish opacity anywhere: mean sqrt(o^2 + 0.01)."""
    return (opacity.square() + 0.01).sqrt().mean()


def opaqueness_loss(opacity: Float[Tensor, "*n"]) -> Float[Tensor, ""]:
    """Punish what is neither there nor not there: binary entropy of the opacity."""
    o = opacity.clamp(1e-3, 1 - 1e-3)
    return -(o * o.log() + (1 - o) * (1 - o).log()).mean()


def depth_variance_loss(
    weights: Float[Tensor, "r s"], depth: Float[Tensor, "r s"]
) -> Float[Tensor, ""]:
    """Punish rays that stop at several depths: their variance, over rays at least half opaque.

    Args:
        weights: Share of each sample in its ray.
        depth: Of each sample.
    """
    opacity = weights.sum(dim=1, keepdim=True)
    share = weights / opacity.clamp(min=1e-6)
    mean = (share * depth).sum(dim=1, keepdim=True)
    variance = (share * (depth - mean).square()).sum(dim=1)
    return _mean_where(variance, opacity[:, 0] > 0.5)


def normal_map_smoothness(normals: Float[Tensor, "n h w 3"]) -> Float[Tensor, ""]:
    """Punish bends between neighbouring pixels: mean squared differences down and across.

    Args:
        normals: Drawn normals as colours, (n + 1) / 2, over the background.
    """
    down = (normals[:, 1:] - normals[:, :-1]).square().mean()
    across = (normals[:, :, 1:] - normals[:, :, :-1]).square().mean()
    return down + across


def normal_field_smoothness(
    normals: Float[Tensor, "p 3"], nearby: Float[Tensor, "p 3"]
) -> Float[Tensor, ""]:
    """Punish bends in space: mean absolute difference of normals at points and beside them.

    Args:
        normals: Unit normals at points.
        nearby: Those at `jittered` points.
    """
    return (normals - nearby).abs().mean()


def jittered(
    points: Float[Tensor, "p 3"], rng: Generator, *, deviation: float = 0.01
) -> Float[Tensor, "p 3"]:
    """Move points a little (threestudio: 0.01 in a scene of radius 1) for smoothness in space."""
    return points + deviation * randn(tuple(points.shape), rng).to(points)


def eikonal_loss(gradient: Float[Tensor, "p 3"]) -> Float[Tensor, ""]:
    """Punish a distance field whose slope is not 1: mean (|g| - 1)^2.

    Gropp et al., "Implicit Geometric Regularization for Learning Shapes", 2020, equation 2.
    """
    # The length's own slope at 0 is not a number.
    length = (gradient.square().sum(dim=-1) + 1e-12).sqrt()
    return (length - 1).square().mean()


def normal_consistency(
    vertex_normals: Float[Tensor, "v 3"], edges: Int[Tensor, "e 2"]
) -> Float[Tensor, ""]:
    """Punish bends of a mesh: mean 1 - cos between the unit normals at both ends of an edge."""
    first, second = vertex_normals[edges[:, 0]], vertex_normals[edges[:, 1]]
    return (1 - torch.nn.functional.cosine_similarity(first, second, dim=-1)).mean()


def laplacian_loss(vertices: Float[Tensor, "v 3"], edges: Int[Tensor, "e 2"]) -> Float[Tensor, ""]:
    """Punish vertices away from the middle of their neighbours: mean |v - mean of neighbours|."""
    count = torch.zeros_like(vertices[:, 0])
    total = torch.zeros_like(vertices)
    ones = torch.ones_like(vertices[:1, 0]).expand(len(edges))
    for here, there in (edges.unbind(1), edges.flip(1).unbind(1)):
        total = total.index_add(0, here, vertices[there])
        count = count.index_add(0, here, ones)
    lonely = count == 0
    middle = torch.where(lonely[:, None], vertices, total / count.clamp(min=1)[:, None])
    return _length(vertices - middle).mean()


def mesh_edges(faces: Int[Tensor, "f 3"]) -> Int[Tensor, "e 2"]:
    """Give every edge of a mesh once, the lower vertex first."""
    both = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    return torch.unique(both.sort(dim=1).values, dim=0)


def pearson_depth_loss(
    depth: Float[Tensor, "n h w"], truth: Float[Tensor, "n h w"], mask: Bool[Tensor, "n h w"]
) -> Float[Tensor, " n"]:
    """Compare depths whose scale and shift are unknown: 1 - correlation inside the mask.

    Tang et al., "Make-It-3D: High-Fidelity 3D Creation from a Single Image with Diffusion Prior",
    2023, equation 6; HiFi-123 takes it over.

    Args:
        depth: Drawn from the photograph's camera.
        truth: Estimated from the photograph; also near-is-small, else give its negative.
        mask: The subject.

    Returns:
        One value a picture, 0 (alike) to 2 (opposite); 1 where nothing is to be compared.
    """
    inside = mask.to(depth)
    count = inside.sum(dim=(1, 2), keepdim=True).clamp(min=1)

    def centred(values: Tensor) -> Tensor:
        return (values - (values * inside).sum(dim=(1, 2), keepdim=True) / count) * inside

    a, b = centred(depth), centred(truth)
    product = (a * b).sum(dim=(1, 2))
    spread = (a.square().sum(dim=(1, 2)) * b.square().sum(dim=(1, 2)) + 1e-12).sqrt()
    return 1 - product / spread


def normal_loss(
    normals: Float[Tensor, "n h w 3"],
    truth: Float[Tensor, "n h w 3"],
    mask: Bool[Tensor, "n h w"],
) -> Float[Tensor, ""]:
    """Compare normals: mean 1 - cos inside the mask (threestudio's image-to-3D systems).

    Args:
        normals: Drawn, of any length, in the frame of `truth`.
        truth: Estimated from the photograph.
        mask: Where both are known.
    """
    return _mean_where(1 - torch.nn.functional.cosine_similarity(normals, truth, dim=-1), mask)


def _mean_where(values: Float[Tensor, "*n"], keep: Bool[Tensor, "*n"]) -> Float[Tensor, ""]:
    return torch.where(keep, values, torch.zeros_like(values)).sum() / keep.sum().clamp(min=1)


def _length(vectors: Float[Tensor, "v 3"]) -> Float[Tensor, " v"]:
    squared = vectors.square().sum(dim=-1)
    # A slope of 0, not of infinity, where the length is 0.
    safe = torch.where(squared > 0, squared, torch.ones_like(squared))
    return torch.where(squared > 0, safe.sqrt(), torch.zeros_like(squared))
