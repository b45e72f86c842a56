"""The page over HTTP: what is answered to whom, one pair at a time."""

from __future__ import annotations

import base64
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.datastructures import FormData, MutableHeaders, UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from umfuse import demo, devices
from umfuse.pipeline import Umfuse
from umfuse.ui import points, uploads
from umfuse.ui.points import Pair
from umfuse.ui.trial import Trial, attempt

WAITING = 8  # visitors, beside the one whose pair is worked on
_FORM_BYTES = 2**16  # of a request, beside its images

# All files that there are, read at the start: no request names a file of this machine.
_PAGE = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/points.js": ("points.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def application(model: Umfuse, hosts: Sequence[str] = ("*",)) -> Starlette:
    """Returns the page as an ASGI application.

    Its `state.is_ending` is asked before a pair is worked on; True sends those who wait away.

    Args:
        model: What fuses.
        hosts: Names that it may be asked by, so that no page from elsewhere reaches it by a name of
            its own; ``"*"`` stands for all.
    """
    routes = [
        Route(url, Response(_read(name), media_type=kind), methods=["GET"])
        for url, (name, kind) in _PAGE.items()
    ]
    routes.append(Route("/fuse", Desk(model).fuse, methods=["POST"]))
    page = Starlette(
        routes=routes,
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
            Middleware(Guard),
        ],
        exception_handlers={HTTPException: _refused, Exception: _broken},
    )
    page.state.is_ending = lambda: False
    return page


def _read(name: str) -> str:
    text = (Path(__file__).with_name("page") / name).read_text(encoding="utf-8")
    return text.replace("MAX_BYTES", str(uploads.MAX_BYTES))


class Guard:
    """Stops requests that are too large, and says with every answer what a page of it may do."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        count = 0

        async def counted() -> Message:
            nonlocal count
            message = await receive()
            count += len(message.get("body", b""))
            if count > uploads.MAX_BYTES + _FORM_BYTES:
                most = uploads.MAX_BYTES // 2**20
                raise HTTPException(413, f"the images have more than {most} MB together")
            return message

        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self.app(scope, counted, headed)


class Sent(NamedTuple):
    """What a visitor has sent.

    Attributes:
        infrared: A file here, whose name the visitor has no part in.
        visible: The same; None if one file holds both.
        pairs: Three places in both images, if there are any.
        names: Of the files here, by what the visitor calls them.
    """

    infrared: Path
    visible: Path | None
    pairs: list[Pair] | None
    names: Mapping[str, str]

    def in_their_words(self, text: str) -> str:
        """Returns a text with the visitor's names of files in the place of ours."""
        for path, name in self.names.items():
            text = text.replace(path, name)
        return text


class Desk:
    """Where pairs are worked on: one at a time, the others wait in their order."""

    def __init__(self, model: Umfuse) -> None:
        self.model = model
        self.turn = anyio.CapacityLimiter(1)

    async def fuse(self, request: Request) -> Response:
        """Answers with the result of a pair as JSON.

        The form has the files `infrared` and `visible`, or `example` ("day" or "night"), and
        perhaps `points`, as `points.parsed` takes them.
        """
        _check_origin(request)
        if self.turn.statistics().tasks_waiting >= WAITING:
            raise HTTPException(503, "too many people are waiting; try again in a minute")
        with tempfile.TemporaryDirectory() as folder:
            async with request.form(max_files=2, max_fields=2) as form:
                sent = await anyio.to_thread.run_sync(_stored, form, Path(folder))
            async with self.turn:
                if request.app.state.is_ending():
                    raise HTTPException(503, "this page is being ended")
                if await request.is_disconnected():
                    return Response(status_code=204)
                trial = await anyio.to_thread.run_sync(self._attempt, sent)
        return JSONResponse(_as_json(trial, sent))

    def _attempt(self, sent: Sent) -> Trial:
        try:
            return attempt(self.model, sent.infrared, sent.visible, sent.pairs)
        except (OSError, TypeError, ValueError) as error:
            raise HTTPException(422, sent.in_their_words(str(error))) from error
        except (MemoryError, RuntimeError) as error:
            if not devices.is_out_of_memory(error):
                raise
            said = "there is not enough memory for images of this size; make them smaller"
            raise HTTPException(413, said) from error


def _check_origin(request: Request) -> None:
    """Raises HTTPException if the request comes from a page that is not this one."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise HTTPException(403, "this answers to its own page only")


def _stored(form: FormData, folder: Path) -> Sent:
    """Writes what was sent to files of a folder.

    Raises:
        HTTPException: If the form cannot be meant.
    """
    try:
        marked = form.get("points")
        pairs = points.parsed(marked) if isinstance(marked, str) else None
    except ValueError as error:
        raise HTTPException(422, str(error)) from error
    example = form.get("example")
    if example in ("day", "night"):
        shown = demo.pair(night=example == "night")
        return Sent(shown.infrared, shown.visible, pairs, {})
    paths: dict[str, Path] = {}
    names: dict[str, str] = {}
    for kind in ("infrared", "visible"):
        file = form.get(kind)
        if isinstance(file, UploadFile) and file.filename:
            path = folder / f"{kind}{uploads.suffix_of(file.filename)}"
            with path.open("wb") as target:
                shutil.copyfileobj(file.file, target)
            paths[kind], names[str(path)] = path, file.filename
    if "infrared" not in paths:
        raise HTTPException(422, "there is no infrared image: choose one")
    return Sent(paths["infrared"], paths.get("visible"), pairs, names)


def _as_json(trial: Trial, sent: Sent) -> dict[str, object]:
    return {
        **trial.words._asdict(),
        "notes": [sent.in_their_words(note) for note in trial.notes],
        "pictures": {name: _text(content) for name, content in trial.pictures.items()},
        "files": {name: _text(content) for name, content in trial.files.items()},
    }


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


async def _broken(_: Request, __: Exception) -> Response:
    # The error itself goes to the log, where the server's owner reads it.
    said = "something went wrong here, which is not your fault; the log of the server says more"
    return JSONResponse({"error": said}, 500)
