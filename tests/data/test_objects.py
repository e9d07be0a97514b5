import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from roundview.data.objects import find_objects
from roundview.data.procedural import procedural_object
from roundview.export.glb import glb_bytes
from roundview.mesh import bounds


def test_a_folder_and_a_zip_give_the_same_objects(tmp_path: Path) -> None:
    data = glb_bytes(procedural_object(np.random.default_rng(0)))
    folder = tmp_path / "folder" / "toys"
    folder.mkdir(parents=True)
    (folder / "b.glb").write_bytes(data)
    (folder / "a.glb").write_bytes(data)
    (folder / "notes.txt").write_text("no object")
    with zipfile.ZipFile(tmp_path / "objects.zip", "w") as archive:
        for name in ("toys/b.glb", "toys/a.glb", "toys/notes.txt"):
            archive.writestr(name, data)
    loose, packed = find_objects(tmp_path / "folder"), find_objects(tmp_path / "objects.zip")
    assert [item.name for item in loose] == [item.name for item in packed] == ["toys/a", "toys/b"]
    first, second = loose[0].read(), packed[0].read()
    assert torch.equal(first.vertices, second.vertices)
    low, high = bounds(first.vertices)
    torch.testing.assert_close((high - low).max(), torch.tensor(1.0))


def test_a_source_without_objects_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no"):
        find_objects(tmp_path)
    with pytest.raises(ValueError, match="neither"):
        find_objects(tmp_path / "missing.zip")


def test_objects_can_be_sent_to_other_processes(tmp_path: Path) -> None:
    (tmp_path / "a.glb").write_bytes(glb_bytes(procedural_object(np.random.default_rng(0))))
    (found,) = find_objects(tmp_path)
    sent = pickle.loads(pickle.dumps(found))
    assert torch.equal(sent.read().vertices, found.read().vertices)
