"""Where a training starts if not from random weights: from a model (``train.init``), or from a shorter training."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from pipeline.compute.distributed import Group
from pipeline.errors import CheckpointError
from pipeline.files import expand_user, written_whole
from pipeline.models import Network
from pipeline.models.checkpoints import load_model
from pipeline.training import BEST, LAST

MAX_NAMED = 5

logger = logging.getLogger("pipeline")


def initialise(model: Network, init: str | Path | None) -> None:
    """Give a network the weights of a model on disk, those that fit; what does not is named, and stays as it was drawn.

    Args:
        model: the network, as its own settings say.
        init: a model of ours, imported ones included; with None the network stays as it was drawn.

    Raises:
        CheckpointError: it is no model, or none of its weights fit.
    """
    if init is None:
        return
    other = load_model(path := expand_user(init))
    ours, theirs = model.state_dict(), other.state_dict()
    fitting = {name: tensor for name, tensor in theirs.items() if name in ours and ours[name].shape == tensor.shape}
    left = sorted(set(ours) - set(fitting))
    changed = {
        name: (value, model.settings.model_dump()[name])
        for name, value in other.settings.model_dump().items()
        if value != model.settings.model_dump()[name]
    } | {
        name: (getattr(other, name), getattr(model, name))
        for name in ("num_sources", "sample_rate")
        if getattr(other, name) != getattr(model, name)
    }
    differences = ", ".join(f"{name} {before!r} → {after!r}" for name, (before, after) in changed.items())
    if not fitting:
        raise CheckpointError(f"train.init: no weights of {path} fit this network ({differences})")
    model.load_state_dict({**ours, **fitting})
    if differences:
        logger.warning("train.init: %s has other settings: %s", path, differences)
    if left:
        named = ", ".join(left[:MAX_NAMED]) + (f" and {len(left) - MAX_NAMED} more" if len(left) > MAX_NAMED else "")
        logger.warning("train.init: %d of %d weights start at random, as they do not fit: %s", len(left), len(ours), named)


def adopt(earlier: Path | None, folder: Path, group: Group) -> None:
    """Continue a shorter training: copy its state and best weights into a folder that has no state yet.

    The first process copies, the others wait. The state is copied last, so that a copy that was cut short is made again.
    """
    if group.first and earlier is not None and (earlier / LAST).exists() and not (folder / LAST).exists():
        logger.info("continuing the training in %s", earlier)
        for name in (BEST, LAST):
            if (earlier / name).exists():
                with written_whole(folder / name) as temporary:
                    shutil.copyfile(earlier / name, temporary)
    group.all_reduce_max(0)
