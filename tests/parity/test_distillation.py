"""Guidance of HiFi-123 and Isotropic3D; ROUNDVIEW_FIXTURES names a folder with the originals."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from roundview.diffusion.depth2image import SharedDepthUNet
from roundview.parity import Fixture, read_fixture
from roundview.parity.distillation import CASES, isotropic3d_guidance, rgnv
from roundview.parity.fixture import Outcome

MORE = Path(os.environ.get("ROUNDVIEW_FIXTURES", "nowhere"))
HIFI123 = MORE / "hifi123_rgnv_tiny.safetensors"
ISOTROPIC3D = MORE / "isotropic3d_unet_tiny.safetensors"
CONFIG = (
    '{"in_channels": 5, "block_out_channels": [8], "down_block_types": ["CrossAttnDownBlock2D"],'
    '"up_block_types": ["CrossAttnUpBlock2D"], "layers_per_block": 1, "attention_head_dim": 2,'
    '"cross_attention_dim": 6, "norm_num_groups": 4}'
)


def met(fixture: Fixture, outcomes: dict[str, Outcome]) -> None:
    for name, out in outcomes.items():
        error = float(
            (out.ours.reshape(fixture.fields[name].shape) - fixture.fields[name]).abs().max()
        )
        assert error <= out.tolerance, name


@pytest.mark.skipif(not HIFI123.exists(), reason="no such fixture at hand")
@pytest.mark.parametrize("case", ["T20"])
@torch.no_grad()
def test_hifi123s_enhancement_is_met(case: str) -> None:
    fixture = read_fixture(HIFI123, HIFI123)
    others = tuple(f"{other}." for other in CASES if other != case)
    fields = {n: t for n, t in fixture.fields.items() if not n.startswith(others)}
    fixture = replace(fixture, fields=fields)
    outcomes = rgnv(fixture)
    parts = ("start_code", "src_inv", "xt", "xt_len", "final_latents", "step_latents")
    assert outcomes.keys() == {f"{case}.{part}" for part in parts}
    met(fixture, outcomes)


@pytest.mark.skipif(not ISOTROPIC3D.exists(), reason="no such fixture at hand")
@torch.no_grad()
def test_isotropic3ds_guidance_is_met() -> None:
    fixture = read_fixture(ISOTROPIC3D, ISOTROPIC3D)
    with np.load(MORE / "isotropic3d_sds.npz") as file:
        told = {name: torch.from_numpy(file[name]) for name in file.files}
    fixture = replace(fixture, fields=told)
    outcomes = isotropic3d_guidance(fixture)
    assert len(outcomes) == 18
    met(fixture, outcomes)


@torch.no_grad()
def test_steps_are_told_from_what_the_network_is_asked() -> None:
    # A fixture of our own: what is laid out as step 0, 1, ... must end in the final latents.
    torch.manual_seed(0)
    fixture = Fixture({}, {}, {"unet_config": CONFIG})
    net = SharedDepthUNet.from_config(fixture.config)
    rng = torch.Generator().manual_seed(1)
    fields = {
        "text_empty_and_target": torch.randn(2, 3, 6, generator=rng),
        "depth": torch.randn(2, 1, 4, 4, generator=rng),
        "src": torch.randn(1, 4, 4, 4, generator=rng),
        "tgt": torch.randn(1, 4, 4, 4, generator=rng),
        "mask": torch.ones(1, 1, 4, 4),
        "T20.start_code": torch.zeros(1),
        "T20.step_idx": torch.tensor([8, 19]),
        "T20.step_latents": torch.zeros(1),
        "T20.final_latents": torch.zeros(1),
    }
    out = rgnv(replace(fixture, weights=net.unet.state_dict(), fields=fields))
    torch.testing.assert_close(out["T20.step_latents"].ours[1], out["T20.final_latents"].ours)
    assert not torch.allclose(out["T20.step_latents"].ours[0], out["T20.final_latents"].ours)


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(RuntimeError, match="Missing key"):
        rgnv(Fixture({}, {}, {"unet_config": CONFIG}))
