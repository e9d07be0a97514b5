import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from roundview.train.logs import Journal, count_flops, measured_peak, read_log


def test_lines_after_the_step_gone_on_from_are_dropped(tmp_path: Path) -> None:
    first = Journal(tmp_path)
    for step in (50, 100, 150):
        first.line(step, {"loss": 1 / step})
    first.close()
    with (tmp_path / "log.jsonl").open("a") as stream:
        stream.write('{"step": 200, "lo')  # Cut off by a kill.
    again = Journal(tmp_path, after_step=120)
    again.line(150, {"loss": 9.0})
    again.close()
    assert [(row["step"], row["loss"]) for row in read_log(tmp_path)] == [
        (50, 0.02),
        (100, 0.01),
        (150, 9.0),
    ]
    Journal(tmp_path).close()
    assert read_log(tmp_path) == []


def test_a_sheet_is_a_picture_named_by_its_step(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    path = journal.sheet(12, torch.tensor([[[0.0, 0.5, 2.0], [1.0, 1.0, 1.0]]]))
    journal.close()
    assert path.name == "0000012.png"
    assert np.asarray(Image.open(path)).tolist() == [[[0, 128, 255], [255, 255, 255]]]


def test_tensorboard_is_told_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[Any, ...]] = []

    class Writer:
        def __init__(self, directory: str, purge_step: int | None) -> None:
            told.append(("open", Path(directory).name, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            told.append((name, value, step))

        def add_image(self, name: str, picture: np.ndarray, step: int, dataformats: str) -> None:
            told.append((name, picture.shape, step, dataformats))

        def close(self) -> None:
            told.append(("close",))

    module = ModuleType("torch.utils.tensorboard")
    vars(module)["SummaryWriter"] = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    journal = Journal(tmp_path, after_step=50)
    journal.line(100, {"loss": 0.5})
    journal.sheet(100, torch.zeros(2, 3, 3))
    journal.close()
    assert told == [
        ("open", "tensorboard", 51),
        ("loss", 0.5, 100),
        ("samples", (2, 3, 3), 100, "HWC"),
        ("close",),
    ]


def test_a_log_without_tensorboard_is_a_file_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    journal = Journal(tmp_path)
    journal.line(1, {"loss": 1.0})
    journal.close()
    assert json.loads((tmp_path / "log.jsonl").read_text()) == {"step": 1, "loss": 1.0}


def test_operations_of_a_product_are_two_for_each_of_its_triples() -> None:
    a, b = torch.ones(3, 5), torch.ones(5, 7)
    assert count_flops(lambda: (a @ b, None)[1]) == 2 * 3 * 5 * 7


def test_the_peak_is_a_rate_that_products_reach() -> None:
    assert measured_peak("cpu") > 1e8  # A core of this century does far more than 0.1 GFLOP/s.
