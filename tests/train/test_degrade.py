import torch
from families_tiny import seeded

from roundview.train.degrade import Degradation, Pass, blur_kernel, degraded, filtered, sinc_kernel

NOTHING = Pass(0.0, (0.2, 0.2), (0.0, 0.0, 1.0), (1.0, 1.0), (0.0, 0.0), (0.0, 0.0))
HARMLESS = Degradation(
    NOTHING, NOTHING, 1.0, 0.0, (100.0, 100.0), last_sinc=0.0, shrink=1, masking=0.0
)


def test_kernels_keep_the_brightness_and_have_odd_sizes_from_7_to_21() -> None:
    rng, sizes = seeded(), set()
    for _ in range(200):
        kernel = blur_kernel((0.2, 3.0), rng)
        assert kernel.shape == (21, 21)
        assert abs(float(kernel.sum()) - 1) < 1e-5
        rows = kernel.abs().sum(dim=1).nonzero().flatten()
        sizes.add(int(rows.max() - rows.min()) + 1)
    assert max(sizes) == 21
    assert all(size % 2 for size in sizes)


def test_sincs_are_round_and_ring() -> None:
    kernel = sinc_kernel(seeded())
    torch.testing.assert_close(kernel, kernel.T)
    torch.testing.assert_close(kernel, kernel.flip(0))
    assert float(kernel.min()) < 0


def test_a_bell_spreads_as_its_deviation_says() -> None:
    # No sinc, and a seed whose kind is the plain round one with a wide kernel.
    plain = Degradation(sinc=0.0)
    place = torch.arange(21.0) - 10
    spreads = [
        float((blur_kernel((1.0, 1.0), seeded(k), plain).sum(0) * place**2).sum())
        for k in range(30)
    ]
    # 45 + 25 in a hundred are normal: their variance is 1.
    assert sum(abs(spread - 1) < 0.02 for spread in spreads) > 12


def test_filters_are_each_pictures_own() -> None:
    rgb = torch.rand(2, 3, 9, 9, generator=seeded())
    kernel = torch.zeros(2, 3, 3)
    kernel[0, 1, 1] = 1
    kernel[1, 1, 2] = 1  # Takes the neighbour on the right.
    out = filtered(rgb, kernel)
    torch.testing.assert_close(out[0], rgb[0])
    torch.testing.assert_close(out[1, :, :, :-1], rgb[1, :, :, 1:])
    torch.testing.assert_close(out[1, :, :, -1], rgb[1, :, :, -1])


def test_a_degradation_without_strength_hardly_changes_a_picture() -> None:
    rgb = torch.full((2, 3, 16, 16), 0.25)
    torch.testing.assert_close(degraded(rgb, seeded(), HARMLESS), rgb, atol=1 / 255, rtol=0)


def test_sizes_and_ranges_stay_whatever_is_drawn() -> None:
    for seed in range(12):
        for h, w in ((16, 16), (13, 22)):
            out = degraded(torch.rand(2, 3, h, w, generator=seeded(seed)), seeded(seed))
            assert out.shape == (2, 3, h, w)
            assert bool(((out >= 0) & (out <= 1)).all())


def test_the_same_seed_spoils_alike_and_another_otherwise() -> None:
    rgb = torch.rand(1, 3, 16, 16, generator=seeded())
    assert torch.equal(degraded(rgb, seeded(3)), degraded(rgb, seeded(3)))
    assert not torch.equal(degraded(rgb, seeded(3)), degraded(rgb, seeded(4)))


def test_noise_is_as_strong_as_it_says_and_grey_if_asked() -> None:
    noisy = Pass(0.0, (1.0, 1.0), (0.0, 0.0, 1.0), (1.0, 1.0), (25.5, 25.5), (0.0, 0.0))
    settings = Degradation(
        noisy, NOTHING, 1.0, 1.0, (100.0, 100.0), last_sinc=0.0, shrink=1, masking=0.0
    )
    rgb = torch.full((1, 3, 64, 64), 0.5)
    out = degraded(rgb, seeded(), settings) - rgb
    assert abs(float(out.std()) - 0.1) < 0.01
    torch.testing.assert_close(out[:, 0], out[:, 2], atol=3 / 255, rtol=0)


def test_masks_whiten_squares_of_some_frames() -> None:
    settings = Degradation(
        NOTHING, NOTHING, 1.0, 0.0, (100.0, 100.0),
        last_sinc=0.0, shrink=1, masking=0.5, masked=0.25,
    )  # fmt: skip
    out = degraded(torch.zeros(200, 3, 16, 16), seeded(), settings)
    white = out[:, 0] > 0.99
    touched = white.flatten(1).any(dim=1)
    # 200 frames: deviation 0.035; 100 frames of 64 squares: 0.005.
    assert abs(float(touched.float().mean()) - 0.5) < 0.12
    assert abs(float(white[touched].float().mean()) - 0.25) < 0.03
