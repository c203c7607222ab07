"""The report's page in a real browser: players, table, both widths and colour schemes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import reports
from tests.browser import Browser
from tests.report_cases import make_history, make_scores

EVIL = "<script>alert(1)</script>"
IMAGE = '"><img src=x onerror=alert(2)>'

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_pdfs")]


def load_clips(mixture_id: str) -> reports.Clips:
    references = np.random.default_rng(int(mixture_id[:4])).normal(0, 0.05, (2, 24000))
    return reports.Clips(
        8000, references.sum(axis=0), references, {"noncausal": references, EVIL: references[::-1], IMAGE: references}
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scores = make_scores({"noncausal": 8.0, EVIL: 6.5, IMAGE: 6.0}, num_mixtures=40)
    scores["mixture_id"] += IMAGE
    scores.loc[scores["speaker_id"] == "spk03", "speaker_id"] = f"</script>{IMAGE}"
    scores.loc[3, "status"] = IMAGE
    return reports.write_report(
        scores,
        tmp_path_factory.mktemp("page"),
        title=f"title {EVIL}",
        histories={"noncausal": make_history(8.0)},
        provenance={"command": f"tasnet run {EVIL}"},
        examples=load_clips,
        num_examples=2,
    )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.mark.parametrize("width", [1920, 1280, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_and_is_silent(browser: Browser, page: Path, width: int, dark: bool) -> None:
    browser.open(page, width=width, dark=dark)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate(f"document.body.textContent.includes({EVIL!r})")
    ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(18, 21, 24)" if dark else "rgb(255, 255, 255)")
    assert browser.complaints == []


def test_names_that_are_markup_do_nothing(browser: Browser, page: Path) -> None:
    """No dialog opens, no element comes from a name: in texts, attributes, the table that JavaScript fills, and the figures."""
    browser.open(page)
    browser.evaluate("document.querySelector('#mixture-table .more').click()")
    browser.evaluate("new Promise((go) => setTimeout(go, 300))")
    assert browser.complaints == []
    assert browser.evaluate("document.scripts.length") == 2
    assert browser.evaluate("[...document.images].every((image) => image.src.startsWith('data:image/webp'))")
    assert browser.evaluate("document.querySelectorAll('[onerror], [onload], [onclick]').length") == 0
    assert browser.evaluate(f"document.querySelector('#mixture-table tbody th').textContent.endsWith({IMAGE!r})")
    assert browser.evaluate("document.querySelectorAll('figure img').length") == 0


def press(browser: Browser, key: str, code: int, text: str = "") -> None:
    for event in ("keyDown", "keyUp"):
        typed = {"text": text} if text and event == "keyDown" else {}
        browser.call("Input.dispatchKeyEvent", type=event, key=key, code=key, windowsVirtualKeyCode=code, **typed)


def test_everything_is_reached_with_the_keyboard_alone(browser: Browser, page: Path) -> None:
    """Tab to the player, Enter to play, arrows to switch and to seek; Tab to the table, Enter to sort, type to filter."""
    browser.open(page)
    focused = "document.activeElement"
    seen: list[str] = []
    for _ in range(120):
        press(browser, "Tab", 9)
        seen.append(browser.evaluate(f"{focused}.className || {focused}.type || {focused}.localName"))
        if seen[-1] == "play":
            break
    assert seen[-1] == "play"
    assert browser.evaluate(f"getComputedStyle({focused}).outlineStyle") != "none"
    press(browser, "Enter", 13, "\r")
    wait_for(browser, f"{PLAYER}.running && {PLAYER}.now > 0.05")
    press(browser, "Tab", 9)
    assert browser.evaluate(f"{focused}.type") == "range"
    press(browser, "End", 35)
    wait_for(browser, f"{PLAYER}.now > 2 || {PLAYER}.now < 1")
    browser.evaluate(f"{PLAYER}.pause()")
    browser.evaluate("document.querySelector('#mixture-table thead button').focus()")
    press(browser, "Enter", 13, "\r")
    assert browser.evaluate("document.querySelector('#mixture-table [aria-sort]').getAttribute('aria-sort')") == "descending"
    browser.evaluate("document.querySelector('input[type=search]').focus()")
    for letter in "0031":
        press(browser, letter, ord(letter), letter)
    assert [row[0][:4] for row in rows(browser)] == ["0031"]


def test_tables_that_scroll_are_named_and_focusable(browser: Browser, page: Path) -> None:
    browser.open(page, width=390)
    found = browser.evaluate(
        "[...document.querySelectorAll('.scroll')].map((part) => [part.tabIndex, part.getAttribute('aria-label'), part.role])"
    )
    assert found
    assert all(index == 0 and label and role == "region" for index, label, role in found)


def test_text_has_enough_contrast(browser: Browser, page: Path) -> None:
    for dark in (False, True):
        browser.open(page, dark=dark)
        for name in ("--ink", "--soft", "--accent"):
            assert contrast(browser, name, "--ground") >= 4.5
        for k in range(1, 9):
            assert contrast(browser, f"--series-{k}", "--ground") >= 3.0


def contrast(browser: Browser, one: str, other: str) -> float:
    """WCAG 2 contrast ratio of two colours of the page."""
    luminance = []
    for name in (one, other):
        value = browser.evaluate(f"getComputedStyle(document.documentElement).getPropertyValue('{name}').trim()")
        levels = np.array([int(value[k : k + 2], 16) for k in (1, 3, 5)]) / 255
        linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
        luminance.append(float(linear @ [0.2126, 0.7152, 0.0722]))
    return (max(luminance) + 0.05) / (min(luminance) + 0.05)


PLAYER = "document.querySelector('.example').player"


def wait_for(browser: Browser, condition: str) -> None:
    """Until a JavaScript condition holds, at most 20 seconds."""
    script = """new Promise((go, fail) => {
      const end = Date.now() + 20000;
      const look = () => (CONDITION) ? go(true) : Date.now() > end ? fail(new Error("CONDITION")) : setTimeout(look, 20);
      look();
    })"""
    browser.evaluate(script.replace("CONDITION", condition))


def gains(browser: Browser) -> list[float]:
    found: list[float] = browser.evaluate(f"{PLAYER}.voices.map((voice) => Math.round(voice.gain.gain.value * 1000) / 1000)")
    return found


def test_switching_keeps_the_position(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.evaluate(f"{PLAYER}.play()")
    wait_for(browser, f"{PLAYER}.now > 0.2")
    assert gains(browser) == [1, *[0] * 8]
    before, after = browser.evaluate(f"(() => {{ const p = {PLAYER}, a = p.now; p.radios[4].click(); return [a, p.now]; }})()")
    assert 0 <= after - before < 0.05
    wait_for(browser, f"{PLAYER}.voices[4].gain.gain.value > 0.9999 && {PLAYER}.voices[0].gain.gain.value < 0.0001")
    assert gains(browser) == [*[0] * 4, 1, *[0] * 4]
    clocks = browser.evaluate(f"{PLAYER}.voices.map((voice) => voice.source.buffer.duration)")
    assert clocks == [3] * 9


def test_pause_and_seek(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.evaluate("document.querySelector('.example .play').click()")
    wait_for(browser, f"{PLAYER}.running && {PLAYER}.now > 0.1")
    browser.evaluate("document.querySelector('.example .play').click()")
    assert browser.evaluate(f"[{PLAYER}.running, {PLAYER}.now]") == [False, browser.evaluate(f"{PLAYER}.now")]
    browser.evaluate(f"{PLAYER}.slider.value = 2; {PLAYER}.slider.dispatchEvent(new Event('input'))")
    assert browser.evaluate(f"{PLAYER}.now") == 2
    assert browser.evaluate("document.querySelector('.example output').textContent") == "2.0 of 3.0 s"


def test_only_one_example_plays(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.evaluate(f"{PLAYER}.play()")
    browser.evaluate("document.querySelectorAll('.example')[1].player.play()")
    running = browser.evaluate("[...document.querySelectorAll('.example')].map((root) => root.player.running)")
    assert running == [False, True]


def test_arrow_keys_choose_a_clip(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.evaluate(f"{PLAYER}.radios[0].focus()")
    for event in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=event, key="ArrowRight", code="ArrowRight", windowsVirtualKeyCode=39)
    assert browser.evaluate(f"{PLAYER}.chosen") == 1


def rows(browser: Browser) -> list[list[str]]:
    found: list[list[str]] = browser.evaluate(
        "[...document.querySelectorAll('#mixture-table tbody tr')]"
        ".map((row) => [...row.children].map((cell) => cell.textContent))"
    )
    return found


def test_the_table_sorts_and_filters(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert len(rows(browser)) == 25
    click: Any = "document.querySelectorAll('#mixture-table thead button')[3].click()"
    browser.evaluate(click)
    values = [float(row[3].replace("−", "-")) for row in rows(browser)]
    assert values == sorted(values)
    browser.evaluate(click)
    values = [float(row[3].replace("−", "-")) for row in rows(browser)]
    assert values == sorted(values, reverse=True)
    assert browser.evaluate("document.querySelector('#mixture-table [aria-sort]').getAttribute('aria-sort')") == "descending"
    browser.evaluate("document.querySelector('#mixture-table .more').click()")
    assert len(rows(browser)) == 40
    browser.evaluate("const search = document.querySelector('input[type=search]'); search.value = '0007';")
    browser.evaluate("search.dispatchEvent(new Event('input'))")
    assert [row[0][:4] for row in rows(browser)] == ["0007"]


def test_figures_leave_no_hole_whatever_their_number(browser: Browser, page: Path) -> None:
    """Every row of figures ends where its container ends; one below the other on a phone."""
    for width in (1920, 1280, 800, 390):
        browser.open(page, width=width)
        browser.evaluate(
            """window.ends = (count, kind) => {
              const grid = document.createElement("div");
              grid.className = "figures " + kind;
              for (let k = 0; k < count; k++) {
                grid.append(document.querySelector(".figures figure").cloneNode(true));
              }
              document.querySelector("main").append(grid);
              const edge = Math.round(grid.getBoundingClientRect().right);
              const rows = new Map();
              for (const figure of grid.children) {
                const { top, right } = figure.getBoundingClientRect();
                rows.set(Math.round(top), Math.max(rows.get(Math.round(top)) || 0, Math.round(right)));
              }
              grid.remove();
              return [...rows.values()].map((right) => Math.abs(right - edge));
            }"""
        )
        for kind, counts in (("", range(1, 9)), ("pairs", (2, 4, 6))):
            for count in counts:
                ends = browser.evaluate(f"ends({count}, {kind!r})")
                assert max(ends) <= 1, (width, kind, count)
                assert len(ends) == count if width == 390 else len(ends) <= (count + 1) // 2


def test_wide_tables_say_that_they_scroll_and_keep_their_first_column(browser: Browser, page: Path) -> None:
    browser.open(page, width=390)
    part = "document.querySelector('#results .scroll')"
    wait_for(browser, f"!{part}.previousElementSibling.hidden")
    assert "scroll" in browser.evaluate(f"{part}.previousElementSibling.textContent")
    browser.evaluate(f"{part}.scrollLeft = 200")
    wait_for(browser, f"{part}.classList.contains('scrolled')")
    left = "Math.round({0}.querySelector('tbody th').getBoundingClientRect().left - {0}.getBoundingClientRect().left)"
    assert browser.evaluate(left.format(part)) == 0
    browser.open(page, width=1920)
    assert browser.evaluate(f"{part}.previousElementSibling.hidden")


def test_a_link_opens_the_row_of_a_mixture_wherever_it_is(browser: Browser, page: Path) -> None:
    """Also a row that is not shown yet, or filtered away; the address finds it again."""
    browser.open(page)
    browser.evaluate("const box = document.querySelector('input[type=search]'); box.value = 'nothing'")
    browser.evaluate("box.dispatchEvent(new Event('input'))")
    browser.evaluate("const link = document.querySelector('figcaption a'); link.setAttribute('data-row', '39'); link.click()")
    wait_for(browser, "document.getElementById('row-39') && document.activeElement.closest('#row-39')")
    assert browser.evaluate("document.activeElement.getAttribute('aria-expanded')") == "true"
    assert browser.evaluate("location.hash") == "#row-39"
    top = "document.activeElement.getBoundingClientRect().top"
    wait_for(browser, f"{top} >= 0 && {top} <= 900")
    cells = browser.evaluate("[...document.querySelectorAll('.detail tbody tr')].map((row) => row.children[0].textContent)")
    assert cells == ["s1", "s2"]
    assert browser.complaints == []


def test_a_row_plays_its_sources_and_leads_to_its_player(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.evaluate("document.querySelector('.example h3 a').click()")
    wait_for(browser, "document.querySelector('.detail .hear')")
    buttons = "[...document.querySelectorAll('.detail .hear')]"
    names = browser.evaluate(f"{buttons}.map((button) => button.getAttribute('aria-label'))")
    assert len(names) == 2 * 4 + 1
    assert "Play or pause s2, noncausal SI-SNRi" in names
    place = names.index("Play or pause s2, noncausal SI-SNRi")
    browser.evaluate(f"{buttons}[{place}].click()")
    wait_for(browser, f"{PLAYER}.running && {PLAYER}.now > 0.05")
    assert browser.evaluate(f"{PLAYER}.radios[{PLAYER}.chosen].dataset.clip") == "2-1"
    browser.evaluate(f"{buttons}[{place}].click()")
    assert not browser.evaluate(f"{PLAYER}.running")
    target = browser.evaluate("document.querySelector('.detail a').getAttribute('href')")
    assert browser.evaluate(f"document.querySelector('.example').id === {target[1:]!r}")
