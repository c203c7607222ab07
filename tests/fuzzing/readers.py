"""Everything that reads a file which came from outside, each with a good file to begin with."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
import torch
import torchaudio

from pipeline.audio.files import read_audio
from pipeline.audio.headers import read_header
from pipeline.compute.journal import Journal, read_records
from pipeline.corpora import folder
from pipeline.corpora.librispeech import read_speakers
from pipeline.corpora.unpacking import unpack
from pipeline.errors import RecipeError
from pipeline.mixtures.plans import foreign, librimix_lists, wsj0mix
from pipeline.mixtures.plans.finished_lists import find_in_lists
from pipeline.mixtures.shards import Shard, Signal, write_shard
from pipeline.models import build_model, load_model, save_model
from pipeline.models.importing import import_model
from pipeline.recipe.reading import load_recipe
from pipeline.recipe.schema import FinishedPlan, FolderCorpus, LibriMixPlan, MixturesCorpus, Model, Wsj0MixPlan
from pipeline.reports.reading import read_scores
from pipeline.scoring.cross_checks import CrossCheck, read_checks, write_check
from pipeline.tables import HISTORY, MANIFEST, MIXTURES, PLAN, SCORES, Schema, read_table
from pipeline.training.state import load_state, save_state

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Reader:
    """A reader of one kind of file.

    Attributes:
        name: of the kind.
        file_name: what the file is called, in a folder of its own.
        make: writes a good file under a path.
        read: reads a file; what it returns does not matter.
    """

    name: str
    file_name: str
    make: Callable[[Path], object]
    read: Callable[[Path], object]


def text(content: str) -> Callable[[Path], object]:
    """A file of text."""
    return lambda path: path.write_text(content, encoding="utf-8")


def table(schema: Schema) -> Callable[[Path], object]:
    """A table with every column, and two rows."""
    cells: dict[str, list[Any]] = {"text": ["a", "b"], "integer": [8000, 16000], "number": [0.5, -1.25], "flag": [True, False]}
    return lambda path: pd.DataFrame({c.name: cells[c.kind] for c in schema.columns}).to_csv(path, index=False)


def make_journal(path: Path) -> None:
    """Of two mixtures."""
    journal = Journal(path, "identity", ("split", "mixture_id"))
    records = [{"split": "train", "mixture_id": name, "sha256": {"mix": "00"}} for name in ("a", "b")]
    journal.resume()
    journal.append([journal.entry(record) for record in records])


def resume_journal(path: Path) -> None:
    """As an interrupted stage does."""
    journal = Journal(path, "identity", ("split", "mixture_id"))
    if not journal.is_foreign():
        journal.resume()


def make_audio(format_: str) -> Callable[[Path], object]:
    """A tenth of a second of noise."""
    samples = 0.1 * np.random.default_rng(0).standard_normal(800)
    return lambda path: soundfile.write(path, samples, 8000, format=format_)


TINY = Model(
    num_filters=8, filter_length=4, bottleneck_channels=4, skip_channels=4, hidden_channels=4, blocks_per_repeat=1, num_repeats=1
)


def make_model(path: Path) -> None:
    """A small network."""
    save_model(build_model(TINY), path)


def make_archive(format_: str) -> Callable[[Path], object]:
    """With two files."""

    def make(path: Path) -> None:
        names = ("LibriSpeech/a.txt", "LibriSpeech/b/c.txt")
        if format_ == "zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
                for name in names:
                    packed.writestr(name, "content" * 20)
            return
        with tarfile.open(path, f"w:{format_}") as tar:
            for name in names:
                member = tarfile.TarInfo(name)
                member.size = 140
                tar.addfile(member, io.BytesIO(b"content" * 20))

    return make


def unpack_here(path: Path) -> None:
    """Beside the archive."""
    unpack(path, path.with_name("out"), staging=path.with_name("staging"), max_bytes=10**6)


def make_torchaudio(path: Path) -> None:
    """A small network's weights under torchaudio's names."""
    torch.save(torchaudio.models.ConvTasNet(2, 16, 24, 3, 10, 20, 4, 2).state_dict(), path)


def import_weights(path: Path) -> object:
    """As their network."""
    return import_model(path, "torchaudio", given={"blocks_per_repeat": 4})


MERL_ROWS = (
    "wsj0/si_tr_s/01t/01to030v.wav 0.5 wsj0/si_tr_s/20o/20oo010p.wav -0.5\n"
    "wsj0/si_tr_s/20o/20oo010q.wav 1.25 wsj0/si_tr_s/01t/01to030w.wav -1.25\n"
)
LIBRIMIX = (
    "mixture_ID,source_1_path,source_1_gain,source_2_path,source_2_gain,noise_path,noise_gain\n"
    "1-1-1_2-2-2,test-clean/1/1/1-1-1.flac,0.5,test-clean/2/2/2-2-2.flac,1.5,tt/a.wav,0.25\n"
)
SCORE_TABLES = {
    "asteroid": "mix_path,si_sdr,input_si_sdr,sdr,input_sdr\nwav/a_b.wav,10.0,0.5,10.5,0.6\nwav/c_d.wav,11.0,0.1,11.2,0.3\n",
    "speechbrain": "snt_id,sdr,sdr_i,si-snr,si-snr_i\n0,10.0,9.0,9.5,9.25\n1,8.0,7.5,7.5,7.25\navg,9.0,8.25,8.5,8.25\n",
}


def read_published(folder: Path) -> object:
    """Wsj0's lists of the training set."""
    return wsj0mix.read_lists(folder, Wsj0MixPlan(kind="wsj0mix", splits=["train"]))


def make_check(path: Path) -> None:
    """Of a score table."""
    write_check(CrossCheck(2, 1e-12, True, "0.8"), path.with_name("scores.csv"))


def make_state(path: Path) -> None:
    """With a tensor and a number."""
    save_state({"model": {"a": torch.zeros(3)}, "epoch": 2}, path)


def make_shard(path: Path) -> None:
    """Of two signals."""
    signals = [Signal("a", np.ones((3, 40), np.int16)), Signal("b", np.ones((3, 20), np.int16), {"level": 0.5})]
    write_shard(path, signals, sample_rate=8000, dtype="int16")


def make_recipe(path: Path) -> None:
    """A shipped one."""
    path.write_bytes((ROOT / "recipes" / "own-speech.toml").read_bytes())


def read_librimix(path: Path) -> object:
    """The test set's list."""
    plan = LibriMixPlan(kind="librimix", splits=["test"])
    return librimix_lists.read_lists(path.parent, plan, lambda split: ("test-clean",))


def read_as(schema: Schema) -> Callable[[Path], object]:
    """Under a schema."""
    return lambda path: read_table(path, schema)


def scores_of(path: Path) -> object:
    """One table."""
    return read_scores([path])


def utterances_of(path: Path) -> object:
    """A folder of speech whose table this is."""
    for speaker in ("ann", "bob"):
        (path.parent / speaker).mkdir()
        make_audio("WAV")(path.parent / speaker / "a.wav")
    return folder.utterances(FolderCorpus(kind="folder"), path.parent, seed=0, splits=["train"])


def listed_mixtures(path: Path) -> object:
    """Mixtures of one's own, in a list."""
    corpus = MixturesCorpus(kind="mixtures", lists={"train": path.name})
    return find_in_lists(corpus, FinishedPlan(kind="finished", splits=["train"]), path.parent)


def set_by(path: Path) -> object:
    """A recipe changed by what a file holds, as if it were typed."""
    try:
        setting = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        return None
    try:
        return load_recipe(ROOT / "recipes" / "own-speech.toml", [setting])
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from error


JSON_LINES = '{"key": "a", "si_snr": 9.5, "sdr": 10.0}\n{"key": "b", "si_snr": 8.5, "sdr": 9.0}\n'
SPEAKERS = "; comment\n14 | F | train-clean-360 | 25.03 | A name\n"

METADATA = "path,speaker_id,sex,split\nann/a.wav,ann,F,train\nbob/a.wav,bob,M,train\n"
ASTEROID_LIST = "mixture_ID,mixture_path,source_1_path,source_2_path,length\na,mix/a.wav,s1/a.wav,s2/a.wav,800\n"
MUSEVAL = (
    '{"targets": [{"name": "vocals", "frames": [{"time": 0.0, "metrics": {"SDR": 5.0, "SIR": 9.0, "SAR": 6.0, "ISR": 7.0}}]}]}'
)

READERS = (
    Reader("recipe", "recipe.toml", make_recipe, load_recipe),
    *(
        Reader(f"table {schema.name}", "table.csv", table(schema), read_as(schema))
        for schema in (MANIFEST, PLAN, MIXTURES, SCORES, HISTORY)
    ),
    *(Reader(f"scores of {tool}", "scores.csv", text(content), scores_of) for tool, content in SCORE_TABLES.items()),
    Reader("scores in JSON lines", "scores.jsonl", text(JSON_LINES), scores_of),
    Reader("scores of museval", "track.json", text(MUSEVAL), lambda path: read_scores([path.parent])),
    Reader("metadata of a folder", "metadata.csv", text(METADATA), utterances_of),
    Reader("list of mixtures", "train.csv", text(ASTEROID_LIST), listed_mixtures),
    Reader("--set", "settings.txt", text("train.batch_size=4"), set_by),
    Reader("wsj0-mix list", "mix_2_spk_tr.txt", text(MERL_ROWS), lambda path: read_published(path.parent)),
    Reader("active levels", "activlev_tr.txt", text("a 0.001\nb 0.002\n"), lambda path: wsj0mix.read_levels(path.parent)),
    Reader("LibriMix list", "libri2mix_test-clean.csv", text(LIBRIMIX), read_librimix),
    Reader("foreign lists", "mix_2_spk_tr.txt", text(MERL_ROWS), lambda path: list(foreign.read_families(path))),
    Reader("speakers", "SPEAKERS.TXT", text(SPEAKERS), read_speakers),
    Reader("journal", "journal.jsonl", make_journal, lambda path: list(read_records(path))),
    Reader("journal resumed", "journal.jsonl", make_journal, resume_journal),
    Reader("cross-check", "scores.verification.json", make_check, lambda path: read_checks([path.with_name("scores.csv")])),
    *(
        Reader(f"{name} header", f"a.{name}", make_audio(name.upper()), lambda path: read_header(path, check_end=True))
        for name in ("wav", "flac")
    ),
    *(Reader(f"{name} audio", f"a.{name}", make_audio(name.upper()), read_audio) for name in ("wav", "flac", "ogg")),
    Reader("model", "model.safetensors", make_model, load_model),
    Reader("training state", "last.safetensors", make_state, load_state),
    Reader("imported weights", "weights.pt", make_torchaudio, import_weights),
    Reader("shard", "train.shard", make_shard, lambda path: Shard(path).read(0).sum()),
    *(Reader(f"{format_} archive", f"a.{format_}", make_archive(format_), unpack_here) for format_ in ("zip", "gz", "xz", "bz2")),
)
