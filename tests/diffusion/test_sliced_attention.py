import pytest
import torch
from diffusers.models.attention_processor import Attention
from torch import nn

from roundview.diffusion.sliced_attention import slice_attention


def layer(**settings: object) -> Attention:
    torch.manual_seed(0)
    whole: dict[str, object] = {"query_dim": 16, "heads": 2, "dim_head": 8, **settings}
    return Attention(**whole)  # pyright: ignore[reportArgumentType]  settings of the class


@torch.no_grad()
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_slices_give_what_the_whole_gives(rows: int) -> None:
    rng = torch.Generator().manual_seed(1)
    x, tokens = torch.randn(2, 10, 16, generator=rng), torch.randn(2, 5, 12, generator=rng)
    of_itself, across = layer(), layer(cross_attention_dim=12)
    before = of_itself(x), across(x, tokens)
    assert slice_attention(nn.ModuleList([of_itself, across]), rows=rows) == 2
    torch.testing.assert_close((of_itself(x), across(x, tokens)), before, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_an_autoencoder_s_layer_keeps_its_norm_and_its_sum() -> None:
    attention = layer(norm_num_groups=4, residual_connection=True, bias=True)
    x = torch.randn(2, 16, 3, 5, generator=torch.Generator().manual_seed(1))
    before = attention(x)
    slice_attention(attention, rows=4)
    torch.testing.assert_close(attention(x), before, atol=1e-6, rtol=1e-5)


def test_masks_are_refused() -> None:
    attention = layer()
    slice_attention(attention)
    with pytest.raises(ValueError, match="knows neither masks"):
        attention(torch.zeros(1, 4, 16), attention_mask=torch.zeros(2, 1, 4))
