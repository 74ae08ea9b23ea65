import base64
import copy
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from tests.full_report import full_report, questions, series

from potstill.report.page import render_html
from potstill.report.table import comparison_table, headline

NO_SERIES = ([], {})


def reply(text, answer="an answer", finish_reason="stop"):
    return {"text": text, "answer": answer, "finish_reason": finish_reason}


def question(text="What is it?", **replies):
    return {
        "id": "1",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}],
        "references": ["gold"],
        "replies": replies,
    }


class Page(HTMLParser):
    """Tags with their attributes, the text, and whether all that was opened was closed."""

    VOID = frozenset({"meta", "link", "input", "br"})

    def __init__(self, html):
        super().__init__()
        self.tags, self.open, self.texts = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data.strip().replace("\u00a0", " "))

    def count(self, tag):
        return [name for name, _ in self.tags].count(tag)

    def attribute(self, tag, name):
        return [attributes[name] for found, attributes in self.tags if found == tag and name in attributes]


def script_data(html):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, flags=re.DOTALL)[1])


@pytest.fixture(scope="module")
def full_html():
    return render_html(full_report(), questions(), series(), {"data/train.jsonl": "ab" * 32})


def test_page_is_well_formed_and_shows_headline_and_every_cell(content):
    page = Page(render_html(content, [question(student=reply("ok"))], NO_SERIES))
    assert page.open == []
    assert headline(content) in page.texts
    for cells in comparison_table(content).rows:
        for cell in cells:
            assert cell in page.texts


def test_every_part_of_a_full_report_has_its_section(full_html):
    page = Page(full_html)
    assert page.open == []
    headings = (
        "goals comparison tradeoff scores slices confusions calibration judge elsewhere speed cost training answers seal failures rows made"
    )
    assert page.attribute("h2", "id") == headings.split()
    for text in (
        "Accuracy is 0.88 [0.85, 0.91], 0.9 or more wanted: inconclusive; about 1,200 test questions would decide it (so far 300).",
        "< 0.001",
        "The distillation cost $7.55 (teacher's answers $6.40, judge $0.80, machine time $0.35); the student saves $0.698 per 1,000 requests,"
        " and that pays for it after 10,817 requests, 5.4 days at 2,000 a day.",
    ):
        assert text in page.texts
    assert "The test rows of this run were opened twice, for 2 students. No step but those below has seen them." in page.texts
    assert f"{'ab' * 32}  data/train.jsonl" in page.texts


def test_charts_of_a_full_report_are_drawn_with_words_for_each_mark(full_html):
    page = Page(full_html)
    assert page.count("figure") == page.count("svg") == 18
    labels = page.attribute("path", "aria-label")
    assert "student: 42 ms, Accuracy 0.880 [0.850, 0.910]" in labels
    assert "wrong amount: 70 % [62, 78], n = 50" in labels
    assert [label for label in labels if label.startswith("card stolen answered as (no answer): 1 of ")]


PARTS = {
    "slices": "slices",
    "confusion": "confusions",
    "calibration": "calibration",
    "goals": "goals",
    "judge": "judge",
    "lm_eval": "elsewhere",
    "cost": "cost",
    "seal": "seal",
    "leaks": "seal",
}


@pytest.mark.parametrize(("part", "section"), PARTS.items())
def test_each_part_is_drawn_whether_or_not_others_are_there(content, part, section):
    full = full_report()
    (content["evaluation"] if part in full["evaluation"] else content)[part] = (full | full["evaluation"])[part]
    page = Page(render_html(content, [], NO_SERIES))
    assert page.open == []
    assert set(page.attribute("h2", "id")) - {"failures"} == {"comparison", "tradeoff", "scores", "answers", "made", section}


def test_a_report_of_an_earlier_version_has_no_empty_section(content):
    page = Page(render_html(content, [], NO_SERIES))
    assert page.attribute("h2", "id") == ["comparison", "tradeoff", "scores", "answers", "made"]


EVIL = "</script></style><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{7*7}}<!--"


def poisoned(value):
    """The same shape with evil text in place of every text."""
    if isinstance(value, dict):
        return {key: poisoned(found) for key, found in value.items()}
    if isinstance(value, list):
        return [poisoned(found) for found in value]
    return EVIL if isinstance(value, str) else value


def test_what_models_and_data_say_is_escaped_wherever_it_stands():
    report, plain = poisoned(full_report()), full_report()
    # These are the program's own words, and choose what is drawn.
    for key in ("settings", "primary"):
        report["evaluation"][key] = plain["evaluation"][key]
    report["evaluation"]["confusion"]["student"]["labels"] = [EVIL, *"abcde"]
    rows = questions(4)
    for row in rows:
        row["references"] = row["slices"]["tag"] = [EVIL]
        row["messages"][1]["content"] = row["judged"]["reason"] = EVIL
        for found in row["replies"].values():
            found["text"] = found["answer"] = EVIL
    html = render_html(report, rows, ([(1, 2.0), (2, 1.0)], {EVIL: [(1, 0.1), (2, 0.2)]}), {EVIL: "ab"})
    page = Page(html)
    assert page.open == []
    assert page.count("script") == 2
    assert page.count("style") == 1
    assert page.count("img") == 0
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert len([text for text in page.texts if EVIL in text]) >= 20
    assert script_data(html)["rows"][0]["references"] == [EVIL]


def test_page_loads_nothing_from_anywhere(full_html):
    page = Page(full_html)
    loading = {"src", "action", "data", "poster", "srcset", "background", "style", "xlink:href"}
    assert not [attributes for _, attributes in page.tags if loading & set(attributes)]
    assert all(link.startswith("#") or link == "data:," for tag in ("a", "link", "image", "use") for link in page.attribute(tag, "href"))
    assert "url(" not in full_html
    assert "@import" not in full_html


def test_policy_lets_run_the_pages_own_style_and_script_and_nothing_else(full_html):
    [policy] = [a["content"] for t, a in Page(full_html).tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        own = re.search(f"<{tag}>(.*?)</{tag}>", full_html, flags=re.DOTALL)[1]
        assert f"{tag}-src 'sha256-{base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()}'" in policy


def test_equal_reports_make_equal_pages(full_html):
    assert render_html(full_report(), questions(), series(), {"data/train.jsonl": "ab" * 32}) == full_html


def test_what_was_dropped_is_counted_by_reason_most_first(content):
    texts = [text for text in Page(render_html(content, [], NO_SERIES)).texts if text]
    assert texts[texts.index("dropped because") + 2 :][:4] == ["truncation", "40", "refusal", "10"]
    assert "850 of 900 training rows have an answer that was kept. 900 calls, 120.0 k tokens, for $0.00." in texts


def test_a_run_with_agreement_alone_has_a_page(content):
    content["evaluation"] |= {"primary": None, "metrics": {}, "comparisons": {}}
    for system in content["evaluation"]["systems"].values():
        system["scores"] = {}
    assert headline(content) in Page(render_html(content, [], NO_SERIES)).texts


def test_a_run_without_a_student_has_a_page(content):
    content = copy.deepcopy(content)
    for part in (content["evaluation"]["systems"], content["evaluation"]["sizes"], content["timings"]["systems"]):
        del part["student"]
    content["evaluation"]["comparisons"] = {"rouge_l": {}}
    assert headline(content) in Page(render_html(content, [], NO_SERIES)).texts


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_without_the_library_that_draws_charts_are_tables():
    code = (
        "import sys; sys.modules['vl_convert'] = None\n"
        "from potstill.report.page import render_html; from tests.full_report import *\n"
        "print(render_html(full_report(), questions(3), series()))"
    )
    page = Page(python(code))
    assert page.open == []
    assert page.count("svg") == 0
    assert "Charts stand as tables: drawing them needs the package vl-convert-python." in page.texts
    assert "5.3 GB" in page.texts or "312 MB" in page.texts


def test_the_library_that_draws_is_loaded_when_a_report_is_written_and_not_before():
    heavy = "import sys, potstill.cli.main, potstill.report.stage; print('vl_convert' in sys.modules)"
    assert python(heavy) == "False\n"
