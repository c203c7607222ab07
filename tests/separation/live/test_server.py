"""The live page's server: what comes back is the offline separation, and who asks for too much is told so."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed, InvalidStatus

from pipeline.errors import ModelError, UsageError
from pipeline.models import ConvTasNet
from pipeline.separation.live.server import Limits, LiveServer, is_loopback
from tests import networks
from tests.separation.live.serving import causal, opened, received, separated, serving
from tests.waiting import PATIENCE_SECONDS, wait_until

NOISE = np.random.default_rng(0).standard_normal(4003).astype(np.float32)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving(causal()) as found:
        yield found


def offline(model: ConvTasNet, mixture: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.inference_mode():
        estimates: NDArray[np.float32] = model(torch.from_numpy(mixture)[None])[0].numpy()
    return estimates


def deviation(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("sizes", [[1003], [160], [1, 0, 37, 800]])
def test_what_comes_back_is_the_offline_separation(address: str, sizes: list[int]) -> None:
    assert deviation(separated(address, NOISE, sizes), offline(causal(), NOISE)) <= 1e-5


def test_of_a_norm_of_each_frame_too() -> None:
    with serving(causal("frame")) as address:
        assert deviation(separated(address, NOISE, [160]), offline(causal("frame"), NOISE)) <= 1e-5


def test_the_equality_notices_a_sample_that_gets_lost(address: str) -> None:
    lost = np.delete(NOISE, 2000)
    found = separated(address, np.append(lost, NOISE[-1:]), [160])
    assert deviation(found, offline(causal(), NOISE)) > 1e-2


def test_two_at_once_do_not_meet(address: str) -> None:
    with opened(address) as other:
        other.send(NOISE[:1000].tobytes())
        received(other)
        assert deviation(separated(address, NOISE, [500]), offline(causal(), NOISE)) <= 1e-5


def test_a_noncausal_model_is_refused_with_the_reason() -> None:
    with pytest.raises(ModelError, match="cannot stream: its convolutions look"):
        LiveServer(networks.network(torch.float32, causal=False), Path("best.safetensors"))


# ---------------------------------------------------------------------------------------------------------------------- limits
def close_of(address: str, *messages: str | bytes) -> tuple[int, str]:
    """Code and reason with which the server closes a connection after these messages."""
    with opened(address) as connection:
        with pytest.raises(ConnectionClosed) as caught:
            for message in messages:
                connection.send(message)
                connection.recv(timeout=PATIENCE_SECONDS)
            connection.recv(timeout=PATIENCE_SECONDS)
        assert caught.value.rcvd is not None
        return caught.value.rcvd.code, caught.value.rcvd.reason


@pytest.mark.parametrize(
    ("message", "code", "words"),
    [
        (bytes(4 << 20), 1009, ""),
        (b"123", 1008, "float32"),
        (np.array([0.1, np.nan], "<f4").tobytes(), 1008, "not numbers"),
        ("stop", 1008, "'finish'"),
    ],
    ids=["too large", "half a sample", "not a number", "another text"],
)
def test_a_message_that_cannot_be_taken_ends_its_connection_only(
    address: str, message: str | bytes, code: int, words: str
) -> None:
    found, reason = close_of(address, message)
    assert found == code
    assert words in reason
    assert separated(address, NOISE[:100], [100]).shape == (2, 100)


@pytest.mark.parametrize("num_messages", [2, 1], ids=["of audio", "of waiting"])
def test_time_is_limited(num_messages: int) -> None:
    """To 4800 samples, and 0.6 seconds."""
    with serving(causal(), limits=Limits(max_minutes=0.01)) as address:
        code, reason = close_of(address, *[NOISE.tobytes()] * num_messages)
    assert (code, reason) == (1008, "the limit of 0.01 minutes is reached (--max-minutes)")


def test_one_too_many_is_refused_until_another_has_ended() -> None:
    def is_let_in() -> bool:
        with suppress(ConnectionClosed):
            return separated(address, NOISE[:9], [9]).shape == (2, 9)
        return False

    with serving(causal(), limits=Limits(max_connections=1)) as address:
        with opened(address) as first:
            first.send(NOISE.tobytes())
            received(first)
            assert close_of(address) == (1013, "too many connections are open; close another page")
        wait_until(is_let_in)


def test_a_client_that_sends_nothing_is_let_go() -> None:
    with serving(causal(), limits=Limits(idle_seconds=0.05)) as address:
        assert close_of(address) == (1008, "no audio for 0.05 seconds")


def test_the_end_of_the_server_is_told() -> None:
    with ExitStack() as server:
        address = server.enter_context(serving(causal()))
        with opened(address) as connection:
            connection.send(NOISE.tobytes())
            received(connection)
            server.close()
            with pytest.raises(ConnectionClosed) as caught:
                connection.recv(timeout=PATIENCE_SECONDS)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1001


# ------------------------------------------------------------------------------------------------------------------- the page
def get(address: str, path: str = "/", host: str | None = None) -> tuple[int, http.client.HTTPMessage, bytes]:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=PATIENCE_SECONDS)
    connection.request("GET", path, headers={"Host": host or parts.netloc})
    answer = connection.getresponse()
    found = answer.status, answer.headers, answer.read()
    connection.close()
    return found


def test_the_page_and_its_facts(address: str) -> None:
    status, headers, body = get(address)
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert b"<title>Live separation</title>" in body
    facts = json.loads(get(address, "/facts.json?again")[2])
    assert facts | {"engine": "socket", "name": "small", "latency_samples": 8, "sample_rate": 8000, "max_minutes": 60} == facts


@pytest.mark.parametrize("path", ["/none", "/../server.py", "/%2e%2e/server.py", "//etc/passwd", "/page/", "/__init__.py"])
def test_nothing_else_is_served(address: str, path: str) -> None:
    assert get(address, path)[0] == 404


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *[(name, 200) for name in ("localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8765")],
        *[
            (name, 421)
            for name in ("evil.example", "127.0.0.1.evil.example", "192.168.0.5", "localhost.evil.example:80", "[", "a b")
        ],
    ],
)
def test_a_name_that_resolves_to_this_machine_is_refused(address: str, host: str, status: int) -> None:
    assert get(address, host=host)[0] == status


def test_an_open_server_answers_to_addresses_and_its_own_name() -> None:
    with serving(causal(), host="0.0.0.0") as address:
        for host, status in (("192.168.0.5:80", 200), (socket.gethostname(), 200), ("localhost", 200), ("evil.example", 421)):
            assert get(address, host=host)[0] == status


def test_pages_of_others_may_not_send_audio(address: str) -> None:
    own = address.removesuffix("/")
    for origin in (own, own.replace("http", "https"), None):
        with opened(address, origin=origin) as connection:
            connection.send("finish")
            assert received(connection).shape == (2, 0)
    for origin in ("http://evil.example", f"{own}.evil.example", "http://127.0.0.1:1", "null"):
        with pytest.raises(InvalidStatus) as caught:
            opened(address, origin=origin)
        assert caught.value.response.status_code == 403


def test_a_port_that_is_taken_and_an_address_of_others_are_one_line() -> None:
    server = LiveServer(causal(), Path("best.safetensors"))

    async def serve(host: str, port: int) -> None:
        async with server.serving(host, port):
            pass

    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            UsageError, match=rf"^cannot listen on 127.0.0.1, port {port}: .* in use; --port 0 takes a free port$"
        ):
            asyncio.run(serve("127.0.0.1", port))
    with pytest.raises(UsageError, match=r"^cannot listen on 192\.0\.2\.1, port 0: [^;]*$"):
        asyncio.run(serve("192.0.2.1", 0))


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("127.3.2.1", True),
        ("0.0.0.0", False),
        ("", False),
        ("a.b", False),
    ],
)
def test_what_only_this_machine_reaches(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
