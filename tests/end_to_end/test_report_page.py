"""The report in a real browser, opened from disk: charts, filters, keys, dark and light, phone, paper; and nothing asked of anybody."""

import base64

import pytest
from tests.browser import browser, emulate, missing, requests_of
from tests.full_report import full_report, questions, series

from potstill.report.page import render_html

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

ROWS = questions(3_000)


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(render_html(full_report(3_000), ROWS, series(), {"data/train.jsonl": "ab" * 32}), encoding="utf-8")
    return file.as_uri()


@pytest.fixture
def page(driver, address):
    """The report on a desk, in light; afterwards nobody has complained."""
    emulate(driver)
    driver.get(address)
    yield driver
    assert driver.get_log("browser") == []


def find(page, selector):
    return page.find_elements("css selector", selector)


def text(page, selector):
    return page.find_element("css selector", selector).text


def choose(page, name, option):
    """Pick an option of a list as a hand would, and wait for the rows."""
    from selenium.webdriver.support.select import Select

    Select(page.find_element("name", name)).select_by_visible_text(option)
    settle(page)


def search(page, words):
    page.find_element("name", "search").send_keys(words)
    settle(page)


def settle(page):
    """The page waits a moment for further letters before it looks."""
    page.execute_async_script("setTimeout(arguments[0], 200)")


def counted(rows):
    return f"{len(rows):,} of 3,000 rows"


def right(row, system):
    return row["replies"][system]["scores"]["accuracy"] == 1


def test_it_opens_from_disk_and_asks_nobody_for_anything(page, address):
    requests_of(page)  # those of the browser's own first page
    page.refresh()
    assert text(page, ".headline").startswith("The student kept 96")
    asked = requests_of(page)
    assert {url for url in asked if url != "data:,"} == {address}


def test_charts_are_drawn(page):
    charts = find(page, "figure .chart svg")
    assert len(charts) == len(find(page, "figure")) == 18
    for chart in charts:
        assert chart.size["width"] > 200
        assert chart.size["height"] > 40
        assert chart.find_elements("css selector", "[role=graphics-symbol][aria-label]")


def test_rows_are_filtered_by_right_wrong_and_slice(page):
    assert text(page, "#found") == counted(ROWS)
    harmed = [row for row in ROWS if right(row, "teacher") and not right(row, "student")]
    choose(page, "list", f"teacher right, student wrong ({len(harmed)})")
    assert text(page, "#found") == counted(harmed)
    by_phone = [row for row in harmed if "phone" in row["slices"]["tag"]]
    choose(page, "slice-tag", "phone")
    assert text(page, "#found") == counted(by_phone)
    search(page, "CASE 3")
    found = [row for row in by_phone if "case 3" in row["messages"][1]["content"]]
    assert 0 < len(found) < len(by_phone)
    assert text(page, "#found") == counted(found)
    assert [mark.text for mark in find(page, ".row mark")] == ["case 3"] * min(20, len(found))


def test_rows_come_in_pages_so_that_thousands_stay_light(page):
    assert len(find(page, ".row")) == 20
    assert text(page, "#place") == "1 to 20 of 3,000"
    back, further = find(page, "#pager button")
    assert not back.is_enabled()
    further.click()
    assert text(page, "#place") == "21 to 40 of 3,000"
    assert text(page, ".row .gist") == ROWS[20]["messages"][1]["content"]
    assert len(find(page, ".row")) == 20


def test_rows_can_stand_with_the_furthest_below_the_teacher_first(page):
    choose(page, "order", "furthest below the teacher first")
    first = next(row for row in ROWS if right(row, "teacher") and not right(row, "student"))
    assert text(page, ".row .gist") == first["messages"][1]["content"]
    assert text(page, ".row .marks .student") == "student ✗"


def test_an_opened_row_shows_prompt_reference_and_every_systems_answer(page):
    find(page, ".row summary")[0].click()
    settle(page)
    shown = find(page, ".row dl")[0].text.splitlines()
    row = ROWS[0]
    assert {"Name the intent.", row["messages"][1]["content"], "reference", *row["references"], "judge", "id", row["id"]} <= set(shown)
    for system, title in (("teacher", "teacher"), ("student", "student"), ("tfidf", "TF-IDF + regression")):
        mark = "✓" if right(row, system) else "✗"
        assert shown[shown.index(f"{title} {mark}") + 1] == row["replies"][system]["text"]


def test_a_row_that_is_opened_after_a_search_stays_open(page):
    search(page, "case 7")
    find(page, ".row summary")[0].click()
    settle(page)
    assert find(page, ".row[open] dl")


FOCUSED = "const e = document.activeElement; return e === document.body ? '' : e.id || e.name || e.className || e.tagName"


def test_the_keyboard_reaches_everything(page):
    from selenium.webdriver import ActionChains, Keys

    every = page.execute_script(
        "return [...document.querySelectorAll('a, summary, input, select, button, [tabindex]')]"
        ".filter((e) => e.offsetParent && !e.disabled && !e.closest('details:not([open]) > :not(summary)')).length"
    )
    reached = page.execute_script("window.reached = new Set(); addEventListener('focusin', (e) => reached.add(e.target)); return 0")
    for _ in range(every + 5):
        ActionChains(page).send_keys(Keys.TAB).perform()
        if page.execute_script(FOCUSED) == "":
            break
    reached = page.execute_script("return reached.size")
    assert reached == every > 60


def test_arrow_keys_read_a_charts_marks_aloud(page):
    from selenium.webdriver import Keys

    chart = page.find_element("css selector", ".chart")
    labels = [
        mark.get_attribute("aria-label")
        for mark in chart.find_elements("css selector", "[role=graphics-symbol][aria-roledescription=point]")
    ]
    assert "student: 42 ms, Accuracy 0.880 [0.850, 0.910]" in labels
    said = []
    for _ in labels:
        chart.send_keys(Keys.ARROW_RIGHT)
        said.append(text(page, "#tip"))
    assert said == labels
    chart.send_keys(Keys.ESCAPE)
    assert not page.find_element("id", "tip").is_displayed()


def test_a_row_opens_by_key(page):
    from selenium.webdriver import Keys

    find(page, ".row summary")[1].send_keys(Keys.ENTER)
    settle(page)
    assert find(page, ".row[open] dl")


CONTRASTS = """
const light = (c) => { const v = c.match(/[\\d.]+/g).slice(0, 3).map((x) => x / 255)
  .map((x) => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4); return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
const paper = light(getComputedStyle(document.body).backgroundColor);
const ratio = (c) => { const l = light(c); return (Math.max(l, paper) + 0.05) / (Math.min(l, paper) + 0.05); };
const of = (selector, property) => [...document.querySelectorAll(selector)].map((e) => ratio(getComputedStyle(e)[property]));
return {paper, text: Math.min(...of("p, h1, h2, h3, td, th, dt, dd, nav a, summary, .verdict", "color"), ...of(".chart text", "fill")),
  marks: Math.min(...of('.chart [aria-roledescription="point"]', "fill"))};
"""


@pytest.mark.parametrize(("scheme", "media", "bright"), [("light", "", True), ("dark", "", False), ("dark", "print", True)])
def test_letters_and_marks_stand_out_in_light_in_dark_and_on_paper(page, scheme, media, bright):
    emulate(page, scheme=scheme, media=media)
    found = page.execute_script(CONTRASTS)
    assert found["paper"] > 0.9 if bright else found["paper"] < 0.1
    assert found["text"] >= 4.5  # WCAG 2.2, 1.4.3
    assert found["marks"] >= 3.0  # WCAG 2.2, 1.4.11


@pytest.mark.parametrize("width", [320, 390, 768, 1600])
def test_no_screen_needs_to_scroll_sideways(page, width):
    emulate(page, size=(width, 800))
    find(page, ".row summary")[0].click()
    settle(page)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width


def test_on_paper_controls_are_gone_and_what_was_folded_stands_open(page):
    page.execute_script("dispatchEvent(new Event('beforeprint'))")
    emulate(page, media="print")
    assert not [one for one in find(page, "nav, form, #pager, .figures") if one.is_displayed()]
    assert all(one.is_displayed() for one in find(page, "details.record pre"))
    paper = base64.b64decode(page.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert paper.startswith(b"%PDF")


def test_nothing_in_the_data_can_run(driver, tmp_path):
    evil = "<img src=x onerror='window.harmed = 1'><script>window.harmed = 1</script></script><script>window.harmed = 1</script>"
    report, rows = full_report(3), questions(3)
    report["name"] = report["evaluation"]["systems"]["tfidf"]["title"] = report["evaluation"]["slices"][0]["name"] = evil
    for row in rows:
        row["messages"][1]["content"] = row["references"][0] = row["replies"]["student"]["text"] = evil
    file = tmp_path / "report.html"
    file.write_text(render_html(report, rows, series()), encoding="utf-8")
    emulate(driver)
    driver.get(file.as_uri())
    find(driver, ".row summary")[0].click()
    search(driver, "<img")
    chart = driver.find_element("css selector", ".chart")
    chart.send_keys("\ue014")  # the right arrow: the tip takes a mark's words
    assert driver.execute_script("return [window.harmed ?? null, document.images.length, document.scripts.length]") == [None, 0, 2]
    assert len(find(driver, ".row mark")) >= 3
    assert driver.get_log("browser") == []
