"""CPU kernels of the way back to the cameras: what a picture would gain if its camera moved.

A camera is the row of 16 numbers of `project_kernel`, each taken for free: torch carries their
gradients on to the pose and the focal length.
"""

# Numba infers the types of kernels.
# pyright: reportMissingParameterType=false

import numpy as np

from ..kernels import njit
from .ellipse_numba import CENTRE_X, back_to_axes, back_to_centre, camera_numbers, dot
from .render import FRUSTUM_MARGIN

_F, _U = np.float32, np.uint64
_ZERO, _HALF, _MARGIN = _F(0), _F(0.5), _F(FRUSTUM_MARGIN)
_LANES = _U(16)


@njit(forceinline=True)
def add_camera_gradient(work, camera, size_hw, d_camera):  # noqa: ANN001, ANN201
    """Add what 16 Gaussians hand back to a camera: all but what their colours do.

    Args:
        work: Planes of the Gaussians, see `ellipse_numba.py`.
        camera: Its row.
        size_hw: Height and width of the picture.
        d_camera: Like the row, added to.
    """
    cam, sums = camera_numbers(camera), np.zeros(_U(256), np.float32)
    wide, high = _MARGIN * _HALF * _F(size_hw[1]), _MARGIN * _HALF * _F(size_hw[0])
    for lane in range(_LANES):
        limit = (wide / cam[15], high / cam[15])
        view, _, _, _, _, d_across, d_down = back_to_axes(work, lane, cam, limit)
        d_x, d_y, d_z = back_to_centre(work, lane, cam, view, d_across, d_down)
        seen, x, y, z, across, down, free_x, free_y, d_middle_x, d_middle_y = view
        zoom = cam[15] / z
        slope_x = min(max(x / z, -limit[0]), limit[0])
        slope_y = min(max(y / z, -limit[1]), limit[1])
        for k in range(_U(3)):
            here, at = work[lane + _U(CENTRE_X) + _U(16) * k], lane + _U(16) * k
            tilt = slope_x * d_across[k] + slope_y * d_down[k]
            _put(sums, at, d_x * here + zoom * d_across[k], seen)
            _put(sums, at + _U(48), d_y * here + zoom * d_down[k], seen)
            _put(sums, at + _U(96), d_z * here - zoom * tilt, seen)
        _put(sums, lane + _U(144), d_x, seen)
        _put(sums, lane + _U(160), d_y, seen)
        _put(sums, lane + _U(176), d_z, seen)
        d_focal = (d_middle_x * x + d_middle_y * y) / z
        d_focal += (dot(d_across, across) + dot(d_down, down)) / cam[15]
        # A slope at the margin moves with the margin, which narrows as the focal length grows.
        ahead = (cam[6], cam[7], cam[8])
        d_focal += _ZERO if free_x else slope_x / z * dot(d_across, ahead)
        d_focal += _ZERO if free_y else slope_y / z * dot(d_down, ahead)
        _put(sums, lane + _U(240), d_focal, seen)
    for k in range(16):
        for lane in range(16):
            d_camera[k] += sums[16 * k + lane]


@njit(forceinline=True)
def _put(sums, at, value, seen):  # noqa: ANN001, ANN202
    sums[at] = value if seen else _ZERO


@njit(forceinline=True)
def add_origin_gradient(before, after, d_camera):  # noqa: ANN001, ANN201
    """Add what colours hand back to a camera's origin: they change with the direction from it.

    The centres of the Gaussians gain it from the same directions, the other way round.

    Args:
        before: Gradient of up to 16 centres before they got their share of this camera's colours.
        after: And after.
        d_camera: Like the row of a camera, added to.
    """
    for i in range(len(after)):
        for k in range(3):
            d_camera[12 + k] -= after[i, k] - before[i, k]
