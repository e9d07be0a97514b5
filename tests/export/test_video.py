"""Claims about videos: what a player gets back, the same bytes, and life without ffmpeg."""

import logging
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from roundview.export import video
from roundview.export.video import save_video


def frames(h: int = 32, w: int = 48, count: int = 6) -> torch.Tensor:
    """Flat colours, which survive compression."""
    colours = torch.tensor([[0.9, 0.2, 0.2], [0.2, 0.7, 0.3], [0.2, 0.3, 0.9]])
    return colours[torch.arange(count) % 3][:, None, None].expand(count, h, w, 3).contiguous()


def decoded(path: Path, h: int, w: int) -> tuple[str, np.ndarray]:
    """Let ffmpeg describe the video and give its frames."""
    import imageio_ffmpeg  # noqa: PLC0415  optional

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path)]
    done = subprocess.run(
        [*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True, check=True
    )
    stream = next(line for line in done.stderr.decode().splitlines() if "Video: h264" in line)
    return stream, np.frombuffer(done.stdout, np.uint8).reshape(-1, h, w, 3)


def test_a_player_sees_the_frames(tmp_path: Path) -> None:
    path = save_video(frames(), tmp_path / "x.mp4", fps=12.0)
    assert path == tmp_path / "x.mp4"
    assert path.stat().st_size > 0
    stream, seen = decoded(path, 32, 48)
    for fact in ("yuv420p", "bt709", "48x32", "12 fps"):
        assert fact in stream
    assert seen.shape == (6, 32, 48, 3)
    # Eight-bit YUV and two conversions: a few levels.
    np.testing.assert_allclose(seen / 255, frames().numpy(), atol=5 / 255)


def test_odd_sizes_are_padded(tmp_path: Path) -> None:
    stream, seen = decoded(save_video(frames(33, 47), tmp_path / "x.mp4"), 34, 48)
    assert "48x34" in stream
    np.testing.assert_allclose(seen[:, :, -1] / 255, seen[:, :, -2] / 255, atol=5 / 255)


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    first = save_video(frames(), tmp_path / "a.mp4").read_bytes()
    assert save_video(frames(), tmp_path / "b.mp4").read_bytes() == first


def test_without_ffmpeg_it_is_webp_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(video, "_has_ffmpeg", lambda: False)
    with caplog.at_level(logging.WARNING):
        path = save_video(frames(), tmp_path / "x.mp4", fps=10.0)
    assert path == tmp_path / "x.webp"
    assert [p.name for p in tmp_path.iterdir()] == ["x.webp"]
    assert "ffmpeg is missing" in caplog.text
    with Pillow.open(path) as opened:
        assert opened.size == (48, 32)
        assert getattr(opened, "n_frames", 1) == 6


def test_a_failing_ffmpeg_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(video, "_QUALITY", ["-preset", "no-such-preset"])
    with caplog.at_level(logging.WARNING):
        save_video(frames(), tmp_path / "x.mp4")
    assert [p.name for p in tmp_path.iterdir()] == ["x.webp"]
    assert "ffmpeg failed" in caplog.text


def test_nothing_to_show_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs frames"):
        save_video(torch.zeros(0, 8, 8, 3), tmp_path / "x.mp4")
    with pytest.raises(ValueError, match="fps"):
        save_video(frames(), tmp_path / "x.mp4", fps=0.0)
    assert list(tmp_path.iterdir()) == []
