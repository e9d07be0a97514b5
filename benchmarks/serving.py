"""Measures how a server stands up to many clients, many jobs and sudden ends; prints JSON.

    python benchmarks/serving.py [--clients 64] [--jobs 200] [--kills 20]

Jobs and chores are stand-ins: the server is what is measured. All traffic stays on this machine.
With schemathesis installed (`--schemathesis PROGRAM`) its requests are sent as well.
"""

import argparse
import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2 as httpx

SERVER = Path(__file__).resolve().parents[1] / "tests" / "serve" / "stand_in_server.py"


class Served:
    """A server in a process of its own, on a folder that outlives it."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = folder
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}",
            timeout=120,
            limits=httpx.Limits(max_connections=200),
        )
        self.start()

    def start(self) -> None:
        words = [sys.executable, SERVER, self.folder, str(self.port), "quick"]
        self.process = subprocess.Popen(words)
        for _ in range(1200):
            try:
                if self.client.get("/health").status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.05)
        raise RuntimeError("the server did not start")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=60)

    def post(self, seed: int) -> httpx.Response:
        files = {"photo": ("p", b"a photo " * 1000)}
        data = {"settings": json.dumps({"seed": seed})}
        return self.client.post("/api/jobs", files=files, data=data)

    def ended(self, id: str) -> dict[str, Any]:
        while True:
            job = self.client.get(f"/api/jobs/{id}").json()
            if job["ended"] is not None:
                return job
            time.sleep(0.05)

    def memory_kb(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])


def clients_at_once(served: Served, count: int) -> dict[str, object]:
    """Let so many clients send a job and follow it to its end at the same time."""

    def journey(at: int) -> tuple[float, bool]:
        begin = time.monotonic()
        accepted = served.post(1000 + at)
        seconds = time.monotonic() - begin
        job = served.ended(accepted.json()["id"])
        return seconds, job["state"] == "done" and job["settings"]["seed"] == 1000 + at

    with ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(journey, range(count)))
    seconds = sorted(taken for taken, _ in answers)
    return {
        "clients": count,
        "right": sum(right for _, right in answers),
        "accepted_seconds_median": round(statistics.median(seconds), 3),
        "accepted_seconds_longest": round(seconds[-1], 3),
    }


def many_jobs(served: Served, count: int) -> dict[str, object]:
    """Run jobs one after another; memory is compared after a tenth of them and at the end."""
    early = 0
    for at in range(count):
        served.ended(served.post(at + 10).json()["id"])
        if at == max(count // 10, 1) - 1:
            early = served.memory_kb()
    late = served.memory_kb()
    growth = 100 * (late - early) / early
    return {"jobs": count, "memory_mb": late / 1e3, "growth_percent": round(growth, 2)}


def sudden_ends(served: Served, count: int) -> dict[str, object]:
    """Kill the server at random moments; every job that was accepted must be done in the end."""
    moments = random.Random(0)
    accepted = []
    for at in range(count):
        accepted += [served.post(seed).json()["id"] for seed in (4, 100 + at)]
        time.sleep(moments.uniform(0.0, 1.5))
        served.kill()
        served.start()
    jobs = [served.ended(id) for id in accepted]
    states = [job["state"] for job in jobs]
    given_up = sum("came no further" in str(job["reason"]) for job in jobs)
    done = states.count("done")
    return {"kills": count, "accepted": len(jobs), "done": done, "given_up": given_up}


def cancels(served: Served, count: int) -> dict[str, object]:
    """Cancel jobs whose process ignores being asked, and wait for the process to be gone."""
    seconds = []
    for _ in range(count):
        id = served.post(3).json()["id"]
        pid = served.folder / "data" / "jobs" / id / "out" / "pid"
        while not pid.exists() or not pid.read_text():
            time.sleep(0.02)
        process = Path(f"/proc/{pid.read_text()}")
        begin = time.monotonic()
        served.client.delete(f"/api/jobs/{id}")
        while process.exists():
            time.sleep(0.01)
        seconds.append(time.monotonic() - begin)
    return {"cancels": count, "longest_seconds": round(max(seconds), 2)}


def fuzzed(served: Served, program: str, examples: int) -> dict[str, object]:
    """Send what schemathesis makes of the server's own description; no answer may be a 500."""
    address = f"{served.client.base_url}/api/openapi.json"
    checks = ["--checks", "not_a_server_error", "--max-examples", str(examples)]
    words = [program, "run", address, *checks, "--exclude-path-regex", "events"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=1200)
    return {"code": done.returncode, "said": done.stdout.strip().splitlines()[-12:]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("clients", 64), ("jobs", 200), ("kills", 20), ("examples", 50)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--schemathesis", default="")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        served = Served(Path(folder))
        try:
            print(json.dumps(clients_at_once(served, asked.clients)), flush=True)
            print(json.dumps(many_jobs(served, asked.jobs)), flush=True)
            print(json.dumps(cancels(served, 5)), flush=True)
            print(json.dumps(sudden_ends(served, asked.kills)), flush=True)
            if asked.schemathesis:
                told = fuzzed(served, asked.schemathesis, asked.examples)
                print(json.dumps(told, indent=1), flush=True)
        finally:
            served.stop()


if __name__ == "__main__":
    main()
