from pathlib import Path

import torch
from render_tiny import tiny_set

from roundview.diffusion.encoders import AutoencoderSize, LatentAutoencoder
from roundview.train.autoencoder import train_autoencoder
from roundview.train.loop import LoopSettings

SIZE = AutoencoderSize(
    latent_channels=16, width=16, encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1, 1)
)


def test_training_improves_on_the_components_and_standardises(tmp_path: Path) -> None:
    pictures = tiny_set(tmp_path / "set")
    rgba = torch.from_numpy(pictures.rgba[0].astype("float32") / 255).permute(0, 3, 1, 2)

    @torch.no_grad()
    def score(network: LatentAutoencoder) -> float:
        latent = network.encode(rgba)
        assert float(latent.std()) < 3
        return float((network.decode(latent) - rgba).abs().mean())

    def error(steps: int) -> float:
        settings = LoopSettings(steps=steps, learning_rate=1e-3, warmup=5, ema=0.9)
        network = train_autoencoder(
            [pictures], tmp_path / str(steps), batch=16, size=SIZE, settings=settings
        )
        return score(network)

    assert error(150) < 0.9 * error(1)
