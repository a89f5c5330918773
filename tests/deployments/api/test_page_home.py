"""The page's first view in a real browser, without Ray: examples, files that are dropped, the gallery, the pools."""

import io
import json
from collections.abc import Iterator

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, FilePayload, Page, expect

from client.schema import STAGES, StageState
from deployments.api.page import EXAMPLES, offers_of
from stages.presets import MODERN, PAPER, TINY, WEIGHTS
from stages.types import STAGE_NAMES
from stages.words import load_vocabulary
from tests.browser import chromium, needs_chromium, opened
from tests.deployments.api.making import Making
from tests.deployments.api.served import Served
from tests.e2e.rig import wait_for
from tests.test_architecture import ROOT

pytestmark = pytest.mark.slow

TELLS = ("README.md", "deployments/README.md", "stages/README.md", "client/README.md")
PHONE = {"width": 360, "height": 740}
BRING = """(control, [name, type, bytes]) => {
    const data = new DataTransfer();
    data.items.add(new File([new Uint8Array(bytes)], name, { type }));
    const [kind, field] = control;
    const about = { clipboardData: data, dataTransfer: data, bubbles: true, cancelable: true };
    const event = kind === 'paste' ? new ClipboardEvent('paste', about) : new DragEvent('drop', about);
    document.querySelector(field).dispatchEvent(event);
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


def test_the_smallest_model_knows_every_word_of_the_examples() -> None:
    vocabulary = load_vocabulary(WEIGHTS / TINY.vocabulary)
    assert [vocabulary.read(prompt).note for prompt in EXAMPLES] == [""] * len(EXAMPLES)
    for slot in ("subject", "motion", "place", "time"):
        for words in offers_of(TINY)["draws"][slot]:
            said = f"a fox {words}" if slot != "subject" else f"a {words}"
            reading = vocabulary.read(said)
            assert not reading.unknown, said
            assert not reading.without_subject, said
    assert offers_of(PAPER)["draws"] == {}


def test_the_four_stages_have_the_same_words_everywhere() -> None:
    assert tuple(STAGES) == STAGE_NAMES
    sentence = ", ".join(f"{name} ({code.upper()}) {does}" for code, (name, does) in STAGES.items())
    for path in TELLS:
        assert sentence in " ".join((ROOT / path).read_text().split()), f"{path} needs: {sentence}"
    page = (ROOT / "deployments" / "api" / "web" / "stages.js").read_text()
    for code, words in STAGES.items():
        assert f"{code}: {json.dumps(list(words))}," in page
        said = StageState.model_json_schema()["properties"]["name"]["description"]
        assert f"{code}, the {words[0]}, {words[1]}" in said


def tiles(page: Page) -> list[str]:
    return [str(tile.inner_text()) for tile in page.locator(".tile .caption").all() if tile.is_visible()]


@needs_chromium
def test_an_example_is_one_click_and_a_surprise_is_never_refused(served: Served, browser: Browser) -> None:
    with opened(browser, served.url) as page:
        page.get_by_role("button", name=EXAMPLES[1]).click()
        expect(page.get_by_label("What should happen")).to_have_value(EXAMPLES[1])
        for _ in range(5):
            page.get_by_role("button", name="Surprise me").click()
            prompt = page.get_by_label("What should happen").input_value()
            assert load_vocabulary(WEIGHTS / TINY.vocabulary).read(prompt).note == ""
        page.get_by_text("What tiny can draw").click()
        expect(page.get_by_text("in a snowy forest", exact=False).last).to_be_visible()
        page.get_by_text("Options", exact=True).click()
        expect(page.get_by_text("1 to 150 for every stage; else picture 14, motion 12, detail 12")).to_be_visible()


@needs_chromium
def test_a_stage_gets_steps_and_guidance_of_its_own(served: Served, browser: Browser) -> None:
    with opened(browser, served.url, allowed=("400",)) as page:
        page.get_by_label("What should happen").fill("a fox")
        page.get_by_text("Options", exact=True).click()
        page.get_by_text("Steps and guidance of one stage").click()
        expect(page.get_by_label("Motion, steps")).to_have_attribute("placeholder", "12")
        page.get_by_label("Motion, steps").fill("999")
        page.get_by_label("Detail, guidance").fill("4.5")
        page.get_by_text("Options", exact=True).click()
        page.get_by_role("button", name="Make the video").click()
        expect(page.get_by_role("alert").first).to_contain_text("stages.i2v.steps is 999")
        expect(page.get_by_label("Motion, steps")).to_be_focused()
        page.get_by_label("Motion, steps").fill("20")
        page.get_by_role("button", name="Make the video").click()
        expect(page.locator(".status")).to_contain_text("Queued")
        page.goto("/")
        page.get_by_label("What should happen").fill("a fox")
        page.get_by_text("Options", exact=True).click()
        page.get_by_text("Steps and guidance of one stage").click()
        page.get_by_label("Detail, steps").fill("3")
        picture = io.BytesIO()
        Image.new("RGB", (64, 64), (30, 120, 200)).save(picture, "PNG")
        blue = FilePayload(name="blue.png", mimeType="image/png", buffer=picture.getvalue())
        page.get_by_label("Begin with this picture").set_input_files(blue)
        page.get_by_role("button", name="Make the video").click()
        expect(page.locator(".status")).to_contain_text("Queued")
    said = [job.request.stages for job in served.journal.page(limit=2)[0]]
    assert [own.model_dump(exclude_none=True) for own in said if own] == [
        {"v2v": {"steps": 3}},
        {"i2v": {"steps": 20}, "v2v": {"guidance": 4.5}},
    ]


def test_a_preset_of_pipelines_offers_no_steps_of_all_stages() -> None:
    assert [offers_of(preset)["built_in"] for preset in (TINY, PAPER, MODERN)] == [True, True, False]


@needs_chromium
@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_picture_is_dropped_or_pasted(served: Served, browser: Browser, way: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), (30, 120, 200)).save(file, "PNG")
    with opened(browser, served.url) as page:
        bring = f"(data) => ({BRING})(['{way}', '{'body' if way == 'drop' else '#prompt'}'], data)"
        page.wait_for_selector("#prompt")
        page.evaluate(bring, ["blue.png", "image/png", list(file.getvalue())])
        expect(page.locator(".given")).to_contain_text("Begins with blue.png")
        assert page.evaluate("document.querySelector('.given img').decode().then(() => true)")
        page.get_by_role("button", name="Take it out").click()
        expect(page.locator(".given")).to_be_hidden()
        page.evaluate(bring, ["blue.png", "image/png", list(file.getvalue())])
        page.get_by_label("What should happen").fill("a whale")
        page.get_by_role("button", name="Make the video").click()
        expect(page.locator(".status")).to_contain_text("Queued")
    source = served.journal.page(limit=1)[0][0].request.source
    assert source is not None
    assert (source.kind, source.width) == ("picture", 64)


@needs_chromium
def test_videos_of_others_appear_are_searched_and_deleted_together(served: Served, browser: Browser) -> None:
    done = Making(served, "a fox in the snow")
    done.chunk(0)
    done.finish()
    with opened(browser, served.url, viewport=PHONE) as page:
        page.wait_for_selector(".tile")
        served.create("an owl at night")
        served.create("a fox in a city")
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # else it would be some seconds
        expect(page.locator(".tile")).to_have_count(3)
        assert tiles(page) == ["a fox in a city", "an owl at night", "a fox in the snow"]
        boxes = [tile.bounding_box() for tile in page.locator(".tile").all()]
        assert len({round(box["height"]) for box in boxes if box}) == 1
        assert len({round(box["x"]) for box in boxes if box}) == 2  # columns
        page.get_by_label("Search the prompts").fill("FOX city")
        expect(page.locator(".tile .caption")).to_have_text(["a fox in a city"])
        page.get_by_label("Search the prompts").fill("fox")
        page.get_by_label("Which videos").select_option("completed")
        expect(page.locator(".tile .caption")).to_have_text(["a fox in the snow"])
        page.get_by_label("Which videos").select_option("paused")
        expect(page.get_by_text("No video fits.")).to_be_visible()
        page.get_by_label("Which videos").select_option("")
        expect(page.locator(".tile")).to_have_count(2)
        page.get_by_role("button", name="Select", exact=True).click()
        for box in page.get_by_role("checkbox").all():
            box.check()
        page.get_by_role("button", name="Delete 2 videos").click()
        page.get_by_role("button", name="Delete them").click()
        expect(page.locator("#said")).to_have_text("Videos: 1 deleted, 1 stopped.")
        page.get_by_label("Search the prompts").fill("")
        expect(page.locator(".tile[data-status=cancelled]")).to_have_count(1)  # what waited is stopped, and stays
    assert served.journal.counts() == {"queued": 1, "cancelled": 1}


@needs_chromium
def test_a_tile_plays_while_it_is_looked_at(served: Served, browser: Browser) -> None:
    done = Making(served)
    done.chunk(0)
    done.finish()
    with opened(browser, served.url) as page:
        page.locator(".tile").hover()
        expect(page.locator(".tile video:not(.coming)")).to_have_count(1)
        page.locator("h1").hover()
        expect(page.locator(".tile video")).to_have_count(0)


@needs_chromium
def test_the_pools_show_the_last_hour_that_the_server_remembers(served: Served, browser: Browser) -> None:
    done = Making(served)
    done.chunk(0)
    done.finish()
    served.create("an owl")
    said = httpx.get(f"{served.url}/v1/pools?history=true").json()
    assert (len(said["finished"]), sum(said["finished"])) == (60, 1)
    with opened(browser, served.url) as page:
        page.get_by_role("link", name="Pools").click()
        expect(page.locator(".pool")).to_have_count(4)
        expect(page.locator(".sums")).to_contain_text("1 completed in the last hour")
        chart = page.locator(".pool.v2v svg")
        expect(chart).to_contain_text("60 min ago")
        expect(chart).to_have_attribute(
            "aria-label",
            "Detail, calls and replicas over the last 60 minutes: "
            "waiting calls 0 now, computing calls 0 now, replicas 0 now",
        )
        expect(page.locator(".pool.t2i dd").first).to_have_text("0 busy, 1 free")
        line = "document.querySelector('.pool.t2i polyline').getAttribute('points').split(' ').length"
        wait_for("two looks", lambda: page.evaluate(line) > 1)
    history = httpx.get(f"{served.url}/v1/pools?history=true").json()["history"]
    assert [moment["replicas"] for moment in history][:1] == [[1, 0, 0, 0]]
