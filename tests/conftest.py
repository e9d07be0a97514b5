"""Options and settings that the whole suite shares."""

import os
from pathlib import Path

import pytest
import torch

# The workers of one run share the cores: a thread each is faster than a crowd.
torch.set_num_threads(1)
os.environ.setdefault("ROUNDVIEW_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--slow` and `--device`."""
    parser.addoption("--slow", action="store_true", help="run the tests marked slow as well")
    parser.addoption("--device", default="cpu", help="device of kernel tests: cpu, cuda or mps")


def pytest_configure(config: pytest.Config) -> None:
    """Run Triton's kernels in its interpreter, unless a GPU is there and was asked for.

    That is settled when a kernel is imported: before any test is collected.
    """
    if config.getoption("--device") != "cuda" or not torch.cuda.is_available():
        os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip slow tests unless they were asked for."""
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow: run with --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture
def device(request: pytest.FixtureRequest) -> torch.device:
    """The device that was asked for on the command line, which must be there."""
    name = str(request.config.getoption("--device"))
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(name, True):
        pytest.skip(f"no {name} here")
    return torch.device(name)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder that holds pyproject.toml."""
    return Path(__file__).resolve().parents[1]
