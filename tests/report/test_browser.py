"""Reports and the site of the docs in a headless browser, by WebDriver.

They work, fit a phone and a desk, complain of nothing and ask nobody.
"""

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from latentdc.report import page
from latentdc.results.result import Results, load, save
from tests.report.toys import ATTACK, pruned_folder, run_folder

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--disable-dev-shm-usage"),
)
REQUEST = "Network.requestWillBeSent"


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

    def complaints(self):
        """Of the console since it was last asked."""
        return [entry for entry in self.log("browser") if entry["level"] != "INFO"]

    def asked(self):
        """URLs that were asked for since the last time, but for the browser's first page."""
        events = [json.loads(entry["message"])["message"] for entry in self.log("performance")]
        asked = [e["params"]["request"]["url"] for e in events if e["method"] == REQUEST]
        return [url for url in asked if url.partition(":")[0] not in {"chrome", "about"}]

    def show(self, url, *, width, scheme="light"):
        """Open a page; a window has no less than 500 px, so that narrow ones are a phone's."""
        for kind in ("performance", "browser"):  # empties it of the page before
            self.log(kind)
        phone = width < 500
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1 + phone, "mobile": phone}
        wish = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        for command, values in (
            ("Emulation.setDeviceMetricsOverride", screen),
            ("Emulation.setEmulatedMedia", wish),
        ):
            self.send("/goog/cdp/execute", {"cmd": command, "params": values})
        self.send("/url", {"url": url})

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
    browser.show(page.write(tmp_path / "x.html", [folder]).as_uri(), width=1400)

    # Everything that the page's own text could have done is still text.
    assert ATTACK in browser.run("return document.body.textContent")
    assert browser.run("return [...document.images].every((i) => i.naturalWidth === 8)")
    styled = "return getComputedStyle(document.querySelector('.short')).borderStyle"
    assert browser.run(styled) == "solid"

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

    assert browser.complaints() == []
    assert {url.partition(":")[0] for url in browser.asked()} - {"blob"} == {"file", "data"}


CUT = """
const cut = [];
for (const svg of document.querySelectorAll('.chart svg')) {
  const box = svg.getBoundingClientRect(), ticks = [];
  for (const text of svg.querySelectorAll('text')) {
    const one = text.getBoundingClientRect();
    const across = Math.max(box.left - one.left, one.right - box.right);
    const down = Math.max(box.top - one.top, one.bottom - box.bottom);
    if (Math.max(across, down) > 1) cut.push('cut: ' + text.textContent);
    if (one.height < 11) cut.push('small: ' + text.textContent);
    if (text.classList.contains('tick')) ticks.push([text.textContent, one]);
  }
  for (const [name, a] of ticks) for (const [other, b] of ticks) {
    const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (a !== b && across > 1 && down > 4) cut.push(name + ' on ' + other);
  }
}
return cut
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("students", [1, 10])
def test_the_page_and_its_charts_fit_a_phone_and_a_desk(students, width, scheme, browser, tmp_path):
    shown = [run_folder(tmp_path / "mine"), pruned_folder(tmp_path / "pruned")]
    (result, *_), others = load(shown[0] / "results.json"), range(1, students)
    more = [replace(result, student=f"convnet3@{8 * number}") for number in others]
    save(shown[0] / "results.json", Results([*load(shown[0] / "results.json"), *more]))
    browser.show(page.write(tmp_path / "x.html", shown).as_uri(), width=width, scheme=scheme)
    assert browser.run("return innerWidth") == width
    assert browser.run("return document.documentElement.scrollWidth") == width
    assert browser.run(CUT) == []
    paper = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(15, 19, 24)"}[scheme]
    assert browser.complaints() == []


def test_what_the_policy_forbids_does_not_run(browser, tmp_path):
    """The page's last defence: even a tag that slipped through would do nothing."""
    text = page.write(tmp_path / "x.html", [run_folder(tmp_path / "mine")]).read_text()
    slipped = "<script>window.ran = 1</script><img src=data:, onerror='window.ran = 2'>"
    (tmp_path / "y.html").write_text(text.replace("<header>", f"<header>{slipped}"))
    browser.show((tmp_path / "y.html").as_uri(), width=1400)
    assert browser.run("return window.ran ?? null") is None
    assert len([entry for entry in browser.log("browser") if "Security" in entry["message"]]) >= 2


# Printed lines that were wrapped, and names in a table that were broken.
BROKEN = """
const broken = [];
for (const printed of document.querySelectorAll('.jp-OutputArea-output pre')) {
  const lines = printed.textContent.replace(/\\n+$/, '').split('\\n').length;
  const range = document.createRange();
  range.selectNodeContents(printed);
  const tops = new Set([...range.getClientRects()].map((line) => Math.round(line.top)));
  if (tops.size > lines) broken.push(printed.textContent.slice(0, 40));
}
for (const name of document.querySelectorAll('td:first-child code')) {
  if (name.getClientRects().length > 1) broken.push(name.textContent);
}
return broken
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *said):
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Where the site is served, and its pages."""
    for needed in ("mkdocs", "material", "mkdocstrings", "mkdocs_jupyter"):
        pytest.importorskip(needed, reason="the site needs the extra docs")
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir"]
    subprocess.run([*build, folder], cwd=ROOT, check=True, env={**os.environ, "CI": "1"})
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        pages = sorted(page.relative_to(folder) for page in folder.rglob("*.html"))
        yield f"http://127.0.0.1:{server.server_port}", pages
        server.shutdown()


@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1400, "light")])
def test_every_page_of_the_site_fits_and_breaks_no_name(width, scheme, browser, site):
    place, pages = site
    assert len(pages) > 35
    found = {}
    for path in pages:
        browser.show(f"{place}/{path.as_posix()}", width=width, scheme=scheme)
        assert browser.run("return innerWidth") == width
        wide = browser.run("return document.documentElement.scrollWidth")
        wrong = [f"{wide} px"] * (wide > width) + browser.run(BROKEN) + browser.complaints()
        images = "return [...document.images].every((one) => !one.complete || one.naturalWidth)"
        wrong += ["an image is missing"] * (not browser.run(images))
        wrong += [url for url in browser.asked() if not url.startswith((place, "data:", "blob:"))]
        if wrong:
            found[path.as_posix()] = wrong
    assert found == {}


def test_the_site_follows_the_system_from_light_to_dark(browser, site):
    place, _ = site
    schemes = []
    for scheme in ("light", "dark"):
        browser.show(f"{place}/results/", width=400, scheme=scheme)
        schemes.append(browser.run("return document.body.dataset.mdColorScheme"))
    assert schemes == ["default", "slate"]
