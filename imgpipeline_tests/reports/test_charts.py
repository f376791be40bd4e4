"""Charts are well-formed, proportional to their numbers, and say them in words."""

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.reports.charts import Caption, Series, bar, bar_chart, heat, nice_ticks, strip
from imgpipeline.reports.wording import number, visible

HOSTILE = (
    "</title><script>alert(1)</script>",
    '" onload="alert(1)',
    "&amp;<b>",
    "\0\x1b[31m\u202egnp.exe",
    "\ud800",
    "x" * 200,
)
texts = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=40))
counts = st.integers(0, 10**9)
CAPTION = Caption("ident", "A title", "What is to be seen.")


def parse(svg: str) -> ET.Element:
    return ET.fromstring(svg.encode())  # noqa: S314 - made here


def marks(root: ET.Element, *styles: str) -> list[ET.Element]:
    return [rect for rect in root.iter("rect") if set(styles) & set((rect.get("class") or "").split())]


def pixels(rect: ET.Element, name: str) -> float:
    return float((rect.get(name) or "").rstrip("%"))


@st.composite
def stacked(draw: st.DrawFn) -> tuple[list[str], list[Series]]:
    columns = draw(st.lists(texts, min_size=1, max_size=24))
    values = st.tuples(*[counts] * len(columns))
    series = draw(st.lists(st.tuples(texts, values), min_size=1, max_size=8))
    return columns, [Series(name, row, f"s{at}") for at, (name, row) in enumerate(series)]


@given(stacked(), texts, texts)
def test_bars_are_as_high_as_their_numbers_and_stand_on_each_other(chart, title, text):
    columns, series = chart
    root = parse(bar_chart(Caption("c", title, text), columns, series))
    height = float(root.get("height") or 0)
    totals = [sum(one.values[at] for one in series) for at in range(len(columns))]
    scale = (height - 8 - 22) / nice_ticks(max(totals))[-1]
    by_left: dict[float, list[ET.Element]] = {}
    for rect in marks(root, *(one.style for one in series)):
        by_left.setdefault(pixels(rect, "x"), []).append(rect)
    assert len(by_left) == sum(total > 0 for total in totals)
    for total, rects in zip([t for t in totals if t], [by_left[left] for left in sorted(by_left)], strict=True):
        assert sum(pixels(rect, "height") for rect in rects) == pytest.approx(total * scale, abs=0.01)
        bottoms = [pixels(rect, "y") + pixels(rect, "height") for rect in rects]
        tops = [pixels(rect, "y") for rect in rects]
        assert bottoms[0] == pytest.approx(height - 22, abs=0.01)
        assert bottoms[1:] == pytest.approx(tops[:-1], abs=0.01)
        assert tops[-1] >= 8 - 0.01, "the highest bar stays inside of the chart"


@given(stacked())
def test_every_bar_says_its_column_series_and_number(chart):
    columns, series = chart
    root = parse(bar_chart(CAPTION, columns, series))
    told = sorted(rect.findtext("title") or "" for rect in marks(root, *(one.style for one in series)))
    expected = [
        visible(f"{name}, {one.name}: {number(value)}")
        for one in series
        for name, value in zip(columns, one.values, strict=True)
        if value
    ]
    assert told == sorted(expected)


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=30))
def test_bins_of_a_histogram_lie_side_by_side_and_are_as_high_as_their_counts(bins):
    edges = [str(at) for at in range(len(bins) + 1)]
    root = parse(bar_chart(CAPTION, edges, [Series("frames", tuple(bins), "bin")], height_px=170, edges=True))
    scale = (170 - 8 - 22) / nice_ticks(max(bins))[-1]
    rects = marks(root, "bin")
    assert [pixels(r, "height") for r in rects] == pytest.approx([count * scale for count in bins if count], abs=0.01)
    width = 100 / len(bins)
    assert [pixels(r, "x") for r in rects] == pytest.approx(
        [n * width for n, count in enumerate(bins) if count], abs=0.01
    )
    assert all(pixels(r, "x") + pixels(r, "width") <= 100.01 for r in rects)


@given(st.lists(counts, min_size=1))
def test_a_cell_is_the_darker_the_more(values):
    shown = [heat(value, max(values)) for value in sorted(values)]
    assert shown == sorted(shown)
    assert all((tone > 0) == (value > 0) for value, tone in zip(sorted(values), shown, strict=True))
    assert shown[-1] == (4 if max(values) else 0)


@given(st.lists(counts, max_size=24), texts)
def test_a_strip_is_proportional(values, told):
    largest = max(values, default=0)
    root = parse(strip(values, largest, told))
    assert root.get("aria-label") == visible(told)
    heights = [pixels(rect, "height") for rect in marks(root, "s0")]
    assert heights == pytest.approx([22 * value / largest for value in values if value], abs=0.01)


@given(counts, st.integers(1, 10**9))
def test_a_bar_across_is_as_long_as_its_share(value, larger):
    largest = max(value, larger)
    rect = marks(parse(bar(value, largest, "s3")), "s3")[0]
    assert pixels(rect, "width") == pytest.approx(100 * value / largest, abs=0.001)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_texts_stay_texts(hostile):
    chart = bar_chart(Caption("c", hostile, hostile), [hostile], [Series(hostile, (1,), "s0")])
    for svg in (chart, strip([1], 1, hostile)):
        root = parse(svg)
        assert {element.tag for element in root.iter()} <= {"svg", "title", "desc", "rect", "line", "text"}
        assert not any(name.startswith("on") for element in root.iter() for name in element.attrib)
        assert all(c.isprintable() for c in "".join(root.itertext()))


def test_a_chart_is_named_and_described():
    root = parse(bar_chart(CAPTION, ["00"], [Series("cars", (3,), "s0")]))
    ids = (root.get("aria-labelledby") or "").split()
    texts_by_id = {element.get("id"): element.text for element in root.iter() if element.get("id")}
    assert root.get("role") == "img"
    assert [texts_by_id[ident] for ident in ids] == ["A title", "What is to be seen."]


@given(st.integers(0, 10**12))
def test_ticks_are_round_few_and_reach_the_largest(largest):
    ticks = nice_ticks(largest)
    step = ticks[1] - ticks[0]
    assert ticks[0] == 0
    assert ticks[-1] >= largest
    assert ticks[-1] - step < max(largest, 1)
    assert 2 <= len(ticks) <= 6
    assert step >= 1
    assert float(f"{step:.0e}") == step
