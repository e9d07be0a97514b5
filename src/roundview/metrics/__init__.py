"""How close pictures and surfaces are to the truth: each figure with unit, range and source."""

from .pictures import PSNR_OF_EQUALS_DB, deep_feature_distance, psnr, ssim
from .surface import (
    DISTANCE_OF_NOTHING,
    SurfaceMarks,
    chamfer,
    chamfer_of_depth,
    f_score,
    normal_consistency,
    surface_marks,
    volume_iou,
)

__all__ = [
    "DISTANCE_OF_NOTHING",
    "PSNR_OF_EQUALS_DB",
    "SurfaceMarks",
    "chamfer",
    "chamfer_of_depth",
    "deep_feature_distance",
    "f_score",
    "normal_consistency",
    "psnr",
    "ssim",
    "surface_marks",
    "volume_iou",
]
