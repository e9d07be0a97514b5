"""Variational score distillation: the guide is compared with a copy that learns the renderings.

Wang et al., "ProlificDreamer: High-Fidelity and Diverse Text-to-3D Generation with Variational
Score Distillation", 2023. The copy is the guide itself with low-rank additions (Hu et al., "LoRA:
Low-Rank Adaptation of Large Language Models", 2021) and an embedding of the camera.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from .ddim import Predictor
from .guide import noised, shares_at
from .noise import randn

Target: TypeAlias = Literal["noise", "velocity"]
"""What the copy predicts: eps, or v = sqrt(a) eps - sqrt(1 - a) x_0 (ProlificDreamer's)."""

CAMERA_DROPOUT = 0.1
"""Share of the training steps in which the copy is not told the camera (threestudio)."""


def vsd_gradient(
    pretrained: Predictor,
    learned: Predictor,
    clean: Tensor,
    t: Int[Tensor, " b"],
    noise: Tensor,
    *,
    shares: Float[Tensor, " steps"],
    target: Target = "noise",
) -> Tensor:
    """Give (1 - a) (eps_pretrained(x_t, t) - eps_learned(x_t, t)), equation 9 of the paper.

    Args:
        pretrained: Predicts noise, guidance included.
        learned: The copy; predicts `target`.
        clean: What was rendered, or its latents; samples along the first axis.
        t: Training step of each sample.
        noise: Unit normal, like `clean`.
        shares: `alphas_cumprod` of the schedule.
        target: What `learned` predicts.

    Returns:
        The gradient at `clean`, not divided by the number of samples.
    """
    share = shares_at(shares, t, clean)
    noisy = noised(clean, noise, share)
    with torch.no_grad():
        wanted, present = pretrained(noisy, t), learned(noisy, t)
    if target == "velocity":
        present = noise_from_velocity(noisy, present, share)
    return (1 - share) * (wanted - present)


def noise_from_velocity(noisy: Tensor, velocity: Tensor, share: Tensor) -> Tensor:
    """Give eps = sqrt(1 - a) x_t + sqrt(a) v (Salimans and Ho 2022, appendix D)."""
    return (1 - share).sqrt() * noisy + share.sqrt() * velocity


def vsd_training_loss(
    learned: Predictor,
    clean: Tensor,
    t: Int[Tensor, " b"],
    noise: Tensor,
    *,
    shares: Float[Tensor, " steps"],
    target: Target = "noise",
) -> Float[Tensor, ""]:
    """Give the loss by which the copy learns what is rendered: mean squared error of its target.

    Differentiable in the copy only. Arguments as in `vsd_gradient`.
    """
    clean = clean.detach()
    share = shares_at(shares, t, clean)
    wanted = noise
    if target == "velocity":
        wanted = share.sqrt() * noise - (1 - share).sqrt() * clean
    return (learned(noised(clean, noise, share), t) - wanted).square().mean()


def shown_camera(
    camera: Float[Tensor, "b m"], rng: Generator, *, dropout: float = CAMERA_DROPOUT
) -> Float[Tensor, "b m"]:
    """Hide the cameras of a training step (zeros) now and then, for guidance over them."""
    hidden = float(torch.rand((), generator=rng)) < dropout
    return torch.zeros_like(camera) if hidden else camera


class Lora(nn.Module):
    """Low-rank additions to a UNet's attention layers, which are off unless switched on.

    The UNet is left as it is: one copy of its weights serves as guide and as learned copy. At first
    the additions are zero, so that both say the same. Moves with `.to` by itself, not with the
    UNet, and is what an optimiser is given and a checkpoint keeps.
    """

    def __init__(self, unet: nn.Module, rng: Generator, *, rank: int = 4, camera: int = 16) -> None:
        """Attach to a UNet.

        Args:
            unet: Holds diffusers' attention layers (`to_q`, `to_k`, `to_v`, `to_out.0`) and a
                `time_embedding`, at any depth.
            rng: Draws the first layers.
            rank: Of the additions.
            camera: Length of the camera's vector.

        Raises:
            ValueError: If there is no attention or no time embedding in it.
        """
        super().__init__()
        self.added, self._on, self._camera = nn.ModuleDict(), False, torch.empty(0)
        time = None
        for name, module in unet.named_modules():
            if isinstance(module, nn.Linear) and name.endswith(_PROJECTIONS):
                addition = _Addition(module, rank, rng)
                self.added[name.replace(".", "_")] = addition
                module.register_forward_hook(self._adding(addition))
            elif name.split(".")[-1] == "time_embedding":
                time = module
        if time is None or not self.added:
            raise ValueError("this network has no attention layers or no time embedding to add to")
        width = _last_linear(time).out_features
        self.camera_embedding = nn.Sequential(
            nn.Linear(camera, width), nn.SiLU(), nn.Linear(width, width)
        )
        for parameter in self.camera_embedding.parameters():
            bound = parameter.shape[-1] ** -0.5
            parameter.data = (torch.rand(parameter.shape, generator=rng) * 2 - 1) * bound
        time.register_forward_hook(self._adding_camera)

    @contextmanager
    def on(self, camera: Float[Tensor, "b m"]) -> Iterator[None]:
        """Add to what the UNet computes inside this block, seen from the cameras of its samples."""
        self._on, self._camera = True, camera
        try:
            yield
        finally:
            self._on = False

    def _adding(self, addition: "_Addition") -> Any:  # noqa: ANN401  a hook
        def hook(module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
            del module
            return out + addition(args[0]) if self._on else out

        return hook

    def _adding_camera(self, module: nn.Module, args: tuple[Any, ...], out: Tensor) -> Tensor:
        del module, args
        return out + self.camera_embedding(self._camera.to(out)) if self._on else out


class _Addition(nn.Module):
    """up(down(x)): down normal with deviation 1 / rank, up zero."""

    def __init__(self, linear: nn.Linear, rank: int, rng: Generator) -> None:
        super().__init__()
        down = randn((rank, linear.in_features), rng) / rank
        self.down = nn.Parameter(down.to(linear.weight))
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank).to(linear.weight))

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b o"]:
        return x @ self.down.mT @ self.up.mT


_PROJECTIONS = (".to_q", ".to_k", ".to_v", ".to_out.0")


def _last_linear(module: nn.Module) -> nn.Linear:
    found = [part for part in module.modules() if isinstance(part, nn.Linear)]
    if not found:
        raise ValueError("the time embedding has no linear layer")
    return found[-1]
