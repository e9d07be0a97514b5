import pickle

import pytest

from roundview.batch.tasks import BuildError, one_line, unbuilt
from roundview.weights import WeightsMissing


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("the photo\nis empty"), "the photo is empty"),
        (RuntimeError("out of\nmemory"), "RuntimeError: out of memory"),
        (ValueError(), "ValueError"),
        (WeightsMissing("run this"), "run this"),
    ],
)
def test_errors_become_one_line(error: Exception, said: str) -> None:
    assert one_line(error) == said


def test_missing_weights_are_still_missing_in_another_process() -> None:
    travelled = pickle.loads(pickle.dumps(unbuilt(WeightsMissing("get them"))))
    assert isinstance(travelled, BuildError)
    assert travelled.missing
    assert str(travelled) == "get them"
    assert not unbuilt(RuntimeError("no")).missing
