"""CPU kernels of the differentiable mesh renderer: values on faces and texels, there and back.

Twins of the references in `antialias_render.py`. Sums are taken in one order, view by view, so the
result does not depend on the number of threads.
"""

# Numba infers the types of kernels.
# pyright: reportMissingParameterType=false

import numpy as np

from ..kernels import njit
from .antialias_render import LEAST_AREA


@njit(inline="always")
def _shares(pixel, away, i, j, k, x, y):  # noqa: ANN001, ANN202
    """Give a pixel's shares of a face, on screen and on the face itself, the area and the depth."""
    px, py = np.float32(x + 0.5), np.float32(y + 0.5)
    ax, ay, bx, by = pixel[i, 0] - px, pixel[i, 1] - py, pixel[j, 0] - px, pixel[j, 1] - py
    cx, cy = pixel[k, 0] - px, pixel[k, 1] - py
    wa, wb, wc = bx * cy - by * cx, cx * ay - cy * ax, ax * by - ay * bx
    area = wa + wb + wc
    if abs(area) < LEAST_AREA:
        sa = sb = sc = np.float32(1.0 / 3.0)
        area = np.float32(0.0)
    else:
        scale = np.float32(1.0) / area
        sa, sb, sc = wa * scale, wb * scale, wc * scale
    oa, ob, oc = sa / away[i], sb / away[j], sc / away[k]
    depth = np.float32(1.0) / (oa + ob + oc)
    return sa, sb, sc, oa * depth, ob * depth, oc * depth, area, depth


@njit
def interpolate_kernel(first, last, values, pixel, away, faces, face_at, out):  # noqa: ANN001, ANN201
    """Interpolate n x v x c values of the corners at every covered pixel of some rows.

    Args:
        first: Row to begin with, counted through all views.
        last: Row to end before.
        values: n x v x c float32.
        pixel: n x v x 2 float32, where the vertices appear.
        away: n x v float32, their depth.
        faces: f x 3 int64.
        face_at: n x h x w int32, -1 for none.
        out: n x h x w x c float32, filled in.
    """
    _, h, w = face_at.shape
    for row in range(first, last):
        view, y = row // h, row % h
        for x in range(w):
            f = face_at[view, y, x]
            if f < 0:
                continue
            i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
            _, _, _, a, b, c, _, _ = _shares(pixel[view], away[view], i, j, k, x, y)
            for channel in range(values.shape[2]):
                out[view, y, x, channel] = (
                    a * values[view, i, channel]
                    + b * values[view, j, channel]
                    + c * values[view, k, channel]
                )


@njit
def interpolate_backward_kernel(  # noqa: ANN201, PLR0913
    first, last, values, pixel, away, faces, face_at, upstream, on_values, on_pixel, on_away  # noqa: ANN001
):  # fmt: skip
    """Add the slopes of `interpolate_kernel`, for views from `first` to before `last`.

    With the weights W_i (twice the areas that a pixel makes with the sides), W their sum, shares
    s_i = W_i / W and o_i = s_i / z_i, the shares on the face are b_i = o_i / sum(o).
    """
    _, h, w = face_at.shape
    for view in range(first, last):
        at, depths = pixel[view], away[view]
        for y in range(h):
            for x in range(w):
                f = face_at[view, y, x]
                if f < 0:
                    continue
                i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
                sa, sb, sc, a, b, c, area, depth = _shares(at, depths, i, j, k, x, y)
                ga = gb = gc = np.float32(0.0)
                for channel in range(values.shape[2]):
                    g = upstream[view, y, x, channel]
                    ga += g * values[view, i, channel]
                    gb += g * values[view, j, channel]
                    gc += g * values[view, k, channel]
                    on_values[view, i, channel] += a * g
                    on_values[view, j, channel] += b * g
                    on_values[view, k, channel] += c * g
                # From b to o, from o to s and z.
                mean = a * ga + b * gb + c * gc
                ga, gb, gc = (ga - mean) * depth, (gb - mean) * depth, (gc - mean) * depth
                ga, gb, gc = ga / depths[i], gb / depths[j], gc / depths[k]
                on_away[view, i] -= ga * sa / depths[i]
                on_away[view, j] -= gb * sb / depths[j]
                on_away[view, k] -= gc * sc / depths[k]
                if area == 0.0:
                    continue
                # From s to the weights, from these to the corners.
                mean = sa * ga + sb * gb + sc * gc
                ga, gb, gc = (ga - mean) / area, (gb - mean) / area, (gc - mean) / area
                px, py = np.float32(x + 0.5), np.float32(y + 0.5)
                ax, ay, bx, by = at[i, 0] - px, at[i, 1] - py, at[j, 0] - px, at[j, 1] - py
                cx, cy = at[k, 0] - px, at[k, 1] - py
                on_pixel[view, i, 0] += gc * by - gb * cy
                on_pixel[view, i, 1] += gb * cx - gc * bx
                on_pixel[view, j, 0] += ga * cy - gc * ay
                on_pixel[view, j, 1] += gc * ax - ga * cx
                on_pixel[view, k, 0] += gb * ay - ga * by
                on_pixel[view, k, 1] += ga * bx - gb * ax


@njit(inline="always")
def _texels(uv, th, tw):  # noqa: ANN001, ANN202
    """Give the four texels round a place, its part between them, and whether it may move."""
    u = uv[0] * tw - np.float32(0.5)
    v = uv[1] * th - np.float32(0.5)
    free_u = np.float32(0.0 < u < tw - 1)
    free_v = np.float32(0.0 < v < th - 1)
    u = min(max(u, np.float32(0.0)), np.float32(tw - 1))
    v = min(max(v, np.float32(0.0)), np.float32(th - 1))
    u0, v0 = int(u), int(v)
    u1, v1 = min(u0 + 1, tw - 1), min(v0 + 1, th - 1)
    return u0, v0, u1, v1, u - np.float32(u0), v - np.float32(v0), free_u, free_v


@njit
def look_up_kernel(first, last, texture, uv, face_at, out):  # noqa: ANN001, ANN201
    """Look up the texture (th x tw x 3) at the coordinates (n x h x w x 2) of covered pixels."""
    _, h, w = face_at.shape
    th, tw = texture.shape[:2]
    for row in range(first, last):
        view, y = row // h, row % h
        for x in range(w):
            if face_at[view, y, x] < 0:
                continue
            u0, v0, u1, v1, fu, fv, _, _ = _texels(uv[view, y, x], th, tw)
            for channel in range(3):
                top = texture[v0, u0, channel] * (1 - fu) + texture[v0, u1, channel] * fu
                low = texture[v1, u0, channel] * (1 - fu) + texture[v1, u1, channel] * fu
                out[view, y, x, channel] = top * (1 - fv) + low * fv


@njit
def look_up_backward_kernel(texture, uv, face_at, upstream, on_texture, on_uv):  # noqa: ANN001, ANN201
    """Add the slopes of `look_up_kernel`; those of the texture unless `on_texture` is empty."""
    n, h, w = face_at.shape
    th, tw = texture.shape[:2]
    for view in range(n):
        for y in range(h):
            for x in range(w):
                if face_at[view, y, x] < 0:
                    continue
                u0, v0, u1, v1, fu, fv, free_u, free_v = _texels(uv[view, y, x], th, tw)
                gu = gv = np.float32(0.0)
                for channel in range(3):
                    g = upstream[view, y, x, channel]
                    t00, t01 = texture[v0, u0, channel], texture[v0, u1, channel]
                    t10, t11 = texture[v1, u0, channel], texture[v1, u1, channel]
                    gu += g * ((t01 - t00) * (1 - fv) + (t11 - t10) * fv)
                    gv += g * ((t10 - t00) * (1 - fu) + (t11 - t01) * fu)
                    if len(on_texture) > 0:
                        on_texture[v0, u0, channel] += g * (1 - fu) * (1 - fv)
                        on_texture[v0, u1, channel] += g * fu * (1 - fv)
                        on_texture[v1, u0, channel] += g * (1 - fu) * fv
                        on_texture[v1, u1, channel] += g * fu * fv
                on_uv[view, y, x, 0] = gu * free_u * tw
                on_uv[view, y, x, 1] = gv * free_v * th
