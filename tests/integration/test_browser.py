"""What a user sees in MLflow's own pages after a real sweep, in a real Chromium: trials, comparison, report.

With TUNEYARD_SCREENSHOTS=FOLDER the whole recipe runs and the pictures of the README are left in that folder.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.integration.mlflow_peer import active_runs, mlflow_server

pytestmark = [pytest.mark.browser, pytest.mark.slow]
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
PICTURES = os.environ.get("TUNEYARD_SCREENSHOTS")
TRIALS = 40 if PICTURES else 6
WAIT_S = 240
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars", "--window-size=1440,980"),
    *("--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
EXPAND = "button[data-component-id*='runnamecellrenderer']"
RUN_LINKS = "a[href*='/runs/'] span"
# The grid's rows from the top down: they stand in the document as they were made.
ROWS = """
const top = (link) => link.getBoundingClientRect().top;
return [...document.querySelectorAll(arguments[0])].sort((a, b) => top(a) - top(b)).map((link) => link.textContent);
"""
# Of each chart: its name, how many shapes with an extent it holds, its labels that touch, its labels outside the card.
LOOK = """
return [...document.querySelectorAll('svg')].map((svg) => {
  const card = svg.closest('.card').getBoundingClientRect();
  const texts = [...svg.querySelectorAll('text')].filter((t) => t.textContent).map((t) => [t.textContent, t.getBoundingClientRect()]);
  const touch = ([, a], [, b]) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3;
  const shapes = [...svg.querySelectorAll('path.curve, path.step, circle, rect:not(.brush):not(.grab)')];
  return {
    name: svg.getAttribute('aria-label'),
    shapes: shapes.filter((s) => { const b = s.getBoundingClientRect(); return b.width + b.height > 2; }).length,
    curves: svg.querySelectorAll('path.curve').length,
    touching: texts.flatMap((a, i) => texts.slice(i + 1).filter((b) => touch(a, b)).map((b) => a[0] + ' / ' + b[0])),
    outside: svg.getBoundingClientRect().right > card.right ? [] : texts.filter(([, b]) => b.left < card.left || b.right > card.right).map(([t]) => t),
  };
});
"""  # noqa: E501  # JavaScript, as it would stand in a file of its own


@dataclass(frozen=True)
class Site:
    """A finished sweep, and the address of the MLflow pages that show it."""

    home: Path
    result: dict[str, Any]
    address: str
    experiment: str
    parent: str
    trials: dict[int, str]

    def page(self, path: str) -> str:
        return f"{self.address}/#/{path}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[Site]:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("there is no chromium, or no chromedriver, on this machine")
    home = tmp_path_factory.mktemp("home")
    command = [sys.executable, "-m", "service.cli", "run", "trainables/recipes/digits.yaml", "--json"]
    done = subprocess.run(
        [*command, "--set", f"budget.max_trials={TRIALS}"],
        cwd=root,
        env={**os.environ, "TUNEYARD_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    runs = active_runs(home, Path(result["folder"]).name)
    parent = next(run for run, tags in runs.items() if tags["tuneyard.kind"] == "sweep")
    trials = {int(tags["tuneyard.trial"]): run for run, tags in runs.items() if "tuneyard.trial" in tags}
    with mlflow_server(home) as address:
        yield Site(home, result, address, "1", parent, trials)


@pytest.fixture(scope="module")
def browser(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=Service(str(DRIVER)))
    try:
        driver.get(site.page("experiments"))
        # What MLflow opens beside its pages on the first visit would cover a quarter of them.
        wait_for(driver, "[data-component-id='mlflow.assistant.chat_panel.close'], main")
        for button in driver.find_elements(By.CSS_SELECTOR, "[data-component-id='mlflow.assistant.chat_panel.close']"):
            button.click()
        yield driver
    finally:
        driver.quit()


def wait_for(driver: Chrome, selector: str, count: int = 1) -> list[Any]:
    """At least `count` elements of the page that fit `selector`, once they are there."""

    def enough(_: object) -> list[Any]:
        found = driver.find_elements(By.CSS_SELECTOR, selector)
        return found if len(found) >= count else []

    found: list[Any] = WebDriverWait(driver, WAIT_S).until(enough, f"fewer than {count} of {selector}")
    return found


def wait_for_text(driver: Chrome, *wanted: str) -> None:
    """Wait until the page shows all of `wanted`."""

    def is_shown(_: object) -> bool:
        text = driver.find_element(By.TAG_NAME, "body").text
        return all(one in text for one in wanted)

    WebDriverWait(driver, WAIT_S).until(is_shown, f"the page does not show {wanted}")


def complaints(driver: Any) -> list[str]:  # noqa: ANN401  # selenium leaves get_log without annotations
    """What the browser's console has got since it was asked before."""
    return [entry["message"] for entry in driver.get_log("browser")]


def picture(driver: Chrome, name: str) -> None:
    """Keep what the browser shows, where pictures are wanted."""
    if PICTURES:
        Path(PICTURES).mkdir(parents=True, exist_ok=True)
        # Without a mouse plotly shows its buttons all the time, over the curves.
        driver.execute_script("document.querySelectorAll('.modebar').forEach((bar) => bar.remove())")
        driver.save_screenshot(str(Path(PICTURES) / name))


def test_the_sweep_is_one_row_that_opens_to_its_trials(site: Site, browser: Chrome) -> None:
    browser.get(site.page(f"experiments/{site.experiment}/runs?compareRunsMode=CHART"))
    wait_for(browser, EXPAND)
    names = {link.text for link in wait_for(browser, RUN_LINKS)}
    assert names == {Path(site.result["folder"]).name}
    wait_for(browser, EXPAND)[0].click()
    wait_for(browser, RUN_LINKS, min(TRIALS + 1, 7))
    names = {link.text for link in browser.find_elements(By.CSS_SELECTOR, RUN_LINKS)}
    assert {f"trial {number}" for number in range(TRIALS)} & names
    wait_for_text(browser, f"{TRIALS + 1} matching runs", "val_acc")
    wait_for(browser, ".js-plotly-plot .scatterlayer .trace")


def test_trials_can_be_sorted_by_the_objective(site: Site, browser: Chrome) -> None:
    order = "orderByKey=metrics.`val_acc`&orderByAsc=false"
    browser.get(site.page(f"experiments/{site.experiment}/runs?compareRunsMode=CHART&{order}"))
    report = json.loads((Path(site.result["folder"]) / "report" / "report.json").read_text())
    last = {f"trial {trial['trial']}": trial["curve"][-1][1] for trial in report["trials"]}
    wait_for_text(browser, "Sort: val_acc", "val_loss", max(last, key=lambda name: last[name]))
    wait_for(browser, ".js-plotly-plot .scatterlayer .trace", 3)

    def is_sorted(_: object) -> bool:
        values = [last[name] for name in browser.execute_script(ROWS, RUN_LINKS) if name in last]
        return len(values) >= 6 and values == sorted(values, reverse=True)

    WebDriverWait(browser, WAIT_S).until(is_sorted, "the rows are not in the order of val_acc")
    picture(browser, "mlflow-sweep.png")


def test_two_trials_can_be_compared(site: Site, browser: Chrome) -> None:
    runs = json.dumps([site.trials[0], site.trials[1]])
    browser.get(site.page(f'compare-runs?runs={runs}&experiments=["{site.experiment}"]'))
    wait_for_text(browser, "Comparing 2 Runs", site.trials[0], site.trials[1], "optimizer.init_args.lr")
    wait_for(browser, ".js-plotly-plot svg")
    picture(browser, "mlflow-compare.png")


def test_the_report_is_drawn_in_the_artifact_viewer(site: Site, browser: Chrome) -> None:
    complaints(browser)  # what came before is not the report's
    browser.get(site.page(f"experiments/{site.experiment}/runs/{site.parent}/artifacts/report.html"))
    browser.switch_to.frame(wait_for(browser, "iframe.mlflow-html-iframe")[0])
    try:
        check_report(browser, site)
    finally:
        browser.switch_to.default_content()
    picture(browser, "mlflow-report.png")
    assert [text for text in complaints(browser) if "blob:" in text] == []


@pytest.mark.parametrize(("width", "scheme"), [(1320, "light"), (1320, "dark"), (420, "light")])
def test_the_report_stands_by_itself(site: Site, browser: Chrome, width: int, scheme: str) -> None:
    size = {"width": width, "height": 1320, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    complaints(browser)
    browser.get(Path(site.result["report"]).as_uri())
    try:
        check_report(browser, site)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        picture(browser, "report.png" if (width, scheme) == (1320, "light") else f"report-{scheme}-{width}.png")
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert complaints(browser) == []


def check_report(driver: Chrome, site: Site) -> None:
    """Every chart of the report in the current frame is there, holds something, and can be read."""
    wait_for(driver, "svg", 4)
    charts = driver.execute_script(LOOK)
    names = [chart["name"] for chart in charts]
    for wanted in ("Best val_acc so far", "Learning curves", "Parallel coordinates", "How many trials reached"):
        assert any(name.startswith(wanted) for name in names), names
    report = json.loads((Path(site.result["folder"]) / "report" / "report.json").read_text())
    reported = sum(bool(trial["curve"]) for trial in report["trials"])
    assert next(c for c in charts if c["name"].startswith("Learning curves"))["curves"] == reported
    for chart in charts:
        assert chart["shapes"] > 0, chart
        assert chart["touching"] == [], chart
        assert chart["outside"] == [], chart
    assert len(driver.find_elements(By.CSS_SELECTOR, "section[aria-label=Trials] tbody tr")) == min(
        len(report["trials"]), 25
    )
