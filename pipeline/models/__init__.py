"""Separation networks, built from a recipe's settings.

The rest of the pipeline knows a network by its :class:`Network` protocol: it can be described, saved, and measured for how far it
looks ahead. Conv-TasNet, its kernels and the import of published weights live in modules of their own.
"""

from pipeline.models.build import build_model as build_model
from pipeline.models.causality import Causality as Causality
from pipeline.models.causality import causality as causality
from pipeline.models.causality import describe_model as describe_model
from pipeline.models.causality import look_ahead as look_ahead
from pipeline.models.checkpoints import load_model as load_model
from pipeline.models.checkpoints import save_model as save_model
from pipeline.models.conv_tasnet import ConvTasNet as ConvTasNet
from pipeline.models.protocol import Network as Network
