"""How Sphinx builds the site: offline, and into pages that fetch nothing when they are read."""

import re
import shlex
import sys
from typing import Any, Dict, List

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

import process

project = "process"
author = "process developers"
project_copyright = author
release = version = process.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinxcontrib.mermaid",
]

html_theme = "furo"
html_title = f"process {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
# A page that was opened from a file may not fetch others to quote them.
html_show_search_summary = False

# The same files are read on code hosts: lists to tick off, links to headings, diagrams as fences.
myst_enable_extensions = ["tasklist"]
myst_heading_anchors = 3
myst_fence_as_directive = ["mermaid"]

# Drawn when the site is built: drawing in the browser takes modules, which a page that was opened
# from a file may not load, and megabytes of script.
mermaid_cmd = shlex.join([sys.executable, "-m", "mermaidx", "--quiet"])
mermaid_output_format = "svg"
mermaid_config = {
    "flowchart": {
        "nodeSpacing": 20,
        "rankSpacing": 40,
        "wrappingWidth": 300,
        "subGraphTitleMargin": {"top": 4, "bottom": 14},
    },
    "sequence": {
        "actorFontSize": 18,
        "messageFontSize": 18,
        "noteFontSize": 18,
        "messageMargin": 25,
        "noteMargin": 8,
        "actorMargin": 70,
        "width": 130,
        "height": 45,
        "mirrorActors": False,
    },
    "xyChart": {
        "width": 1000,
        "height": 560,
        "showDataLabel": True,
        "chartOrientation": "horizontal",
    },
    "themeVariables": {
        "fontSize": "21px",
        "xyChart": {"plotColorPalette": "#8fb4d9, #cc3333"},
    },
}

# What stands between single backticks in a docstring is code.
default_role = "code"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80
toc_object_entries_show_parents = "hide"

#: In the signatures of a class, what the type variables of its base stand for.
STREAMS = {"W": "StreamWriter", "R": "StreamReader"}


def name_streams(app: Sphinx, domain: str, kind: str, content: addnodes.desc_content) -> None:
    """Give the type of a stream by its name, where the base class has a type variable."""
    for reference in content.parent.findall(addnodes.pending_xref):
        text = reference.astext()
        if kind == "property" and text in STREAMS:
            reference.replace_self(nodes.Text(STREAMS[text]))


def draw_ratios(app: Sphinx, page: str, source: List[str]) -> None:
    """Draw the table of ratios as a chart, in front of it, so that the two cannot disagree."""
    if page != "performance":
        return
    begin = source[0].index("\n| case |") + 1
    header, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in source[0][begin : source[0].index("\n\n", begin)].splitlines()
    )
    cases = [re.sub(r"[`\"]", "", row[0]).partition(", ")[0] for row in rows]
    ratios = [float(row[header.index("after")]) for row in rows]
    chart = f"""
```mermaid
xychart
    title "Time, as a multiple of that of the standard library"
    x-axis [{", ".join(f'"{number}. {case}"' for number, case in enumerate(cases, 1))}]
    y-axis "less is better; the line is at 1" 0 --> {max(1.5, *ratios):.1f}
    bar [{", ".join(map(str, ratios))}]
    line [{", ".join("1" for _ in ratios)}]
```

"""
    source[0] = source[0][:begin] + chart + source[0][begin:]


def wrap_diagrams(
    app: Sphinx, page: str, template: str, context: Dict[str, Any], tree: object
) -> None:
    """Put each diagram into an element of its own, which can be made to scroll."""
    if "body" in context:
        wrapped = r'<div class="diagram">\g<0></div>'
        context["body"] = re.sub(r"<object.*?</object>", wrapped, context["body"], flags=re.DOTALL)


def setup(app: Sphinx) -> Dict[str, bool]:
    """Called by Sphinx."""
    app.connect("object-description-transform", name_streams)
    app.connect("source-read", draw_ratios)
    app.connect("html-page-context", wrap_diagrams)
    return {"parallel_read_safe": True}
