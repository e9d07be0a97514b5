"""`roundview serve`: the web page and the HTTP API."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer


def serve(  # noqa: PLR0913  typer reads the options from the signature
    data: Annotated[Path, typer.Option(help="Folder of the jobs and their files.")] = Path(
        "roundview-jobs"
    ),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8710,
    token: Annotated[
        str | None,
        typer.Option(envvar="ROUNDVIEW_TOKEN", help="What clients must know; needed beyond here."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Jobs at once.")] = 1,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of each job.")] = None,
    queue: Annotated[int, typer.Option(min=1, help="Jobs that may wait.")] = 32,
    job_hours: Annotated[float, typer.Option(min=0.001, help="Longest time of a job.")] = 4.0,
    disk_gb: Annotated[
        float, typer.Option(min=0.001, help="Files of all jobs; the oldest go first.")
    ] = 20.0,
) -> None:
    """Serve the web page and the HTTP API; unfinished jobs go on at the next start."""
    try:
        from ..serve.app import create_app  # noqa: PLC0415  the extra `serve`
        from ..serve.desk import Desk  # noqa: PLC0415
    except ImportError as error:
        raise ValueError(
            f"roundview serve needs {error.name}: pip install 'roundview[serve]'"
        ) from error
    from ..serve.guard import LOOPBACK  # noqa: PLC0415
    from ..serve.limits import Limits  # noqa: PLC0415

    check_token(host, token)
    limits = Limits(
        queued=queue,
        workers=workers,
        threads=threads or 0,
        job_seconds=job_hours * 3600,
        disk_bytes=int(disk_gb * 1e9),
    )
    if data.exists() and not data.is_dir():
        raise ValueError(f"--data {data} is a file; name a folder")
    with contextlib.closing(listening(host, port)) as listener:
        desk = Desk(data.absolute(), limits)
        hosts = tuple({*LOOPBACK, host}) if host in LOOPBACK else ()
        _run(create_app(desk, token=token, hosts=hosts), listener, token)


def check_token(host: str, token: str | None) -> None:
    """Refuse to let the network in without a token, or with one that could be guessed."""
    from ..serve.guard import LOOPBACK  # noqa: PLC0415

    if token is None and host not in LOOPBACK:
        raise ValueError(
            f"--host {host} lets others in: give a --token (or ROUNDVIEW_TOKEN) that they must know"
        )
    if token is not None and not (len(token) >= 12 and token.isascii() and token.isprintable()):
        raise ValueError("--token must have at least 12 characters, plain ASCII")


def listening(host: str, port: int) -> socket.socket:
    """Open the port before anything else: a port in use is told in one line.

    Raises:
        ValueError: If it cannot be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise ValueError(f"--host {host}: no address of this machine ({error.strerror})") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ValueError(
            f"cannot listen on {host} port {port} ({error.strerror}); choose another --port"
        ) from error
    return listener


@contextlib.contextmanager
def warming() -> Iterator["subprocess.Popen[bytes]"]:
    """Compile the CPU kernels beside a server while its first user looks for a photo.

    A minute of one core after an installation (68 processor seconds measured), five seconds when
    they are there already. The process ends with this one, however that goes: see `serve.child`.
    """
    hidden = {key: value for key, value in os.environ.items() if key != "ROUNDVIEW_TOKEN"}
    process = subprocess.Popen(
        [sys.executable, "-m", "roundview.serve.child", "warmup"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=hidden,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def _run(app: object, listener: socket.socket, token: str | None) -> None:
    import uvicorn  # noqa: PLC0415

    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    secret = "" if token is None else f"?token={token}"
    print(f"roundview: open http://{shown}:{port}/{secret} (Ctrl-C stops)", flush=True)
    config = uvicorn.Config(
        app,  # pyright: ignore[reportArgumentType]  any ASGI application
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=512,
        timeout_graceful_shutdown=2,
    )
    # Ctrl-C is how a server is stopped: no error.
    with contextlib.suppress(KeyboardInterrupt), warming():
        uvicorn.Server(config).run(sockets=[listener])
