"""Sizes of the small networks that we train ourselves, on our autoencoder's latents.

Layouts are the public checkpoints' own, a hundredth of their size: two levels on latents of 8 x 8,
1 residual block each, heads of 32 channels. Chosen by us for what two processor cores draw in
seconds; other sizes were not tried.
"""

from .checkpoints.unet import UNetShape

_WIDTH = 96


def small_zero123_shape(latents: int, context: int) -> UNetShape:
    """Zero123, and the refiner of a cascade: another view's latents lie beside the noisy ones.

    Args:
        latents: Channels of a latent.
        context: Length of the picture's embedding.
    """
    return _shape(2 * latents, latents, context)


def small_multiview_shape(latents: int, context: int) -> UNetShape:
    """The multi-view model of one embedding, told its cameras by 16 numbers each."""
    return _shape(latents, latents, context, camera=16)


def small_video_shape(latents: int, context: int) -> UNetShape:
    """The first stage of a video model: the photo's latents beside, three numbers of 256 each."""
    return _shape(2 * latents, latents, context, vector=768)


def small_video_refiner_shape(latents: int, context: int) -> UNetShape:
    """The second stage: depth in 9 channels and coarse latents beside, two numbers of 256 each."""
    return _shape(2 * latents + 9, latents, context, vector=512)


def narrow_video_refiner_shape(latents: int, context: int) -> UNetShape:
    """The second stage that begins anew: one level, 64 channels, three residual blocks.

    On 16 frames of 16 x 16 latents a training step takes one processor core a quarter of a second,
    half of what the two levels of the others' width take, whose weights are eight times as many.
    """
    return UNetShape(
        in_channels=2 * latents + 9,
        out_channels=latents,
        width=64,
        widths=(1,),
        res_blocks=3,
        attends=(False,),
        heads=(2,),
        context=context,
        linear=True,
        vector=512,
        camera=0,
    )


def _shape(
    inputs: int, outputs: int, context: int, *, vector: int = 0, camera: int = 0
) -> UNetShape:
    return UNetShape(
        in_channels=inputs,
        out_channels=outputs,
        width=_WIDTH,
        widths=(1, 2),
        res_blocks=1,
        attends=(True, True),
        heads=(3, 6),
        context=context,
        linear=True,
        vector=vector,
        camera=camera,
    )
