"""The live page as static files: the model runs in the browser, by onnxruntime-web, and no audio leaves it."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.errors import UsageError
from pipeline.files import parse_json, written_whole
from pipeline.models import ConvTasNet
from pipeline.separation.live import site

RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""What the page needs of onnxruntime-web."""
RUNTIME_FOLDER = "runtime"
STEP = "step.onnx"


def write_page(
    network: ConvTasNet, checkpoint: Path, out: Path, *, step: bytes, step_facts: Mapping[str, str], runtime: Path | None
) -> Iterator[Path]:
    """Write the page into a folder, for any web server.

    Args:
        network: causal.
        checkpoint: its file, for the page to name it.
        out: the folder.
        step: the ONNX step of its stream.
        step_facts: the step's metadata.
        runtime: onnxruntime-web, see :func:`runtime_files`; without it, the page says what is missing.

    Yields:
        Every file, once it is whole.

    Raises:
        UsageError: onnxruntime-web is not where it should be; nothing has been written.
        WorkError: the folder cannot be written.
    """
    facts = site.describe(network, checkpoint, "onnx")
    facts |= {"step": STEP, "delay_samples": int(step_facts["delay_samples"]), "state": parse_json(step_facts["state"])}
    files = {**site.page_files(), STEP: step, site.FACTS: json.dumps(facts, indent=1).encode()}
    if runtime is not None:
        files |= {f"{RUNTIME_FOLDER}/{name}": content for name, content in runtime_files(runtime).items()}
    for name, content in files.items():
        with written_whole(out / name) as temporary:
            temporary.write_bytes(content)
        yield out / name


def runtime_files(runtime: Path) -> dict[str, bytes]:
    """The files of onnxruntime-web that the page needs, from its npm package.

    Args:
        runtime: ``onnxruntime-web-VERSION.tgz`` as ``npm pack`` leaves it, or its folder, or the folder ``dist`` in it.

    Raises:
        UsageError: it has not got them.
    """
    try:
        found = _packed(runtime) if runtime.is_file() else _unpacked(runtime)
    except (OSError, tarfile.TarError) as error:
        raise UsageError(f"--runtime {runtime}: it cannot be read ({error})") from None
    if missing := [name for name in RUNTIME_FILES if name not in found]:
        raise UsageError(f"--runtime {runtime}: {missing[0]} is not in it; get the package by: npm pack onnxruntime-web")
    return found


def _packed(archive: Path) -> dict[str, bytes]:
    wanted = {f"package/dist/{name}": name for name in RUNTIME_FILES}
    with tarfile.open(archive) as package:
        opened = {wanted[member.name]: package.extractfile(member) for member in package if member.name in wanted}
        return {name: file.read() for name, file in opened.items() if file is not None}


def _unpacked(folder: Path) -> dict[str, bytes]:
    places = [place / name for name in RUNTIME_FILES for place in (folder, folder / "dist")]
    return {path.name: path.read_bytes() for path in places if path.is_file()}
