"""The site of these pages, with what lies beside `docs/`; pictures come from `assets/`."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what lies beside `docs/`."""
    for source, name in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8").replace("](docs/", "](")
        for other, place in PAGES.items():
            text = text.replace(f"]({other})", f"]({place})")
        files.append(File.generated(config, name, content=text))
    for picture in sorted((ROOT / "assets").rglob("*.png")):
        name = picture.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point to pictures as they lie in the site, one folder nearer than in the repository."""
    return re.sub(r"\]\(\.\./((?:\.\./)*assets/)", r"](\1", markdown)
