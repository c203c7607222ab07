"""Separate a recording piece by piece with onnxruntime, numpy and soundfile alone: python stream_onnx.py STEP.onnx FILE.wav

It reads 100 ms at a time, as a microphone would bring them, and writes FILE_s1.wav, FILE_s2.wav, …
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile

model = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
facts = model.get_modelmeta().custom_metadata_map
hop, delay, sample_rate = int(facts["hop_samples"]), int(facts["delay_samples"]), int(facts["sample_rate"])
chunk = model.get_inputs()[0].shape[1]  # a number where the export has fixed it (--hops)
chunk = chunk if isinstance(chunk, int) else -(-sample_rate // 10 // hop) * hop

mixture, rate = soundfile.read(sys.argv[2], dtype="float32")
assert rate == sample_rate, f"the model needs {sample_rate} Hz, mono"
padded = np.pad(mixture, (0, delay + -(len(mixture) + delay) % chunk))

states = json.loads(facts["state"])
state = {each["input"]: np.zeros([1 if n == "batch" else n for n in each["shape"]], each["dtype"]) for each in states}
pieces = []
for start in range(0, len(padded), chunk):
    estimates, *after = model.run(None, {"mixture": padded[None, start : start + chunk], **state})
    state = {each["input"]: tensor for each, tensor in zip(states, after, strict=True)}
    pieces.append(estimates[0])  # [source, time], as soon as the chunk is there

separated = np.concatenate(pieces, axis=1)[:, delay : delay + len(mixture)]
gains = np.linalg.lstsq(separated.T, mixture, rcond=None)[0]  # their level is arbitrary: fit their sum to the mixture
for k, (gain, estimate) in enumerate(zip(gains, separated, strict=True), 1):
    soundfile.write(Path(sys.argv[2]).with_suffix("").as_posix() + f"_s{k}.wav", gain * estimate, sample_rate)
