"""A live server in a thread, and a client that sends it a signal."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from websockets.sync.client import ClientConnection, connect

from pipeline.models import ConvTasNet
from pipeline.separation.live.server import Limits, LiveServer
from tests import networks
from tests.waiting import PATIENCE_SECONDS, wait_until


def causal(norm: str = "cumulative") -> ConvTasNet:
    """A small network in float32."""
    return networks.network(torch.float32, causal=True, norm=norm)


@contextmanager
def serving(model: ConvTasNet, *, host: str = "127.0.0.1", limits: Limits | None = None) -> Iterator[str]:
    """The address of a server that ends with the block."""
    server = LiveServer(model, Path("small.safetensors"), limits=limits)
    loop, addresses = asyncio.new_event_loop(), list[str]()
    stopped = asyncio.Event()

    async def serve() -> None:
        async with server.serving(host, 0) as address:
            addresses.append(address)
            await stopped.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        wait_until(lambda: addresses or not thread.is_alive())
        yield addresses[0]
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join(PATIENCE_SECONDS)
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def opened(address: str, *, origin: str | None = None) -> ClientConnection:
    """A connection for audio."""
    place = address.replace("http", "ws") + "audio"
    headers = {"Origin": origin} if origin else {}
    return connect(place, additional_headers=headers, proxy=None, open_timeout=PATIENCE_SECONDS, close_timeout=PATIENCE_SECONDS)


def received(connection: ClientConnection, num_sources: int = 2) -> NDArray[np.float32]:
    """The estimates ``[source, time]`` of the next answer."""
    message = connection.recv(timeout=PATIENCE_SECONDS)
    assert isinstance(message, bytes)
    values = np.frombuffer(message, "<f4")
    assert values[0] >= 0  # seconds of computing
    return values[1:].reshape(num_sources, -1)


def separated(address: str, mixture: NDArray[np.float32], sizes: Sequence[int]) -> NDArray[np.float32]:
    """The estimates ``[source, time]`` of a mixture that is sent in chunks of these sizes, again and again."""
    pieces, start, k = [], 0, 0
    with opened(address) as connection:
        while start < len(mixture):
            size = sizes[k % len(sizes)]
            connection.send(mixture[start : start + size].astype("<f4").tobytes())
            pieces.append(received(connection))
            start, k = start + size, k + 1
        connection.send("finish")
        pieces.append(received(connection))
    return np.concatenate(pieces, axis=1)
