"""A guide with a copy of itself that learns the renderings, for variational score distillation.

Wang et al., "ProlificDreamer: High-Fidelity and Diverse Text-to-3D Generation with Variational
Score Distillation", 2023; `guide_vsd` has the mathematics.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from ..camera import Cameras
from ..frames import mvdream_from_cameras
from .ddim import Predictor
from .guide import Guided
from .guide_vsd import Lora, shown_camera, vsd_gradient, vsd_training_loss
from .noise import randn
from .view_guide import ViewGuide


class LearningGuide:
    """A `ViewGuide` and its copy: the same network with low-rank additions that are told cameras.

    What the copy learns are `lora`'s parameters; whoever optimises what is rendered optimises them
    with it. The copy predicts noise, as the guide does; ProlificDreamer's predicts velocities.

    Args:
        guide: The pretrained model.
        lora: Additions to its network, for cameras of 16 numbers.
        rate: Learning rate of the copy (ProlificDreamer, as threestudio).
    """

    def __init__(self, guide: ViewGuide, lora: Lora, *, rate: float = 1e-4) -> None:
        self.guide, self.lora, self.rate = guide, lora, rate
        self.shares, self.size_px, self.together = guide.shares, guide.size_px, guide.together

    def encode(self, rgba: Float[Tensor, "n 4 h w"]) -> Float[Tensor, "n c y x"]:
        """Encode as the guide does."""
        return self.guide.encode(rgba)

    def told(self, cameras: Cameras) -> Guided[Any]:
        """Tell the guide."""
        return self.guide.told(cameras)

    def gradient(
        self,
        clean: Float[Tensor, "n c y x"],
        t: Int[Tensor, " n"],
        noise: Float[Tensor, "n c y x"],
        cameras: Cameras,
        rng: Generator,
    ) -> Float[Tensor, "n c y x"]:
        """Give `vsd_gradient` at latents, and send the copy's own loss back to its parameters.

        Args:
            clean: Latents of what was rendered.
            t: Training step of each.
            noise: Unit normal.
            cameras: Where they are seen from.
            rng: Draws what the copy is taught: noise, its level, whether it is told the cameras.
        """
        guided = self.told(cameras)
        vectors = mvdream_from_cameras(cameras).to(clean)
        found = vsd_gradient(
            guided, self._copy(guided, vectors), clean, t, noise, shares=self.shares
        )
        level = torch.randint(len(self.shares), (1,), generator=rng).expand(len(clean))
        other = randn(tuple(clean.shape), rng).to(clean)
        shown = self._copy(guided, shown_camera(vectors, rng))
        with torch.enable_grad():
            loss = vsd_training_loss(
                shown, clean, level.to(clean.device), other, shares=self.shares
            )
            loss.backward()
        return found

    def _copy(self, guided: Guided[Any], vectors: Float[Tensor, "n 16"]) -> Predictor:
        def predict(x: Tensor, t: Tensor) -> Tensor:
            with self.lora.on(vectors):
                return guided.model(x, t, guided.given)

        return predict
