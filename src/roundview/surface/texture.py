"""Colour an unwrapped mesh from pictures of the subject."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..mesh import Mesh, Texture
from ..views import Views
from .raster import render_mesh
from .texels import Texels, filled, texels_of
from .texture_spread import on_texels, shift_past_rim, spread_over_surface
from .texture_views import (
    Baking,
    Sources,
    blended,
    no_finer_than_texels,
    pixels_per_unit,
    prepared_sources,
    smoothstep,
)
from .unwrap import unwrap
from .visibility import framed_and_facing, has_rays, visible_by_rays

__all__ = ["Baking", "bake_texture", "unwrap"]

Colours = Callable[[Float[Tensor, "p 3"]], Float[Tensor, "p 3"]]

_DEFAULTS = Baking()
_FALLBACK_BELOW = 0.05
"""Confidence under which the colour from the pictures gives way to the fallback."""
_SURE = 0.5
"""Confidence from which what drawings lack is added in full."""
_WHOLE = 0.95
"""Coverage from which a pixel counts as showing the mesh alone when drawings are compared."""


def bake_texture(
    mesh: Mesh,
    views: Views | Sequence[Views],
    *,
    texture_size: int = 1024,
    view_weights: Float[Tensor, " n"] | None = None,
    trusted: Bool[Tensor, " n"] | None = None,
    fallback_rgb: Colours | None = None,
    settings: Baking = _DEFAULTS,
) -> Mesh:
    """Paint the texture of an unwrapped mesh with what the views show of it.

    Every texel takes the mean of the views that see it. A view counts the more, the more of its
    pixels a patch of surface fills (so a sharp photograph beats a small picture), the more squarely
    it faces it, and the farther the place is from outlines. Colours are taken without the white
    behind the subject. Then the mesh is drawn from the views' cameras, and what is missing against
    them is added: iterative back-projection (Irani and Peleg, "Improving Resolution by Image
    Registration", 1991), which takes back the blur of averaging.

    Where trusted views see the surface well they alone colour it. Towards their rim they give way
    to the others, which are shifted in colour so that both meet there.

    Args:
        mesh: The mesh with texture coordinates (see `unwrap`).
        views: Pictures over white; several batches where their sizes differ. Pixels finer than the
            texels are averaged first.
        texture_size: Side of the texture, texels.
        view_weights: A further factor for each view, in order through all batches; 1 if not given.
        trusted: Which views show the true colours, such as the photograph among drawn views; none
            if not given.
        fallback_rgb: Colour of world points that no view sees; if not given, the colours around
            them spread over the surface.
        settings: How views are blended.

    Returns:
        The same mesh with its texture.

    Raises:
        ValueError: If the mesh has no texture coordinates, or weights or trust do not fit the
            views.
    """
    batches = [views] if isinstance(views, Views) else list(views)
    count = sum(len(batch) for batch in batches)
    weights = torch.ones(count) if view_weights is None else view_weights
    if len(weights) != count or not bool((weights >= 0).all()):
        raise ValueError(f"view_weights must be {count} numbers >= 0, got {weights.tolist()}")
    trust = torch.zeros(count, dtype=torch.bool) if trusted is None else trusted
    if len(trust) != count:
        raise ValueError(f"trusted must be {count} booleans, got {trust.tolist()}")
    batches, weights = _at_texel_size(mesh, batches, weights, texture_size)
    texels = texels_of(mesh, texture_size)
    others = _seen(mesh, texels, _ready(mesh, texels, batches, weights, ~trust, settings), settings)
    ours = _seen(
        mesh,
        texels,
        [_yielding(mesh, g) for g in _ready(mesh, texels, batches, weights, trust, settings)],
        settings,
    )
    shift = torch.zeros_like(others.rgb)
    if bool(trust.any()):
        overlap = ours.confidence * others.confidence
        shift = shift_past_rim(mesh, texels, ours.rgb - others.rgb, overlap, settings.fade)
    seen = _joined(others, ours, shift)
    rgb = _with_fallback(mesh, texels, seen, shift, fallback_rgb)
    picture, known = _picture(texels, rgb)
    texture = Texture(filled(picture, known, gutter_px=settings.gutter_px))
    return replace(mesh, texture=texture, vertex_rgb=None)


class _Seen(NamedTuple):
    """What pictures show of each texel, and how surely, 0 to 1."""

    rgb: Float[Tensor, "p 3"]
    confidence: Float[Tensor, " p"]


class _Group(NamedTuple):
    """Pictures of one size, their weights, and how each is looked up."""

    sources: Sources
    weights: Float[Tensor, " n"]
    settings: Baking


def _at_texel_size(
    mesh: Mesh, batches: list[Views], weights: Float[Tensor, " n"], texture_size: int
) -> tuple[list[Views], Float[Tensor, " n"]]:
    """Shrink pictures finer than the texels; they keep the weight that their pixels gave them."""
    out: list[Views] = []
    parts: list[Tensor] = [weights[:0]]
    for batch, part in zip(batches, weights.split([len(b) for b in batches]), strict=True):
        small, finer = no_finer_than_texels(mesh, batch, texture_size)
        out.append(small)
        parts.append(part * finer**4)
    return out, torch.cat(parts)


def _ready(
    mesh: Mesh,
    texels: Texels,
    batches: list[Views],
    weights: Float[Tensor, " n"],
    chosen: Bool[Tensor, " n"],
    settings: Baking,
) -> list[_Group]:
    """Prepare the chosen pictures of each batch."""
    out: list[_Group] = []
    sizes = [len(batch) for batch in batches]
    parts = zip(batches, weights.split(sizes), chosen.split(sizes), strict=True)
    for batch, weight, kept in parts:
        at = torch.nonzero(kept)[:, 0].tolist()
        if not at:
            continue
        sources = prepared_sources(mesh, batch[at])
        if settings.visibility == "rays":
            sources = sources._replace(visible=_visible(mesh, texels, batch[at], settings))
        out.append(_Group(sources, weight[at], settings))
    return out


def _yielding(mesh: Mesh, group: _Group) -> _Group:
    """Widen the strip along outlines and depth edges in which pictures give way to others."""
    rim_px = group.settings.rim * pixels_per_unit(mesh, group.sources.views.cameras)
    return group._replace(
        settings=replace(group.settings, edge_px=max(group.settings.edge_px, rim_px))
    )


def _visible(
    mesh: Mesh, texels: Texels, views: Views, settings: Baking
) -> Bool[Tensor, "n p"] | None:
    if not has_rays():
        warnings.warn(
            "visibility by rays takes the package embreex; using depth maps", stacklevel=4
        )
        return None
    among = framed_and_facing(texels.position, texels.normal, views.cameras)[0]
    return visible_by_rays(
        mesh, texels.position, views.cameras, among=among, tolerance=settings.tolerance
    )


def _seen(mesh: Mesh, texels: Texels, groups: list[_Group], settings: Baking) -> _Seen:
    """Take the weighted mean of pictures, then add what drawings of it lack against them."""
    rgb, confidence = _mean(texels, groups, None)
    if bool((confidence > 0).any()):
        # Texels that no view sees lie beside others at outlines; black would pull those up.
        rgb = torch.where((confidence > 0)[:, None], rgb, rgb[confidence > 0].mean(dim=0))
    for _ in range(settings.redraws if groups else 0):
        picture, _ = _picture(texels, rgb)
        drawn = replace(mesh, texture=Texture(picture), vertex_rgb=None)
        missing = [_missing(drawn, group.sources) for group in groups]
        more, sure = _mean(texels, groups, missing)
        # Where pictures are hardly trusted, drawings differ for other reasons than blur.
        rgb = (rgb + smoothstep(0.0, _SURE, sure)[:, None] * more).clamp(0, 1)
    return _Seen(rgb, confidence)


def _mean(
    texels: Texels, groups: list[_Group], pictures: list[Float[Tensor, "... 4"]] | None
) -> tuple[Float[Tensor, "p 3"], Float[Tensor, " p"]]:
    """Blend the groups' own pictures, or others in their place; give the best confidence too."""
    total = np.zeros((len(texels), 5), np.float32)
    for at, (sources, weights, settings) in enumerate(groups):
        shown = sources if pictures is None else sources._replace(rgba=pictures[at])
        blended(texels, shown, weights, settings, total)
    sums = torch.from_numpy(total)
    return sums[:, :3] / sums[:, 3:4].clamp(min=1e-30), sums[:, 4]


def _missing(drawn: Mesh, sources: Sources) -> Float[Tensor, "n h w 4"]:
    """Give what drawings lack against the pictures, and where both show the mesh alone."""
    black = (0.0, 0.0, 0.0)
    own = render_mesh(drawn, sources.views.cameras, background=black, geometry=False)
    whole = ((sources.rgba[..., 3:] > _WHOLE) & (own.alpha[..., None] > _WHOLE)).float()
    return torch.cat([(sources.rgba[..., :3] - own.rgb) * whole, whole], dim=-1)


def _picture(
    texels: Texels, rgb: Float[Tensor, "p 3"]
) -> tuple[Float[Tensor, "s s 3"], Bool[Tensor, "s s"]]:
    """Lay colours of texels out in the texture, and tell where they are."""
    picture = torch.zeros(texels.size, texels.size, 3)
    known = torch.zeros(texels.size, texels.size, dtype=torch.bool)
    picture[texels.at[:, 0], texels.at[:, 1]] = rgb.clamp(0, 1)
    known[texels.at[:, 0], texels.at[:, 1]] = True
    return picture, known


def _joined(others: _Seen, ours: _Seen, shift: Float[Tensor, "p 3"]) -> _Seen:
    """Lay what trusted views show over the shifted rest: alone where they are sure, or alone."""
    t, o = ours.confidence, others.confidence
    share = (t / (t + o * (1 - t)).clamp(min=1e-12))[:, None]
    rgb = share * ours.rgb + (1 - share) * (others.rgb + shift)
    return _Seen(rgb.clamp(0, 1), torch.maximum(t, o))


def _with_fallback(
    mesh: Mesh,
    texels: Texels,
    seen: _Seen,
    shift: Float[Tensor, "p 3"],
    fallback_rgb: Colours | None,
) -> Float[Tensor, "p 3"]:
    """Cross over to the fallback where confidence is low."""
    lost = seen.confidence < _FALLBACK_BELOW
    if not bool(lost.any()):
        return seen.rgb
    if fallback_rgb is not None:
        other = fallback_rgb(texels.position[lost]).to(seen.rgb) + shift[lost]
    else:
        other = on_texels(mesh, texels, spread_over_surface(mesh, texels, seen.rgb, ~lost))[lost]
    share = smoothstep(0.0, _FALLBACK_BELOW, seen.confidence[lost])[:, None]
    out = seen.rgb.clone()
    out[lost] = share * seen.rgb[lost] + (1 - share) * other
    return out
