import numpy as np
import torch

from roundview.data.procedural import generated_objects, procedural_object
from roundview.mesh import bounds, face_normals


def test_the_same_state_makes_the_same_object() -> None:
    a, b = (procedural_object(np.random.default_rng(5)) for _ in range(2))
    assert torch.equal(a.vertices, b.vertices)
    assert a.texture is not None
    assert b.texture is not None
    assert torch.equal(a.texture.rgb, b.texture.rgb)


def test_objects_are_centred_textured_and_of_longest_side_one() -> None:
    rng = np.random.default_rng(0)
    crops = [np.full((80, 80, 3), 0.25, np.float32)]
    for _ in range(30):
        mesh = procedural_object(rng, crops)
        low, high = bounds(mesh.vertices)
        torch.testing.assert_close((high - low).max(), torch.tensor(1.0))
        torch.testing.assert_close(low + high, torch.zeros(3), rtol=0, atol=1e-5)
        assert mesh.uv is not None
        assert mesh.texture is not None
        assert 0 <= float(mesh.uv.min()) <= float(mesh.uv.max()) <= 1
        assert 0 <= float(mesh.texture.rgb.min()) <= float(mesh.texture.rgb.max()) <= 1


def test_faces_of_a_single_part_point_outward() -> None:
    rng = np.random.default_rng(1)
    outward = []
    for _ in range(40):
        mesh = procedural_object(rng)
        if len(mesh.vertices) == 21 * 33:  # One part only.
            middle = mesh.vertices[mesh.faces].mean(dim=1)
            towards = (face_normals(mesh) * middle).sum(dim=-1)
            outward.append(float((towards > 0).float().mean()))
    assert len(outward) > 3
    # Tori and waists have inner sides, so not every face points away from the origin.
    assert float(np.mean(outward)) > 0.7


def test_generated_objects_are_the_same_whenever_they_are_read() -> None:
    first, second = generated_objects(2, seed=3)
    assert (first.name, second.name) == ("generated/000000", "generated/000001")
    assert torch.equal(first.read().vertices, first.read().vertices)
    a, b = first.read().vertices, second.read().vertices
    assert a.shape != b.shape or not torch.equal(a, b)
