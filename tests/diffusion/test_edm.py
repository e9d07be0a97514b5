import pytest
import torch

from roundview.diffusion.edm import (
    denoised,
    euler,
    guidance_ramp,
    guidance_triangle,
    guided,
    karras_sigmas,
)


def test_the_noise_falls_from_700_to_nothing() -> None:
    sigmas = karras_sigmas(25)
    assert len(sigmas) == 26
    assert float(sigmas[0]) == pytest.approx(700.0, rel=1e-5)
    assert float(sigmas[-2]) == pytest.approx(0.002, rel=1e-3)
    assert float(sigmas[-1]) == 0.0
    assert bool((sigmas[1:] < sigmas[:-1]).all())
    with pytest.raises(ValueError, match="at least 1"):
        karras_sigmas(0)


def test_a_network_that_knows_the_velocity_finds_the_clean_sample() -> None:
    # v = alpha eps - sigma_vp x0 with x = x0 + s eps scaled by alpha = 1 / sqrt(s^2 + 1).
    rng = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 2, 3, generator=rng), torch.randn(2, 2, 3, generator=rng)
    s = torch.tensor([3.0, 0.2])
    each = s.reshape(2, 1, 1)
    velocity = (noise - each * clean) / (each**2 + 1).sqrt()
    found = denoised(lambda _, __: velocity, clean + each * noise, s)
    torch.testing.assert_close(found, clean)


def test_the_network_is_told_a_quarter_of_the_logarithm() -> None:
    heard = []

    def listening(x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        heard.append(level)
        return x

    denoised(listening, torch.zeros(1, 2), torch.tensor([16.0]))
    torch.testing.assert_close(heard[0], torch.tensor([0.6931472]))


def test_a_sampler_of_a_gaussian_gives_a_gaussian() -> None:
    # Data N(2, 0.5^2): the best estimate from x = x0 + s eps is known, and so the flow's end.
    def best(x: torch.Tensor, s: float) -> torch.Tensor:
        return 2 + (0.25 / (0.25 + s**2)) * (x - 2)

    noise = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0))
    drawn = euler(best, noise, karras_sigmas(200))
    assert float(drawn.mean()) == pytest.approx(2.0, abs=0.03)
    assert float(drawn.std()) == pytest.approx(0.5, abs=0.03)


def test_a_hook_may_change_the_sample_before_each_step() -> None:
    steps = []

    def hook(i: int, x: torch.Tensor) -> torch.Tensor:
        steps.append(i)
        return torch.zeros_like(x)

    out = euler(lambda x, _: x, torch.ones(1, 2), karras_sigmas(3), before_step=hook)
    assert steps == [0, 1, 2]
    torch.testing.assert_close(out, torch.zeros(1, 2))


def test_guidance_ramps_and_triangles() -> None:
    torch.testing.assert_close(guidance_ramp(1.0, 2.5, 4), torch.tensor([1.0, 1.5, 2.0, 2.5]))
    torch.testing.assert_close(
        guidance_triangle(1.0, 2.5, 5), torch.tensor([1.0, 1.75, 2.5, 1.75, 1.0])
    )
    torch.testing.assert_close(guidance_triangle(1.0, 2.5, 1), torch.tensor([1.0]))


def test_each_frame_is_guided_by_its_own_scale() -> None:
    known, unknown = torch.full((1, 2, 3), 2.0), torch.ones(1, 2, 3)
    out = guided(known, unknown, torch.tensor([1.0, 3.0]))
    assert out[0, :, 0].tolist() == [2.0, 4.0]
