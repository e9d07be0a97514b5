"""The application: API, page and guard in one, as any ASGI server runs it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from .. import __version__
from .api import plainly, router
from .desk import Desk
from .guard import Guard

PAGE = Path(__file__).parent / "page"


def create_app(desk: Desk, *, token: str | None = None, hosts: tuple[str, ...] = ()) -> FastAPI:
    """Put a server together.

    Args:
        desk: Holds the jobs; it is started and stopped with the application.
        token: What clients must know, if anything: as `Authorization: Bearer TOKEN`, or once as
            `/?token=TOKEN` in a browser, which then keeps it in a cookie.
        hosts: Names that the server answers to; any if there are none.
    """

    @asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        del app
        desk.start()
        warming = asyncio.ensure_future(desk.helper.ask("ready"))
        yield
        warming.cancel()
        await asyncio.to_thread(desk.stop)

    # The library's own page of documentation loads scripts from another host: we have none.
    app = FastAPI(
        title="roundview",
        version=__version__,
        description="One photograph in; a textured mesh, Gaussian splats and a turntable out.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        lifespan=living,
    )
    app.state.desk = desk
    app.include_router(router)
    app.add_api_route("/", _page, include_in_schema=False)
    app.mount("/page", StaticFiles(directory=PAGE), name="page")
    app.add_exception_handler(HTTPException, _said)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_middleware(
        Guard,
        upload_bytes=desk.limits.upload_bytes,
        token=token,
        hosts=hosts,
        counted=desk.metrics.answered,
    )
    return app


def _page() -> FileResponse:
    return FileResponse(PAGE / "index.html", headers={"cache-control": "no-cache"})


async def _said(request: Request, error: Exception) -> JSONResponse:
    del request
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    del request
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return JSONResponse({"error": plainly({**first, "loc": first["loc"][1:]})}, 422)
