"""How close pictures and surfaces are to the truth: each figure with unit, range and source."""

from .agreement import elevation_error_deg, matte_iou, view_consistency
from .likeness import clip_similarity, contextual_distance
from .lpips import load_lpips, lpips
from .pictures import PSNR_OF_EQUALS_DB, deep_feature_distance, ms_ssim, psnr, ssim
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
    "clip_similarity",
    "contextual_distance",
    "deep_feature_distance",
    "elevation_error_deg",
    "f_score",
    "load_lpips",
    "lpips",
    "matte_iou",
    "ms_ssim",
    "normal_consistency",
    "psnr",
    "ssim",
    "surface_marks",
    "view_consistency",
    "volume_iou",
]
