"""Scoring: how well estimates match references, in SI-SNR, SDR and their improvements over the mixture.

``metrics`` has the ratios, on the linear algebra of ``bss_eval`` and the assignments of ``permutations``; ``perceptual`` and
``oracles`` add metrics on request and what ideal masks reach. ``layouts`` and ``tasks`` find what there is to score,
``recordings`` reads it, ``alignment`` finds delays and signs. ``mixture`` scores one mixture, ``scoring`` all of them in parallel
into a table (``known_rows`` has what need not be computed), and ``cross_checks`` has mir_eval recompute some rows.
"""

from pipeline.scoring.cross_checks import CrossCheck as CrossCheck
from pipeline.scoring.cross_checks import check_path as check_path
from pipeline.scoring.cross_checks import cross_check as cross_check
from pipeline.scoring.cross_checks import format_check as format_check
from pipeline.scoring.cross_checks import read_checks as read_checks
from pipeline.scoring.cross_checks import write_check as write_check
from pipeline.scoring.metrics import sdr as sdr
from pipeline.scoring.metrics import si_snr as si_snr
from pipeline.scoring.mixture import Settings as Settings
from pipeline.scoring.scoring import explain_problems as explain_problems
from pipeline.scoring.scoring import score as score
from pipeline.scoring.scoring import score_dataset as score_dataset
from pipeline.scoring.scoring import score_folders as score_folders
from pipeline.scoring.scoring import score_tasks as score_tasks
from pipeline.scoring.scoring import score_warnings as score_warnings
from pipeline.scoring.tasks import Matched as Matched
from pipeline.scoring.tasks import Task as Task
from pipeline.scoring.tasks import dataset_tasks as dataset_tasks
from pipeline.scoring.tasks import folder_tasks as folder_tasks
from pipeline.scoring.tasks import match_folders as match_folders
from pipeline.scoring.tasks import with_oracles as with_oracles
