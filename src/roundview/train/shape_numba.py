"""CPU kernel of `shape`: what the rays of a picture go through in a grid."""

# numba infers the types of kernels.
# pyright: reportMissingParameterType=false

import numpy as np

from ..diffusion.orbit import DISTANCE
from ..kernels import njit


@njit(forceinline=True)
def _put(pose, x, y, z, place):  # noqa: ANN001, ANN202
    """Put a point of the camera's frame into the cube, as shares of its sides; say if it is in."""
    inside = True
    for axis in range(3):
        place[axis] = (
            pose[axis, 0] * x + pose[axis, 1] * y + pose[axis, 2] * z + pose[axis, 3] + 0.5
        )
        inside &= 0 <= place[axis] < 1
    return inside


@njit
def ray_kernel(fill, rgb, seen, pose, view, found, colour, has):  # noqa: ANN001, ANN201
    """Look up fill, colour, and where there is a surface that has one.

    Args:
        fill: Cells of the cube [-0.5, 0.5]^3, axes x, y, z.
        rgb: Colours of coarser cells.
        seen: Rays that are looked at, rows by columns; the others are left empty.
        pose: World from camera.
        view: -1 to mirror, zoom, the picture's middle across and down as shares, focal length as a
            share, reach of the layers, sine and cosine of the elevation (`upright`).
        found: Fill, layers x rows x columns; written.
        colour: Colours, coarser layers x rows x columns x 3; written where there are any.
        has: Where there are; written.
    """
    mirror, zoom, across, down, focal, reach, sine, cosine = view
    cells, coarse, side = fill.shape[0], rgb.shape[0], seen.shape[0]
    layers, place = found.shape[0], np.empty(3)
    together = layers // colour.shape[0]
    for y in range(side):
        v = (((y + 0.5) / side - 0.5) / zoom + down) / focal
        for x in range(side):
            if not seen[y, x]:
                continue
            u = (mirror * ((x + 0.5) / side - 0.5) / zoom + across) / focal
            before = 0
            for k in range(layers):
                away = ((k + 0.5) / layers * 2 - 1) * reach / zoom
                depth = (away + DISTANCE * cosine) / (cosine - v * sine)
                here = 0
                if _put(pose, u * depth, v * depth, depth, place):
                    here = fill[int(place[0] * cells), int(place[1] * cells), int(place[2] * cells)]
                found[k, y, x] = here
                layer = k // together
                first = here == 1 or (here > 0 and before == 0)
                if first and has[layer, y, x] == 0:
                    has[layer, y, x] = 1
                    for c in range(3):
                        colour[layer, y, x, c] = rgb[
                            int(place[0] * coarse),
                            int(place[1] * coarse),
                            int(place[2] * coarse),
                            c,
                        ]
                before = here
