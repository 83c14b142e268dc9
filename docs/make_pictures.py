"""Write the pictures of the page "The first ten minutes": the reports of its two runs, as a browser shows them.

    python docs/make_pictures.py

Runs the examples of start.md, and needs Chromium.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "extensions"))
PICTURES = {  # {picture: (run, the sections of its report that are shown, height of the window in pixels)}
    "start-table": ("run", "#samples", 1260),
    "start-digits": ("digits", "#reconstructions", 1260),
}


def main() -> None:
    import running

    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with tempfile.TemporaryDirectory() as folder:
        session = running.Session(Path(folder).resolve())
        for language, code in running.examples(DOCS / "start.md"):
            session.run(language, code)
        for name, (run, shown, height) in PICTURES.items():
            page = Path(folder, f"{name}.html")
            text = Path(folder, run, "report.html").read_text("utf-8")
            page.write_text(text.replace("</head>", f"<style>section:not({shown}) {{ display: none }}</style></head>"))
            target = DOCS / "images" / f"{name}.png"
            flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size=1000,{height}"]
            subprocess.run([browser, *flags, f"--screenshot={target}", page.as_uri()], check=True,
                           capture_output=True)  # fmt: skip
            Image.open(target).convert("RGB").quantize(96).save(target, optimize=True)
            print(target, target.stat().st_size)


if __name__ == "__main__":
    main()
