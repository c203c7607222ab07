"""Every error that a user can fix, on one screen.

TasnetError                 the base: catch this one
├── RecipeError             the recipe file or a ``--set`` override
├── CorpusError             the speech that a recipe is pointed at
├── AudioError              one audio file, always named
├── TableError              a CSV file whose columns or values are wrong
├── PlanError               mixtures that cannot be drawn or read
├── DatasetError            rendered mixtures that are missing or damaged
├── CheckpointError         a model file that is not ours, or is damaged
├── ModelError              an architecture that contradicts itself
├── TrainingError           a training whose loss diverged, or that does not fit into memory
│   └── LostProcessError    one of several processes that train together has ended
├── ScoreError              estimates and references that do not fit together
├── WorkError               the work folder: no space, no permission, in use; or a worker that was killed
└── UsageError              a command-line option that is not written as it should be

The message is one line that names the file or setting, and what to do. The command line prints it and exits with code 2;
a traceback is always our own mistake.
"""


class TasnetError(Exception):
    """A mistake that the user can fix; its message is one line (or one line per finding)."""


class RecipeError(TasnetError):
    """The recipe, or an override of it, is not valid."""


class CorpusError(TasnetError):
    """A corpus is missing, empty, or not laid out as its kind says."""


class AudioError(TasnetError):
    """An audio file cannot be used as it is."""


class TableError(TasnetError):
    """A table lacks columns or holds values outside its schema."""


class PlanError(TasnetError):
    """The requested mixtures cannot be drawn from the utterances there are."""


class DatasetError(TasnetError):
    """A rendered dataset is incomplete or damaged."""


class CheckpointError(TasnetError):
    """A model file is not one of ours, or is damaged."""


class ModelError(TasnetError):
    """The settings of a network contradict each other, or the device that it should run on is not there."""


class TrainingError(TasnetError):
    """The loss stopped being a finite number, or a step does not fit into the device's memory."""


class LostProcessError(TrainingError):
    """Another process of a training has ended, so this one cannot go on."""


class ScoreError(TasnetError):
    """Estimates, references and mixtures do not belong together."""


class WorkError(TasnetError):
    """The work folder cannot be written, is full, or is used by another run; or a worker process was killed."""


class UsageError(TasnetError):
    """A command-line option is not written as it should be."""


def first_line(error: BaseException) -> str:
    """What another library's error says in its first line, for a message of ours; its type where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
