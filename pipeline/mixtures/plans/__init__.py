"""Plans: which utterances make up which mixture, at which levels and from when on; read from published lists, or drawn.

``build`` makes the plan of a recipe through the adapter of its kind (``drawn`` for a recipe's own rules, ``wsj0mix``,
``librimix``, ``wham``); ``overlap`` lets speakers begin late; ``planned`` gathers a plan's rows by mixture for the renderers.
``published`` reads lists, and refuses broken ones by row; ``foreign`` reads anybody's, for ``lint`` to look for their faults.
"""

from pipeline.mixtures.plans.adapter import Adapter as Adapter
from pipeline.mixtures.plans.adapter import Roots as Roots
from pipeline.mixtures.plans.drawn import Draw as Draw
from pipeline.mixtures.plans.drawn import MixtureSampler as MixtureSampler
from pipeline.mixtures.plans.overlap import begin_times as begin_times
from pipeline.mixtures.plans.planned import NOISE as NOISE
from pipeline.mixtures.plans.planned import of_splits as of_splits
