"""CPU kernels of the mesh rasteriser: a z-buffer that keeps faces and barycentrics, and shading.

Twin of the reference in `raster.py`. One thread draws one view at a time, so the result does not
depend on the number of threads.
"""

# Numba infers the types of kernels.
# pyright: reportMissingParameterType=false

import math

import numpy as np
from numba import prange

from ..kernels import njit
from .raster import NEAR, SLACK, SLACK_PX


@njit(parallel=True)
def rasterize_kernel(vertices, faces, pose, focal, h, w):  # noqa: ANN001, ANN201
    """Find the nearest face at every pixel centre.

    Args:
        vertices: v x 3 float32, world.
        faces: f x 3 int64.
        pose: n x 4 x 4 float32, camera_from_world.
        focal: n float32, pixels.
        h: Rows.
        w: Columns.

    Returns:
        face n x h x w int32 (-1: none), depth n x h x w float32 (0: none), and the
        perspective-correct barycentrics of corners 1 and 2, n x h x w x 2 float32.
    """
    n = pose.shape[0]
    face_at = np.full((n, h, w), -1, np.int32)
    depth_at = np.zeros((n, h, w), np.float32)
    bary_at = np.zeros((n, h, w, 2), np.float32)
    for view in prange(n):
        screen = np.empty((vertices.shape[0], 3), np.float32)
        for i in range(vertices.shape[0]):
            x, y, z = vertices[i, 0], vertices[i, 1], vertices[i, 2]
            m = pose[view]
            cz = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
            inverse = np.float32(1.0) / cz if cz > NEAR else np.float32(0.0)
            cx = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]
            cy = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]
            screen[i, 0] = cx * inverse * focal[view] + np.float32(0.5 * w)
            screen[i, 1] = cy * inverse * focal[view] + np.float32(0.5 * h)
            screen[i, 2] = inverse
        _draw(screen, faces, face_at[view], depth_at[view], bary_at[view])
    return face_at, depth_at, bary_at


@njit(forceinline=True)
def _draw(screen, faces, face_at, depth_at, bary_at):  # noqa: ANN001, ANN202
    h, w = face_at.shape
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        wa, wb, wc = screen[a, 2], screen[b, 2], screen[c, 2]
        if wa <= 0.0 or wb <= 0.0 or wc <= 0.0:
            continue
        ax, ay, bx, by, cx, cy = (
            screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1],
        )  # fmt: skip
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if abs(area) < 1e-12:
            continue
        x0 = max(0, int(math.ceil(min(ax, bx, cx) - 0.5)))
        x1 = min(w - 1, int(math.floor(max(ax, bx, cx) - 0.5)))
        y0 = max(0, int(math.ceil(min(ay, by, cy) - 0.5)))
        y1 = min(h - 1, int(math.floor(max(ay, by, cy) - 0.5)))
        scale = np.float32(1.0) / area
        extent = abs(bx - ax) + abs(by - ay) + abs(cx - ax) + abs(cy - ay)
        slack = -min(np.float32(SLACK), np.float32(SLACK_PX) * extent / abs(area))
        for y in range(y0, y1 + 1):
            py = np.float32(y + 0.5)
            for x in range(x0, x1 + 1):
                px = np.float32(x + 0.5)
                sb = ((px - ax) * (cy - ay) - (py - ay) * (cx - ax)) * scale
                sc = ((bx - ax) * (py - ay) - (by - ay) * (px - ax)) * scale
                sa = np.float32(1.0) - sb - sc
                if sa < slack or sb < slack or sc < slack:
                    continue
                inverse = sa * wa + sb * wb + sc * wc
                depth = np.float32(1.0) / inverse
                if face_at[y, x] >= 0 and depth >= depth_at[y, x]:
                    continue
                face_at[y, x] = f
                depth_at[y, x] = depth
                bary_at[y, x, 0] = sb * wb * depth
                bary_at[y, x, 1] = sc * wc * depth


@njit(inline="always")
def _corners_at(face, bary):  # noqa: ANN001, ANN202
    """Give a face's three corners and their shares in a pixel."""
    b, c = bary[0], bary[1]
    return face[0], face[1], face[2], np.float32(1.0) - b - c, b, c


@njit(parallel=True)
def sample_texture_kernel(face_at, bary_at, faces, uv, texture):  # noqa: ANN001, ANN201
    """Look up the texture (th x tw x 3 float32, bilinear, clamped) at every covered pixel."""
    n, h, w = face_at.shape
    th, tw = texture.shape[:2]
    rgb = np.zeros((n, h, w, 3), np.float32)
    for row in prange(n * h):
        view, y = row // h, row % h
        for x in range(w):
            f = face_at[view, y, x]
            if f < 0:
                continue
            i, j, k, a, b, c = _corners_at(faces[f], bary_at[view, y, x])
            u = (a * uv[i, 0] + b * uv[j, 0] + c * uv[k, 0]) * tw - np.float32(0.5)
            v = (a * uv[i, 1] + b * uv[j, 1] + c * uv[k, 1]) * th - np.float32(0.5)
            u = min(max(u, np.float32(0.0)), np.float32(tw - 1))
            v = min(max(v, np.float32(0.0)), np.float32(th - 1))
            u0, v0 = int(u), int(v)
            u1, v1 = min(u0 + 1, tw - 1), min(v0 + 1, th - 1)
            fu, fv = u - np.float32(u0), v - np.float32(v0)
            for channel in range(3):
                top = texture[v0, u0, channel] * (1 - fu) + texture[v0, u1, channel] * fu
                low = texture[v1, u0, channel] * (1 - fu) + texture[v1, u1, channel] * fu
                rgb[view, y, x, channel] = top * (1 - fv) + low * fv
    return rgb


@njit(parallel=True)
def interpolate_kernel(face_at, bary_at, faces, values):  # noqa: ANN001, ANN201
    """Interpolate v x c float32 values of the corners at every covered pixel; 0 elsewhere."""
    n, h, w = face_at.shape
    channels = values.shape[1]
    out = np.zeros((n, h, w, channels), np.float32)
    for row in prange(n * h):
        view, y = row // h, row % h
        for x in range(w):
            f = face_at[view, y, x]
            if f < 0:
                continue
            i, j, k, a, b, c = _corners_at(faces[f], bary_at[view, y, x])
            for channel in range(channels):
                out[view, y, x, channel] = (
                    a * values[i, channel] + b * values[j, channel] + c * values[k, channel]
                )
    return out
