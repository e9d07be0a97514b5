"""Folders of diffusers as others lay them out, and what is wrong with some."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoints_tiny import hi3d_state, zero123_state
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from roundview.diffusion.checkpoints.families import Settings, original_state
from roundview.importing import import_checkpoint, read_checkpoint
from roundview.loaders.exporting import export_folder
from roundview.loaders.folders import all_names, read_folder
from roundview.public_models import load_networks

UNET = "diffusion_pytorch_model"


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of zero123 at reduced width; tests work on copies."""
    folder = tmp_path_factory.mktemp("zero123")
    save_file(zero123_state(), folder / "z.safetensors")
    card = import_checkpoint(folder / "z.safetensors", "zero123", folder / "ours")
    export_folder(card, folder / "theirs")
    return folder / "theirs"


@pytest.fixture
def copy(pipeline: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pipeline, tmp_path / "copy"))


def read(folder: Path, kind: str = "zero123") -> tuple[dict[str, nn.Module], dict[str, Settings]]:
    return read_folder(folder, kind, read_checkpoint)


def is_whole(networks: dict[str, nn.Module], sizes: dict[str, Settings]) -> bool:
    back, state = original_state(networks, sizes), zero123_state()
    return back.keys() == state.keys() and all(
        torch.equal(back[name].float(), tensor) for name, tensor in state.items()
    )


def sharded(folder: Path, index: str, part: str) -> None:
    state = load_file(folder / f"{UNET}.safetensors")
    (folder / f"{UNET}.safetensors").unlink()
    names = sorted(state)
    where = {name: part.format(1 + k % 2) for k, name in enumerate(names)}
    for file in set(where.values()):
        save_file({n: state[n] for n in names if where[n] == file}, folder / file)
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": where}))


def as_fp16(folder: Path) -> None:
    (folder / f"{UNET}.safetensors").rename(folder / f"{UNET}.fp16.safetensors")


def as_pickle(folder: Path) -> None:
    state = load_file(folder / f"{UNET}.safetensors")
    (folder / f"{UNET}.safetensors").unlink()
    torch.save(state, folder / f"{UNET}.bin")


def other_projection(folder: Path) -> None:
    there = (folder / "cc_projection").rename(folder / "clip_camera_projection")
    state = load_file(there / f"{UNET}.safetensors")
    save_file({n.replace("projection.", "proj."): t for n, t in state.items()},
              there / f"{UNET}.safetensors")  # fmt: skip


LAYOUTS: dict[str, Callable[[Path], object]] = {
    "as exported": lambda folder: (folder / "README.md").write_text("A model card."),
    "fp16 variant": lambda folder: as_fp16(folder / "unet"),
    "pickle": lambda folder: as_pickle(folder / "unet"),
    "in parts": lambda folder: sharded(
        folder / "unet", f"{UNET}.safetensors.index.json", UNET + "-0000{}-of-00002.safetensors"
    ),
    "fp16 in parts": lambda folder: sharded(
        folder / "unet",
        f"{UNET}.safetensors.index.fp16.json",
        UNET + ".fp16-0000{}-of-00002.safetensors",
    ),
    "another port's projection": other_projection,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read_to_the_bit(copy: Path, layout: str) -> None:
    LAYOUTS[layout](copy)
    assert is_whole(*read(copy))


def test_one_component_alone_is_read_where_the_kind_has_no_other(copy: Path) -> None:
    (vae, _), (tower, _) = read(copy / "vae", "autoencoder"), read(copy / "image_encoder", "clip")
    assert (list(vae), list(tower)) == (["autoencoder"], ["image_tower"])
    with pytest.raises(ValueError, match="no zero123 checkpoint: it lacks the folder vae/"):
        read(copy / "unet", "zero123")


def test_a_port_in_the_original_s_names_is_read(copy: Path) -> None:
    unet = {
        name.removeprefix("model.diffusion_model."): tensor
        for name, tensor in hi3d_state().items()
        if name.startswith("model.diffusion_model.")
    }
    for part in ("cc_projection", "unet", "scheduler"):
        shutil.rmtree(copy / part)
    (copy / "unet").mkdir()
    (copy / "unet" / "config.json").write_text(json.dumps({"model_channels": 64}))
    save_file(unet, copy / "unet" / f"{UNET}.safetensors")
    networks, _ = read(copy, "hi3d")
    assert torch.equal(
        all_names(networks)["unet.unet.conv_in.weight"], unet["input_blocks.0.0.weight"]
    )


def change(path: Path, edit: Callable[[dict[str, Tensor]], object]) -> None:
    state = load_file(path)
    edit(state)
    save_file(state, path)


def settle(path: Path, **entries: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


_UNET, _VAE = f"unet/{UNET}.safetensors", f"vae/{UNET}.safetensors"
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a component missing": (lambda f: shutil.rmtree(f / "vae"), "lacks the folder vae/"),
    "the projection missing": (
        lambda f: shutil.rmtree(f / "cc_projection"),
        "folder cc_projection/ is missing",
    ),
    "weights missing": (lambda f: (f / _UNET).unlink(), "unet holds no weights"),
    "a tensor missing": (
        lambda f: change(f / _UNET, lambda s: s.pop("conv_out.bias")),
        r"unet/ lacks conv_out\.bias",
    ),
    "a tensor more": (
        lambda f: change(f / _VAE, lambda s: s.update(odd=torch.ones(1))),
        "vae/ has unknown odd",
    ),
    "a shape": (
        lambda f: change(f / _UNET, lambda s: s.update({"conv_out.bias": torch.ones(5)})),
        r"another size: unet/, .*conv_out\.bias is 5, not 4",
    ),
    "not a number": (
        lambda f: change(f / _UNET, lambda s: s["conv_out.bias"].fill_(torch.nan)),
        r"NaN or infinity in unet/, .*conv_out\.bias",
    ),
    "another activation": (
        lambda f: settle(f / "unet" / "config.json", act_fn="gelu"),
        r"unet/config\.json: act_fn is 'gelu'",
    ),
    "sizes missing": (
        lambda f: (f / "unet" / "config.json").write_text("{}"),
        r"unet/config\.json is not as diffusers': 'block_out_channels'",
    ),
    "no JSON": (lambda f: (f / "vae" / "config.json").write_text("{"), "is not JSON"),
    "another prediction": (
        lambda f: settle(f / "scheduler" / "scheduler_config.json", prediction_type="sample"),
        "prediction_type is 'sample'; zero123 has 'epsilon'",
    ),
    "cut": (
        lambda f: (f / _UNET).write_bytes((f / _UNET).read_bytes()[:5000]),
        "no whole safetensors file",
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_what_is_wrong_is_told_and_nothing_is_written(
    copy: Path, tmp_path: Path, what: str
) -> None:
    damage, message = DAMAGE[what]
    damage(copy)
    with pytest.raises(ValueError, match=message):
        import_checkpoint(copy, "zero123", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_parts_are_exactly_what_the_index_says(copy: Path) -> None:
    LAYOUTS["in parts"](copy)
    index = copy / "unet" / f"{UNET}.safetensors.index.json"
    told = json.loads(index.read_text())
    last = sorted(told["weight_map"])[-1]
    for file, message in (
        ("../x.safetensors", "is no plain file name"),
        ("y.safetensors", f"has unknown {last}"),
        (f"{UNET}-00001-of-00002.safetensors", f"(has unknown|lacks) {last}"),
    ):
        index.write_text(json.dumps({"weight_map": {**told["weight_map"], last: file}}))
        with pytest.raises(ValueError, match=message):
            read(copy)
    index.write_text(json.dumps(told))
    (copy / "unet" / f"{UNET}-00002-of-00002.safetensors").unlink()
    with pytest.raises(ValueError, match=r"00002-of-00002\.safetensors is no file"):
        read(copy)
    index.write_text("{}")
    with pytest.raises(ValueError, match="it has no weight_map"):
        read(copy)


def test_a_folder_of_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no component of diffusers"):
        read(tmp_path)
    with pytest.raises(ValueError, match="is no folder"):
        read(tmp_path / "none")


def test_of_clip_s_two_towers_the_one_for_pictures_is_kept(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1}
    vision = {**sizes, "num_attention_heads": 1, "patch_size": 14, "image_size": 28}
    words = {**sizes, "num_attention_heads": 1, "vocab_size": 99, "max_position_embeddings": 8}
    words |= {"bos_token_id": 97, "eos_token_id": 98, "pad_token_id": 0}
    config = transformers.CLIPConfig(text_config=words, vision_config=vision, projection_dim=24)
    torch.manual_seed(0)
    theirs = transformers.CLIPModel(config).eval()
    theirs.save_pretrained(tmp_path / "clip")
    card = import_checkpoint(tmp_path / "clip", "clip", tmp_path / "out", half=False)
    tower = load_networks(card, torch.device("cpu"))["image_tower"]
    picture = torch.randn(1, 3, 28, 28)
    with torch.no_grad():
        hidden = theirs.vision_model(picture).pooler_output
        wanted = theirs.visual_projection(hidden)
        torch.testing.assert_close(tower(picture), wanted, atol=1e-5, rtol=1e-4)
