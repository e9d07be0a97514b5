"""What public video models at full size need of a GPU: peak memory and seconds, and our estimate.

Weights are random, so nothing is downloaded and the pictures mean nothing; sizes, precision and
the order of calls are those of a real run: the photograph is encoded, the UNet is asked twice a
step (with the condition and without), the frames are decoded.

    python benchmarks/public_memory.py                        # both, each with all it wants
    python benchmarks/public_memory.py --model hi3d --memory-gb 24
    python benchmarks/public_memory.py --device cpu --tiny    # only to see that it runs

Prints for each network and for the whole run: gigabytes (1e9) of tensors as torch counts them, the
estimate made before anything was loaded, and seconds of the second call (the first one warms up).
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from roundview.diffusion.checkpoints.autoencoder import AutoencoderShape
from roundview.diffusion.checkpoints.unet import UNetShape
from roundview.diffusion.clip import VIT_H_14, ClipShape, ClipTower
from roundview.diffusion.ldm_autoencoder import ClipDecoder, LdmAutoencoder
from roundview.diffusion.video_unet import VideoUNet
from roundview.loaders.memory import Drawn, needs_of
from roundview.memory import GB, MemoryPlan, fitted, plan_memory

SVD = UNetShape(
    8, 4, 320, (1, 2, 4, 4), 2, (True, True, True, False), (5, 10, 20, 20), 1024,
    linear=True, vector=768,
)  # fmt: skip
MODELS = {
    "svd-xt": (SVD, Drawn(21, 576)),
    "hi3d": (replace(SVD, in_channels=17, vector=512), Drawn(16, 1024)),
}


def networks_of(unet: UNetShape, *, tiny: bool) -> dict[str, nn.Module]:
    """Build them without weights."""
    codec, tower = AutoencoderShape(), VIT_H_14
    if tiny:
        codec = AutoencoderShape(width=32, res_blocks=1)
        tower = ClipShape(width=64, layers=1, heads=1, side=28, out=1024)
        unet = replace(unet, width=64, heads=(1, 1, 1, 1), res_blocks=1)
    with torch.device("meta"):
        return {
            "image_tower": ClipTower(tower),
            "condition_encoder": LdmAutoencoder(codec, upcast=True),
            "unet": VideoUNet(unet),
            "decoder": ClipDecoder(codec),
        }


def with_random_weights(
    networks: dict[str, nn.Module], plan: MemoryPlan, device: torch.device
) -> dict[str, nn.Module]:
    """Fill them where the plan lets them live, small enough that nothing overflows."""
    home = torch.device("cpu") if plan.offload else device
    for network in networks.values():
        network.to(plan.dtype).to_empty(device=home).eval().requires_grad_(False)
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.01)
    return fitted(networks, plan, device)


class Watch:
    """Runs things twice, and says what the second time took."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.highest = 0.0

    def __call__(self, name: str, run: Callable[[], Tensor], estimate: int) -> Tensor:
        run()
        self._reset()
        start = time.perf_counter()
        out = run()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        seconds = time.perf_counter() - start
        peak = self._peak()
        self.highest = max(self.highest, peak)
        told = f"{peak:6.2f} GB" if self.device.type == "cuda" else "not measured"
        print(f"  {name:18} {told}   estimated {estimate / GB:6.2f} GB   {seconds:7.2f} s")
        return out

    def _reset(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def _peak(self) -> float:
        return (
            torch.cuda.max_memory_allocated(self.device) / GB if self.device.type == "cuda" else 0
        )


@torch.no_grad()
def measure(
    name: str, device: torch.device, *, memory_gb: float | None, steps: int, tiny: bool
) -> None:
    unet_shape, drawn = MODELS[name]
    drawn = Drawn(4, 64) if tiny else drawn
    needs = needs_of(networks_of(unet_shape, tiny=tiny), drawn)
    limit = memory_gb or 1e6
    started = time.perf_counter()
    plan = plan_memory(needs, limit, device)
    print(
        f"{name}: {drawn.frames} frames of {drawn.size_px} px, {plan.precision}, offload "
        f"{plan.offload}, {plan.decoded_at_once} frames decoded at once; estimated peak "
        f"{plan.peak_bytes / GB:.1f} GB (in {time.perf_counter() - started:.1f} s)"
    )
    told = {need.name: need for need in needs(plan)}
    everything = sum(need.weights for need in told.values())

    def estimate(part: str) -> int:
        return told[part].activations + (told[part].weights if plan.offload else everything)

    parts = with_random_weights(networks_of(unet_shape, tiny=tiny), plan, device)
    home = torch.device("cpu") if plan.offload else device

    def random(*shape: int) -> Tensor:
        return torch.randn(shape).to(home, plan.dtype)

    watch, side = Watch(device), drawn.size_px // 8
    tower, unet, decoder = parts["image_tower"], parts["unet"], parts["decoder"]
    encoder = parts["condition_encoder"]
    if not isinstance(tower, ClipTower) or not isinstance(encoder, LdmAutoencoder):
        raise TypeError("a tower and an encoder were expected")
    if not isinstance(decoder, ClipDecoder):
        raise TypeError("a decoder was expected")
    photo = random(1, 3, drawn.size_px, drawn.size_px)
    seen = random(1, 3, tower.shape.side, tower.shape.side)
    tokens = watch("image_tower", lambda: tower(seen), estimate("image_tower"))[:, None]
    watch(
        "condition_encoder",
        lambda: encoder.encode(photo),
        estimate("condition_encoder"),
    )
    x = random(1, drawn.frames, unet_shape.in_channels, side, side)
    level, vector = random(1), random(1, drawn.frames, unet_shape.vector)

    def step() -> Tensor:
        known = unet(x, level, tokens, vector)
        return known + 2.0 * (known - unet(x, level, torch.zeros_like(tokens), vector))

    watch("unet, step", step, estimate("unet"))
    latents = random(drawn.frames, 4, side, side).split(plan.decoded_at_once)

    def decode() -> Tensor:
        return torch.cat([decoder.decode(part[None])[0].cpu() for part in latents])

    watch("decoder", decode, estimate("decoder"))
    if device.type == "cuda":
        print(f"  peak {watch.highest:.2f} GB; {steps} steps are {steps} times the step's seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", choices=[*MODELS, "all"], default="all")
    parser.add_argument("--memory-gb", type=float)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--tiny", action="store_true", help="Reduced width, four small frames.")
    told = parser.parse_args()
    for name in MODELS if told.model == "all" else (told.model,):
        measure(
            name,
            torch.device(told.device),
            memory_gb=told.memory_gb,
            steps=told.steps,
            tiny=told.tiny,
        )


if __name__ == "__main__":
    main()
