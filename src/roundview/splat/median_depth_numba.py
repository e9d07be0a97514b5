"""CPU kernel of the median depth: twin of `render_median_depth_reference` in `median_depth.py`."""

# Numba infers the types of kernels.
# pyright: reportMissingParameterType=false

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..camera import Cameras
from ..gaussians import Gaussians
from ..kernels import Memory, njit, run_jobs
from .lanes_numba import WIDTH, any_of, load, pick, spread, store
from .median_depth import MEDIAN_LIGHT
from .pairs_numba import ELLIPSE_SHIFT, FIRST_BAND, LAST_BAND, LAST_SHIFT, SIDE
from .project_numba import DEPTH
from .render_numba import Scene, activated, arrays, camera_rows, list_ellipses
from .tiles_numba import ellipse_shape, opacity_at

_F, _U = np.float32, np.uint64
_ZERO, _ONE, _MEDIAN = _F(0), _F(1), _F(MEDIAN_LIGHT)
_LANES, _PIXELS = _U(WIDTH), _U(SIDE * SIDE)


@torch.no_grad()
def render_median_depth_numba(gaussians: Gaussians, cameras: Cameras) -> Float[Tensor, "n h w"]:
    """Do as `render_median_depth` does, on the CPU in float32."""
    scene = Scene(arrays(camera_rows(cameras))[0], cameras.size_hw, np.ones(3, np.float32))
    memory = Memory()
    listed = list_ellipses(arrays(*activated(gaussians)), scene, memory)
    depth = np.empty((len(cameras), *cameras.size_hw), np.float32)
    tiles = depth.shape[0] * listed.bounds.shape[1]
    inputs = (listed.records, listed.bounds, listed.pairs, depth)
    run_jobs(median_kernel, tiles, *inputs, at_least=32)
    return torch.from_numpy(depth)


@njit
def median_kernel(first_job, last_job, records, bounds, listed, depth):  # noqa: ANN001, ANN201
    """Find the surface in tiles. A job is a tile of one camera.

    Args:
        first_job: Where to begin.
        last_job: Where to end.
        records: As for `draw_kernel`, as the next two.
        bounds: See there.
        listed: See there.
        depth: n x h x w, written.
    """
    h, w = depth.shape[1:]
    across, tiles = (w + SIDE - 1) // SIDE, bounds.shape[1]
    light, found = np.empty(_PIXELS, np.float32), np.empty(_PIXELS, np.float32)
    for job in range(first_job, last_job):
        n_at, tile = job // tiles, job % tiles
        corner = (tile // across * SIDE, tile % across * SIDE)
        light[:], found[:] = _ONE, _ZERO
        _find_in_tile(light, found, records[n_at], bounds[n_at, tile], listed, corner)
        for r in range(min(SIDE, h - corner[0])):
            for c in range(min(SIDE, w - corner[1])):
                depth[n_at, corner[0] + r, corner[1] + c] = found[r * SIDE + c]


@njit(forceinline=True)
def _find_in_tile(light, found, records, bounds, listed, corner):  # noqa: ANN001, ANN202
    half, zero, one = spread(_MEDIAN), spread(_ZERO), spread(_ONE)
    for at in range(bounds[0], bounds[1]):
        bits = listed[at, 1]
        e = bits >> ELLIPSE_SHIFT
        shape, z = ellipse_shape(records, e, corner), spread(records[e, DEPTH])
        for band in range(_U(bits & FIRST_BAND), _U((bits >> LAST_SHIFT) & LAST_BAND)):
            i = band * _LANES
            before = load(light, i)
            # What has been found stays: its light is no longer above a half.
            if any_of(before >= half):
                a, _, _, _ = opacity_at(shape, band)
                after = before * (one - a)
                here = pick(before >= half, pick(half > after, z, zero), zero)
                store(found, i, load(found, i) + here)
                store(light, i, after)
        if at & 7 == 7 and not _any_left(light, half):
            break


@njit(forceinline=True)
def _any_left(light, half):  # noqa: ANN001, ANN202
    most = load(light, _U(0)) >= half
    for i in range(_LANES, _PIXELS, _LANES):
        most = most | (load(light, i) >= half)
    return any_of(most)
