import json
from pathlib import Path

import numpy as np
import torch
from render_tiny import tiny_set

from roundview.data.render_set import MultiViewSet
from roundview.diffusion.encoders import AutoencoderSize, LatentAutoencoder
from roundview.diffusion.view_transformer import ViewTransformer, ViewTransformerSize
from roundview.train.batch import ViewSampler
from roundview.train.loop import LoopSettings
from roundview.train.orbit import OrbitTraining, object_weights, train_orbit

SIZE = AutoencoderSize(
    latent_channels=8, width=8, encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1, 1)
)


def test_the_loss_falls(tmp_path: Path) -> None:
    pictures = tiny_set(tmp_path / "set")
    autoencoder = LatentAutoencoder(SIZE)
    rgba = torch.from_numpy(pictures.rgba[0].astype("float32") / 255).permute(0, 3, 1, 2)
    autoencoder.start_from_components(rgba)
    torch.manual_seed(0)
    train_orbit(
        ViewTransformer(ViewTransformerSize(8, latent_px=2, width=32, blocks=2, heads=2)),
        ViewSampler([pictures]),
        autoencoder,
        tmp_path / "run",
        training=OrbitTraining(batch=4, few_views=2, many_views=4, many_share=0.2),
        settings=LoopSettings(steps=150, learning_rate=3e-3, warmup=10),
    )
    rows = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    losses = [json.loads(row)["loss"] for row in rows]
    assert losses[-1] < 0.8 * losses[0]


def test_scans_are_drawn_oftener_and_procedural_objects_keep_their_share(tmp_path: Path) -> None:
    real, made = tiny_set(tmp_path / "a"), tiny_set(tmp_path / "b", objects=3)
    named = MultiViewSet(
        real.rgba, real.azimuth_deg, real.elevation_deg, ["gso/cup", "kenney/tree"], real.settings
    )
    weights = object_weights(named, made, scans_times=3.0, procedural_share=0.5)
    np.testing.assert_allclose(weights[0], [3.0, 1.0])
    np.testing.assert_allclose(weights[1].sum(), 4.0)
