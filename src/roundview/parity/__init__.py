"""Prove that our networks do what the originals do: their weights, their inputs, their outputs."""

from .families import check_parity
from .fixture import Fixture, read_fixture

__all__ = ["Fixture", "check_parity", "read_fixture"]
