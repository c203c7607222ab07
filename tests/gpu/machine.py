"""What the machine is: versions, the device, and its two ceilings: memory traffic and large matrix products."""

from __future__ import annotations

import platform
from importlib import metadata

import torch

from tests.gpu.common import arguments, say, seconds_each

PACKAGES = ("torch", "torchaudio", "triton", "numpy", "scipy", "pandas", "pydantic", "soundfile", "mir_eval")


def version(package: str) -> str:
    """Of an installed package; empty where it is missing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def main() -> None:
    """Print one line of versions and one of ceilings."""
    given = arguments(__doc__)
    device = torch.device(given.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    say(device=name, python=platform.python_version(), cuda=str(torch.version.cuda), **{p: version(p) for p in PACKAGES})
    size = 256 if given.small else 8192
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    block = torch.randn(2**16 if given.small else 2**29, device=device)
    target = torch.empty_like(block)
    product, copy = seconds_each(lambda: left @ right, device, 10), seconds_each(lambda: target.copy_(block), device, 10)
    say(bf16_product_tflops=2e-12 * size**3 / product, copy_gigabytes_per_second=2e-9 * block.nbytes / copy)


if __name__ == "__main__":
    main()
