"""Turntables as video: H.264 in MP4, or animated WebP where ffmpeg is not to be had."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from .files import atomic_path, quantised

_LOG = logging.getLogger(__name__)
_QUALITY = ["-crf", "18", "-preset", "medium", "-movflags", "+faststart"]
# One thread and no dates or versions in the file: the same frames give the same bytes.
_SAME_BYTES = ["-threads", "1", "-fflags", "+bitexact", "-flags:v", "+bitexact"]
# Said in the file, since players guess the colour matrix of small videos differently.
_COLOUR = ["-vf", "scale=out_color_matrix=bt709:out_range=tv", "-colorspace", "bt709"]
_COLOUR += ["-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"]


def save_video(frames: Float[Tensor, "n h w 3"], path: Path | str, *, fps: float = 24.0) -> Path:
    """Write frames as a video that every player shows, atomically.

    Args:
        frames: Colours in [0, 1]; odd sizes are padded by a pixel, which H.264 needs.
        path: Where to; .mp4. Without ffmpeg the suffix becomes .webp, with a warning.
        fps: Frames a second.

    Returns:
        The file that was written.

    Raises:
        ValueError: If there are no frames or fps is not positive.
    """
    path = Path(path)
    if not len(frames) or min(frames.shape[1:3]) < 1:
        raise ValueError(f"a video needs frames, got {tuple(frames.shape)}")
    if not fps > 0:
        raise ValueError(f"fps must be positive, got {fps}")
    levels = quantised(frames, bits=8)
    if _has_ffmpeg():
        try:
            with atomic_path(path) as temporary:
                _write_mp4(levels, temporary, fps)
        except OSError as error:  # this build of ffmpeg has no H.264
            _LOG.warning("ffmpeg failed (%s): writing animated WebP", str(error).split("\n")[0])
        else:
            return path
    else:
        _LOG.warning("ffmpeg is missing (install imageio-ffmpeg): writing animated WebP")
    path = path.with_suffix(".webp")
    with atomic_path(path) as temporary:
        _write_webp(levels, temporary, fps)
    return path


def _has_ffmpeg() -> bool:
    try:
        import imageio_ffmpeg  # noqa: PLC0415  needed for videos only

        imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):  # RuntimeError: the package came without its program
        return False
    return True


def _write_mp4(levels: np.ndarray, path: Path, fps: float) -> None:
    import imageio_ffmpeg  # noqa: PLC0415

    h, w = levels.shape[1:3]
    even = np.pad(levels, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)), mode="edge")
    options: dict[str, Any] = {  # its signature has defaults of narrower types than it takes
        "fps": fps,
        "codec": "libx264",
        "quality": None,
        "macro_block_size": 2,
        "ffmpeg_log_level": "error",
        "output_params": [*_QUALITY, *_SAME_BYTES, *_COLOUR],
    }
    size_wh = (even.shape[2], even.shape[1])
    writer = imageio_ffmpeg.write_frames(str(path), size_wh, **options)
    writer.send(None)
    try:
        for frame in even:
            writer.send(np.ascontiguousarray(frame))
    finally:
        writer.close()
    # The index comes right after the file type (+faststart), and only once all else went well;
    # the package itself does not look at how ffmpeg ended.
    if not path.is_file() or b"moov" not in path.read_bytes()[:64]:
        raise OSError("it wrote no whole file")


def _write_webp(levels: np.ndarray, path: Path, fps: float) -> None:
    from PIL import Image as Pillow  # noqa: PLC0415

    first, *rest = [Pillow.fromarray(frame) for frame in levels]
    duration_ms = round(1000 / fps)
    first.save(
        path, "WEBP", save_all=True, append_images=rest, duration=duration_ms, loop=0, quality=85
    )
