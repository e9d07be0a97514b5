"""Start a network from another whose inputs differ: input columns are kept, moved, or new zeros."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

CONV_IN, _VECTOR = "unet.conv_in.weight", "unet.add_embedding.linear_1.weight"


def fitting(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the tensors that have the name and shape of one of the network's."""
    own = network.state_dict()
    return {k: v.to(own[k]) for k, v in state.items() if k in own and own[k].shape == v.shape}


def begin_with(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Begin with the tensors of another network that fit; what does not keeps its own start."""
    network.load_state_dict(network.state_dict() | fitting(network, state))


def moved_columns(
    weight: Float[Tensor, "o i *k"], origin: Sequence[int | None]
) -> Float[Tensor, "o j *k"]:
    """Build a layer's weight whose input j is input `origin[j]` of the old one; None is a zero."""
    new = torch.zeros(weight.shape[0], len(origin), *weight.shape[2:]).to(weight)
    for j, i in enumerate(origin):
        if i is not None:
            new[:, j] = weight[:, i]
    return new


def widened(state: Mapping[str, Tensor], inputs: int, *, name: str = CONV_IN) -> dict[str, Tensor]:
    """Give a UNet more input channels at the end, unheard at first: Zero123's, a depth map's."""
    old = state[name].shape[1]
    origin = [i if i < old else None for i in range(inputs)]
    return {**state, name: moved_columns(state[name], origin)}


def refiner_from_orbit(
    state: Mapping[str, Tensor], *, latents: int, tells_elevation: bool
) -> dict[str, Tensor]:
    """Start Hi3D's second stage from its first, or from Stable Video Diffusion, as its authors do.

    The latents to denoise keep their columns and the ones beside move behind 9 new ones for the
    depth. Of the vector, the first 256 numbers go (frames a second, or an aesthetic score), the
    next become the elevation, the last stay the noise.

    Args:
        state: Of a `VideoUNet` with 2 `latents` inputs and a vector of 3 x 256.
        latents: Channels of a latent.
        tells_elevation: Whether the second 256 numbers are an elevation already (Hi3D's first
            stage); Stable Video Diffusion has motion there, which becomes zeros.

    Raises:
        ValueError: If the state is of another size.
    """
    inputs, told = state[CONV_IN].shape[1], state[_VECTOR].shape[1]
    if (inputs, told) != (2 * latents, 768):
        raise ValueError(
            f"an orbit network takes {2 * latents} channels and 768 numbers, "
            f"this one takes {inputs} and {told}"
        )
    noisy, beside = list(range(latents)), list(range(latents, 2 * latents))
    elevation = list(range(256, 512)) if tells_elevation else [None] * 256
    return {
        **state,
        CONV_IN: moved_columns(state[CONV_IN], [*noisy, *[None] * 9, *beside]),
        _VECTOR: moved_columns(state[_VECTOR], [*elevation, *range(512, 768)]),
    }
