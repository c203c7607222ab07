"""Reports: every number recomputed from the scores, nothing unescaped, the same bytes twice, small enough to send."""

import base64
import dataclasses
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from pipeline import reports
from pipeline.audio import files
from pipeline.errors import ScoreError
from pipeline.reports import contents as report_contents
from pipeline.reports import grids, listening, onsets, statistics, sums, tabulating, words
from pipeline.reports.writing import strict_json
from tests.report_cases import make_history, make_scores, spoil

EVIL = "<script>alert(1)</script>"


class Page(HTMLParser):
    """The tables of a page by their label, its scripts, its texts and the addresses it asks for."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.scripts: dict[str, str] = {}
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self._label = self._script = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._open.append(tag)
        self.ids += [given["id"]] if given.get("id") else []
        self.addresses += [str(given[name]) for name in ("src", "href", "xlink:href") if name in given]
        if given.get("class") == "scroll":
            self._label = str(given["aria-label"])
            self.tables[self._label] = []
        if tag == "tr" and self._label:
            self.tables[self._label].append([])
        if tag in ("td", "th") and self._label:
            self.tables[self._label][-1].append("")
        if tag == "script":
            self._script = given.get("id") or f"script {len(self.scripts)}"
            self.scripts[self._script] = ""

    def handle_endtag(self, tag: str) -> None:
        self._label = "" if tag == "table" else self._label
        self._script = "" if tag == "script" else self._script
        self._open = self._open[:-1]

    def handle_data(self, text: str) -> None:
        if self._script:
            self.scripts[self._script] += text
        elif self._label and self.tables[self._label] and self.tables[self._label][-1]:
            self.tables[self._label][-1][-1] += text.strip()
        self.text += text


def load_clips(mixture_id: str) -> listening.Clips:
    """Two seconds of noise that depend on the mixture's number alone; the first system swaps its outputs."""
    generator = np.random.default_rng(int(mixture_id[:4]))
    references = generator.normal(0, 0.05, (2, 16000))
    estimates = {
        "noncausal": (references + 0.1 * references[::-1])[::-1],
        "causal": references + 0.3 * references[::-1],
        EVIL: references + 0.5 * references[::-1],
    }
    return listening.Clips(8000, references.sum(axis=0), references, estimates)


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    made = make_scores({"noncausal": 8.0, "causal": 6.5, EVIL: 7.9}, num_mixtures=40)
    made.loc[made["system"] == "noncausal", "estimate"] = 3 - made["estimate"]
    return spoil(made, {0: "silent_estimate", 8: "nan_in_estimate", 14: "length_mismatch(3)"})


def write(scores: pd.DataFrame, out: Path, **changes: object) -> Path:
    arguments: dict[str, object] = {
        "title": f"a {EVIL} title",
        "baseline": "noncausal",
        "histories": {"noncausal": make_history(8.0), EVIL: make_history(7.9)},
        "models": {
            "causal": {"look_ahead_samples": 15, "latency_seconds": 0.002, "causal": True, "causality_deviation": 0.0}
            | {"cpu_real_time_factor": 0.0171, "cpu": "a CPU", "real_time_factor": 0.0002, "device": "a GPU"},
            "noncausal": {"num_parameters": 4984881, "causal": False, "norm": EVIL, "look_ahead_samples": None}
            | {"causality_deviation": 0.0123, "cpu_real_time_factor": 0.021, "real_time_factor": 0.021, "device": "cpu"},
        },
        "published": {"noncausal": {"si_snri_db": 15.3, "sdri_db": None, "source": EVIL}},
        "provenance": {"seed": "0", "command": f"tasnet run {EVIL}", "recipe": f'name = "{EVIL}"\nseed = 0\n'},
        "examples": load_clips,
        "num_examples": 5,
        "oracles": make_scores({"oracle-ratio": 12.2, f"oracle {EVIL}": 13.0}, num_mixtures=40),
        "verification": {"num_rows": 50, "largest_difference_db": 3.21e-10, "permutations_equal": True, "mir_eval": "0.8.2"},
    }
    return reports.write_report(scores, out, **{**arguments, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(scores: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(scores, tmp_path_factory.mktemp("report")).parent


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def gathered(scores: pd.DataFrame, baseline: str = "noncausal") -> report_contents.Contents:
    return report_contents.gather(scores, title="", histories={}, models={}, published={}, baseline=baseline, provenance={})


def brief(function: Callable[[float], str], value: float) -> str:
    return function(float(value))


# --------------------------------------------------------------------------------------------------- numbers recomputed
def test_the_results_are_the_scores(scores: pd.DataFrame, page: Page) -> None:
    for row in page.tables["Results of every system"][1:4]:
        mine = scores[scores["system"] == row[0]]
        whole = mine.groupby("mixture_id").filter(lambda rows: rows["si_snri_db"].notna().all())
        means = whole.groupby("mixture_id")[["si_snri_db", "sdri_db"]].mean()
        assert row[1] in (f"{len(means)} of 40", "40")
        assert float(row[2].replace("−", "-")) == pytest.approx(means["si_snri_db"].mean(), abs=0.0051)
        assert float(row[4].replace("−", "-")) == pytest.approx(means["sdri_db"].mean(), abs=0.0051)
        assert float(row[6].replace("−", "-")) == pytest.approx(means["si_snri_db"].median(), abs=0.0051)
        assert row[7] == words.percent((means["si_snri_db"] < 0).mean())
        assert row[8] == words.percent((means["si_snri_db"] < 5).mean())


def test_the_differences_are_the_scores(scores: pd.DataFrame, page: Page) -> None:
    metrics = {"SI-SNRi": "si_snri_db", "SDRi": "sdri_db"}
    rows = page.tables["Paired differences"][1:] + page.tables["Every other pair"][1:]
    assert [row[0] for row in rows] == ["causal", EVIL] * 2 + [f"{EVIL} − causal"] * 2
    for row in rows:
        system, baseline = row[0].split(" − ") if " − " in row[0] else (row[0], "noncausal")
        means = scores.groupby(["system", "mixture_id"])[metrics[row[1]]].agg(lambda values: values.mean(skipna=False))
        difference = (means[system] - means[baseline]).dropna()
        assert row[2] == str(len(difference))
        assert float(row[3].replace("−", "-")) == pytest.approx(difference.mean(), abs=0.0051)
        assert row[6:9] == [words.percent(s.mean()) for s in (difference > 0.1, difference.abs() <= 0.1, difference < -0.1)]


def test_the_table_of_mixtures_is_the_scores(scores: pd.DataFrame, page: Page) -> None:
    table = json.loads(page.scripts["mixture-rows"])
    names = [column["name"] for column in table["columns"]]
    assert len(table["rows"]) == 40
    for cells in table["rows"]:
        row = dict(zip(names, cells, strict=True))
        mine = scores[scores["mixture_id"] == row["mixture"]]
        assert row["seconds"] == pytest.approx(mine["num_samples"].iloc[0] / 8000)
        for system, rows in mine.groupby("system"):
            expected = rows["si_snri_db"].mean(skipna=False)
            assert row[f"{system} SI-SNRi"] == (None if np.isnan(expected) else pytest.approx(expected, rel=1e-8))


def test_intervals_and_breakdowns_are_those_of_statistics(scores: pd.DataFrame, folder: Path, page: Page) -> None:
    summary = pd.read_csv(folder / "summary.csv")
    expected = statistics.summaries(scores)
    systems = summary[summary["kind"] == "system"].drop(columns="kind")
    pd.testing.assert_frame_equal(systems, expected, rtol=1e-6, check_dtype=False)
    first = summary.iloc[0]
    assert page.tables["Results of every system"][1][3] == words.interval(first["low"], first["high"])
    sexes = statistics.breakdown(scores, "si_snri_db", statistics.sex_pairs(scores))
    found = page.tables["SI-SNRi by sexes"][1:]
    assert [row[0] for row in found] == list(dict.fromkeys(sexes["group"]))
    assert found[0][2] == brief(words.number, sexes["mean"].iloc[0])


def test_published_numbers_are_marked(page: Page) -> None:
    row = page.tables["Results of every system"][-1]
    assert row[:6] == ["noncausal, published", "not rerun", "15.30", "", "–", ""]
    assert f"noncausal: {EVIL}" in page.text


def test_oracles_are_context_and_never_compared(folder: Path, page: Page) -> None:
    oracles = make_scores({"oracle-ratio": 12.2, f"oracle {EVIL}": 13.0}, num_mixtures=40)
    results = page.tables["Results of every system"]
    assert [row[0] for row in results[4:6]] == ["oracle-ratio", f"oracle {EVIL}"]
    means = oracles.groupby(["system", "mixture_id"])["si_snri_db"].mean().groupby("system").mean()
    assert results[4][2] == brief(words.number, means["oracle-ratio"])
    for label, rows in page.tables.items():
        assert label == "Results of every system" or "oracle" not in str(rows)
    assert "oracle" not in (folder / "pairs.csv").read_text(encoding="utf-8") + page.scripts["mixture-rows"]
    assert "are oracles: masks made from" in page.text
    assert set(pd.read_csv(folder / "summary.csv").query("kind == 'oracle'")["system"]) == {"oracle-ratio", f"oracle {EVIL}"}


def test_an_oracle_called_like_a_system_is_refused(scores: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(ScoreError, match="more than once"):
        write(scores, tmp_path, oracles=scores)


def test_the_verification_is_printed(folder: Path, page: Page) -> None:
    sentence = "50 random rows recomputed with mir_eval 0.8.2: largest difference 3.2e−10 dB, every permutation is the same."
    assert sentence in page.text.replace("\u00a0", " ")
    assert "3.2e−10 dB" in (folder / "report.md").read_text(encoding="utf-8")
    assert "recomputed" not in words.verification({})
    assert "not every" in words.verification(
        {"num_rows": 1, "largest_difference_db": 0.0, "permutations_equal": False, "mir_eval": "x"}
    )


def test_what_is_left_out_is_listed(page: Page) -> None:
    statuses = {(row[0], row[1]): row[2:] for row in page.tables["Rows by status"][1:]}
    assert statuses["noncausal", "silent_estimate"] == ["1", "1", "no"]
    assert len(statuses) == 3
    assert "3 mixtures of 40 lack a value" in page.text


def test_the_costs_are_those_of_the_models(scores: pd.DataFrame, page: Page) -> None:
    costs = {row[0]: row[1:] for row in page.tables["Cost and delay"]}
    assert costs["parameters"] == ["4.98 M", "–", "–"]
    assert costs["look-ahead, samples"] == ["whole signal", "15", "–"]
    assert costs["look-ahead"] == ["whole signal", "1.9 ms", "–"]
    assert costs["algorithmic delay"] == ["–", "2.0 ms", "–"]
    assert costs["deviation before the look-ahead"] == ["1.2e−02", "0", "–"]
    assert costs["real-time factor, CPU"] == ["0.021", "0.017", "–"]
    assert costs["separated on"] == ["cpu", "a GPU", "–"]
    assert costs["the CPU"] == ["–", "a CPU", "–"]


def test_without_a_stated_factor_real_time_comes_from_the_scores(scores: pd.DataFrame, page: Page) -> None:
    factors = next(row for row in page.tables["Cost and delay"] if row[0] == "real-time factor")
    mine = scores[scores["system"] == EVIL].drop_duplicates("mixture_id")
    expected = mine["seconds"].sum() / (mine["num_samples"] / 8000).sum()
    assert factors[1:] == ["–", "0.0002", f"{expected:.2g}"]


# ----------------------------------------------------------------------------------------------------- safe and portable
def test_a_name_that_is_markup_does_nothing(folder: Path, page: Page) -> None:
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert EVIL not in html
    markdown = (folder / "report.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in markdown if EVIL in line] == [f'    name = "{EVIL}"']  # an indented block shows text as it is
    assert list(page.scripts) == ["mixture-rows", "script 1"]
    assert EVIL in page.text


def test_the_page_asks_for_nothing(page: Page) -> None:
    assert page.addresses
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    assert len(page.ids) == len(set(page.ids))


def test_the_same_arguments_give_the_same_bytes(scores: pd.DataFrame, folder: Path, tmp_path: Path) -> None:
    write(scores, tmp_path)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert {str(file) for file in files} > {"report.html", "report.md", "summary.csv", "pairs.csv", "summary.json", "summary.tex"}
    assert files == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    for file in files:
        assert (folder / file).read_bytes() == (tmp_path / file).read_bytes(), file


def test_json_is_strict(folder: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    read = json.loads((folder / "summary.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert read["systems"] == ["noncausal", "causal", EVIL]
    assert read["published"]["noncausal"]["sdri_db"] is None
    assert len(read["summaries"]) == 12
    assert [row["seconds"] for row in read["over_time"][:4]] == [0.25, 0.75, 1.25, 1.75]


def test_strict_json_turns_what_is_not_finite_into_null() -> None:
    value = {"a": [np.float64("nan"), np.inf, 1.5], "b": np.int64(3), "c": np.bool_(True), "d": (None, "x")}
    assert json.loads(strict_json(value)) == {"a": [None, None, 1.5], "b": 3, "c": True, "d": [None, "x"]}


def test_long_examples_are_cut_before_any_is_left_out(scores: pd.DataFrame, tmp_path: Path) -> None:
    """Full-band noise, the worst case for FLAC, eighteen seconds of it; then more examples than three seconds each leave room."""
    noise = np.random.default_rng(1).normal(0, 0.1, 18 * 8000)
    clips = listening.Clips(8000, noise, np.stack([noise, -noise]), {"causal": np.stack([noise, noise])})
    contents = gathered(scores)
    cut = listening.make_examples(contents, lambda _: clips, 5, max_bytes=4_000_000)
    assert cut.num_left_out == 0
    assert cut.cut_to_seconds is not None
    assert {example.seconds for example in cut.shown} == {cut.cut_to_seconds}
    assert 3.6e6 < sum(example.num_bytes for example in cut.shown) <= 4e6
    few = listening.make_examples(contents, lambda _: clips, 5, max_bytes=1_000_000)
    assert (len(few.shown), few.num_left_out, few.cut_to_seconds) == (2, 3, 3.0)
    path = write(scores.head(48), tmp_path, examples=lambda _: clips, num_examples=12)
    assert path.stat().st_size < 10_000_000
    assert re.search(r"Longer clips are cut to \d\.?\d* s\.", path.read_text(encoding="utf-8"))


def test_one_system_and_nothing_else_make_a_report(tmp_path: Path) -> None:
    scores = make_scores({"alone": 5.0}, num_mixtures=6).drop(columns=["speaker_id", "sex", "seconds"])
    path = reports.write_report(scores, tmp_path, title="plain")
    page = Page(path.read_text(encoding="utf-8"))
    assert "Paired differences" not in page.tables
    assert "alone improves SI-SNR by" in page.text
    assert (tmp_path / "pairs.csv").read_text(encoding="utf-8").startswith("system,baseline")


def test_a_report_of_failures_says_so(tmp_path: Path) -> None:
    scores = make_scores(num_mixtures=5)
    path = write(spoil(scores, dict.fromkeys(range(len(scores)), "silent_estimate")), tmp_path, histories={}, published={})
    page = Page(path.read_text(encoding="utf-8"))
    assert "No mixture could be scored." in page.text
    assert page.tables["Results of every system"][1][1:] == ["0 of 5", *["–"] * 7]
    assert not re.search(r"\bnan\b", page.text, re.IGNORECASE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda scores: scores.iloc[:0], "no scores"),
        (lambda scores: pd.concat([scores, scores.head(1)]), "more than once"),
    ],
)
def test_scores_that_cannot_be_reported_are_refused(
    scores: pd.DataFrame, tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], message: str
) -> None:
    with pytest.raises(ScoreError, match=message):
        write(change(scores), tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_unknown_baseline_is_refused(scores: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(ScoreError, match="called 'other'; there are noncausal, causal"):
        write(scores, tmp_path, baseline="other")


# -------------------------------------------------------------------------------------------------------------- examples
def test_examples_are_chosen_by_rule() -> None:
    means = pd.DataFrame({"a": [5.0, 1.0, 3.0, 9.0, 4.0, np.nan], "b": [5.0, 0.0, 8.0, 9.0, 4.0, 99.0]}, index=list("uvwxyz"))
    chosen = listening.choose_examples(means, 5)
    assert chosen[:4] == [("Best", "x"), ("Median", "u"), ("Worst", "v"), ("Largest disagreement", "w")]
    assert chosen[4] == ("Random", "y")
    assert listening.choose_examples(means, 99) == chosen
    assert listening.choose_examples(means, 2) == chosen[:2]
    assert listening.choose_examples(means.iloc[:0], 5) == []


def test_clips_share_one_gain_and_follow_the_permutation(scores: pd.DataFrame) -> None:
    contents = gathered(scores)
    made = listening.make_examples(contents, load_clips, 1, max_bytes=10**7)
    examples = made.shown
    assert (made.num_left_out, made.cut_to_seconds) == (0, None)
    clips = load_clips(examples[0].mixture_id)
    rows = [[decode(clip.flac) for clip in row.clips] for row in examples[0].rows]
    assert [clip.label for clip in examples[0].rows[1].clips] == ["Reference", "noncausal", "causal", EVIL]
    assert [clip.series for clip in examples[0].rows[1].clips] == [0, 1, 2, 3]
    gain = rows[0][0] @ clips.mixture / (clips.mixture @ clips.mixture)
    np.testing.assert_allclose(rows[1][0], gain * clips.references[0], atol=1e-4)
    np.testing.assert_allclose(rows[1][1], gain * clips.estimates["noncausal"][1], atol=1e-4)  # swapped by the scores
    np.testing.assert_allclose(rows[2][2], gain * clips.estimates["causal"][1], atol=1e-4)
    assert max(np.abs(samples).max() for row in rows for samples in row) == pytest.approx(listening.PEAK, abs=1e-3)


def decode(flac: str) -> np.ndarray:
    samples, sample_rate = soundfile.read(io.BytesIO(base64.b64decode(flac)))
    assert sample_rate == 8000
    return np.asarray(samples)


def test_clips_are_read_from_a_dataset(tmp_path: Path) -> None:
    clips = load_clips("0003")
    folders = {"data": tmp_path / "data", "causal": tmp_path / "causal"}
    for name, samples in (("mix", clips.mixture), ("s1", clips.references[0]), ("s2", clips.references[1])):
        files.write_audio(folders["data"] / name / "0003.wav", samples, 8000, "float32")
    for name, samples in zip(("s1", "s2"), clips.estimates["causal"], strict=True):
        files.write_audio(folders["causal"] / name / "0003.wav", samples, 8000, "float32")
    mixtures = pd.DataFrame(
        {"mixture_id": ["0003"], "num_sources": [2], "mixture_path": ["mix/0003.wav"]}
        | {"source_1_path": ["s1/0003.wav"], "source_2_path": ["s2/0003.wav"]}
    )
    found = reports.clip_loader(folders["data"], mixtures, {"causal": folders["causal"]})("0003")
    np.testing.assert_allclose(found.mixture, clips.mixture, atol=1e-7)
    np.testing.assert_allclose(found.references, clips.references, atol=1e-7)
    np.testing.assert_allclose(found.estimates["causal"], clips.estimates["causal"], atol=1e-7)


def test_frame_si_snr_knows_the_noise() -> None:
    generator = np.random.default_rng(2)
    reference, noise = generator.normal(0, 1, (2, 40000))
    noise[20000:] *= 0.1
    reference[36000:] = 0
    found = onsets.frame_si_snr_db(3 * (reference + noise), reference, 4000)
    np.testing.assert_allclose(found[:5], 0, atol=0.6)
    np.testing.assert_allclose(found[5:9], 20, atol=0.6)
    assert np.isnan(found[9])


def test_mixtures_are_compared_with_the_sum_of_their_sources(scores: pd.DataFrame) -> None:
    contents = gathered(scores)
    odd = str(contents.means.dropna().index[3])

    def spoiled(mixture_id: str, *, noise: float = 0.0) -> listening.Clips:
        clips = load_clips(mixture_id)
        wrong = clips.references[0] if mixture_id == odd else 0.0
        mixture = clips.mixture + noise * np.random.default_rng(0).normal(0, 0.05, 16000) + wrong
        return dataclasses.replace(clips, mixture=mixture)

    assert sums.residual_db(spoiled(odd)) == pytest.approx(10 * np.log10(1 / 5), abs=0.2)  # s1 of 2 s1 + s2
    exact = sums.check_sums(contents, load_clips)
    assert exact.sentence == "37 of 40 mixtures compared with the sum of their sources: equal to the last bit."
    assert exact.findings.empty
    found = sums.check_sums(contents, spoiled)
    assert found.findings[["finding", "mixture_id"]].to_numpy().tolist() == [["not a sum", odd]]
    noisy = sums.check_sums(contents, lambda name: spoiled(name, noise=1.0))
    assert "−5 dB of the median mixture is something else, such as noise" in noisy.sentence
    assert noisy.findings.empty
    assert sums.check_sums(contents, None).sentence == ""


def test_improvement_over_time_keeps_the_order_of_systems(scores: pd.DataFrame) -> None:
    contents = report_contents.gather(scores, title="", histories={}, models={}, published={}, baseline="causal", provenance={})
    table = onsets.improvement_over_time(contents, load_clips)
    assert list(dict.fromkeys(table["system"])) == ["causal", "noncausal", EVIL]
    assert table[table["system"] == "causal"]["seconds"].tolist() == [0.25, 0.75, 1.25, 1.75]
    assert table[table["system"] == "causal"]["value"].mean() == pytest.approx(-20 * np.log10(0.3), abs=0.5)


# --------------------------------------------------------------------------------------------------------- terminal, gate
def test_the_comparison_fits_a_terminal() -> None:
    scores = make_scores(num_mixtures=40)
    text = reports.format_comparison(scores, published={"noncausal": {"si_snri_db": 15.3, "sdri_db": 15.6, "source": "x"}})
    assert max(map(len, text.splitlines())) <= 100
    assert re.search(r"^noncausal +40 +\d\.\d\d +\[", text, re.MULTILINE)
    assert "causal is worse than noncausal: −1." in text
    assert "not rerun" in text


def shifted(scores: pd.DataFrame, shift_db: float, noise_db: float = 0.3) -> pd.DataFrame:
    noise = np.random.default_rng(9).normal(0, noise_db, len(scores))
    return scores.assign(si_snri_db=scores["si_snri_db"] + shift_db + noise)


def test_the_gate_trips_only_beyond_chance() -> None:
    scores = make_scores({"causal": 6.0}, num_mixtures=60)
    assert reports.gate(scores, shifted(scores, -0.5), "si_snri_db < -0.1").tripped
    assert not reports.gate(scores, shifted(scores, -0.12), "si_snri_db < -0.1").tripped
    assert not reports.gate(scores, shifted(scores, -0.5, noise_db=6.0), "si_snri_db < -0.1").tripped
    assert not reports.gate(scores, shifted(scores, 2.0), "si_snri_db < -0.1").tripped
    assert reports.gate(scores, shifted(scores, 2.0), "si_snri_db > 1").tripped


def test_the_gate_speaks_of_b_minus_a() -> None:
    scores = make_scores({"causal": 6.0}, num_mixtures=60)
    verdict = reports.gate(scores, shifted(scores, -0.5, noise_db=0.0), "si_snri_db < -0.1 dB")
    assert verdict.text.startswith("causal: si_snri_db B − A −0.50 dB, 95 % interval [−0.50, −0.50], 60 mixtures")
    assert verdict.text.endswith("holds")


def test_the_gate_compares_systems_by_name_or_the_only_ones() -> None:
    two = make_scores(num_mixtures=30)
    worse = shifted(two, 0.0).assign(si_snri_db=lambda t: t["si_snri_db"] - (t["system"] == "causal"))
    verdict = reports.gate(two, worse, "si_snri_db < -0.1")
    assert verdict.differences["system"].tolist() == ["noncausal", "causal"]
    assert verdict.tripped
    renamed = two[two["system"] == "causal"].assign(system="new")
    assert reports.gate(two[two["system"] == "causal"], renamed, "si_snri_db < 0").differences["n"].tolist() == [30]


@pytest.mark.parametrize("condition", ["", "si_snri < -0.1", "si_snri_db <= 0", "si_snri_db < low", "__import__('os') < 1"])
def test_a_condition_that_is_none_is_refused(condition: str) -> None:
    scores = make_scores(num_mixtures=4)
    with pytest.raises(ScoreError, match="write a metric"):
        reports.gate(scores, scores, condition)


def test_tables_without_a_common_system_or_mixture_are_refused() -> None:
    two = make_scores(num_mixtures=4)
    with pytest.raises(ScoreError, match="no system is in both"):
        reports.gate(two, two.assign(system=two["system"] + "2"), "si_snri_db < 0")
    one = two[two["system"] == "causal"]
    with pytest.raises(ScoreError, match="no valid mixture in common"):
        reports.gate(one, one.assign(mixture_id=one["mixture_id"] + "x"), "si_snri_db < 0")


def test_compare_shows_both_and_the_gate() -> None:
    scores = make_scores({"causal": 6.0}, num_mixtures=30)
    text, tripped = reports.compare(scores, shifted(scores, -1.0), fail_if="si_snri_db < -0.1")
    assert tripped
    assert "causal (A)" in text
    assert "causal (B) is worse than causal (A)" in text
    assert not reports.compare(scores, scores)[1]


# ----------------------------------------------------------------------------------------------------------------- words
@pytest.mark.parametrize(
    ("value", "expected"), [(1.234, "1.23"), (-0.5, "−0.50"), (-0.001, "0.00"), (np.nan, "–"), (None, "–"), (np.inf, "–")]
)
def test_numbers(value: float | None, expected: str) -> None:
    assert words.number(value) == expected


@pytest.mark.parametrize(("value", "expected"), [(1.0, "+1.00"), (-1.0, "−1.00"), (0.0, "0.00"), (-0.001, "0.00")])
def test_signed_numbers(value: float, expected: str) -> None:
    assert words.signed(value) == expected


@pytest.mark.parametrize(("share", "expected"), [(0, "0 %"), (0.004, "0.4 %"), (0.5, "50 %"), (1, "100 %"), (np.nan, "–")])
def test_percentages(share: float, expected: str) -> None:
    assert words.percent(share) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.2, 0.5, "better"),
        (-0.5, -0.2, "worse"),
        (-0.5, 0.2, "open"),
        (-0.05, 0.08, "equal"),
        (0.02, 0.09, "equal"),
        (np.nan, np.nan, "open"),
    ],
)
def test_verdicts(low: float, high: float, expected: str) -> None:
    assert words.verdict({"low": low, "high": high}) == expected


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ({"a": 8.0}, r"a improves SI-SNR by \d\.\d\d dB on average \(95 % interval .*\)\."),
        ({"a": 8.0, "b": 5.0}, r"a improves SI-SNR by \d\.\d\d dB, \d\.\d\d dB more than b\."),
        ({"a": 8.0, "b": 8.0}, r"[ab] improves SI-SNR by .* dB; [ab] cannot be told apart from it \(difference 0\.\d\d dB\)\."),
        ({"a": -8.0}, r"a worsens SI-SNR by \d\.\d\d dB on average .*"),
    ],
)
def test_headlines(levels: dict[str, float], expected: str) -> None:
    assert re.fullmatch(expected, gathered(make_scores(levels, num_mixtures=40), "a").headline)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, "0 seconds"), (119, "119 seconds"), (600, "10 minutes"), (36000, "10 hours")]
)
def test_durations(seconds: float, expected: str) -> None:
    assert words.duration(seconds) == expected


def test_a_long_list_of_findings_is_cut() -> None:
    scores = make_scores(num_mixtures=60)
    scores = scores[(scores["system"] == "noncausal") | (scores["mixture_id"] < "0010")]
    grid = tabulating.health_grid(gathered(scores).health)
    assert len(grid.rows) == 31
    assert grid.rows[-1] == ("…", "–", "20 more in summary.json")


@pytest.mark.parametrize(("value", "expected"), [(4984881, "4.98 M"), (3.1e9, "3.1 G"), (65664, "65.7 k"), (12, "12")])
def test_large_numbers(value: float, expected: str) -> None:
    assert words.large(value) == expected


def test_cells_survive_markdown_and_latex() -> None:
    grid = grids.Grid(("a_b", "%"), (("<x> | y", "−1 & {2}"),))
    assert grids.as_markdown(grid).splitlines()[2] == r"| &lt;x&gt; \| y | −1 &amp; {2} |"
    assert r"$<$x$>$ | y & $-$1 \& \{2\} \\" in grids.as_latex(grid)
    assert r"{}[a] & b \\" in grids.as_latex(grids.Grid(("x", "y"), (("[a]", "b"),)))
    assert grids.as_text(grid).splitlines() == ["a_b             %", "<x> | y  −1 & {2}"]


def test_without_mixtures_the_plain_metrics_come_first() -> None:
    columns = ["si_snri_db", "sdri_db", "input_si_snr_db", "input_sdr_db"]
    contents = gathered(make_scores(num_mixtures=8).assign(**dict.fromkeys(columns, np.nan)))
    results = tabulating.results_grid(contents)
    assert results.headings[2] == "SI-SNR, dB"
    assert results.rows[0][2] == words.number(statistics.mixture_means(contents.scores, "si_snr_db")["noncausal"].mean())
    assert contents.headline.startswith("noncausal reaches an SI-SNR of")


def test_metrics_on_request_are_summarised() -> None:
    scores = make_scores(num_mixtures=8).assign(pesq=2.5)
    spread = tabulating.spread_grid(gathered(scores))
    assert ("noncausal", "PESQ", "8", "2.50", "0.00") in [row[:5] for row in spread.rows]
    assert reports.gate(scores, scores.assign(pesq=2.0), "pesq < -0.2").tripped
