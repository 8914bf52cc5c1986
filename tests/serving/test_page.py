"""The page in a real Chromium, with the server and the model as they come."""

import csv
import io
import json
import re
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api")
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

pytestmark = pytest.mark.slow

SHOTS = Path(__file__).parents[2] / "artefacts"
VIEWS = ["review", "two", "file", "model"]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
TEXT = "The plot is thin. The cast is wonderful, and the end is not bad at all."


@pytest.fixture
def visit(chromium, shipped):
    """Open windows on the page; whatever a window complains of or asks elsewhere is an error."""
    contexts, wrong = [], []
    busy = "the server responded with a status of 429"  # the browser's own line; the page waits

    def go(path="/", server=shipped, **named):
        origin = f"http://127.0.0.1:{server.port}"
        context = chromium.new_context(**{"viewport": DESKTOP} | named)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "console",
            lambda said: (
                wrong.append(said.text) if said.type == "error" and busy not in said.text else None
            ),
        )
        page.on(
            "request",
            lambda asked: (
                None
                if asked.url.startswith((origin, "data:", "blob:"))
                else wrong.append(asked.url)
            ),
        )
        page.goto(origin + path)
        return page

    go.wrong = wrong
    yield go
    for context in contexts:
        context.close()
    assert wrong == []


def part(page, view="review"):
    return page.locator(f"[data-view={view}]")


def write(page, text, view="review", place=0):
    reader = part(page, view).locator(".reader").nth(place)
    reader.locator("textarea").fill(text)
    expect(reader.locator(".words")).to_have_text(text, use_inner_text=False)
    return reader


def ready(page, view):
    """Wait until a view shows what it is to show."""
    if view == "file":
        part(page, view).locator(".sample").click()
        expect(part(page, view).locator("tbody tr")).to_have_count(5)
        expect(part(page, view).locator(".job-said")).to_have_text("All rows are answered.")
    elif view == "model":
        expect(part(page, view).locator(".model-place")).to_have_attribute("aria-busy", "false")
    elif view == "docs":
        expect(page.locator("main")).to_have_attribute("aria-busy", "false")
    else:
        expect(part(page, view).locator(".word").first).to_be_visible()


def chance(server, text):
    with server.client() as client:
        return client.post("/v1/predict", json={"text": text}).json()["probability"]


def without_violation(page):
    found = Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []


# --- all views -------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("view", [*VIEWS, "docs"])
def test_every_view_is_accessible_and_fits(visit, view, size, scheme):
    page = visit("/docs" if view == "docs" else f"/#{view}", viewport=size, color_scheme=scheme)
    ready(page, view)
    page.wait_for_timeout(400)  # until nothing moves
    SHOTS.mkdir(exist_ok=True)
    name = "desktop" if size is DESKTOP else "phone"
    page.screenshot(path=SHOTS / f"{view}-{scheme}-{name}.png", full_page=True)
    without_violation(page)
    assert wide(page) <= size["width"]


def wide(page):
    return page.evaluate("document.documentElement.scrollWidth")


@pytest.mark.parametrize("view", VIEWS)
def test_at_twice_the_size_and_on_the_smallest_phone(visit, view):
    # A window of 1280 at 200% has 640 left; 320 is that of 1280 at 400% (WCAG 1.4.10).
    for width in (640, 320):
        page = visit(f"/#{view}", viewport={"width": width, "height": 450})
        ready(page, view)
        assert wide(page) <= width
        if view == "review":
            for button in part(page).locator(".word").all()[:3]:
                assert button.bounding_box()["x"] + button.bounding_box()["width"] <= width


def test_the_views_are_links_with_titles_and_a_way_back(visit):
    page = visit()
    expect(page).to_have_title("One review · Reelsense")
    page.get_by_role("link", name="The model", exact=True).click()
    expect(page).to_have_title("The model · Reelsense")
    expect(page.locator("#model-title")).to_be_focused()
    expect(page.locator("nav [aria-current=page]")).to_have_text("The model")
    page.go_back()
    expect(page.locator("#review-title")).to_be_visible()
    expect(page.locator("#model-title")).to_be_hidden()
    page = visit()
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.reload()  # what the browser has kept is asked for again
    expect(part(page).locator(".word").first).to_be_visible()


# --- one review ------------------------------------------------------------------------------


def test_the_answer_comes_as_one_types(visit, shipped):
    page = visit()
    ready(page, "review")
    area = part(page).locator("textarea")
    area.fill("")
    expect(part(page).locator(".verdict")).to_be_hidden()
    area.press_sequentially("A wonderful film, and a moving one.", delay=15)
    expect(part(page).locator(".verdict-label")).to_have_text("Positive")
    expected = chance(shipped, "A wonderful film, and a moving one.")
    assert round(100 * expected) <= 99
    expect(part(page).locator(".verdict-chance")).to_have_text(f"{100 * expected:.0f}% likely")
    expect(part(page).locator(".said")).to_contain_text("Positive")  # what a screen reader says
    area.fill("A dull, stupid film.")
    expect(part(page).locator(".verdict-label")).to_have_text("Negative")
    dot = part(page).locator(".dot").evaluate("(dot) => dot.style.left")
    assert float(dot[:-1]) == pytest.approx(100 * chance(shipped, "A dull, stupid film."), abs=0.01)
    area.fill("It is a film.")
    expect(part(page).locator(".verdict-chance")).to_contain_text("too close to call")


def test_words_have_a_side_a_figure_and_a_line_of_their_own(visit, shipped):
    page = visit()
    ready(page, "review")
    reader = write(page, TEXT)
    with shipped.client() as client:
        why = client.post("/v1/explain", json={"text": TEXT}).json()
    words = reader.locator(".word")
    assert words.all_text_contents() == [word["text"] for word in why["words"]]
    for button, word in zip(words.all(), why["words"], strict=True):
        sign = "−" if word["evidence"] < 0 else "+"
        figure = f"{abs(word['evidence']):.2f}"
        if figure != "0.00":
            assert button.get_attribute("aria-label") == f"{word['text']}, {sign}{figure}"
    thin, wonderful = words.filter(has_text="thin"), words.filter(has_text="wonderful")
    style = "(word) => getComputedStyle(word).borderBottomStyle"
    assert (thin.evaluate(style), wonderful.evaluate(style)) == ("dashed", "solid")
    wonderful.hover()
    expect(reader.locator(".tip")).to_have_text(
        f"+{evidence(why, 'wonderful'):.2f} towards positive"
    )
    page.keyboard.press("Escape")
    expect(reader.locator(".tip")).to_have_count(0)
    thin.focus()
    expect(reader.locator(".tip")).to_contain_text("towards negative")
    without_violation(page)


def evidence(why, text):
    return next(word["evidence"] for word in why["words"] if word["text"] == text)


def test_a_word_taken_out_changes_the_answer_and_may_come_back(visit, shipped):
    page = visit()
    ready(page, "review")
    reader = write(page, TEXT)
    word = reader.locator(".word").filter(has_text="wonderful")
    word.click()
    after = chance(shipped, TEXT.replace("wonderful", ""))
    said = reader.locator(".change-said")
    expect(said).to_contain_text("Without “wonderful”:")
    expect(said).to_contain_text(f"{100 * after:.0f}% positive instead of")
    expect(word).to_have_attribute("aria-pressed", "true")
    assert word.evaluate("(word) => getComputedStyle(word).textDecorationLine") == "line-through"
    dot = reader.locator(".dot").evaluate("(dot) => dot.style.left")
    assert float(dot[:-1]) == pytest.approx(100 * after, abs=0.01)
    without_violation(page)
    reader.locator(".undo").click()
    expect(reader.locator(".change")).to_be_hidden()
    expect(word).to_have_attribute("aria-pressed", "false")
    expect(word).to_be_focused()


def test_sentences_make_an_arc_and_can_be_taken_out(visit, shipped):
    page = visit()
    ready(page, "review")
    reader = write(page, TEXT)
    with shipped.client() as client:
        why = client.post("/v1/explain", json={"text": TEXT}).json()
    columns = reader.locator(".column")
    expect(columns).to_have_count(2)
    tall = [
        float(bar.evaluate("(bar) => bar.style.height")[:-1]) * (1 if up else -1)
        for bar, up in zip(
            columns.locator(".bar").all(),
            columns.evaluate_all("(all) => all.map((one) => one.classList.contains('plus'))"),
            strict=True,
        )
    ]
    of_each = [sentence["evidence"] for sentence in why["sentences"]]
    assert tall[0] / tall[1] == pytest.approx(of_each[0] / of_each[1], rel=1e-3)
    columns.nth(1).hover()
    expect(reader.locator(".caption")).to_contain_text("Sentence 2, ")
    expect(reader.locator(".word.inside")).to_have_count(14)
    columns.nth(1).click()
    expect(reader.locator(".change-said")).to_contain_text("Without 14 words:")
    expect(reader.locator(".verdict-label")).not_to_have_text("Positive")
    columns.nth(1).click()
    expect(reader.locator(".change")).to_be_hidden()


def test_everything_works_with_the_keyboard(visit):
    page = visit()
    ready(page, "review")
    reader = write(page, TEXT)
    reader.locator("textarea").focus()
    page.keyboard.press("Tab")
    expect(reader.locator(".word").first).to_be_focused()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(reader.locator(".word").nth(3)).to_be_focused()
    expect(reader.locator(".tip")).to_be_visible()
    page.keyboard.press("Enter")
    expect(reader.locator(".change-said")).to_contain_text("Without “thin”")
    page.keyboard.press("End")
    expect(reader.locator(".word").last).to_be_focused()
    page.keyboard.press("Tab")
    expect(reader.locator(".column").first).to_be_focused()
    page.keyboard.press("Space")
    expect(reader.locator(".column").first).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Shift+Tab")
    expect(reader.locator(".word").last).to_be_focused()  # where one was


def test_a_text_is_never_markup_and_offsets_count_characters(visit):
    page = visit()
    ready(page, "review")
    text = "😀 <img src=x onerror=alert(1)> wonderful 🎬 & <b>dull</b>\n\n  second line"
    reader = write(page, text)
    assert "wonderful" in reader.locator(".word").all_text_contents()
    assert reader.locator(".words img, .words b").count() == 0


def test_a_text_that_is_too_long_is_told_so_in_words(visit):
    page = visit()
    ready(page, "review")
    part(page).locator("textarea").fill("good " * 30_000)
    expect(part(page).locator(".wrong")).to_contain_text("150,000 characters; send at most 100,000")
    assert any("413" in said for said in visit.wrong)  # the browser's own line
    visit.wrong.clear()
    part(page).locator("textarea").fill("good")
    expect(part(page).locator(".wrong")).to_be_hidden()


def test_a_server_that_has_gone_is_said(visit, start):
    server = start()
    page = visit(server=server)
    ready(page, "review")
    server.end()
    part(page).locator("textarea").fill("good")
    expect(part(page).locator(".wrong")).to_contain_text("does not answer")
    visit.wrong.clear()


def test_a_token_is_asked_for_once(visit, start):
    server = start(env={"REELSENSE_TOKEN": "open-sesame"})
    page = visit(server=server)
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    without_violation(page)
    dialog.get_by_label("Token").fill("wrong")
    page.keyboard.press("Enter")
    expect(dialog).to_be_visible()
    dialog.get_by_label("Token").fill("open-sesame")
    page.keyboard.press("Enter")
    expect(part(page).locator(".word").first).to_be_visible()
    page.reload()
    expect(part(page).locator(".word").first).to_be_visible()
    expect(dialog).to_be_hidden()
    assert all("401" in said for said in visit.wrong)
    visit.wrong.clear()


# --- two reviews -----------------------------------------------------------------------------


def test_two_texts_side_by_side(visit, shipped):
    page = visit("/#two")
    ready(page, "two")
    write(page, "A wonderful film.", "two", 0)
    write(page, "A stupid film.", "two", 1)
    points = 100 * (chance(shipped, "A wonderful film.") - chance(shipped, "A stupid film."))
    said = part(page, "two").locator(".difference")
    expect(said).to_have_text(
        f"The second is {points:.0f} points less positive; the label changes."
    )
    left, right = (part(page, "two").locator(".reader").nth(n).bounding_box() for n in (0, 1))
    assert left["y"] == right["y"]
    write(page, "A wonderful film.", "two", 1)
    expect(said).to_have_text("Both are equally positive; the label stays.")


# --- a file ----------------------------------------------------------------------------------

ROWS = [
    ["1", "A wonderful, moving film.", "=cmd|' /C calc'!A0"],
    ["2", 'He said "dull",\nand it is.', "+1-555"],
    ["-3", "It is a film; made in 1999.", "@SUM(A1)"],
    ["4", "😀 Great!", "-2+3"],
    ["5", "", "\t=1"],
]


def csv_of(head, rows):
    out = io.StringIO()
    csv.writer(out).writerows([head, *rows])
    return out.getvalue().encode()


def give(page, name, content):
    part(page, "file").locator("input[type=file]").set_input_files(
        {"name": name, "mimeType": "text/csv", "buffer": content}
    )


def finished(page, said="All rows are answered."):
    expect(part(page, "file").locator(".job-said")).to_have_text(said, timeout=60_000)


def downloaded(page):
    with page.expect_download() as found:
        part(page, "file").locator(".download").click()
    text = Path(found.value.path()).read_text("utf-8")
    return found.value.suggested_filename, list(csv.reader(io.StringIO(text, newline="")))


def test_a_csv_becomes_a_table_and_comes_back_harmless(visit, shipped):
    page = visit("/#file")
    give(page, "my reviews.csv", csv_of(["id", "review", "note"], ROWS))
    finished(page)
    view = part(page, "file")
    expect(view.locator(".job-column")).to_have_value("1")
    expect(view.locator("tbody tr")).to_have_count(5)
    name, rows = downloaded(page)
    assert name == "my-reviews-answers.csv"
    assert rows[0] == [
        "id",
        "review",
        "note",
        "label",
        "probability",
        "tokens",
        "unknown",
        "truncated",
    ]
    assert [row[1] for row in rows[1:]] == [row[1] for row in ROWS]
    assert rows[3][0] == "-3"  # a number is one
    assert [row[2] for row in rows[1:]] == [f"'{row[2]}" for row in ROWS]
    with shipped.client() as client:
        texts = [row[1] for row in ROWS]
        expected = client.post("/v1/predict", json={"texts": texts}).json()["predictions"]
    assert [(row[3], float(row[4])) for row in rows[1:]] == [
        (one["label"], one["probability"]) for one in expected
    ]


def test_the_table_is_sorted_and_filtered(visit):
    page = visit("/#file")
    give(page, "a.csv", csv_of(["id", "review", "note"], ROWS))
    finished(page)
    view = part(page, "file")
    head = view.locator("th").filter(has_text="Positive")
    for direction, turned in (("ascending", False), ("descending", True)):
        head.get_by_role("button").click()
        expect(head).to_have_attribute("aria-sort", direction)
        shown = [
            float(text.strip("over %"))
            for text in view.locator("td:nth-child(3)").all_text_contents()
        ]
        assert shown == sorted(shown, reverse=turned)
    expect(view.locator("th[aria-sort]")).to_have_count(1)
    counts = {}
    for label in ("positive", "uncertain", "negative"):
        choice = view.locator(f".filter .{label}")
        choice.click()
        tags = view.locator("tbody .tag").all_text_contents()
        assert set(tags) <= {label}
        counts[label] = len(tags)
        assert choice.locator(".number").text_content() == str(len(tags))
    assert sum(counts.values()) == 5
    assert counts["positive"] >= 2
    assert counts["uncertain"] >= 1  # the empty one
    drawn = view.locator(".histogram .bin").evaluate_all(
        "(all) => all.filter((one) => one.height.baseVal.value > 0).length"
    )
    assert drawn >= 2
    said = view.locator(".histogram svg").get_attribute("aria-label")
    assert f"{counts['positive']} positive" in said


def test_a_row_is_looked_at_word_by_word(visit):
    page = visit("/#file")
    ready(page, "file")
    part(page, "file").locator(".look").nth(2).click()
    expect(page).to_have_title("One review · Reelsense")
    expect(part(page).locator("textarea")).to_have_value(re.compile("^Two hours of people"))
    expect(part(page).locator(".verdict-label")).to_have_text("Negative")


def test_a_dropped_file_with_other_separators_quotes_and_columns(visit):
    page = visit("/#file")
    text = 'titel;text\r\nA;"Ein ""Film""; gut"\r\nB;wonderful café\r\n'
    page.evaluate(
        """(bytes) => {
            const moved = new DataTransfer();
            moved.items.add(new File([new Uint8Array(bytes)], "alt.csv"));
            for (const kind of ["dragenter", "dragover", "drop"]) {
                const event = new DragEvent(kind, {
                    dataTransfer: moved, bubbles: true, cancelable: true,
                });
                document.querySelector(".drop").dispatchEvent(event);
            }
        }""",
        list(text.encode("windows-1252")),
    )  # fmt: skip
    finished(page)
    view = part(page, "file")
    assert view.locator(".look").all_text_contents() == ['Ein "Film"; gut', "wonderful café"]
    view.locator(".job-column").select_option("0")
    expect(view.locator(".look").first).to_have_text("A")
    finished(page)


def test_a_large_file_shows_progress_and_can_be_cancelled(visit):
    page = visit("/#file")
    rows = [[str(n), f"{TEXT} " * 12 + str(n)] for n in range(4000)]
    give(page, "many.csv", csv_of(["n", "text"], rows))
    view = part(page, "file")
    expect(view.locator(".job-progress")).to_contain_text("of 4,000 rows, about")
    done = "() => document.querySelector('progress').value > 100"
    page.wait_for_function(done)
    assert view.locator("tbody tr").count() == 50
    view.locator(".later").click()
    expect(view.locator(".pages-said")).to_have_text("51 to 100 of 4,000")
    view.locator(".cancel").click()
    expect(view.locator(".job-said")).to_contain_text("Stopped after")
    number = int(view.locator(".job-said").text_content().split()[2].replace(",", ""))
    assert 100 < number < 4000
    left = view.locator(".filter .unanswered .number")
    expect(left).to_have_text(f"{4000 - number:,}")
    _, answers = downloaded(page)
    assert sum(row[2] != "" for row in answers[1:]) == number


def test_a_text_that_is_too_long_does_not_stop_the_others(visit):
    page = visit("/#file")
    give(
        page,
        "a.csv",
        csv_of(["id", "text"], [["1", "good"], ["2", "long " * 30_000], ["3", "bad"]]),
    )
    finished(page)
    tags = part(page, "file").locator("tbody .tag").all_text_contents()
    assert tags[1] == "too long"
    assert "" not in (tags[0], tags[2])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b'text\n"never closed\n', "Row 2 has a quote that is never closed"),
        ("a.csv", b"text\n", "no row of texts"),
        ("a.csv", b"", "no row of texts"),
        ("a.csv", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "This is no text"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(visit, name, content, said):
    page = visit("/#file")
    give(page, name, content)
    expect(part(page, "file").locator(".file-wrong")).to_contain_text(said)
    give(page, "good.csv", b"text\ngood\n")
    finished(page)
    expect(part(page, "file").locator(".file-wrong")).to_be_hidden()


# --- the model -------------------------------------------------------------------------------


def test_the_page_of_the_model_shows_its_card(visit, shipped):
    page = visit("/#model")
    ready(page, "model")
    view = part(page, "model")
    with shipped.client() as client:
        card = client.get("/v1/model").json()
    text = view.inner_text()
    for figure in (
        f"{card['figures']['n']:,} reviews",
        f"{card['figures']['accuracy']:.2%}",
        f"{card['figures']['roc_auc']:.4f}",
        f"{card['figures']['confusion'][0][0]:,}",
        f"{card['trained_on']['reviews']:,} reviews with labels",
    ):
        assert figure in text
    expect(view.locator("svg.chart")).to_have_count(4)  # accuracy, loss, calibration, refusing
    view.locator("summary").nth(2).click()
    expect(view.locator("details[open] tbody tr").first).to_be_visible()
    rows = view.locator(".hard tbody tr")
    expect(rows).to_have_count(len(card["hard"]))
    for row, sentence in zip(rows.all(), card["hard"], strict=True):
        positive = chance(shipped, sentence["text"]) >= 0.5
        if row.locator(".tag").text_content() != "undecided":
            right = positive == (sentence["label"] == "positive")
            assert row.locator(".tag").text_content() == ("right" if right else "wrong")
    without_violation(page)


def test_a_bundle_with_curves_shows_its_own(chromium, visit, shipped):
    page = visit("/#review")
    with shipped.client() as client:
        card = client.get("/v1/model").json()
    card["figures"]["curves"] = [
        {
            "epoch": n,
            **{part: {"loss": 1 / n, "accuracy": 0.5 + n / 10} for part in ("train", "test")},
        }
        for n in (1, 2, 3)
    ]
    page.route("**/v1/model", lambda route: route.fulfill(body=json.dumps(card)))
    page.reload()
    page.get_by_role("link", name="The model", exact=True).click()
    ready(page, "model")
    said = part(page, "model").locator("svg.chart").first.get_attribute("aria-label")
    assert said == "Accuracy by epoch: train 80.0% at the end, test 80.0% at the end."
