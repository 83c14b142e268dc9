"""Measure the pages of `latens explore` in headless Chromium: size, time until ready, and time to answer a click.

    python bench/explore.py                              # digits and a million rows; writes results/explore.json
    python bench/explore.py --table docs/howto/explore.md

A page is ready when `window.latens` exists, and a click is answered when the frame that shows the decoded code is
painted. The figures are medians over three loads and over twelve clicks, with the largest in brackets.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from speed.tables import put

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from browsing import Tab, tab  # noqa: E402

RESULTS = HERE / "results" / "explore.json"
LOADS, CLICKS = 3, 12
ROWS = 1_000_000

# records the time from each press of the pointer to the first painted frame in which the code has changed
TIMER = """
window.answers = [];
addEventListener("pointerdown", () => {
  const start = performance.now(), was = String(latens.z), channel = new MessageChannel();
  const frame = () => requestAnimationFrame(() => channel.port2.postMessage(0));
  channel.port1.onmessage = () => {
    if (String(latens.z) !== was) answers.push(performance.now() - start); else frame();
  };
  frame();
}, true);
0
"""


def pages(folder: Path) -> dict[str, Path]:
    """A page of the digits, and one of a million rows of six columns, whose model is fitted to 20,000 of them."""
    random = np.random.default_rng(0)
    middles, mixing = random.normal(0, 3, (5, 6)), random.normal(0, 0.6, (6, 6))
    rows = middles[random.integers(0, 5, ROWS)] + random.normal(0, 1, (ROWS, 6)) @ mixing
    np.save(folder / "million.npy", rows.astype("float32"))
    np.save(folder / "some.npy", rows[:20_000].astype("float32"))
    latens("fit", "digits", "--out", "digits", "--latent-dim", "8", "--epochs", "40", folder=folder)
    latens("fit", "some.npy", "--out", "million", "--epochs", "2", folder=folder)
    latens("explore", "digits", "--out", "digits.html", folder=folder)
    latens("explore", "million", "million.npy", "--out", "million.html", folder=folder)
    return {"digits": folder / "digits.html", "million": folder / "million.html"}


def latens(*words: str, folder: Path) -> None:
    """Run a latens command from this checkout."""
    path = {"PYTHONPATH": str(HERE.parent)}
    subprocess.run([sys.executable, "-m", "latens", *words], cwd=folder, env=os.environ | path, check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip


def measured(browser: Tab, page: Path) -> dict[str, Any]:
    """Measure a page."""
    ready = []
    for _ in range(LOADS):
        browser.open(page.as_uri())
        browser.until("window.latens")
        ready.append(browser.run("latens.ready"))
    time.sleep(1)
    browser.run(TIMER)
    left, top, width, height = browser.box("#map-canvas")
    for i in range(CLICKS):
        browser.click(left + width * (0.3 + 0.03 * i), top + height * (0.3 + 0.02 * i))
        browser.until(f"answers.length > {i}")
        time.sleep(0.3)
    return {"bytes": page.stat().st_size, "ready_ms": ready, "click_ms": browser.run("answers")}


def text(found: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        "| page | size | ready after | click answered within |", "|---|---|---|---|",
        *(f"| {name} | {each['bytes'] / 1e6:.2f} MB | {_spread(each['ready_ms'], 1000)} s | "
          f"{_spread(each['click_ms'], 1)} ms |" for name, each in found["pages"].items()), "",
        f"`python bench/explore.py` in headless {found['browser']} without a GPU, on two shared cores: medians of "
        f"{LOADS} loads and {CLICKS} clicks, with the largest in brackets.",
    ]  # fmt: skip
    return "\n".join(lines)


def _spread(values: list[float], unit: int) -> str:
    digits = 2 if unit > 1 else 0
    return f"{median(values) / unit:.{digits}f} ({max(values) / unit:.{digits}f})"


def main(words: list[str]) -> None:
    if words[:1] == ["--table"]:
        page = Path(words[1])
        page.write_text(put(text(json.loads(RESULTS.read_text())), page.read_text("utf-8"), "explore"), "utf-8")
        return
    with tempfile.TemporaryDirectory() as name, tab(Path(name)) as browser:
        made = pages(Path(name))
        version = browser.send("Browser.getVersion")["product"].replace("/", " ")
        figures = {name: measured(browser, page) for name, page in made.items()}
    RESULTS.write_text(json.dumps({"browser": version, "pages": figures}, indent=1) + "\n")
    print(text({"browser": version, "pages": figures}))


if __name__ == "__main__":
    main(sys.argv[1:])
