import re
from html.parser import HTMLParser

import pytest

from reelsense.evaluation import plain_plots
from reelsense.experiments.page import write_page
from reelsense.experiments.results import read_results
from reelsense.experiments.summary import summarise
from reelsense.model.recipe import Recipe

VOID = {"meta", "img", "br", "hr"}


class Page(HTMLParser):
    """A page whose tags close each other: what it loads, links and says."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.loads, self.links, self.words = [], [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []
        self.text = re.sub(r"\s+", " ", "".join(self.words))

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [value for name, value in attrs if name in ("src", "srcset", "action")]
        self.links += [value for name, value in attrs if name == "href"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    monkeypatch.setattr(plain_plots, "DPI", 40)


def page_of(plan, command="reelsense compare a b"):
    results = read_results(plan)
    path = write_page(results, summarise(results), command)
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture
def compared(plan_of, fill):
    plan = plan_of("first", "other", "broken", shares=[0.5, 1], seeds=2)
    return fill(plan, first=1.5, other=1.0, broken=None)


def test_the_page_is_well_formed_self_contained_and_reads_in_the_dark(compared):
    page = page_of(compared)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert page.tags.count("img") == len(page.loads) == 7
    assert all(value.startswith("data:image/png;base64,") for value in page.loads)
    html = (compared.folder / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|url\(|@import", html)
    assert "prefers-color-scheme: dark" in html
    assert {path.stem for path in compared.folder.glob("*.png")} == {
        "accuracy", "labels", "costs", "curves-accuracy-1", "curves-loss-1",
        "curves-accuracy-0.5", "curves-loss-0.5",
    }  # fmt: skip


def test_every_link_leads_somewhere(compared):
    page = page_of(compared)
    html = (compared.folder / "report.html").read_text(encoding="utf-8")
    assert len(page.links) > 10
    for link in page.links:
        if link.startswith("#"):
            assert f'id="{link[1:]}"' in html, link
        else:
            assert (compared.folder / link).exists(), link


def test_the_page_has_the_figures_the_failures_and_how_it_was_done(compared):
    page = page_of(compared, "reelsense compare first other broken --seeds 2")
    results = read_results(compared)
    for row in summarise(results):
        assert f"{100 * row.accuracy:.2f}%" in page.text
        assert f"{100 * row.interval[0]:.1f}% to {100 * row.interval[1]:.1f}%" in page.text
        if row.against:
            assert f"{100 * row.against.estimate.mean:+.2f}".replace("-", "−") in page.text
    for expected in (
        "broken-0.5-1", "the loss is not a number", "Holm 1979", "with all labels",
        "50% of the labels".capitalize(), compared.reviews.sha256, "abc1234", "cpu, 1 core, fp32",
        "reelsense compare first other broken --seeds 2", "4 runs of 12 failed",
    ):  # fmt: skip
        assert expected.lower() in page.text.lower(), expected


def test_without_shares_and_failures_nothing_is_said_of_them(plan_of, fill):
    plan = fill(plan_of("first", seeds=1), first=1.0)
    page = page_of(plan)
    assert "labels.png" not in {path.name for path in plan.folder.glob("*.png")}
    assert "Runs that failed" not in page.text
    assert "With fewer labels" not in page.text
    assert "of the labels" not in page.text.partition("How it was compared")[0]
    assert "1 recipe compared 1 seed each, on the same" in page.text


def test_where_every_run_failed_the_page_says_why(plan_of, fill):
    plan = fill(plan_of("first"), first=None)
    page = page_of(plan)
    assert page.loads == []
    assert "the loss is not a number" in page.text
    assert "no run of first has finished" in page.text


def test_names_of_users_are_text_and_no_markup(plan_of, fill):
    recipe = Recipe(name="first", about="<b>bold</b> & more", validation=0.2, test=0.2)
    page = page_of(fill(plan_of(recipes=[recipe], seeds=1), first=1.0), "reelsense compare '<i>'")
    assert "<b>bold</b> & more" in page.text
    assert "<i>" in page.text


def test_several_commits_are_all_named(compared):
    environment = compared.run(compared.cells()[0]) / "environment.json"
    environment.write_text(environment.read_text().replace("abc1234", "def5678"))
    assert re.search(r"commits ?abc1234, def5678", page_of(compared).text)
