"""The demo page in a browser and by raw requests: it does what it should, fetches nothing, and gives nothing away."""

from __future__ import annotations

import http.client
import io
import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from demo_site import SECRET, ask, form, make_run, serving
from PIL import Image

from rgsud_fast import derain
from rgsud_fast.demo_page.uploads import MOST_BYTES

pytest.importorskip("gradio", reason="the page needs gradio: pip install -e '.[demo]'")
from rgsud_fast.demo_page.middleware import RequestFilter

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = (
    *("--no-sandbox", "--headless", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    around = tmp_path_factory.mktemp("demo")
    with serving(make_run(around / "run"), around / "server") as site:
        yield site


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def page(browser, site):
    """The page, opened; at the end nothing may have gone wrong in it, nor asked for another machine."""
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(site.address)
    page.get_by_text("Nothing derained yet").wait_for()
    yield page
    assert not errors
    assert asked
    assert not [url for url in asked if not url.startswith((f"{site.address}/", "data:", "blob:"))]
    page.close()


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A photograph of one grey, which derained is darker: any pixel tells what is where."""
    path = tmp_path_factory.mktemp("photo") / "one grey.png"
    Image.fromarray(np.full((300, 400, 3), 200, np.uint8)).save(path)
    return path


def upload(page, path: Path) -> None:
    page.set_input_files("input[type=file]", str(path))


def brightness(page, share: float) -> float:
    """Of the slider's picture, at that share of its width."""
    shown = Image.open(io.BytesIO(page.get_by_test_id("imageslider-image").first.screenshot()))
    return float(np.asarray(shown.convert("L"))[shown.height // 4, round(share * shown.width)])


def test_a_large_photograph_shows_its_tiles_as_they_are_done(page, tmp_path):
    Image.fromarray(np.full((3000, 4000, 3), 200, np.uint8)).save(tmp_path / "large.png")
    page.evaluate(
        """() => {
            window.shown = [];
            new MutationObserver(() => {
                const found = document.body.innerText.match(/tile (\\d+) of (\\d+)/);
                if (found) window.shown.push([+found[1], +found[2]]);
            }).observe(document.body, {subtree: true, childList: true, characterData: true});
        }"""
    )
    upload(page, tmp_path / "large.png")
    page.locator(".figures table").wait_for(timeout=120_000)
    shown = page.evaluate("window.shown")
    assert len({done for done, _ in shown}) > 1
    assert shown == sorted(shown)
    assert len({total for _, total in shown}) == 1 and 1 < shown[-1][0] <= shown[-1][1]


def test_a_photograph_is_derained_compared_and_downloaded(page, site, photo, tmp_path):
    upload(page, photo)
    page.locator(".figures table").wait_for()
    page.get_by_test_id("imageslider-image").nth(1).wait_for()
    page.wait_for_function("[...document.images].every(image => image.complete)")
    assert [brightness(page, share) for share in (0.3, 0.7)] == pytest.approx([200, 200 - 255 / 4], abs=3)

    handle = page.get_by_test_id("slider").bounding_box()
    x, y = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
    picture = page.get_by_test_id("imageslider-image").first.bounding_box()
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(picture["x"] + 0.9 * picture["width"], y, steps=4)
    page.mouse.up()
    assert [brightness(page, share) for share in (0.3, 0.7)] == pytest.approx([200, 200], abs=3)

    assert "score: domain" in page.locator(".figures table").inner_text()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download PNG").click()
    assert download.value.suggested_filename == "one_grey-derained.png"
    (expected,) = derain(site.run, photo, tmp_path / "out", device="cpu")
    assert Path(download.value.path()).read_bytes() == expected.read_bytes()

    page.get_by_label("fixed filter").check()
    page.locator(".sides", has_text="fixed filter").wait_for()


def test_a_wrong_file_gives_a_friendly_message_and_the_next_one_works(page, photo, tmp_path):
    (tmp_path / "notes.png").write_text("hello")
    (tmp_path / "nothing.png").touch()
    Image.new("RGB", (64, 64)).save(tmp_path / "really-gif.png", "GIF")
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    wrong = {"notes": "no image", "nothing": "empty", "really-gif": "Choose a PNG", "dot": "at least 32"}
    for name, words in wrong.items():
        upload(page, tmp_path / f"{name}.png")
        told = page.get_by_role("alert").filter(has_text=f"{name}.png")
        told.wait_for()
        assert words in told.inner_text()
        assert not [word for word in (str(tmp_path), "Traceback") if word in page.content()]
    upload(page, photo)
    page.locator(".figures table").wait_for()
    assert page.get_by_role("alert").count() == 0


def test_the_gallery_is_filtered_by_name_kind_outcome_and_score(page):
    page.get_by_role("tab", name="Gallery of the run").click()
    gallery = page.frame_locator("iframe")

    def shown() -> list[str]:
        return gallery.locator(".row:visible .name, .pair:visible .name").all_inner_texts()

    def reset() -> None:
        gallery.get_by_text("show all").click()
        gallery.get_by_text("5 of 5 shown").wait_for()

    gallery.get_by_text("5 of 5 shown").wait_for()
    assert gallery.locator("section").nth(0).is_visible()
    gallery.locator("[name=name]").fill("Lane")
    assert shown() == ["lane-1", "lane-2"]
    assert not gallery.locator("section").nth(0).is_visible()
    reset()
    for outcome, names in (("refused", ["park-1", "park-2"]), ("refused: blank", ["park-1"]), ("entered", ["lane-1"])):
        gallery.locator("[name=outcome]").select_option(outcome)
        assert shown() == names
    reset()
    gallery.locator("[name=low]").fill("0")
    assert shown() == ["lane-1", "park-2"]
    gallery.locator("[name=high]").fill("1")
    assert shown() == ["park-2"]
    gallery.locator("[name=name]").fill("lane")
    assert gallery.get_by_text("nothing matches").is_visible()
    reset()
    for kind in ("before and after", "rainy", "reward"):
        gallery.get_by_label(kind, exact=True).uncheck()
    assert shown() == ["lane-1", "lane-2"]
    assert gallery.locator("figure:visible").count() == 2
    gallery.locator("figure:visible img").first.click()
    assert gallery.locator("dialog").is_visible()


def test_no_address_leads_to_another_file(site):
    checkpoint = str(site.run / "checkpoint.pt")
    up = "../" * 12
    wanted = [f"/gradio_api/file{way}{path}" for path in ("/etc/passwd", checkpoint) for way in ("=", "=/", "/", "=.")]
    wanted += [f"/gradio_api/file={up}etc/passwd", "/gradio_api/file=" + "..%2f" * 12 + "etc%2fpasswd"]
    wanted += [f"/gradio_api/file={site.temporary}/..{checkpoint}", f"/gradio_api/file={site.temporary}/../../log"]
    wanted += [f"/gradio_api/file=file://{checkpoint}", "/gradio_api/file=%00", "/gradio_api/file=checkpoint.pt"]
    wanted += [f"/gradio_api/file=http://127.0.0.1:{site.port}/gallery", "/gradio_api/file=https://example.com/"]
    wanted += [f"/{root}/{up}etc/passwd" for root in ("assets", "static", "svelte", "gallery")]
    wanted += [
        "/static/" + "..%2f" * 12 + "etc%2fpasswd",
        "/gallery/../checkpoint.pt",
        "/checkpoint.pt",
        "//etc/passwd",
    ]
    wanted += ["/gradio_api/proxy=https://example.com", "/config", "/gradio_api/info", "/monitoring", "/docs"]
    for path in wanted:
        status, content = ask(site, "GET", path)
        assert status in (403, 404), path
        assert SECRET not in content
        assert b"root:" not in content
        assert str(site.temporary).encode() not in content


def test_no_call_takes_a_file_that_was_not_uploaded(site):
    calls = [str(site.run / "checkpoint.pt"), "/etc/passwd", f"{site.temporary}/../../log", "https://example.com/a.png"]
    for path in (*calls, None, 3, {"path": "/etc/passwd"}):
        data = [{"path": path, "meta": {"_type": "gradio.FileData"}}]
        for call in ({"data": data}, {"data": [[{"deep": data}]]}):
            body = json.dumps(call | {"fn_index": 0, "session_hash": "s", "event_data": None}).encode()
            status, content = ask(site, "POST", "/gradio_api/queue/join", body, Content_Type="application/json")
            assert (status, content) == (403, b"no such upload")
    assert ask(site, "POST", "/gradio_api/queue/join", b"{", Content_Type="application/json")[0] == 400
    assert ask(site, "POST", "/gradio_api/run/predict", b"{}", Content_Type="application/json")[0] == 404


@pytest.mark.parametrize("name", ["../../../evil.png", "/tmp/evil.png", "..%2f..%2fevil.png", "..", "a\x00b.png"])
def test_an_upload_stays_in_the_temporary_folder_whatever_its_name(site, name):
    body, kind = form(name, b"content")
    status, content = ask(site, "POST", "/gradio_api/upload", body, Content_Type=kind)
    for path in json.loads(content) if status == 200 else []:
        assert Path(path).resolve().is_relative_to(site.temporary.resolve())
        assert Path(path).read_bytes() == b"content"
    assert not list(site.temporary.parent.glob("*evil*"))
    assert not (Path("/tmp") / "evil.png").exists()


def test_what_is_too_large_is_refused_before_it_is_sent(site):
    kind = {"Content_Type": "multipart/form-data; boundary=edge"}
    for length in (MOST_BYTES + 2**20, 10**15):
        status, content = ask(site, "POST", "/gradio_api/upload", **kind, Content_Length=str(length))
        assert (status, content) == (413, b"at most 64 MiB are taken")
    assert ask(site, "POST", "/gradio_api/upload", **kind, Transfer_Encoding="chunked")[0] == 411
    assert ask(site, "POST", "/gradio_api/queue/join", Content_Length=str(2**20))[0] == 413


def test_a_length_beside_chunks_is_not_believed(tmp_path):
    headers = {"host": "127.0.0.1", "content-length": "5", "transfer-encoding": "chunked"}
    scope = {"type": "http", "method": "POST", "path": "/gradio_api/upload"}
    scope["headers"] = [(name.encode(), value.encode()) for name, value in headers.items()]
    refusal = RequestFilter(app=None, folder=tmp_path)._refusal
    assert refusal(scope).status_code == 411
    assert refusal(scope | {"headers": scope["headers"][:2]}) is None


def test_pages_of_others_are_turned_away(site):
    assert ask(site, "GET", "/")[0] == 200
    assert ask(site, "GET", "/", Host="localhost:8080")[0] == 200
    assert ask(site, "GET", "/", Host="127.0.0.1.example.com")[0] == 403
    assert ask(site, "GET", "/", Host=f"example.com:{site.port}")[0] == 403
    body, kind = form("a.png", b"content")
    for origin in ("http://example.com", "null", "http://127.0.0.1:1"):
        assert ask(site, "POST", "/gradio_api/upload", body, Content_Type=kind, Origin=origin)[0] == 403


def test_the_gallery_can_reach_nothing_and_a_run_without_one_says_so(site):
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=20)
    connection.request("GET", "/gallery")
    answer = connection.getresponse()
    assert answer.read() == (site.run / "gallery.html").read_bytes()
    policy = answer.getheader("content-security-policy")
    assert policy.startswith("default-src 'none';")
    assert "sandbox allow-scripts;" in policy
    (site.run / "gallery.html").unlink()
    status, content = ask(site, "GET", "/gallery")
    assert status == 200
    assert b"run has no gallery.html" in content


def test_ctrl_c_ends_the_page_and_leaves_nothing_behind(site):
    body, kind = form("last.png", b"content")
    assert ask(site, "POST", "/gradio_api/upload", body, Content_Type=kind)[0] == 200
    assert list(site.temporary.rglob("last.png"))
    site.process.send_signal(signal.SIGINT)
    assert site.process.wait(30) == 0
    assert site.process.stdout.read() == "the page is closed\n"
    assert not list(site.temporary.iterdir())
