from html.parser import HTMLParser

import pytest

from potstill.report.charts import curve, interval_chart, nice_top
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

    VOID = frozenset({"meta", "line", "polyline", "br"})

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
        self.texts.append(data.strip())


def test_page_is_well_formed_and_shows_headline_and_every_cell(content):
    page = Page(render_html(content, [question(student=reply("ok"))], NO_SERIES))
    assert page.open == []
    assert headline(content) in page.texts
    for cells in comparison_table(content).rows:
        for cell in cells:
            assert cell in page.texts


EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


def test_what_models_and_data_say_is_escaped_wherever_it_stands(content):
    content["name"] = EVIL
    content["generation"]["dropped"] = {EVIL: 3}
    content["spec"]["teacher"]["model"] = EVIL
    rows = [question(EVIL, teacher=reply(EVIL), student=reply(EVIL, answer=None, finish_reason="length"))]
    page = Page(render_html(content, rows, ([(1, 2.0), (2, 1.0)], {EVIL: [(1, 0.1), (2, 0.2)]})))
    assert not {"script", "img"} & {tag for tag, _ in page.tags}
    assert page.open == []
    assert page.texts.count(EVIL) >= 4


def test_page_loads_nothing_from_anywhere(content):
    html = render_html(content, [question("see https://example.org", student=reply("http://example.org"))], ([(1, 2.0), (5, 1.0)], {}))
    loading = {"src", "href", "action", "data", "poster", "srcset", "background"}
    assert not [attributes for _, attributes in Page(html).tags if loading & set(attributes)]
    assert "url(" not in html
    assert "@import" not in html
    policy = next(a["content"] for t, a in Page(html).tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy


def test_page_suits_dark_rooms_and_small_screens(content):
    html = render_html(content, [], NO_SERIES)
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html


def test_rows_show_prompt_reference_and_every_systems_reply(content):
    rows = [question("Why?", teacher=reply("T said"), baseline=reply("", None, "error"), student=reply("S said", None, "length"))]
    texts = Page(render_html(content, rows, NO_SERIES)).texts
    rows = [question("Why?", student=reply("", None, "no_room"))]
    assert "(no room for the prompt)" in Page(render_html(content, rows, NO_SERIES)).texts
    assert {"Why?", "Be brief.", "gold", "T said", "(the call failed)", "S said (cut at the token limit) (no answer in it)"} <= set(texts)


def test_what_was_dropped_is_counted_by_reason_most_first(content):
    texts = [text for text in Page(render_html(content, [], NO_SERIES)).texts if text]
    assert texts[texts.index("dropped because") + 2 :][:4] == ["truncation", "40", "refusal", "10"]
    assert "850 of 900 training rows have an answer that was kept. 900 calls, 120.0 k tokens, for $0.00." in texts


def test_training_curves_are_drawn_where_there_are_two_points(content):
    series = ([(10, 2.0), (20, 1.5), (30, 1.0)], {"rouge_l": [(15, 0.1), (30, 0.2)]})
    html = render_html(content, [], series)
    assert html.count("<polyline") == 2
    assert "loss on the training rows" in html
    assert "ROUGE-L on validation rows" in html
    assert "<polyline" not in render_html(content, [], ([(10, 2.0)], {}))


def test_a_run_with_agreement_alone_has_a_page(content):
    content["evaluation"] |= {"primary": None, "metrics": {}, "comparisons": {}}
    for system in content["evaluation"]["systems"].values():
        system["scores"] = {}
    assert headline(content) in Page(render_html(content, [], NO_SERIES)).texts


@pytest.mark.parametrize(("value", "top"), [(0.168, 0.2), (0.2, 0.2), (0.21, 0.25), (0.97, 1.0), (34.2, 50.0), (0, 1.0), (1e-4, 1e-4)])
def test_axes_end_at_round_numbers(value, top):
    assert nice_top(value) == pytest.approx(top)


def test_marks_of_an_interval_stand_in_order_within_the_axis():
    chart = interval_chart("x", {"student": {"value": 0.5, "n": 10, "interval": {"low": 0.4, "high": 0.62}}, "teacher": {"value": None}})
    [bar] = chart.bars
    assert 0 <= bar.low < bar.at < bar.high <= 100
    assert bar.text == "0.500 [0.400, 0.620], n = 10"


def test_nothing_is_drawn_where_nothing_is_known():
    assert interval_chart("x", {"teacher": {"value": None}}) is None
    assert curve("x", [(1, float("nan")), (2, 1.0)]) is None


def test_curves_fill_their_box_and_leave_out_what_is_not_finite():
    drawn = curve("x", [(0, 3.0), (5, float("nan")), (10, 1.0)])
    assert drawn.points == "0.00,0.00 100.00,100.00"
    assert (drawn.low, drawn.high, drawn.last_step) == ("1", "3", "10")


def test_a_flat_curve_is_a_line_in_the_middle():
    assert curve("x", [(0, 1.0), (1, 1.0)]).points == "0.00,50.00 100.00,50.00"
