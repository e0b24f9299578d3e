"""The server of the review page: static files, and what the page asks for.

It answers this machine alone, and only to who knows the token, which the page's address holds
after the `#`: other users of the machine and other pages of the browser do not.
"""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Header, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from PIL import Image as PilImage
from pydantic import ValidationError
from starlette.middleware.trustedhost import TrustedHostMiddleware

from fmbseg.corrections.store import ConflictError, CorrectedRegion, read_correction
from fmbseg.errors import one_line
from fmbseg.pictures.colours import palette
from fmbseg.review.images import shown
from fmbseg.review.names import POLICY, NamesPage
from fmbseg.review.queue import queue
from fmbseg.review.runs import runs_of
from fmbseg.review.saving import Sent, save
from fmbseg.steps.workspace import Workspace
from fmbseg.store import StoreError, UnreadableImageError, encode_image
from fmbseg.vocabulary import read_classes
from fmbseg.web.body import BodyTooLargeError, read_body
from fmbseg.web.headers import HEADERS, LOOPBACK, Headers

DATA_FILES = ("page/*",)
PAGE = Path(__file__).parent / "page"
MAX_BODY_BYTES = 2**25
_HISTORY = 20
_LOSSLESS_PIXELS = 500_000
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'",
    **HEADERS,
}


@dataclass(frozen=True)
class Review:
    """A person who reviews a workspace.

    Attributes:
        workspace: whose images.
        by: the person.
        token: what requests have to bring.
        seconds: name of every image that was saved to the seconds that it took.
        accepted: those that were accepted.
    """

    workspace: Workspace
    by: str
    token: str
    seconds: dict[str, float] = field(default_factory=dict)
    accepted: set[str] = field(default_factory=set)


def review_app(review: Review) -> FastAPI:
    """The application for one person and one workspace."""
    workspace = review.workspace
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def guarded(
        request: Request, answer: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        token = request.headers.get("x-token", "").encode()
        if request.url.path.startswith("/api/") and not secrets.compare_digest(
            token, review.token.encode()
        ):
            return _problem(403, "open the address that `fmbseg review` printed")
        return await answer(request)

    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(LOOPBACK))
    app.add_middleware(Headers, headers=_HEADERS)

    @app.exception_handler(OSError)
    async def later(_: Request, error: Exception) -> Response:
        return _problem(503, one_line(error))  # such as a full disk: the page tries again

    @app.exception_handler(StoreError)
    @app.exception_handler(UnreadableImageError)
    async def told(_: Request, error: Exception) -> Response:
        return _problem(409 if isinstance(error, ConflictError) else 422, str(error))

    def class_names() -> tuple[str, ...]:
        return read_classes(workspace.classes_path()).names

    @app.get("/api/session")
    def session() -> dict[str, Any]:
        names = class_names()
        colours = palette(len(names)).tolist()
        return {
            "workspace": workspace.name,
            "by": review.by,
            "classes": names,
            "colours": colours,
        }

    @app.get("/api/queue")
    def images() -> dict[str, Any]:
        found = queue(workspace)
        return {
            "images": list(found.doubts.items()), "states": found.states, "waiting": found.waiting
        }  # fmt: skip

    @app.get("/api/image")
    def image(name: str) -> dict[str, Any]:
        found = shown(workspace, name)
        stored = found.correction
        return {
            "image": name, "size_hw": found.image_hw, "changed": found.changed,
            "revision": 0 if stored is None else stored.revision,
            "accepted": stored is not None and stored.accepted and not found.changed,
            "regions": _sent(found.regions), "candidates": _sent(found.candidates),
            "history": [] if stored is None else [vars(one) for one in stored.history[-_HISTORY:]],
        }  # fmt: skip

    @app.get("/api/picture")
    def picture(name: str) -> Response:
        if name not in workspace.listing().images:
            raise StoreError(f"{name}: found no such image in this workspace")
        pixels = workspace.read_image(name)
        small = pixels.shape[0] * pixels.shape[1] <= _LOSSLESS_PIXELS
        kind, options = ("PNG", {"compress_level": 1}) if small else ("JPEG", {"quality": 92})
        content = encode_image(PilImage.fromarray(pixels), kind, **options)
        return Response(content, media_type=f"image/{kind.lower()}")

    @app.post("/api/save")
    async def change(request: Request, content_type: Annotated[str, Header()] = "") -> Response:
        if content_type != "application/json":
            return _problem(415, f"found a body of type {content_type!r}; wanted application/json")
        try:
            body = await read_body(request, MAX_BODY_BYTES)
        except BodyTooLargeError as error:
            return _problem(413, str(error))
        return await run_in_threadpool(_save, review, body, class_names())

    names = NamesPage(workspace)

    @app.get("/preview")
    def preview(token: str = "") -> Response:
        if not secrets.compare_digest(token.encode(), review.token.encode()):
            return _problem(403, "open it from the page that `fmbseg review` printed")
        try:
            return HTMLResponse(names.html(), headers={"Content-Security-Policy": POLICY})
        except ValueError as error:
            return _problem(422, str(error))

    app.mount("/", StaticFiles(directory=PAGE, html=True))
    return app


def _save(review: Review, body: bytes, class_names: tuple[str, ...]) -> Response:
    try:
        sent = Sent.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        return _problem(422, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    workspace = review.workspace
    try:
        done = save(workspace, sent, review.by, class_names)
    except ConflictError as error:
        there = read_correction(workspace.corrections, sent.image)
        last = None if there is None else vars(there.history[-1])
        return JSONResponse({"problem": str(error), "last": last}, 409)
    review.seconds[sent.image] = review.seconds.get(sent.image, 0) + sent.seconds
    (review.accepted.add if done.accepted else review.accepted.discard)(sent.image)
    return JSONResponse({"revision": done.revision, "accepted": done.accepted})


def _sent(regions: tuple[CorrectedRegion, ...]) -> list[dict[str, Any]]:
    runs = runs_of([one.rle for one in regions])
    return [
        {"class_name": one.class_name, "runs": lengths, "origin": one.origin, "score": one.score}
        for one, lengths in zip(regions, runs, strict=True)
    ]


def _problem(status: int, text: str) -> JSONResponse:
    return JSONResponse({"problem": text}, status)
