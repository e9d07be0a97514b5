import pytest
import torch
from checkpoints_tiny import hi3d_state, zero123_state
from torch import Tensor, nn

from roundview.diffusion.checkpoints.families import FirstStage, empty_networks, read_networks
from roundview.diffusion.checkpoints.folders import (
    components_of,
    in_original_names,
    must_be_told,
    renamed,
    sizes_in_folder,
)


def tensors_of(networks: dict[str, nn.Module]) -> dict[str, Tensor]:
    return {
        f"{name}.{inner}": tensor
        for name, network in networks.items()
        for inner, tensor in network.state_dict().items()
    }


def test_every_tensor_of_zero123_has_one_place_and_comes_back() -> None:
    networks, _ = read_networks("zero123", zero123_state())
    components = components_of(networks)
    assert [each.folder for each in components] == ["unet", "cc_projection", "vae", "image_encoder"]
    ours = tensors_of(networks)
    back: dict[str, Tensor] = {}
    for component in components:
        assert not back.keys() & component.ours
        back |= component.to_ours(component.to_theirs(ours))
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in ours.items())


def test_sizes_are_read_off_the_configurations() -> None:
    for kind, state in (("zero123", zero123_state()), ("hi3d", hi3d_state())):
        networks, sizes = read_networks(kind, state)
        components = components_of(networks)
        configs = {
            each.folder: {**each.config, "_class_name": each.kind, "architectures": [each.kind]}
            for each in components
        }
        assert sizes_in_folder(kind, configs, {}) == sizes
        without = {name: config for name, config in configs.items() if name != "unet"}
        with pytest.raises(ValueError, match=rf"no {kind} checkpoint: it lacks the folder unet/"):
            sizes_in_folder(kind, without, {})


def test_the_encoder_of_a_clip_s_autoencoder_is_the_one_of_the_condition() -> None:
    _, sizes = read_networks("hi3d", hi3d_state())
    sizes["first_stage"] = {**sizes["first_stage"], "video": True}
    networks = empty_networks("svd", sizes)
    assert isinstance(networks["first_stage"], FirstStage)
    (vae,) = (each for each in components_of(networks) if each.folder == "vae")
    assert vae.kind == "AutoencoderKLTemporalDecoder"
    of = {name.split(".")[0] for name, there in vae.names.items() if there.startswith("encoder.")}
    assert of == {"condition_encoder"}
    del networks["condition_encoder"]
    sizes["first_stage"]["quant"] = False
    with pytest.raises(ValueError, match="ends its encoder with quant_conv"):
        components_of({"first_stage": empty_networks("svd", sizes)["first_stage"]})
    (vae,) = (each for each in components_of(networks) if each.folder == "vae")
    of = {name.split(".")[0] for name in vae.names}
    assert of == {"first_stage"}


def test_a_tensor_more_or_less_is_told_with_its_folder() -> None:
    networks, _ = read_networks("zero123", zero123_state())
    projection = components_of(networks)[1]
    state = projection.to_theirs(tensors_of(networks))
    with pytest.raises(ValueError, match=r"cc_projection/ has unknown odd"):
        projection.to_ours({**state, "odd": torch.ones(1)})
    del state["projection.bias"]
    with pytest.raises(ValueError, match=r"cc_projection/ lacks projection\.bias"):
        projection.to_ours(state)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("act_fn", "gelu"),
        ("norm_eps", 1e-6),
        ("attention_head_dim", 4),
        ("class_embed_type", "timestep"),
        ("flip_sin_to_cos", False),
    ],
)
def test_what_our_networks_do_not_do_is_refused_by_its_name(key: str, value: object) -> None:
    networks, _ = read_networks("zero123", zero123_state())
    unet = components_of(networks)[0]
    # One number stands for all levels; where pictures' sizes differ nothing else does.
    must_be_told(unet, {**unet.config, "attention_head_dim": 8, "sample_size": 96})
    with pytest.raises(ValueError, match=rf"unet/config\.json: {key} is"):
        must_be_told(unet, {**unet.config, key: value})


def test_an_autoencoder_with_another_scale_is_refused() -> None:
    networks, _ = read_networks("zero123", zero123_state())
    vae = components_of(networks)[2]
    with pytest.raises(ValueError, match=r"vae/config\.json: scaling_factor is 0\.13025"):
        must_be_told(vae, {"scaling_factor": 0.13025})


def test_names_of_older_versions_are_known() -> None:
    networks, _ = read_networks("zero123", zero123_state())
    _, projection, vae, tower = components_of(networks)
    ours, one = tensors_of(networks), torch.ones(1)
    older = {
        name.replace(".to_q.", ".query.").replace(".to_out.0.", ".proj_attn."): tensor
        for name, tensor in vae.to_theirs(ours).items()
    }
    assert any(".query." in name for name in older)
    assert renamed(vae, older).keys() == vae.to_theirs(ours).keys()
    bare = {n.removeprefix("vision_model."): t for n, t in tower.to_theirs(ours).items()}
    bare["embeddings.position_ids"] = one
    assert renamed(tower, bare).keys() == tower.to_theirs(ours).keys()
    port = renamed(projection, {"proj.weight": one, "proj.bias": one})
    assert port.keys() == {"projection.weight", "projection.bias"}


def test_a_class_that_keeps_the_original_s_names_is_read_in_them() -> None:
    networks, _ = read_networks("hi3d", hi3d_state())
    found = in_original_names(networks["unet"], "unet")
    assert found.names["unet.unet.conv_in.weight"] == "input_blocks.0.0.weight"
    assert found.ours == {f"unet.{name}" for name in networks["unet"].state_dict()}
