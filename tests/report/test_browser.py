"""The page in a headless browser, by WebDriver: it works, complains of nothing and asks nobody."""

import json
import re
import shutil
import subprocess
import urllib.request

import pytest

from latentdc.report import page
from tests.report.toys import ATTACK, run_folder

pytestmark = pytest.mark.slow
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--window-size=400,900", "--disable-dev-shm-usage"),
)


class Browser:
    """A session of chromedriver, which prints the port that it has chosen."""

    def __init__(self, driver, chromium, profile):
        self.process = subprocess.Popen(
            [driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        said = (re.search(r"successfully on port (\d+)", line) for line in self.process.stdout)
        port = next(found[1] for found in said if found)
        self.place = f"http://127.0.0.1:{port}/session"
        chosen = {"binary": chromium, "args": [*OPTIONS, f"--user-data-dir={profile}"]}
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": chosen,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        session = self.send("", {"capabilities": {"alwaysMatch": wanted}})
        self.place += f"/{session['sessionId']}"

    def send(self, what, content=None, method="POST"):
        data = None if content is None else json.dumps(content).encode()
        kind = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.place + what, data, kind, method=method)
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def run(self, script):
        return self.send("/execute/sync", {"script": script, "args": []})

    def log(self, kind):
        return self.send("/se/log", {"type": kind})

    def close(self):
        self.send("", method="DELETE")  # ends chromium too
        self.process.terminate()
        self.process.wait(timeout=30)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    opened = Browser(driver, chromium, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


def test_the_page_works_in_a_browser_which_neither_complains_nor_asks_anybody(browser, tmp_path):
    folder = run_folder(tmp_path / "mine")
    browser.send("/url", {"url": page.write(tmp_path / "x.html", [folder]).as_uri()})

    # Everything that the page's own text could have done is still text.
    assert ATTACK in browser.run("return document.body.textContent")
    assert browser.run("return [...document.images].every((i) => i.naturalWidth === 8)")
    styled = "return getComputedStyle(document.querySelector('.short')).borderStyle"
    assert browser.run(styled) == "solid"
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth"), "400 px"

    rows = "[...document.querySelectorAll('table')[0].rows]"
    column = f"return {rows}.map((row) => row.cells[2].innerText)"
    assert browser.run(column)[1:] == ["900", "1,200"]
    browser.run("document.querySelectorAll('.sort')[2].click()")
    assert browser.run(column)[1:] == ["1,200", "900"], "the largest number first"
    browser.run("document.querySelectorAll('.sort')[2].click()")
    assert browser.run(column)[1:] == ["900", "1,200"]

    hover = (
        "const mark = document.querySelector('circle.mark[data-tip]');"
        "mark.dispatchEvent(new PointerEvent('pointermove', {bubbles: true}));"
        "const tip = document.getElementById('tip'); return tip.hidden ? null : tip.textContent"
    )
    assert browser.run(hover) == "mine: 62.5 ± 17.7 %, 900 bytes"
    browser.run("document.querySelector('.tile').click()")
    assert browser.run("return document.getElementById('large').open")
    saved = "document.getElementById('save').click(); return document.querySelectorAll('a').length"
    assert browser.run(saved) == 0

    complaints = [entry for entry in browser.log("browser") if entry["level"] != "INFO"]
    assert complaints == []
    events = [json.loads(entry["message"])["message"] for entry in browser.log("performance")]
    asked = {
        event["params"]["request"]["url"].partition(":")[0]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }
    own = {"chrome", "about"}  # the browser's first page
    assert asked - own <= {"file", "data", "blob"} and "file" in asked


def test_what_the_policy_forbids_does_not_run(browser, tmp_path):
    """The page's last defence: even a tag that slipped through would do nothing."""
    text = page.write(tmp_path / "x.html", [run_folder(tmp_path / "mine")]).read_text()
    slipped = "<script>window.ran = 1</script><img src=data:, onerror='window.ran = 2'>"
    (tmp_path / "y.html").write_text(text.replace("<header>", f"<header>{slipped}"))
    browser.send("/url", {"url": (tmp_path / "y.html").as_uri()})
    assert browser.run("return window.ran ?? null") is None
    assert len([entry for entry in browser.log("browser") if "Security" in entry["message"]]) >= 2
