from pathlib import Path

import pytest
import torch
from torch import Tensor

from roundview.mesh import Mesh, Texture
from roundview.surface.upscale import OnnxEnlarger, upscale_texture

# ONNX files are protocol buffers (onnx.proto); these few lines write the one node that is needed.


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def tensor_type(shape: list[int | str]) -> bytes:
    dims = b"".join(
        field(1, field(1, side) if isinstance(side, int) else field(2, side)) for side in shape
    )
    return field(1, field(1, 1) + field(2, dims))


def network(
    path: Path, scale: float = 4.0, shape: tuple[int | str, ...] = (1, 3, "h", "w")
) -> Path:
    """Write a network that enlarges bilinearly, as its ONNX operator Resize does."""
    mode = field(5, field(1, "mode") + field(4, "linear") + field(20, 3))
    node = field(1, "x") + field(1, "") + field(1, "s") + field(2, "y") + field(4, "Resize") + mode
    values = torch.tensor([1.0, 1.0, scale, scale]).numpy().tobytes()
    scales = field(1, 4) + field(2, 1) + field(8, "s") + field(9, values)
    given = field(1, "x") + field(2, tensor_type(list(shape)))
    made = field(1, "y") + field(2, tensor_type(["a", "b", "c", "d"]))
    graph = field(1, node) + field(2, "g") + field(5, scales) + field(11, given) + field(12, made)
    path.write_bytes(field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13)))
    return path


def bilinear(rgb: Tensor) -> Tensor:
    flat = rgb.permute(2, 0, 1)[None]
    out = torch.nn.functional.interpolate(flat, scale_factor=4, mode="bilinear")
    return out[0].permute(1, 2, 0)


def textured(rgb: Tensor) -> Mesh:
    corner = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    return Mesh(corner, torch.arange(3)[None], corner[:, :2], Texture(rgb))


def upscaled(rgb: Tensor, **settings: int) -> Tensor:
    texture = upscale_texture(textured(rgb), bilinear, **settings).texture
    assert texture is not None
    return texture.rgb


def waves(h: int, w: int) -> Tensor:
    y, x = torch.meshgrid(torch.arange(h) / 10, torch.arange(w) / 7, indexing="ij")
    return 0.5 + 0.4 * torch.stack([x.sin(), y.sin(), (x + y).cos()], dim=-1)


@pytest.mark.parametrize(("h", "w"), [(20, 20), (70, 33), (5, 90)])
def test_tiles_leave_no_trace(h: int, w: int) -> None:
    rgb = waves(h, w)
    in_one = upscaled(rgb, tile_px=128, overlap_px=8)
    in_many = upscaled(rgb, tile_px=24, overlap_px=8)
    assert in_one.shape == (4 * h, 4 * w, 3)
    torch.testing.assert_close(in_many, in_one, atol=1e-5, rtol=0)
    assert float((in_one - bilinear(rgb)).abs().max()) < 0.02


def test_tint_of_the_network_is_taken_back() -> None:
    colour = torch.tensor([0.2, 0.5, 0.9])

    def tinting(rgb: Tensor) -> Tensor:
        return 0.9 * bilinear(rgb) + torch.tensor([0.1, 0.0, 0.02])

    mesh = upscale_texture(textured(colour.expand(40, 40, 3)), tinting, tile_px=40)
    assert mesh.texture is not None
    # Interpolating equal numbers rounds in the last bits.
    assert float((mesh.texture.rgb - colour).abs().max()) < 1e-6


def test_padding_stays_round_its_chart() -> None:
    # A red chart with red padding beside a blue one: no texel of either may change its side.
    rgb = torch.zeros(64, 64, 3)
    rgb[:, :32, 0], rgb[:, 32:, 2] = 1.0, 1.0
    large = upscaled(rgb, tile_px=40, overlap_px=8)
    red, blue = torch.tensor([1.0, 0, 0]), torch.tensor([0, 0, 1.0])
    # Two texels from the border, of the old ones, nothing foreign is left.
    torch.testing.assert_close(large[:, : 4 * 30], red.expand(256, 120, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(large[:, 4 * 34 :], blue.expand(256, 120, 3), atol=1e-6, rtol=0)


def test_file_enlarges_as_its_operator_says(tmp_path: Path) -> None:
    model = OnnxEnlarger(network(tmp_path / "x4.onnx"))
    assert model.tile_px is None
    rgb = waves(9, 12)
    torch.testing.assert_close(model(rgb), bilinear(rgb), atol=1e-5, rtol=0)


def test_file_of_one_size_sets_the_tiles(tmp_path: Path) -> None:
    model = OnnxEnlarger(network(tmp_path / "x4.onnx", shape=(1, 3, 48, 48)))
    assert model.tile_px == 48
    mesh = upscale_texture(textured(waves(100, 60)), model)
    assert mesh.texture is not None
    expected = upscaled(waves(100, 60), tile_px=48)
    torch.testing.assert_close(mesh.texture.rgb, expected, atol=1e-5, rtol=0)


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"no network")
    with pytest.raises(ValueError, match="not an ONNX network"):
        OnnxEnlarger(junk)
    with pytest.raises(ValueError, match="batch, 3, height, width"):
        OnnxEnlarger(network(tmp_path / "grey.onnx", shape=(1, 1, "h", "w")))
    with pytest.raises(ValueError, match="only squares"):
        OnnxEnlarger(network(tmp_path / "oblong.onnx", shape=(1, 3, 32, 48)))
    twice = OnnxEnlarger(network(tmp_path / "x2.onnx", scale=2.0))
    with pytest.raises(ValueError, match="enlarges 4 times"):
        upscale_texture(textured(waves(30, 30)), twice)


def test_bad_input_is_refused() -> None:
    corner = torch.zeros(3, 3)
    with pytest.raises(ValueError, match="no texture"):
        upscale_texture(Mesh(corner, torch.arange(3)[None]), bilinear)
    with pytest.raises(ValueError, match="smaller one"):
        upscale_texture(textured(waves(64, 64)), bilinear, largest_px=128)
    with pytest.raises(ValueError, match="overlaps below half"):
        upscale_texture(textured(waves(8, 8)), bilinear, tile_px=16, overlap_px=8)
