"""The folder manifests/: its README says what the schemas say, and the demo's tables are what the code makes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline import tables
from pipeline.audio.headers import read_header
from pipeline.corpora import changed_files, synthetic
from pipeline.corpora.fetching import load_sources
from pipeline.corpora.folder import METADATA_TABLE
from pipeline.mixtures.plans.drawn import draw_plan
from pipeline.mixtures.rendering import FILES
from pipeline.recipe.reading import load_recipe
from pipeline.recipe.schema import RandomPlan, SyntheticCorpus
from pipeline.scoring.mixture import STATUSES
from pipeline.separation.offline import TIMING

MANIFESTS = Path(__file__).parents[1] / "manifests"
README = (MANIFESTS / "README.md").read_text(encoding="utf-8")
SCHEMAS = {f"`{s.name}.csv`": s for s in (tables.MANIFEST, tables.PLAN, tables.MIXTURES, tables.SCORES, tables.HISTORY)}
SCHEMAS |= {"`files.csv`": FILES, "`timing.csv`": TIMING}
SCHEMAS["What a corpus may bring: `metadata.csv`"] = METADATA_TABLE


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, flags=re.MULTILINE | re.DOTALL)
    assert found, f"manifests/README.md has no section {title!r}"
    return found.group(1)


@pytest.mark.parametrize("title", SCHEMAS)
def test_every_column_is_described_as_in_its_schema(title: str) -> None:
    expected = [
        f"| `{column.name}` | {column.kind}{', may be absent' * column.optional} | {column.meaning} |"
        for column in SCHEMAS[title].columns
    ]
    described = [line for line in section(title).splitlines() if line.startswith("| `") and "source_k_" not in line]
    assert described == expected


def test_every_status_is_described() -> None:
    cells = [line.split("|")[1] for line in section("The statuses of `scores.csv`").splitlines() if line.startswith("| `")]
    described = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell) if name != "status"]
    assert described == list(STATUSES)


def test_every_schema_is_described() -> None:
    schemas = {value.name for value in vars(tables).values() if isinstance(value, tables.Schema)}
    assert schemas <= {schema.name for schema in SCHEMAS.values()}


def test_fetch_names_in_the_text_exist() -> None:
    assert set(re.findall(r"`tasnet fetch ([^`]+)`", README)) <= set(load_sources())


def test_the_demo_manifest_is_what_scanning_makes(tmp_path: Path) -> None:
    """Of a few speakers: all of them would take a while."""
    pytest.importorskip("espeakng_loader", reason="the extra `demo` is not installed: no synthetic voices")
    recipe = load_recipe(MANIFESTS.parent / "recipes" / "demo.toml")
    corpus = recipe.corpus
    assert isinstance(corpus, SyntheticCorpus)
    speakers = synthetic.cast_speakers(corpus, recipe.seed)
    committed = tables.read_table(MANIFESTS / "manifest.csv", tables.MANIFEST)
    assert set(committed["speaker_id"]) == {speaker.speaker_id for speaker in speakers}
    for speaker in speakers[::13]:
        synthetic._record_speaker(tmp_path, recipe.seed, corpus.utterances_per_speaker, speaker)
        expected = committed[committed["speaker_id"] == speaker.speaker_id]
        headers = [read_header(tmp_path / path) for path in expected["path"]]
        assert [header.num_samples for header in headers] == list(expected["num_samples"])
        assert not changed_files(expected, tmp_path, num_workers=1)
        assert set(expected["split"]) == {speaker.split}
        assert len(list((tmp_path / speaker.speaker_id).iterdir())) == len(expected)


def test_the_demo_plan_is_what_planning_makes(tmp_path: Path) -> None:
    recipe = load_recipe(MANIFESTS.parent / "recipes" / "demo.toml")
    assert isinstance(recipe.plan, RandomPlan)
    manifest = tables.read_table(MANIFESTS / "manifest.csv", tables.MANIFEST)
    tables.write_table(draw_plan(manifest, recipe.plan, seed=recipe.seed), tmp_path / "plan.csv", tables.PLAN)
    assert (tmp_path / "plan.csv").read_bytes() == (MANIFESTS / "plan.csv").read_bytes()
