"""Serving the page on this machine alone, out of a temporary folder that is gone at the end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.tiling import OVERLAP, TILE
from ..errors import UserError, install
from ..networks.weights import find_weights, load_network, read_metadata
from ..runs.folder import RUNS, run_to_use
from ..runs.html.page import empty_page

if TYPE_CHECKING:
    from fastapi import FastAPI

    from .worker import Worker

HOST = "127.0.0.1"
# The gallery's own script runs, in a frame that has no origin and can send nothing anywhere.
GALLERY_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline';"
    " sandbox allow-scripts; frame-ancestors 'self'"
)
SETTINGS = {  # of gradio and the hubs, read when gradio is imported
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_SSR_MODE": "False",
    "GRADIO_MCP_SERVER": "False",
    "GRADIO_SHARE": "False",
    "HF_HUB_OFFLINE": "1",
}


def serve(
    weights: str | Path | None = None,
    *,
    port: int = 7860,
    device: str = "auto",
    tile: int = TILE,
    mirror: bool = False,
    grey_layer: bool = False,
) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    Args:
        weights: run folder or its derainer.safetensors; None takes the newest finished run under runs/.
        port: where to listen, on 127.0.0.1 alone; 0 takes any free one. The address is printed.
        device: auto, cpu, cuda or cuda:N.
        tile: side in pixels of the tiles of which larger images are made, more than the overlap.
        mirror, grey_layer: see `derain`.

    Raises:
        UserError: no weights, gradio is missing, the port is taken, or a tile that bounds nothing.
    """
    if tile <= OVERLAP:
        raise UserError(f"--tile {tile} must be more than {OVERLAP}: tiles bound the memory")
    file = find_weights(weights if weights is not None else run_to_use(RUNS))
    network = load_network(file, "derainer")
    with _terminable(), tempfile.TemporaryDirectory(prefix="rgsud-demo-") as name, _listen(port) as listener:
        folder = Path(name).resolve()
        os.environ.update(SETTINGS, GRADIO_TEMP_DIR=str(folder), GRADIO_EXAMPLES_CACHE=str(folder / "examples"))
        try:
            import gradio  # noqa: F401
            import uvicorn
        except ImportError:
            raise UserError(f"the page needs gradio: {install('demo')}") from None
        from .middleware import RequestFilter
        from .worker import Worker, load_own_scorer

        scorer, score_name = load_own_scorer(file.parent, device)
        worker = Worker(network, scorer, device, folder, tile, mirror=mirror, grey_layer=grey_layer)
        size = sum(parameter.numel() for parameter in network.parameters())
        app = _application(worker, file, f"derainer of {size:,} parameters on {worker.device}", score_name)
        port = listener.getsockname()[1]
        config = uvicorn.Config(
            RequestFilter(app, folder), log_level="warning", ws="none", server_header=False, timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        print(f"the page is at http://{HOST}:{port} (Ctrl-C ends it)", flush=True)
        try:
            with contextlib.suppress(KeyboardInterrupt):
                server.run(sockets=[listener])
        finally:
            worker.close()
    print("the page is closed", flush=True)


def _application(worker: Worker, file: Path, network: str, score_name: str) -> FastAPI:
    """gradio's page, and the gallery beside it."""
    import gradio
    from fastapi import FastAPI
    from fastapi.responses import FileResponse, HTMLResponse, Response

    from .layout import CSS, FONTS, MONO, build
    from .uploads import MOST_BYTES

    text, run = read_metadata(file), file.parent.resolve()
    told = [f"preset {text['preset']}"] if "preset" in text else []
    told += [f"{int(text['step']):,} iterations"] if text.get("step", "").isdecimal() else []
    page = build(worker, f"RGSUD run {run.name}", " · ".join([*told, network]), score_name)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/gallery")
    def gallery() -> Response:
        path, headers = run / "gallery.html", {"content-security-policy": GALLERY_POLICY, "cache-control": "no-cache"}
        if not path.is_file():
            none = empty_page("No gallery yet", f"{run.name} has no gallery.html; a run writes it when it ends.")
            return HTMLResponse(none, headers=headers)
        return FileResponse(path, media_type="text/html", headers=headers)

    theme = gradio.themes.Default(primary_hue="blue", neutral_hue="slate", font=FONTS, font_mono=MONO)
    gradio.mount_gradio_app(
        app, page, "/", show_error=False, max_file_size=MOST_BYTES, theme=theme, css=CSS, footer_links=[], pwa=False
    )
    page.has_launched = True  # gradio then takes as uploads only files of its folder; a mounted page never says so
    return app


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()  # who comes before the server is ready waits
    except OverflowError:
        listener.close()
        raise UserError(f"--port {port}: give a number from 0 to 65535") from None
    except OSError as error:
        listener.close()
        raise UserError(
            f"port {port} cannot be used ({error.strerror}): give another --port, or 0 for any free"
        ) from None
    return listener


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends what is done meanwhile as Ctrl-C does, so that the temporary folder goes."""

    def interrupt(number: int, frame: types.FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
