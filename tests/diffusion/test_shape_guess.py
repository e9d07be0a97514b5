import torch
from solids_tiny import BALL, BLUE, RED, ball, look, orbit, photo

from roundview.metrics import volume_iou
from roundview.surface.raster import render_mesh
from roundview.surface.solid import solid_mesh


def test_a_known_ball_comes_back_as_a_ball() -> None:
    mesh = solid_mesh(ball()(photo(), elevation_deg=20.0).at)
    assert volume_iou(mesh, BALL) > 0.88
    assert float(mesh.vertices.mean(dim=0).norm()) < 0.01


def test_views_show_the_photographs_side_and_the_guessed_one() -> None:
    cameras = orbit([0.0, 90.0, 180.0], 64)
    views = look(ball()(photo(), elevation_deg=20.0), cameras)
    true = render_mesh(BALL, cameras)
    assert float((views.alpha - true.alpha).abs().mean()) < 0.02
    torch.testing.assert_close(views.rgb[0, 32, 32], torch.tensor(RED), atol=0.02, rtol=0)
    torch.testing.assert_close(views.rgb[2, 32, 32], torch.tensor(BLUE), atol=0.05, rtol=0)
    assert float(views.rgb[1, 32, 20, 0]) > float(views.rgb[1, 32, 44, 0])
    torch.testing.assert_close(views.rgb[:, 0, 0], torch.ones(3, 3))


def test_what_the_photograph_shows_is_kept_though_nothing_is_sure() -> None:
    # Half of a ball's places, each with probability 0.3: rays keep the likeliest, not none.
    guess = ball(logit=-0.85)(photo(), elevation_deg=20.0)
    views = look(guess, orbit([0.0], 64))
    true = render_mesh(BALL, orbit([0.0], 64)).alpha
    assert float((views.alpha - true).abs().mean()) < 0.02
    volume = volume_iou(solid_mesh(guess.at), BALL)
    assert 0.15 < volume < 0.6
