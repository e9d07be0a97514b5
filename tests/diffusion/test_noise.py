import torch

from roundview.diffusion.noise import CosineSchedule, clean_from_v, randn, v_from_clean


def test_the_schedule_ends_without_signal_and_starts_without_noise() -> None:
    schedule = CosineSchedule()
    t = torch.tensor([0.0, 1.0])
    assert schedule.alpha(t).tolist() == [1.0, 0.0]
    assert schedule.sigma(t).tolist() == [0.0, 1.0]


def test_the_schedule_keeps_the_variance() -> None:
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    schedule = CosineSchedule()
    total = schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2
    torch.testing.assert_close(total, torch.ones_like(t), rtol=1e-9, atol=1e-9)


def test_half_way_both_shares_are_equal() -> None:
    schedule = CosineSchedule()
    noisy = schedule.noised(torch.tensor([[2.0]]), torch.tensor([[4.0]]), torch.tensor([0.5]))
    torch.testing.assert_close(noisy, torch.tensor([[6.0 * 0.5**0.5]]))


def test_clean_comes_back_from_its_velocity() -> None:
    rng = torch.Generator().manual_seed(0)
    clean, noise = randn((5, 2, 3), rng).double(), randn((5, 2, 3), rng).double()
    t = torch.tensor([0.0, 0.2, 0.5, 0.9, 1.0], dtype=torch.float64)
    schedule = CosineSchedule()
    noisy = schedule.noised(clean, noise, t)
    v = v_from_clean(schedule, clean, noise, t)
    torch.testing.assert_close(clean_from_v(schedule, noisy, v, t), clean, rtol=1e-9, atol=1e-9)


def test_at_pure_noise_the_velocity_is_minus_the_clean_sample() -> None:
    clean, noise = torch.ones(1, 3), torch.full((1, 3), 7.0)
    v = v_from_clean(CosineSchedule(), clean, noise, torch.ones(1))
    torch.testing.assert_close(v, -clean)
