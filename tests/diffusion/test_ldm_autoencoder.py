import torch

from roundview.diffusion.checkpoints.autoencoder import AutoencoderShape
from roundview.diffusion.ldm_autoencoder import ClipDecoder, LdmAutoencoder

SMALL = AutoencoderShape(width=32, widths=(1, 1, 2), res_blocks=1)


@torch.no_grad()
def test_pictures_become_latents_and_pictures_again() -> None:
    torch.manual_seed(0)
    net = LdmAutoencoder(SMALL).eval()
    picture = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = net.encode(picture)
    assert latents.shape == (2, 4, 8, 8)
    torch.testing.assert_close(net.sample(picture, torch.zeros(2, 4, 8, 8)), latents)
    assert not torch.equal(net.sample(picture, torch.ones(2, 4, 8, 8)), latents)
    assert net.decode(latents).shape == picture.shape


@torch.no_grad()
def test_without_the_convolutions_between_the_latents_are_the_encoders_own() -> None:
    torch.manual_seed(0)
    net = LdmAutoencoder(SMALL, quant=False).eval()
    picture = torch.zeros(1, 3, 32, 32)
    torch.testing.assert_close(net.moments(picture), net.net.encoder(picture))


@torch.no_grad()
def test_frames_of_a_clip_are_decoded_together() -> None:
    torch.manual_seed(0)
    net = ClipDecoder(SMALL).eval()
    latents = torch.randn(1, 4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    clip = net.decode(latents)
    halves = net.decode(latents.reshape(2, 2, 4, 8, 8)).reshape(clip.shape)
    assert clip.shape == (1, 4, 3, 32, 32)
    assert float((clip - halves).abs().max()) > 1e-4
