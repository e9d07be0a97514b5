"""The renderer of gsplat, an optional package, behind our interface: a peer to compare with."""

import importlib

import torch
from jaxtyping import Float
from torch import Tensor

from ..camera import Cameras
from ..gaussians import Gaussians
from ..views import Views

_INSTEAD = "or use backend='auto', which needs no compiler"


def render_gaussians_gsplat(
    gaussians: Gaussians,
    cameras: Cameras,
    *,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Views:
    """Draw Gaussians as `render_gaussians` does, with gsplat's CUDA kernels in float32.

    Ye et al., "gsplat: An Open-Source Library for Gaussian Splatting", 2024. It caps the opacity of
    one Gaussian at one pixel at 0.999, not at 0.99. Differentiable in every field of the Gaussians
    and in the cameras' pose, not in the focal length.

    Raises:
        ValueError: If gsplat or its compiled kernels are absent, or a tensor is not on a GPU.
    """
    try:
        from gsplat import rasterization  # noqa: PLC0415  gsplat is optional
    except ImportError as error:
        raise ValueError(
            f"backend 'gsplat' needs the package gsplat: pip install gsplat, {_INSTEAD}"
        ) from error
    if not gaussians.centre.is_cuda:
        raise ValueError(
            f"backend 'gsplat' runs on NVIDIA GPUs only, the Gaussians are on "
            f"{gaussians.centre.device}; move them there, {_INSTEAD}"
        )
    require_compiled_gsplat()
    h, w = cameras.size_hw
    pose = cameras.camera_from_world.to(gaussians.centre)
    drawn, alpha, _ = rasterization(
        gaussians.centre,
        gaussians.quat_wxyz,
        gaussians.scale,
        gaussians.opacity,
        gaussians.sh,
        pose,
        intrinsics(cameras).to(pose),
        w,
        h,
        sh_degree=gaussians.sh_degree,
        backgrounds=torch.tensor(background).to(pose).expand(len(cameras), 3),
        render_mode="RGB+ED",
    )
    return Views(drawn[..., :3], alpha[..., 0], cameras, depth=drawn[..., 3])


def intrinsics(cameras: Cameras) -> Float[Tensor, "n 3 3"]:
    """Matrices that take camera points to homogeneous pixels."""
    h, w = cameras.size_hw
    matrix = torch.zeros(len(cameras), 3, 3, device=cameras.focal_px.device)
    matrix[:, 0, 0] = matrix[:, 1, 1] = cameras.focal_px
    matrix[:, 0, 2], matrix[:, 1, 2], matrix[:, 2, 2] = w / 2, h / 2, 1.0
    return matrix


def require_compiled_gsplat() -> None:
    """Let gsplat compile its kernels if it can.

    Raises:
        ValueError: If it cannot.
    """
    # Its own door would say "'NoneType' object has no attribute ..." only when it draws.
    cause: Exception | None = None
    try:
        compiled = getattr(importlib.import_module("gsplat.cuda._backend"), "_C", None)
    except (ImportError, OSError, RuntimeError) as error:
        compiled, cause = None, error
    if compiled is None:
        raise ValueError(
            "backend 'gsplat' compiles its kernels at first use and could not; install nvcc (the "
            f"CUDA toolkit of torch's version) and a C++ compiler, {_INSTEAD}"
        ) from cause
