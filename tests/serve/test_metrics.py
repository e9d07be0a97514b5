from pathlib import Path

from roundview.serve.folders import Folders
from roundview.serve.jobs import DONE, Job, JobStore, new_id
from roundview.serve.metrics import Metrics


def test_what_was_counted_can_be_read_by_prometheus(tmp_path: Path) -> None:
    store, folders, metrics = JobStore(tmp_path), Folders(tmp_path), Metrics()
    store.add(new_id(), {}, queued_at_most=1)
    for status in (200, 200, 404):
        metrics.answered(status)
    metrics.ended(Job("x", DONE, {}, 0.0, started=1.0, ended=3.5))
    lines = metrics.text(store, folders).splitlines()
    store.close()
    assert 'roundview_jobs{state="queued"} 1' in lines
    assert 'roundview_jobs_ended_total{state="done"} 1' in lines
    assert 'roundview_jobs_ended_total{state="failed"} 0' in lines
    assert 'roundview_http_responses_total{status="200"} 2' in lines
    assert "roundview_job_seconds_total 2.5" in lines
    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(names) == len(set(names)) == 6
