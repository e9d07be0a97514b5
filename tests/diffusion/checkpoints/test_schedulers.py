from roundview.diffusion.checkpoints.schedulers import scheduler_config


def test_clips_are_of_velocity_and_views_of_noise() -> None:
    assert scheduler_config("svd")["prediction_type"] == "v_prediction"
    assert scheduler_config("zero123")["prediction_type"] == "epsilon"
    assert scheduler_config("sd2")["prediction_type"] == "epsilon"
    assert scheduler_config("sd2-v")["prediction_type"] == "v_prediction"


def test_zero123plus_has_a_schedule_of_its_own() -> None:
    told = scheduler_config("zero123plus")
    assert (told["beta_schedule"], told["prediction_type"]) == ("linear", "v_prediction")
