"""The live page's server: HTTP for the page, a WebSocket for audio, on this machine only unless told otherwise.

A client sends mono audio at the model's rate, float32 little-endian, in binary messages of any length. Each is answered, in
order, by one binary message of float32: the seconds that computing took, then the estimates that have become final,
``[source, time]``, as the network scales them. The text ``finish`` is answered by the rest of the estimates, and ends the
connection.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import json
import logging
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path, PurePath
from urllib.parse import urlsplit

import numpy as np
import torch
from torch import Tensor
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from pipeline.errors import AudioError, UsageError, first_line
from pipeline.models import Network
from pipeline.separation.live import site
from pipeline.separation.streaming import Stream, stream

AUDIO_PATH = "/audio"
FINISH = "finish"
SAMPLE = np.dtype("<f4")
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_MAX_REASON_BYTES = 120
"""Of a closing message; the protocol allows 123."""
_SILENT = logging.getLogger(f"{__name__}.websockets")
"""Connections that end early are no news: browsers open some in advance and drop them."""
_SILENT.setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Limits:
    """What one client may ask for, so that none can take the machine."""

    max_connections: int = 4
    max_minutes: float = 60.0
    """Of audio in a connection, and of the time that it may stay open."""
    max_message_bytes: int = 1 << 18
    idle_seconds: float = 60.0
    """Until a connection without a message is closed."""


class LiveServer:
    """Serves the page of one causal model.

    Args:
        model: a causal network on the CPU.
        checkpoint: its file, for the page to name it.
        limits: what one client may ask for.
        forget_seconds: see :func:`pipeline.separation.streaming.stream`.

    Raises:
        ModelError: the model cannot stream, with the reason.
    """

    def __init__(
        self, model: Network, checkpoint: Path, *, limits: Limits | None = None, forget_seconds: float | None = None
    ) -> None:
        self._model, self._forget_seconds = model, forget_seconds
        self._limits = limits or Limits()
        self._open_stream().push(torch.zeros(model.sample_rate))  # compiles the kernels where they are not compiled yet
        facts = site.describe(model, checkpoint, "socket")
        facts |= {"forget_seconds": forget_seconds, "max_minutes": self._limits.max_minutes}
        self._files = {**site.page_files(), site.FACTS: json.dumps(facts).encode()}
        self._num_connections = 0
        self._host = ""

    @asynccontextmanager
    async def serving(self, host: str, port: int) -> AsyncIterator[str]:
        """Serve until the block ends; gives the page's address.

        Raises:
            UsageError: the port is taken, or there is no such host.
        """
        self._host = host
        try:
            server = await serve(
                self._connected,
                *(host, port),
                process_request=self._answer,
                max_size=self._limits.max_message_bytes,
                compression=None,  # float samples hardly compress, and it would take longer than separating them
                logger=_SILENT,
            )
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or first_line(error)
            advice = "; --port 0 takes a free port" if error.errno == errno.EADDRINUSE else ""
            raise UsageError(f"cannot listen on {host}, port {port}: {reason}{advice}") from None
        async with server:
            yield _address(host, server)

    def _open_stream(self) -> Stream:
        return stream(self._model, forget_seconds=self._forget_seconds)

    # ------------------------------------------------------------------------------------------------------------------ HTTP
    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """A file of the page or a refusal; None lets a WebSocket open."""
        hosts = request.headers.get_all("Host")
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            # Another site's name that resolves to this machine (DNS rebinding) would make its pages same-origin with this one.
            return _response(HTTPStatus.MISDIRECTED_REQUEST, f"This server does not answer to the name {', '.join(hosts)}.\n")
        path = urlsplit(request.path).path
        if path == AUDIO_PATH:
            origins = request.headers.get_all("Origin")
            if set(origins) - {f"http://{hosts[0]}", f"https://{hosts[0]}"}:
                return _response(HTTPStatus.FORBIDDEN, f"Pages of {', '.join(origins)} may not send audio here.\n")
            return None
        name = path.removeprefix("/") or site.INDEX
        if name not in self._files:
            return _response(HTTPStatus.NOT_FOUND, "There is no such page.\n")
        return _response(HTTPStatus.OK, self._files[name], site.TYPES[PurePath(name).suffix], f"ws://{hosts[0]} wss://{hosts[0]}")

    def _is_own(self, host: str) -> bool:
        """Whether a Host header, a name with or without a port, means this server."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in _LOOPBACK_NAMES or name == self._host.lower():
            return True
        return not is_loopback(self._host) and (_is_address(name) or name == socket.gethostname().lower())

    # ----------------------------------------------------------------------------------------------------------------- audio
    async def _connected(self, connection: ServerConnection) -> None:
        """One client, from its first message to its last."""
        if self._num_connections >= self._limits.max_connections:
            await connection.close(CloseCode.TRY_AGAIN_LATER, "too many connections are open; close another page")
            return
        self._num_connections += 1
        try:
            async with asyncio.timeout(60 * self._limits.max_minutes):
                await self._separate(connection)
        except TimeoutError:
            await connection.close(CloseCode.POLICY_VIOLATION, self._limit())
        except AudioError as error:
            await connection.close(CloseCode.POLICY_VIOLATION, str(error).encode()[:_MAX_REASON_BYTES].decode(errors="ignore"))
        except ConnectionClosed:
            pass
        finally:
            self._num_connections -= 1

    async def _separate(self, connection: ServerConnection) -> None:
        live = await asyncio.to_thread(self._open_stream)
        room = 60 * self._limits.max_minutes * self._model.sample_rate
        while (message := await self._received(connection)) is not None:
            chunk = _samples(message)
            room -= len(chunk)
            if room < 0:
                raise AudioError(self._limit())
            await connection.send(await asyncio.to_thread(_timed, partial(live.push, chunk)))
        await connection.send(await asyncio.to_thread(_timed, live.finish))

    async def _received(self, connection: ServerConnection) -> bytes | None:
        """The next message with audio; None at the end."""
        try:
            async with asyncio.timeout(self._limits.idle_seconds):
                message = await connection.recv()
        except TimeoutError:
            raise AudioError(f"no audio for {self._limits.idle_seconds:g} seconds") from None
        if isinstance(message, str):
            if message != FINISH:
                raise AudioError(f"the only text that is understood is {FINISH!r}")
            return None
        return message

    def _limit(self) -> str:
        return f"the limit of {self._limits.max_minutes:g} minutes is reached (--max-minutes)"


def run(server: LiveServer, host: str, port: int, *, announce: Callable[[str], None]) -> None:
    """Serve until SIGINT (Ctrl-C) or SIGTERM; ``announce`` gets the page's address once it can be opened."""

    async def main() -> None:
        stopped = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        async with server.serving(host, port) as address:
            announce(address)
            await stopped.wait()

    asyncio.run(main())


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _address(host: str, server: Server) -> str:
    """The page's address, for the person who started the server."""
    port = next(iter(server.sockets)).getsockname()[1]
    name = socket.gethostname() if host in ("", "0.0.0.0", "::") else host
    return f"http://[{name}]:{port}/" if ":" in name else f"http://{name}:{port}/"


def _response(status: HTTPStatus, body: str | bytes, mime_type: str = "text/plain; charset=utf-8", sockets: str = "") -> Response:
    content = body.encode() if isinstance(body, str) else body
    own = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; script-src 'self'; worker-src 'self'"
    headers = {
        "Content-Type": mime_type,
        "Content-Length": str(len(content)),
        "Content-Security-Policy": f"{own}; style-src 'self'; img-src 'self' data:; connect-src 'self' {sockets}".rstrip(),
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
        "Connection": "close",
    }
    return Response(status.value, status.phrase, Headers(headers), content)


def _samples(message: bytes) -> Tensor:
    if len(message) % SAMPLE.itemsize:
        raise AudioError("the message ends within a sample: audio must be float32, little-endian, one channel")
    return torch.from_numpy(np.frombuffer(message, SAMPLE).astype(np.float32))


def _timed(separate: Callable[[], Tensor]) -> bytes:
    """A message: how many seconds it took, and the estimates ``[source, time]``."""
    start = time.perf_counter()
    estimates = separate().numpy()
    seconds = np.array([time.perf_counter() - start], SAMPLE)
    return seconds.tobytes() + estimates.astype(SAMPLE).tobytes()
