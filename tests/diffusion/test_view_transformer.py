import torch

from roundview.camera import Cameras
from roundview.diffusion.view_transformer import ViewTransformer, ViewTransformerSize

SMALL = ViewTransformerSize(latent_channels=3, latent_px=2, width=16, blocks=2, heads=2)


def network() -> ViewTransformer:
    torch.manual_seed(0)
    made = ViewTransformer(SMALL)
    for layer in (made.to_velocity, made.modulation[1], made.last_modulation[1]):
        assert isinstance(layer, torch.nn.Linear)
        torch.nn.init.normal_(layer.weight, std=0.2)  # The zeros of a fresh network hide all paths.
    return made


def inputs(views: int = 3) -> tuple[torch.Tensor, ...]:
    rng = torch.Generator().manual_seed(1)
    cameras = Cameras.orbit(
        [0.0, *(40.0 * (k + 1) for k in range(views))],
        elevation_deg=20.0, radius=1.5, fov_deg=49.13, size_hw=(16, 16),
    )  # fmt: skip
    return (
        torch.randn(1, views, 3, 2, 2, generator=rng),
        torch.tensor([0.4]),
        torch.randn(1, 3, 2, 2, generator=rng),
        torch.rand(1, 4, 16, 16, generator=rng),
        cameras.world_from_camera[None],
        cameras.focal_px[None] / 16,
    )


def test_a_fresh_network_predicts_nothing() -> None:
    assert not bool(ViewTransformer(SMALL)(*inputs()).any())


def test_the_order_of_views_does_not_matter() -> None:
    noisy, t, latent, photo, pose, focal = inputs()
    turned = network()(
        noisy.flip(1), t, latent, photo, torch.cat([pose[:, :1], pose[:, 1:].flip(1)], 1), focal
    )
    straight = network()(noisy, t, latent, photo, pose, focal)
    torch.testing.assert_close(turned.flip(1), straight, rtol=1e-4, atol=1e-5)


def test_every_input_matters() -> None:
    given = inputs()
    before = network()(*given)
    for i in range(len(given)):
        changed = [g.clone() for g in given]
        changed[i] = changed[i] * 0.5
        assert not torch.allclose(network()(*changed), before, atol=1e-6), f"input {i} is ignored"


def test_views_see_one_another() -> None:
    noisy, *rest = inputs()
    other = noisy.clone()
    other[:, 2] += 1.0
    assert not torch.allclose(network()(noisy, *rest)[:, 0], network()(other, *rest)[:, 0])


def test_one_time_for_all_and_the_same_time_for_each_are_one() -> None:
    noisy, t, *rest = inputs()
    each = network()(noisy, t[:, None].expand(1, 3), *rest)
    torch.testing.assert_close(each, network()(noisy, t, *rest), rtol=1e-4, atol=1e-5)


def test_a_view_at_time_one_tells_nothing_and_at_zero_all() -> None:
    noisy, _, *rest = inputs()
    other = noisy.clone()
    other[:, 0] += 1.0

    def seen(time: float) -> float:
        t = torch.tensor([[time, 0.5, 0.5]])
        moved = network()(other, t, *rest) - network()(noisy, t, *rest)
        return float(moved[:, 1:].detach().abs().max())

    assert seen(1.0) < 1e-6  # cos(pi / 2) is 4e-8 in float32.
    assert seen(0.0) > 1e-3
