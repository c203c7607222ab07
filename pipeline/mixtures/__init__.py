"""Mixtures: which utterances are mixed (``plans``), how they become audio (``renderers``), and the datasets that come of it.

``footprint`` counts what a plan will take, ``rendering`` writes its audio and tables, resumable at any point, and
``verification`` finds and repairs damage. ``packing`` puts what training reads into ``shards``, and ``dynamic`` is what mixing on
the fly needs to know. ``statistics`` counts a dataset, and ``interchange`` lists it for other toolkits, or puts
it into ``tar_shards``. Nothing here needs torch.
"""

from pipeline.mixtures.dynamic import NoiseRule as NoiseRule
from pipeline.mixtures.dynamic import SpeechCuts as SpeechCuts
from pipeline.mixtures.footprint import free_bytes as free_bytes
from pipeline.mixtures.footprint import require_room as require_room
from pipeline.mixtures.footprint import written_bytes as written_bytes
from pipeline.mixtures.interchange import export_dataset as export_dataset
from pipeline.mixtures.rendering import check_inputs as check_inputs
from pipeline.mixtures.rendering import render as render
from pipeline.mixtures.shards import Shard as Shard
from pipeline.mixtures.statistics import dataset_statistics as dataset_statistics
from pipeline.mixtures.verification import repair as repair
from pipeline.mixtures.verification import verify as verify
