"""What a folder of diffusers says of the noise that a family was trained with."""

from typing import Any

_VELOCITY = ("svd", "sv3d", "hi3d")


def scheduler_config(kind: str) -> dict[str, Any]:
    """Give diffusers' configuration of the scheduler that a family is drawn with."""
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    if kind == "zero123plus":
        return {
            "_class_name": "EulerAncestralDiscreteScheduler",
            **betas,
            "beta_schedule": "linear",
            "prediction_type": "v_prediction",
            "timestep_spacing": "trailing",
        }
    if kind in _VELOCITY:
        return {
            "_class_name": "EulerDiscreteScheduler",
            **betas,
            "prediction_type": "v_prediction",
            "use_karras_sigmas": True,
            "sigma_min": 0.002,
            "sigma_max": 700.0,
            "timestep_type": "continuous",
            "timestep_spacing": "leading",
            "interpolation_type": "linear",
            "steps_offset": 1,
        }
    return {
        "_class_name": "DDIMScheduler",
        **betas,
        "prediction_type": "v_prediction" if kind == "sd2-v" else "epsilon",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
    }
