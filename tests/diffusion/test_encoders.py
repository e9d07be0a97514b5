import torch

from roundview.diffusion.encoders import AutoencoderSize, LatentAutoencoder

SMALL = AutoencoderSize(
    latent_channels=6, width=8, encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1, 1)
)


def pictures(n: int = 8, side: int = 32) -> torch.Tensor:
    return torch.rand(n, 4, side, side, generator=torch.Generator().manual_seed(0))


def test_latents_have_an_eighth_of_the_resolution() -> None:
    network = LatentAutoencoder(SMALL)
    latent = network.encode(pictures())
    assert latent.shape == (8, 6, 4, 4)
    assert network.decode(latent).shape == (8, 4, 32, 32)


def test_components_reproduce_pictures_of_few_colours() -> None:
    # Squares of one flat RGBA value each span 4 dimensions, which 6 components hold exactly.
    flat = pictures(side=4).repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
    network = LatentAutoencoder(SMALL)
    network.start_from_components(flat)
    # 1e-4: eigenvectors in double, weights in single precision.
    torch.testing.assert_close(network.decode(network.encode(flat)), flat, rtol=0, atol=1e-4)


def test_standardising_cancels_between_encode_and_decode() -> None:
    network = LatentAutoencoder(SMALL)
    network.start_from_components(pictures())
    before = network.decode(network.encode(pictures()))
    network.latent_mean.fill_(0.3)
    network.latent_std.fill_(2.0)
    torch.testing.assert_close(network.decode(network.encode(pictures())), before)


def test_channels_count_by_how_much_they_move_the_picture() -> None:
    network = LatentAutoencoder(SMALL)
    network.start_from_components(pictures())
    weight = network.channel_weight()
    torch.testing.assert_close(weight.mean(), torch.tensor(1.0))
    assert bool((weight[:-1] >= weight[1:] - 1e-6).all())  # Components come in falling order.
