from roundview.stages import Quiet
from roundview.warming import compile_kernels


class Heard(Quiet):
    """Keeps the names of what ended."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def finished(self, stage: str, seconds: float, *, resumed: bool) -> None:
        self.names.append(stage)


def test_every_family_of_kernels_is_run_once() -> None:
    heard = Heard()
    seconds = compile_kernels(heard)
    assert heard.names == ["splatting", "surface"]
    assert seconds > 0
