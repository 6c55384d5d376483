"""The page in Chromium: by pointer and keyboard, light and dark, wide and narrow, and accessible."""

from __future__ import annotations

import base64
import contextlib
import io
import shutil
import socket
import threading

import numpy as np
import pytest
import uvicorn
from PIL import Image
from starlette import applications

from medkeras import errors
from medkeras.serving import page

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")


def picture(value: int, mode: str = "L") -> str:
    buffer = io.BytesIO()
    Image.new(mode, (64, 48), value if mode == "L" else (value, 0, 0, 128)).save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


class Scripted:
    """Answers by the first word of a file: refuses `none`, declines `strange`, has five slices of `volume`."""

    def models(self):
        metric = {"value": 0.9, "low": 0.85, "high": 0.94}
        given = {"classes": ["glioma", "none"], "multilabel": False, "network": "cnn", "input": "64 × 64"}
        counts, metrics = {"test": {"glioma": 3}}, {"accuracy": metric}
        more = {"created": "2026-01-01", "counts": counts, "metrics": metrics, "limits": ["Of research only."]}
        return [{"name": name, "version": 3, **given, **more} for name in ("lungs", "<b>bold</b>")]

    def answer(self, model, content, frame=None):
        if content == b"none":
            raise errors.RefusalError("a file that looks like text")
        frames = 5 if content == b"volume" else 1
        chosen = frames // 2 if frame is None else frame
        strange = content == b"strange"
        return {
            "model": model,
            "version": 3,
            "frame": chosen,
            "frames": frames,
            "image": picture(60 + 30 * chosen),
            "heatmap": picture(255, "RGBA"),
            "probabilities": [{"name": "glioma", "value": 0.97}, {"name": "none", "value": 0.03}],
            "called": ["glioma"],
            "prediction_set": ["glioma"],
            "refused": strange,
            "familiarity": 0.4,
            "sentences": ["The model declines to answer: it is strange."] * strange + ["They are calibrated."],
        }


@pytest.fixture(scope="module")
def address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app = applications.Starlette(routes=page.routes(Scripted()))
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            thread.join(0.02)
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        # The sandbox of Chromium needs rights that a container does not give.
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser, address):
    """Opens the page, and tells at the end that the console stayed silent and no other host was asked."""
    with contextlib.ExitStack() as stack:

        def call(**options):
            context = stack.enter_context(contextlib.closing(browser.new_context(**options)))
            shown = context.new_page()
            complaints: list[str] = []
            shown.on("console", lambda message: complaints.append(message.text))
            shown.on("pageerror", lambda error: complaints.append(str(error)))
            shown.on(
                "request", lambda request: request.url.startswith((address, "data:")) or complaints.append(request.url)
            )
            stack.callback(lambda: pytest.fail("; ".join(complaints)) if complaints else None)
            shown.goto(address)
            shown.locator("#model option").first.wait_for(state="attached")
            return shown

        yield call


def give(shown, *contents: str) -> None:
    shown.set_input_files(
        "#files", [{"name": f"{each}.png", "mimeType": "image/png", "buffer": each.encode()} for each in contents]
    )
    shown.locator("#state", has_text="Done").wait_for()


def test_several_files_each_get_their_answer_in_order(opened) -> None:
    shown = opened()
    give(shown, "image", "none", "strange")
    assert shown.locator("article h2").all_text_contents() == ["image.png", "none.png", "strange.png"]
    first, second, third = shown.locator("article").all()
    assert first.locator(".called").inner_text().split("\n") == ["The model says", "glioma"]
    assert first.locator(".value").all_text_contents() == ["97.0%", "3.0%"]
    assert "a file that looks like text" in second.locator(".error").inner_text()
    assert not second.locator("img.image").is_visible()
    assert third.locator(".refusal").inner_text() == "The model declines to answer: it is strange."
    assert third.locator(".called small").inner_text() == "It would have said"


def test_a_dropped_file_is_asked_for(opened) -> None:
    shown = opened()
    data = shown.evaluate_handle(
        "() => { const data = new DataTransfer(); data.items.add(new File(['image'], 'dropped.png')); return data; }"
    )
    shown.dispatch_event("#drop", "drop", {"dataTransfer": data})
    shown.locator("#state", has_text="Done").wait_for()
    assert shown.locator("article h2").all_text_contents() == ["dropped.png"]


def test_the_evidence_fades_and_slices_change_by_keyboard(opened) -> None:
    shown = opened()
    give(shown, "volume")
    assert shown.locator(".frame-row output").inner_text() == "3 of 5"
    shown.locator(".heat-row input").focus()
    shown.keyboard.press("Home")
    assert shown.locator(".heat").evaluate("image => image.style.opacity") == "0"
    before = shown.locator("img.image").get_attribute("src")
    shown.keyboard.press("Tab")
    shown.keyboard.press("ArrowRight")
    shown.locator(".frame-row output", has_text="4 of 5").wait_for()
    assert shown.locator("img.image").get_attribute("src") != before


def test_everything_is_reached_by_tab(opened) -> None:
    shown = opened()
    give(shown, "volume")
    reached = []
    for _ in range(6):
        shown.keyboard.press("Tab")
        reached.append(
            shown.evaluate("() => { const at = document.activeElement; return at.id || at.className || at.tagName }")
        )
    names = [each.partition("-")[0] for each in reached]
    assert [name for name in names if name in ("close", "heat", "frame", "SUMMARY")] == [
        "close",
        "heat",
        "frame",
        "SUMMARY",
    ]


def test_names_from_outside_are_text(opened) -> None:
    shown = opened()
    shown.select_option("#model", "<b>bold</b>")
    assert shown.locator("#card summary").inner_text() == "About <b>bold</b>, version 3"
    assert shown.locator("#card b").count() == 0


@pytest.mark.parametrize(
    "options",
    [{}, {"color_scheme": "dark"}, {"viewport": {"width": 390, "height": 844}}],
    ids=["light", "dark", "phone"],
)
def test_no_fault_of_accessibility_and_nothing_sticks_out(opened, options) -> None:
    shown = opened(**options)
    give(shown, "image", "none", "strange", "volume")
    shown.locator("#card summary").click()
    found = axe.Axe().run(shown).response["violations"]
    assert [(each["id"], each["impact"]) for each in found] == []
    assert shown.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_picture_under_the_heat_is_the_one_that_was_given(opened) -> None:
    shown = opened()
    give(shown, "image")
    drawn = shown.locator("img.image").evaluate(
        "image => { const c = document.createElement('canvas'); c.width = c.height = 1; const x = c.getContext('2d');"
        " x.drawImage(image, 0, 0); return [...x.getImageData(0, 0, 1, 1).data] }"
    )
    np.testing.assert_array_equal(drawn, [60, 60, 60, 255])
