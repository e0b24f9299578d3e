"""The application behind `fmbseg serve`: a picture in, a label map out; docs/serve.md."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request, Response
from fastapi import Query as InQuery
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect

from fmbseg.export.label_png import hex_colours
from fmbseg.segmenter import Segmenter
from fmbseg.serving.answers import Answer
from fmbseg.serving.asked import Asked, Query, asked_of
from fmbseg.serving.counts import Counts
from fmbseg.serving.described import BODY, RESPONSES
from fmbseg.serving.examples import examples
from fmbseg.serving.labelling import Job, Labeller
from fmbseg.serving.refused import RefusedError
from fmbseg.serving.settings import Limits
from fmbseg.serving.turns import Turns
from fmbseg.vocabulary import Vocabulary
from fmbseg.web.body import BodyTooLargeError, read_body
from fmbseg.web.headers import HEADERS, LOOPBACK, Headers

DATA_FILES = ("page/*",)
PAGE = Path(__file__).parent / "page"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
_GONE = 499
"""How a client that left before its picture was whole is counted; nobody reads the answer."""
_CLOSE = {"Connection": "close"}
"""Of answers to a body that was not read to its end."""


def serving_app(
    segmenter: Segmenter, own: Vocabulary, limits: Limits, hosts: Sequence[str] = LOOPBACK
) -> FastAPI:
    """The application around one model.

    Args:
        segmenter: loaded already.
        own: classes of requests that name none.
        limits: of a request and of all together.
        hosts: names that requests may call this machine by; "*" for any.
    """
    app = FastAPI(
        title="FMbSeg", docs_url=None, redoc_url=None,
        description="Open-vocabulary semantic segmentation: a picture and class names in, a label "
        "map out.",
    )  # fmt: skip
    labeller, counts = Labeller(segmenter, limits.max_pixels), Counts()
    turns = Turns(limits.at_once, limits.timeout, labeller.answers, labeller.at_once)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    app.add_middleware(Headers, headers={"Content-Security-Policy": _POLICY, **HEADERS})

    @app.exception_handler(RefusedError)
    async def refused(_: Request, error: RefusedError) -> Response:
        return JSONResponse(error.told, error.status, error.headers)

    @app.exception_handler(RequestValidationError)
    async def bad_query(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        told = {"problem": where, "found": _short(first.get("input")), "wanted": first["msg"]}
        return JSONResponse(told, 422)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        found = _short(f"{request.method} {request.url.path}")
        told = {"problem": str(error.detail), "found": found, "wanted": "see /openapi.json"}
        return JSONResponse(told, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def fault(_: Request, __: Exception) -> Response:
        told = {"problem": "the server failed", "found": "see its log", "wanted": "another try"}
        return JSONResponse(told, 500, HEADERS)  # what the log says names files of this machine

    @app.post("/segment", openapi_extra=BODY, responses=RESPONSES, response_class=Response)
    async def segment(request: Request, query: Annotated[Query, InQuery()]) -> Response:
        """Give every pixel of a picture one of the named classes, or none where that is allowed."""
        began, status, pixels = time.monotonic(), 500, 0
        try:
            done = await answer(request, query)
            status, pixels = 200, done.pixels
            return Response(done.content, media_type=done.media_type, headers=done.headers)
        except RefusedError as error:
            status = error.status
            raise
        except ClientDisconnect:
            status = _GONE
            return Response(status_code=400)
        finally:
            counts.add(status, time.monotonic() - began, pixels)

    async def answer(request: Request, query: Query) -> Answer:
        asked = _answerable(asked_of(query, own, limits), segmenter)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if not (kind.startswith("image/") or kind == "application/octet-stream"):
            raise RefusedError(
                415, "Content-Type", _short(kind), "image/jpeg, image/png, ... of the picture as "
                "the body; no form, no JSON", _CLOSE,
            )  # fmt: skip
        turns.enter()
        begun = None
        try:
            body = await _body(request, limits)
            begun = turns.begin(Job(body, asked))
        finally:
            if begun is None:
                turns.leave()
        return await turns.result(begun)

    @app.get("/classes")
    def classes() -> dict[str, Any]:
        """The classes of requests that name none, in the order of their indices."""
        colours = hex_colours(len(own))
        return {
            "classes": [
                {"index": index, "name": names[0], "synonyms": names[1:], "colour": colour}
                for index, (names, colour) in enumerate(zip(own.groups, colours, strict=True))
            ],
            "none": 255,
        }

    @app.get("/healthz")
    async def healthz() -> dict[Literal["status"], Literal["ok"]]:
        """Answered as long as the server takes requests."""
        return {"status": "ok"}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Counters in Prometheus' text format."""
        text = counts.text(turns.inside, labeller.encoded, labeller.known)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        return FileResponse(PAGE / "index.html")

    @app.get("/examples", include_in_schema=False)
    def offered() -> dict[str, Any]:
        return {
            "examples": [
                {"address": f"examples/{number}.png", "words": one.words}
                for number, one in enumerate(examples())
            ]
        }

    @app.get("/examples/{number}.png", include_in_schema=False)
    def example(number: int) -> Response:
        if not 0 <= number < len(examples()):
            raise HTTPException(404)
        return Response(examples()[number].content, media_type="image/png")

    app.mount("/page", StaticFiles(directory=PAGE))
    return app


async def _body(request: Request, limits: Limits) -> bytes:
    try:
        async with asyncio.timeout(limits.timeout):
            return await read_body(request, limits.max_bytes)
    except BodyTooLargeError:
        raise RefusedError(
            413, "image", f"more than {limits.max_bytes} bytes", f"at most {limits.max_bytes}",
            _CLOSE,
        ) from None  # fmt: skip
    except TimeoutError:
        raise RefusedError(
            408, "image", f"not all of it within {limits.timeout:g} s", "the whole body", _CLOSE
        ) from None


def _answerable(asked: Asked, segmenter: Segmenter) -> Asked:
    if asked.confidence and segmenter.temperature is None:
        raise RefusedError(
            422, "confidence", "a model that does not say the temperature of its training",
            "one that does: train again, or do not ask for confidence",
        )  # fmt: skip
    return asked


def _short(text: object) -> str:
    return ascii(text)[1:-1][:200] if isinstance(text, str) else ascii(text)[:200]
