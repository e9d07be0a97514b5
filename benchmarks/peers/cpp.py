"""Compile `splat.cpp` and call it: the same render and way back, by hand in AVX-512."""

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from roundview.camera import Cameras
from roundview.gaussians import Gaussians


class _Scene(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("g", "h", "w")),
        *(
            (name, ctypes.c_void_p)
            for name in ("centre", "log_scale", "quat", "logit", "sh", "cam", "background")
        ),
    )


def compiled() -> ctypes.CDLL | None:
    """Compile for this machine; None without g++ or AVX-512."""
    compiler, flags = shutil.which("g++"), Path("/proc/cpuinfo")
    if compiler is None or not flags.exists() or "avx512dq" not in flags.read_text():
        return None
    library = Path(tempfile.mkdtemp()) / "splat.so"
    source = Path(__file__).with_name("splat.cpp")
    options = ["-O3", "-march=native", "-shared", "-fPIC", "-w"]
    subprocess.run([compiler, *options, "-o", str(library), str(source)], check=True)
    return ctypes.CDLL(str(library))


class Compiled:
    """One scene of one camera and colour of degree 0, ready to be drawn over white."""

    def __init__(self, library: ctypes.CDLL, gaussians: Gaussians, cameras: Cameras) -> None:
        pose, (h, w) = cameras.camera_from_world[0], cameras.size_hw
        camera = torch.cat(
            [pose[:3, :3].flatten(), pose[:3, 3], cameras.origin[0], cameras.focal_px]
        )
        fields = (
            gaussians.centre,
            gaussians.log_scale,
            gaussians.quat_wxyz,
            gaussians.opacity_logit,
            gaussians.sh,
        )
        self._kept = [t.detach().contiguous() for t in (*fields, camera, torch.ones(3))]
        self._scene = _Scene(len(gaussians), h, w, *(t.data_ptr() for t in self._kept))
        self._library = library
        self._pictures = (torch.empty(1, h, w, 3), torch.empty(1, h, w), torch.empty(1, h, w))

    def forward(self) -> tuple[Tensor, ...]:
        """Colour, alpha, depth; written over by the next call."""
        self._call(self._library.splat_forward, self._pictures)
        return self._pictures

    def backward(self, slopes: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Gradients of the five tensors of the Gaussians, after `forward`."""
        found = tuple(torch.empty_like(t) for t in self._kept[:5])
        self._call(self._library.splat_backward, (*slopes, *found))
        return found

    def _call(self, function: Callable[..., None], tensors: tuple[Tensor, ...]) -> None:
        function(ctypes.byref(self._scene), *(ctypes.c_void_p(t.data_ptr()) for t in tensors))
