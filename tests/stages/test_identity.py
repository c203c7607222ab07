"""A dataset is of one corpus: other audio under the same names and of the same length is never taken for what was rendered."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import soundfile

from pipeline.audio.resampling import at_speed
from pipeline.compute.options import Options
from pipeline.corpora import synthetic
from pipeline.corpora.manifests import Utterance
from pipeline.errors import CorpusError
from pipeline.mixtures import rendering
from pipeline.recipe.reading import parse_recipe
from pipeline.recipe.schema import Recipe
from pipeline.stages import data, graph, runner
from pipeline.tables import MANIFEST, PLAN, read_table
from tests.voices import voice, write_voices

DRAWN: dict[str, Any] = {"kind": "random", "num_mixtures": {"train": 4, "valid": 2, "test": 2}, "min_seconds": 0.5}
SUBSETS = {"train": "train-clean-100", "valid": "dev-clean", "test": "test-clean"}


def recipe(corpus: dict[str, Any], plan: dict[str, Any], **mix: Any) -> Recipe:
    dynamic = {"train": {"mixing": "dynamic"}}
    return parse_recipe({"name": "x", "corpus": corpus, "plan": plan, "mix": mix, "systems": {"a": {}, "b": dynamic}})


def drawn(tmp_path: Path) -> tuple[Recipe, Options]:
    """Mixtures drawn of a folder of voices."""
    speech = write_voices(tmp_path / "speech", takes=1)
    return recipe({"kind": "folder"}, DRAWN), Options(
        work=tmp_path / "work", named_corpora={"folder": speech}, num_workers=1, device="cpu"
    )


def published_wsj0(tmp_path: Path) -> tuple[Recipe, Options]:
    """A mixture for each split from MERL's lists; a file that they do not name lies beside theirs."""
    write_voices(tmp_path / "speech" / "si_tr_s", speakers=7, takes=1)
    (tmp_path / "lists").mkdir()
    for number, split in enumerate(("tr", "cv", "tt")):
        first, second = (f"wsj0/si_tr_s/spk{speaker:02d}/{speaker:02d}-0.wav" for speaker in (2 * number, 2 * number + 1))
        (tmp_path / "lists" / f"mix_2_spk_{split}.txt").write_text(f"{first} 1.5 {second} -1.5 \n")
    named = {"wsj0": tmp_path / "speech", "wsj0mix": tmp_path / "lists"}
    return recipe({"kind": "wsj0"}, {"kind": "wsj0mix"}), Options(
        work=tmp_path / "work", named_corpora=named, num_workers=1, device="cpu"
    )


def published_librimix(tmp_path: Path) -> tuple[Recipe, Options]:
    """A noisy mixture for each split from LibriMix's lists."""
    write_voices(tmp_path / "noise" / "tr", speakers=3, takes=1)
    (tmp_path / "lists").mkdir()
    for number, subset in enumerate(SUBSETS.values()):
        write_voices(tmp_path / "speech" / subset, speakers=2, takes=1)
        gains = (f"{subset}/spk00/00-0.flac,1.0", f"{subset}/spk01/01-0.flac,0.5", f"tr/spk{number:02d}/{number:02d}-0.flac,0.1")
        columns = [f"{name}_{what}" for name in ("source_1", "source_2", "noise") for what in ("path", "gain")]
        (tmp_path / "lists" / f"libri2mix_{subset}.csv").write_text(
            f"mixture_ID,{','.join(columns)}\nm{number},{','.join(gains)}\n"
        )
    named = {"librispeech": tmp_path / "speech", "wham_noise": tmp_path / "noise", "librimix": tmp_path / "lists"}
    given = Options(work=tmp_path / "work", named_corpora=named, num_workers=1, device="cpu")
    return recipe({"kind": "librispeech", "subsets": SUBSETS}, {"kind": "librimix"}, types=["mix_both"]), given


KINDS = [drawn, published_wsj0, published_librimix]


def stages_of(given: Recipe, options: Options) -> dict[str, runner.Stage]:
    return {stage.id: stage for stage in graph.build_stages(given, options)}


def run(stages: dict[str, runner.Stage], names: Sequence[str], work: Path) -> None:
    for name in names:
        if name in stages:
            runner.run_stage(stages[name], work)


def planned_file(stages: dict[str, runner.Stage], work: Path, speech: Path) -> Path:
    """The first source of the plan's first mixture."""
    manifest = read_table(stages["scan" if "scan" in stages else "plan"].folder(work) / "manifest.csv", MANIFEST)
    plan = read_table(stages["plan"].folder(work) / "plan.csv", PLAN)
    return speech / str(manifest.set_index("utterance_id").loc[plan["utterance_id"][0], "path"])


def say_something_else(path: Path) -> None:
    """Other audio of the same name, rate and length."""
    length, rate = soundfile.info(path).frames, soundfile.info(path).samplerate
    soundfile.write(path, voice(20, 7, seconds=length / rate, sample_rate=rate), rate)
    assert soundfile.info(path).frames == length


@pytest.mark.parametrize("kind", KINDS)
def test_other_audio_of_the_same_names_and_lengths_is_another_dataset(kind: Any, tmp_path: Path) -> None:
    given, options = kind(tmp_path)
    run(stages_of(given, options), ["scan", "plan", "mix"], options.work)
    before = stages_of(given, options)
    assert runner.is_done(before["mix"], options.work)
    for path in sorted((tmp_path / "speech").rglob("*.flac")):
        say_something_else(path)
    after = stages_of(given, options)
    assert not runner.is_done(after["mix"], options.work)
    reasons = [reason for found in runner.status(list(after.values()), options.work) for reason in found.reasons]
    assert any(reason.startswith("listing") for reason in reasons)
    run(after, ["scan", "plan", "mix"], options.work)
    mixtures = [sorted(stages["mix"].folder(options.work).rglob("*mix*/*.wav")) for stages in (before, after)]
    assert len(mixtures[0]) == len(mixtures[1]) > 0
    assert all(old.read_bytes() != new.read_bytes() for old, new in zip(*mixtures, strict=True))


def test_files_that_lists_do_not_name_make_no_difference(tmp_path: Path) -> None:
    given, options = published_wsj0(tmp_path)
    before = stages_of(given, options)["mix"].fingerprint
    say_something_else(tmp_path / "speech" / "si_tr_s" / "spk06" / "06-0.flac")
    assert stages_of(given, options)["mix"].fingerprint == before


def test_other_noise_is_another_dataset(tmp_path: Path) -> None:
    given, options = published_librimix(tmp_path)
    before = stages_of(given, options)["mix"].fingerprint
    say_something_else(tmp_path / "noise" / "tr" / "spk00" / "00-0.flac")
    assert stages_of(given, options)["mix"].fingerprint != before


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_generation_refuses_inputs_that_changed(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, options = kind(tmp_path)
    stages = stages_of(given, options)
    run(stages, ["scan", "plan"], options.work)
    write = rendering.write_file
    written: list[Any] = []

    def interrupted(*arguments: Any) -> Any:
        if len(written) == 4:
            raise KeyboardInterrupt
        written.append(write(*arguments))
        return written[-1]

    monkeypatch.setattr(rendering, "write_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(stages, ["mix"], options.work)
    monkeypatch.undo()
    path = planned_file(stages, options.work, tmp_path / "speech")
    kept = path.read_bytes()
    say_something_else(path)
    with pytest.raises(CorpusError) as raised:
        run(stages, ["mix"], options.work)
    (line,) = str(raised.value).splitlines()
    assert line.startswith(f"{tmp_path / 'speech'}: 1 of ")
    assert f"({path.relative_to(tmp_path / 'speech')})" in line
    assert not runner.is_done(stages["mix"], options.work)
    path.write_bytes(kept)
    run(stages, ["mix"], options.work)
    assert runner.is_done(stages["mix"], options.work)


@pytest.mark.parametrize(
    ("stage", "changed"),
    [
        ("pack:valid", "speech/dev-clean/spk00/00-0.flac"),
        ("pack:valid", "noise/tr/spk01/01-0.flac"),
        ("pack:utterances", "speech/train-clean-100/spk01/01-0.flac"),
        ("pack:noise", "noise/tr/spk00/00-0.flac"),
    ],
)
def test_packing_refuses_inputs_that_changed(stage: str, changed: str, tmp_path: Path) -> None:
    given, options = published_librimix(tmp_path)
    stages = stages_of(given, options)
    run(stages, ["plan"], options.work)
    say_something_else(tmp_path / changed)
    with pytest.raises(CorpusError, match=changed.partition("/")[2]):
        run(stages, [stage], options.work)


def test_generated_speech_that_changed_is_generated_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its stage is done, so that running the command again would find the same."""
    monkeypatch.setattr(synthetic, "generate", lambda corpus, folder, **settings: write_voices(folder, takes=1))
    monkeypatch.setattr(synthetic, "utterances", lambda corpus, root, **settings: voices(root))
    given, options = recipe({"kind": "synthetic"}, DRAWN), Options(work=tmp_path / "work", num_workers=1, device="cpu")
    stages = stages_of(given, options)
    run(stages, ["corpus", "scan", "plan"], options.work)
    speech = stages["corpus"].folder(options.work) / "speech"
    for path in speech.rglob("*.flac"):
        say_something_else(path)
    with pytest.raises(CorpusError, match="--force corpus"):
        run(stages, ["mix"], options.work)


def voices(root: Path) -> list[Utterance]:
    """What ``write_voices`` has written, in splits."""
    splits = ["train"] * 5 + ["valid"] * 2 + ["test"] * 2
    return [Utterance(f"{k:02d}-0", f"spk{k:02d}", "", splits[k], f"spk{k:02d}/{k:02d}-0.flac") for k in range(9)]


def test_mixtures_of_published_lists_are_left_out_with_their_files(tmp_path: Path) -> None:
    given, options = published_librimix(tmp_path)
    skipping = given.model_copy(update={"corpus": given.corpus.model_copy(update={"skip": ["dev-clean/spk01/01-0.flac"]})})
    plan, manifest = data.plan_in_memory(skipping, options)
    assert set(plan["mixture_id"]) == {"m0", "m2"}
    assert "dev-clean/spk01/01-0.flac" not in set(manifest["path"])
    soundfile.write(tmp_path / "speech" / "dev-clean" / "spk00" / "00-0.flac", [0.0] * 8000, 16000)
    silent = given.model_copy(update={"corpus": given.corpus.model_copy(update={"skip": "silent"})})
    assert set(data.plan_in_memory(silent, options)[0]["mixture_id"]) == {"m0", "m2"}


@pytest.mark.parametrize("mode", ["min", "max"])
def test_noise_at_another_speed_is_made_as_the_published_script_writes_it(mode: str, tmp_path: Path) -> None:
    """Where its files are in the corpus they are used; where they are not, the same samples are made of the clips."""
    given, options = published_librimix(tmp_path)
    given = given.model_copy(update={"mix": given.mix.model_copy(update={"mode": mode})})
    marks = {"train-clean-100": "sp08", "test-clean": "sp12"}
    for number, (subset, mark) in enumerate(marks.items()):
        path = tmp_path / "lists" / f"libri2mix_{subset}.csv"
        name = f"tr/spk{2 * number:02d}/{2 * number:02d}-0"
        path.write_text(path.read_text().replace(f"{name}.flac", f"{name}{mark}.wav"))
    made = samples_of_mixtures(given, options)
    for clip, mark, speed in (("spk00/00-0", "sp08", 0.8), ("spk02/02-0", "sp12", 1.2)):
        samples, rate = soundfile.read(tmp_path / "noise" / "tr" / f"{clip}.flac")
        soundfile.write(tmp_path / "noise" / "tr" / f"{clip}{mark}.wav", at_speed(samples, speed), rate)
    assert made == samples_of_mixtures(given, options)
    assert len(made) == 3


def samples_of_mixtures(given: Recipe, options: Options) -> dict[str, bytes]:
    stages = stages_of(given, options)
    run(stages, ["plan", "mix"], options.work)
    folder = stages["mix"].folder(options.work)
    return {path.name: path.read_bytes() for path in folder.rglob("mix_both/*.wav")}
