"""Rotations and the spherical-harmonics basis that view-dependent colour is written in.

Quaternions are (w, x, y, z), right-handed, active: `rotation_from_quat(q) @ v` turns v.
"""

import torch
from jaxtyping import Float
from torch import Tensor

SH_C0 = 0.28209479177387814
"""Value of the degree-0 basis function, 1 / (2 sqrt(pi))."""

_C1 = 0.4886025119029199
_C2 = (1.0925484305920792, 0.31539156525252005, 0.5462742152960396)
_C3 = (
    0.5900435899266435,
    2.890611442640554,
    0.4570457994644658,
    0.3731763325901154,
    1.445305721320277,
)


def rotation_from_quat(quat_wxyz: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Turn quaternions into rotation matrices.

    Args:
        quat_wxyz: Quaternions of any length but zero; they are normalised here. Differentiable.

    Returns:
        Rotation matrices.
    """
    w, x, y, z = torch.nn.functional.normalize(quat_wxyz, dim=-1).unbind(-1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], dim=-1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], dim=-1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], dim=-1),
    ]
    return torch.stack(rows, dim=-2)


def quat_from_rotation(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Turn rotation matrices into unit quaternions (wxyz) with w >= 0.

    Of four equivalent formulas the one with the largest divisor is used (Shepperd, "Quaternion
    from Rotation Matrix", 1978), so that half turns lose no digits.
    """
    m = rotation
    trace = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    squared = torch.stack(
        [trace, 2 * m[..., 0, 0] - trace, 2 * m[..., 1, 1] - trace, 2 * m[..., 2, 2] - trace], -1
    )
    xy, yx = m[..., 0, 1], m[..., 1, 0]
    xz, zx = m[..., 0, 2], m[..., 2, 0]
    yz, zy = m[..., 1, 2], m[..., 2, 1]
    one = 1 + squared
    candidates = torch.stack(
        [
            torch.stack([one[..., 0], zy - yz, xz - zx, yx - xy], dim=-1),
            torch.stack([zy - yz, one[..., 1], xy + yx, xz + zx], dim=-1),
            torch.stack([xz - zx, xy + yx, one[..., 2], yz + zy], dim=-1),
            torch.stack([yx - xy, xz + zx, yz + zy, one[..., 3]], dim=-1),
        ],
        dim=-2,
    )
    best = squared.argmax(dim=-1)[..., None, None].expand(*squared.shape[:-1], 1, 4)
    quat = torch.nn.functional.normalize(candidates.gather(-2, best)[..., 0, :], dim=-1)
    return torch.where(quat[..., :1] < 0, -quat, quat)


def quat_multiply(
    left_wxyz: Float[Tensor, "*batch 4"], right_wxyz: Float[Tensor, "*batch 4"]
) -> Float[Tensor, "*batch 4"]:
    """Compose rotations: the right one acts first, as with matrices."""
    a, b, c, d = left_wxyz.unbind(-1)
    w, x, y, z = right_wxyz.unbind(-1)
    return torch.stack(
        [
            a * w - b * x - c * y - d * z,
            a * x + b * w + c * z - d * y,
            a * y - b * z + c * w + d * x,
            a * z + b * y - c * x + d * w,
        ],
        dim=-1,
    )


def sh_basis(direction: Float[Tensor, "*batch 3"], degree: int) -> Float[Tensor, "*batch k"]:
    """Evaluate the real spherical harmonics of degree 0 to `degree`, in 3DGS order and sign.

    Args:
        direction: Unit vectors from the camera to the point, world frame.
        degree: Highest degree, 0 to 3.

    Returns:
        (degree + 1)^2 values.

    Raises:
        ValueError: If the degree is not 0, 1, 2 or 3.
    """
    if degree not in (0, 1, 2, 3):
        raise ValueError(f"degree must be 0, 1, 2 or 3, got {degree}")
    x, y, z = direction.unbind(-1)
    values = [torch.full_like(x, SH_C0)]
    if degree > 0:
        values += [-_C1 * y, _C1 * z, -_C1 * x]
    if degree > 1:
        xx, yy, zz = x * x, y * y, z * z
        values += [
            _C2[0] * x * y,
            -_C2[0] * y * z,
            _C2[1] * (2 * zz - xx - yy),
            -_C2[0] * x * z,
            _C2[2] * (xx - yy),
        ]
        if degree > 2:
            values += [
                -_C3[0] * y * (3 * xx - yy),
                _C3[1] * x * y * z,
                -_C3[2] * y * (4 * zz - xx - yy),
                _C3[3] * z * (2 * zz - 3 * xx - 3 * yy),
                -_C3[2] * x * (4 * zz - xx - yy),
                _C3[4] * z * (xx - yy),
                -_C3[0] * x * (xx - 3 * yy),
            ]
    return torch.stack(values, dim=-1)
