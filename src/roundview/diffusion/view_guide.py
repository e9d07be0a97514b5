"""What a distillation asks of a diffusion model, whatever the model is."""

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from ..camera import Cameras
from .guide import Guided


@runtime_checkable
class ViewGuide(Protocol):
    """A diffusion model that was told of the photograph, ready to guide renderings of its subject.

    Attributes:
        shares: Share of the signal's variance after each training step (`alphas_cumprod`).
        size_px: Side of the pictures that `encode` takes.
        together: Views of the subject that are denoised together, at one noise level; 1 if each is
            on its own.
    """

    shares: Float[Tensor, " steps"]
    size_px: int
    together: int

    def encode(self, rgba: Float[Tensor, "n 4 h w"]) -> Float[Tensor, "n c y x"]:
        """Turn renderings into what the model denoises; differentiable.

        Args:
            rgba: Colour over white, [0, 1], and alpha.
        """
        ...

    def told(self, cameras: Cameras) -> Guided[Any]:
        """Tell the model where views are seen from.

        Args:
            cameras: A multiple of `together`.

        Returns:
            What predicts the noise of the encoded views, guidance included.
        """
        ...
