import pytest

from roundview.serve.limits import Limits


def test_workers_share_the_cores() -> None:
    assert Limits(workers=10**6).threads == 1
    assert Limits(threads=3).threads == 3


def test_a_server_that_could_do_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="workers must be positive, got 0"):
        Limits(workers=0)
    with pytest.raises(ValueError, match="queued"):
        Limits(queued=-1)
    with pytest.raises(ValueError, match="job_seconds"):
        Limits(job_seconds=0.0)
