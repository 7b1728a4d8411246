"""The page in a real browser: Debian's chromium, driven by Playwright.

Skipped, saying so, where there is no chromium. Every test fails on an error in the console, on a
failed script, and on a request to anybody but the server.
"""

import csv
import re
import shutil
import threading
import time

import pytest

from folders import features, make_folder
from rebuilding import rebuild
from serve.conftest import moving_square
from tests_support import go, tiny
from tubelet.serve.app import SiteSettings, create_app
from tubelet.serve.server import policy_for
from tubelet.store.folder import load

uvicorn = pytest.importorskip("uvicorn")
playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="needs chromium (apt-get install chromium)"
)

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
]
EVERYTHING = (0.02, 0.02), (0.98, 0.98)
LAPTOP = {"width": 1280, "height": 800}


@pytest.fixture(scope="module")
def browser():
    playwright.expect.set_options(timeout=15_000)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Running:
    """A server in a thread."""

    def __init__(self, out, **settings):
        self.app = create_app(out, SiteSettings(**{"build": None, **settings}))
        config = uvicorn.Config(self.app, port=0, log_level="warning", timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        deadline = time.monotonic() + 30
        while not self.server.started:
            assert self.thread.is_alive()
            assert time.monotonic() < deadline
            self.thread.join(0.02)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"

    def close(self):
        self.server.should_exit = True
        self.thread.join()


@pytest.fixture(scope="module")
def running(out):
    server = Running(out, build=rebuild)
    yield server
    server.close()


@pytest.fixture
def start():
    """start(out, **settings) -> a running server."""
    servers = []

    def run(out, **settings):
        servers.append(Running(out, **settings))
        return servers[-1]

    yield run
    for server in servers:
        server.close()


class Watched:
    """A page, and what it must not do."""

    def __init__(self, browser, address, **context):
        self.context = browser.new_context(viewport=LAPTOP, accept_downloads=True, **context)
        self.page = self.context.new_page()
        self.page.set_default_timeout(15_000)
        self.address, self.faults, self.allowed = address, [], []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", lambda dialog: self.faults.append(f"dialog: {dialog.message}"))
        self.page.on("request", self._request)

    def _console(self, message):
        if message.type in ("error", "warning"):
            self.faults.append(message.text)

    def _request(self, request):
        if not request.url.startswith((self.address, "blob:" + self.address)):
            self.faults.append(f"asked {request.url}")

    def close(self):
        self.context.close()
        faults = [f for f in self.faults if not any(word in f for word in self.allowed)]
        assert faults == []


@pytest.fixture
def visit(browser, start):  # closed before the servers are
    """visit(server, path) -> a page of it."""
    pages = []

    def open_page(server, path="/", **context):
        watched = Watched(browser, server.address, **context)
        pages.append(watched)
        watched.page.goto(server.address + path)
        watched.page.allowed = watched.allowed
        return watched.page

    yield open_page
    for watched in pages:
        watched.close()


def expect(locator):
    return playwright.expect(locator)


def until(page, condition, *arguments):
    """Wait for a condition on the main video (v) or on what is passed (a), frame by frame."""
    page.evaluate(
        """async (a) => {
          const end = performance.now() + 15000;
          for (;;) {
            const v = document.querySelector(".screen video");
            if (CONDITION) return;
            if (performance.now() > end) throw new Error("not within 15 s");
            await new Promise(requestAnimationFrame);
          }
        }""".replace("CONDITION", condition),
        list(arguments),
    )


def choose(page, name):
    page.locator("#list a", has_text=name).first.click()
    expect(page.locator("h1")).to_have_text(name)


def drag(page, selector, start, end):
    """From and to in shares of the element's width and height."""
    box = page.locator(selector).bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)]
    page.mouse.move(*places[0])
    page.mouse.down()
    page.mouse.move(*places[1], steps=5)
    page.mouse.up()


def click_moment(page, share):
    box = page.locator(".timeline").bounding_box()
    page.mouse.click(box["x"] + share * box["width"], box["y"] + 15)


def test_the_list_is_there_and_can_be_filtered(visit, running):
    page = visit(running)
    expect(page.locator("#list a")).to_have_count(5)
    expect(page.locator("#count")).to_contain_text("5 videos  ·  1 failed")
    page.keyboard.press("/")
    page.keyboard.type("sec")
    expect(page.locator("#list a")).to_have_count(1)
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("second")
    page.locator("#filter").fill("")
    page.select_option("#state", "failed")
    expect(page.locator("#list a")).to_have_count(1)
    expect(page.locator("#list a")).to_contain_text("broken")


def test_playing_moves_the_playhead_and_marks_the_row(visit, running, out):
    page = visit(running)
    choose(page, "first")
    page.locator(".screen video").evaluate("v => { v.muted = true; return v.play(); }")
    until(page, "v.currentTime > 1.2")
    page.locator(".screen video").evaluate("v => v.pause()")
    centres = load(out / "first.json").center_s
    for t in (0.3, 2.4, 4.1):
        page.locator(".screen video").evaluate("(v, t) => { v.currentTime = t; }", t)
        row = min(range(len(centres)), key=lambda i: abs(centres[i] - t))
        expect(page.locator(".timeline")).to_have_attribute("aria-valuenow", str(row))
        expect(page.locator(".when strong")).to_have_text(f"row {row}")


def test_a_webm_of_vp9_plays_and_its_name_is_text(visit, running):
    page = visit(running)
    choose(page, "third <script>")
    video = page.locator(".screen video")
    until(page, "v?.videoWidth === 160")
    video.evaluate("v => { v.muted = true; return v.play(); }")
    until(page, "v.currentTime > 0.3")


def test_hovering_shows_time_and_classes(visit, running):
    page = visit(running)
    choose(page, "first")
    box = page.locator(".timeline").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 15)
    expect(page.locator("#tip")).to_contain_text("0:03.0")
    expect(page.locator("#tip")).to_contain_text("class")


def test_a_moment_finds_the_nearest_ones_and_they_play_at_their_second(visit, running, out):
    page = visit(running)
    choose(page, "first")
    click_moment(page, 0.5)
    cards = page.locator(".results .card")
    expect(cards.first).to_be_visible()
    asked = page.locator(".query strong").inner_text()
    assert asked == f"row {load(out / 'first.json').at(3.0)}"
    scores = [float(x) for x in page.locator(".score > span:last-child").all_inner_texts()]
    assert scores == sorted(scores, reverse=True)
    assert len({page.locator(".card .name").nth(i).inner_text() for i in range(6)}) > 1

    playable = page.locator(".card", has_text="second").first
    playable.scroll_into_view_if_needed()
    playable.get_by_role("button", name="Play").click()
    video = playable.locator("video")
    until(page, "a[0].currentTime > 0 && !a[0].paused", video.element_handle())
    start = video.evaluate("v => v.currentTime")
    link = playable.locator("a.name")
    t = float(link.get_attribute("href").partition("?t=")[2])
    assert t - 0.01 <= start <= t + 1.5

    link.click()
    expect(page.locator("h1")).to_have_text("second")
    until(page, "Math.abs(v.currentTime - a[0]) < 0.1", t)


def test_a_span_is_searched_by_its_mean(visit, running):
    page = visit(running)
    choose(page, "first")
    expect(page.locator(".timeline .band").first).to_be_visible()
    drag(page, ".timeline", (0.2, 0.3), (0.6, 0.3))
    expect(page.locator(".query strong")).to_contain_text("mean of rows")
    expect(page.locator(".results .card").first).to_be_visible()
    with page.expect_download() as saved:
        page.get_by_role("link", name="Save the mean").click()
    assert saved.value.path().read_bytes()[:6] == b"\x93NUMPY"


def test_everything_on_the_timeline_can_be_done_from_the_keyboard(visit, running):
    page = visit(running)
    choose(page, "first")
    page.locator(".timeline").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(page.locator(".timeline")).to_have_attribute("aria-valuenow", "3")
    page.keyboard.press("Enter")
    expect(page.locator(".query strong")).to_have_text("row 3")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator(".query strong")).to_have_text("mean of rows 3 – 5")
    page.keyboard.press("End")
    page.keyboard.press("Home")
    expect(page.locator(".timeline")).to_have_attribute("aria-valuenow", "0")
    page.locator(".screen video").evaluate("v => { v.muted = true; }")
    page.keyboard.press(" ")
    until(page, "!v.paused")
    page.keyboard.press("+")
    page.keyboard.press("-")
    page.keyboard.press("Escape")


def test_two_videos_are_compared(visit, running, out):
    page = visit(running)
    choose(page, "first")
    page.get_by_role("link", name="Compare with…").click()
    page.locator("#choose-b").fill("second")
    page.keyboard.press("Enter")
    expect(page.locator(".matrix")).to_be_visible()
    expect(page.locator(".square")).to_contain_text("Mean cosine along the path")
    until(page, "document.querySelectorAll('.pairs video').length === 2")
    until(page, "[...document.querySelectorAll('.pairs video')].every((v) => v.readyState)")
    box = page.locator(".matrix").bounding_box()
    page.mouse.click(box["x"] + box["width"] - 8, box["y"] + 8)  # first row down, last across
    ends = [load(out / "first.json").center_s[0], load(out / "second.json").center_s[-1]]
    for k, t in enumerate(ends):
        video = page.locator(".pairs video").nth(k).element_handle()
        until(page, "Math.abs(a[0].currentTime - a[1]) < 0.05", video, float(t))
    page.keyboard.press("ArrowDown")
    expect(page.locator(".matrix")).to_have_attribute("aria-valuetext", re.compile("first  0:00.4"))


def rows_of(out):
    return sum(
        len(load(out / f"{n}.json").values) for n in ("first", "old", "second", "third <script>")
    )


def test_brushing_the_map_selects_rows_that_can_be_exported(visit, running, out):
    page = visit(running, "/#/map")
    expect(page.locator("canvas.map")).to_be_visible()
    drag(page, "canvas.map", *EVERYTHING)
    total = rows_of(out)
    expect(page.locator(".picked-rows strong").first).to_contain_text(f"{total} rows of 4 videos")
    page.get_by_role("button", name="Add to selection").click()
    expect(page.locator("#tray")).to_contain_text(f"{total} windows of 4 videos selected")
    page.get_by_label("with features").check()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Export CSV").click()
    lines = list(csv.DictReader(saved.value.path().read_text("utf-8").splitlines()))
    assert len(lines) == total
    assert {line["id"] for line in lines} == {"first", "old", "second", "third <script>"}
    stored = load(out / "second.json")
    for line in (line for line in lines if line["id"] == "second"):
        assert float(line["f0"]) == pytest.approx(
            float(stored.values[int(line["row"]), 0]), rel=1e-6
        )
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#tray")).to_be_hidden()
    page.select_option("#color-by", "class")
    expect(page.locator(".legend li").first).to_be_visible()


def test_the_map_from_the_keyboard(visit, running):
    page = visit(running, "/#/map")
    page.locator("canvas.map").focus()
    for _ in range(30):
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowUp")
    for _ in range(60):
        page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator(".picked-rows strong").first).to_contain_text("4 videos")
    page.keyboard.press("Escape")
    expect(page.locator(".picked-rows")).to_contain_text("Drag over a region")


def test_an_upload_shows_its_progress_and_is_searchable(visit, start, out, tmp_path):
    page = visit(start(out, build=rebuild))
    new = moving_square(tmp_path / "my new <b>video</b>.mp4".replace("/", "_"), shade=55)
    page.set_input_files("#file", new)
    box = page.locator(".upload")
    expect(box.locator("progress")).to_be_visible()
    expect(box).to_contain_text("searchable now", timeout=60_000)
    expect(page.locator("#list a", has_text="my new <b>")).to_contain_text("added")
    box.get_by_role("link").click()
    expect(page.locator("h1")).to_have_text(new.name)
    click_moment(page, 0.4)
    expect(page.locator(".results .card").first).to_be_visible()
    until(page, "v?.videoWidth === 160")
    choose(page, "first")
    click_moment(page, 0.4)
    expect(page.locator(".results .card .name", has_text="my new <b>").first).to_be_visible()


def test_a_file_can_be_dropped(visit, start, out, videos):
    page = visit(start(out, build=rebuild))
    expect(page.locator("#list a")).to_have_count(5)
    page.evaluate("""async () => {
      const key = document.querySelector("#list a[title=second]").dataset.key;
      const data = await (await fetch(`/media/${key}`)).blob();
      const transfer = new DataTransfer();
      transfer.items.add(new File([data], "dropped.mp4"));
      for (const name of ["dragenter", "dragover", "drop"]) {
        document.body.dispatchEvent(new DragEvent(name, { dataTransfer: transfer, bubbles: true }));
      }
    }""")
    expect(page.locator(".upload")).to_contain_text("dropped.mp4")
    expect(page.locator(".upload")).to_contain_text("searchable now", timeout=60_000)


def test_an_upload_that_is_no_video_says_so(visit, start, out, tmp_path):
    page = visit(start(out, build=rebuild))
    (tmp_path / "page.mp4").write_text("<html>" * 2000)
    page.allowed.append("415")
    page.set_input_files("#file", tmp_path / "page.mp4")
    expect(page.locator(".upload")).to_contain_text("no video container")
    page.get_by_role("button", name="Stop page.mp4").click()
    expect(page.locator("#uploads")).to_be_hidden()


def test_a_broken_video_shows_why(visit, running):
    page = visit(running)
    choose(page, "broken")
    expect(page.locator(".failure")).to_contain_text("This video gave no features")
    expect(page.locator(".failure")).to_contain_text("NotAVideo")


def test_what_the_browser_cannot_play_gets_a_preview(visit, start, out):
    page = visit(start(out))
    choose(page, "old")
    expect(page.locator(".screen.preview")).to_be_visible(timeout=60_000)
    until(page, "v?.videoWidth === 160")
    page.locator(".screen video").evaluate("v => { v.currentTime = 3; }")
    until(page, "v.currentTime === 3")
    expect(page.locator(".screen")).not_to_have_class("waits")


def test_a_video_that_is_gone_says_so(visit, start, tmp_path):
    video = moving_square(tmp_path / "a.mp4", frames=12)
    go([video], tmp_path / "out", tiny())
    video.unlink()
    page = visit(start(tmp_path / "out"))
    choose(page, "a")
    expect(page.locator(".screen-note")).to_contain_text("its source is not here")
    click_moment(page, 0.2)
    expect(page.locator(".query")).to_be_visible()


def test_an_empty_folder(visit, start, tmp_path):
    page = visit(start(make_folder(tmp_path / "out", {})))
    expect(page.locator("h1")).to_have_text("No videos yet")
    page.get_by_role("link", name="Map").click()
    expect(page.locator("main")).to_contain_text("There are no rows yet")
    page.get_by_role("link", name="Compare").click()
    expect(page.locator("main")).to_contain_text("Choose two videos")


def test_videos_appear_while_one_looks(visit, start, tmp_path):
    out = make_folder(tmp_path / "out", {"one": features(seed=1)})
    server = start(out)
    page = visit(server)
    expect(page.locator("#list a")).to_have_count(1)
    make_folder(out, {"two": features(seed=2)})
    server.app.state.site.catalog.refresh(now=True)
    expect(page.locator("#list a")).to_have_count(2)  # the page asks every four seconds


def test_a_thousand_videos(visit, start, thousand):
    page = visit(start(thousand))
    expect(page.locator("#count")).to_contain_text("1,000 videos")
    expect(page.locator("#list a")).to_have_count(100)
    page.locator("#more").scroll_into_view_if_needed()
    expect(page.locator("#list a").nth(150)).to_be_attached()
    page.locator("#filter").fill("0777")
    expect(page.locator("#list a")).to_have_count(1)
    choose(page, "video 0777")
    click_moment(page, 0.5)
    expect(page.locator(".results h2")).to_contain_text("3,000 rows")
    expect(page.locator(".results .card")).to_have_count(24)
    page.get_by_role("link", name="Map").click()
    expect(page.locator("canvas.map")).to_be_visible()
    drag(page, "canvas.map", (0.3, 0.3), (0.7, 0.7))
    expect(page.locator(".picked-rows strong").first).to_contain_text("videos")


def test_a_token_is_asked_for_and_kept(visit, start, out):
    token = "the-token-of-this-test"
    policy = policy_for("0.0.0.0", token=token, names=())
    server = start(out, policy=policy)
    page = visit(server, f"/?token={token}")
    expect(page.locator("#list a")).to_have_count(5)
    assert token not in page.url
    page.reload()
    expect(page.locator("#list a")).to_have_count(5)
    stranger = visit(server)
    stranger.allowed.append("401")
    expect(stranger.locator("body")).to_contain_text("?token=")


def test_another_site_gets_nothing(browser, running, start, out):
    """A page of another origin in the same browser: another port is enough."""
    other = start(out)
    context = browser.new_context()
    page = context.new_page()
    page.goto(other.address + "/api/state")
    told = page.evaluate(
        """async (address) => {
          const asked = [
            fetch(address + "/api/state"),
            fetch(address + "/api/state", { mode: "no-cors" }).then((r) => r.text()),
            fetch(address + "/api/export", { method: "POST", headers: { "x-tubelet": "1" } }),
          ];
          return (await Promise.allSettled(asked)).map((r) => r.value ?? "failed");
        }""",
        running.address,
    )
    assert told[0] == "failed"
    assert told[1] in ("", "failed")
    assert told[2] == "failed"
    context.close()


def test_no_markup_can_be_made_of_text(visit, running):
    page = visit(running)
    page.allowed.append("TrustedHTML")
    page.allowed.append("trusted")
    failed = page.evaluate("""() => {
      try { document.body.insertAdjacentHTML("beforeend", "<img src=x onerror=alert(1)>"); }
      catch (error) { return error.name; }
    }""")
    assert failed == "TypeError"


VIEWS = ["start", "video", "moments", "failed", "compare", "map"]


def show(page, view):
    if view in ("video", "moments"):
        choose(page, "first")
        expect(page.locator(".timeline .band").first).to_be_visible()
    if view == "moments":
        click_moment(page, 0.5)
        expect(page.locator(".results .card").first).to_be_visible()
        page.locator(".tick input").first.check()
    if view == "failed":
        choose(page, "broken")
    if view == "compare":
        choose(page, "first")
        page.get_by_role("link", name="Compare with…").click()
        page.locator("#choose-b").fill("second")
        page.keyboard.press("Enter")
        expect(page.locator(".matrix")).to_be_visible()
    if view == "map":
        page.get_by_role("link", name="Map").click()
        drag(page, "canvas.map", *EVERYTHING)
        expect(page.locator(".picked-rows .card").first).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility(visit, running, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = visit(running, color_scheme=scheme)
    page.allowed += ["TrustedHTML", "Trusted", "trusted"]
    expect(page.locator("#list a")).to_have_count(5)
    found = []
    for view in VIEWS:
        page.goto(running.address + "/#/")
        show(page, view)
        page.mouse.move(2, 2)
        checked = axe.run(page).response
        assert len(checked["passes"]) > 10
        for fault in checked["violations"]:
            if fault["impact"] in ("serious", "critical"):
                found.append((view, fault["id"], [n["html"][:120] for n in fault["nodes"]][:3]))
    assert found == []
