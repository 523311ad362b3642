"""Worker process that imports modules and renders their pages with pdoc.

Run as ``python -P -m components.collect.docsite.render_worker``. It reads one JSON line a group of
modules::

    {"modules": ["json", "json.decoder", ...], "site": [every module of the site]}

and writes one line a module as soon as it is done, ``{"module", "parts"}`` (HTML of one page or,
for a long module, of several) or ``{"module", "reason"}``, then ``{"done": true}``. Importing
modules has side effects, hence a process of its own: its output is discarded, an audit hook refuses
network, programs and changes of files, and it dies with its parent.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import re
import signal
import sys
import warnings
from typing import Any, TextIO

import pdoc.doc
import pdoc.doc_ast
import pdoc.doc_types
import pdoc.docstrings
import pdoc.render
import pdoc.render_helpers
from jinja2 import DictLoader

from components.collect.docsite import page_templates
from components.collect.docsite.anonymize import Anonymizer
from components.collect.docsite.members import MemberSelector, member_definition, own_docstring
from components.collect.docsite.source_index import clear_source_caches, speed_up_source_lookup

NUMPY_STYLE = frozenset(
    {"matplotlib", "networkx", "numpy", "pandas", "scipy", "skimage", "sklearn"}
)
"""Packages whose docstrings follow numpydoc and do not say so in ``__docformat__``."""
PAGE_CHARS = 60_000
"""Length of HTML at which a module's main part is continued on another page."""
MEMBER_START = "<!-- member -->"
_FORBIDDEN_EVENTS = re.compile(
    r"socket\.(connect|bind|getaddrinfo|sendto)|subprocess\.Popen|os\.(system|exec|posix_spawn|"
    r"startfile|remove|rename|rmdir|mkdir|symlink|link|truncate)|webbrowser\.open|shutil\..*"
)
_HEADING = re.compile(r"(</?)h[1-5]\b[^>]*>")
_COLONS = re.compile(r"::(?=</p>)")


def main() -> None:
    """Serve groups until standard input ends."""
    answers = _redirect_output()
    _die_with_parent()
    _configure_pdoc()
    scrubber = Anonymizer.for_this_machine()
    sys.addaudithook(_audit_event)
    for line in sys.stdin:
        order = json.loads(line)
        _render_group(order["modules"], frozenset(order["site"]), scrubber, answers)
        _send_answer(answers, {"done": True})


def _render_group(
    modules: list[str], site: frozenset[str], scrubber: Anonymizer, answers: TextIO
) -> None:
    chooser = MemberSelector(site)
    for name in modules:
        try:
            parts = _render_module(name, chooser)
        except (Exception, SystemExit) as error:
            cause = error.__cause__ or error
            reason = f"{type(cause).__name__}: {cause}".splitlines()[0][:300]
            _send_answer(answers, {"module": name, "reason": scrubber.anonymize_text(reason)})
        else:
            _send_answer(
                answers,
                {"module": name, "parts": [scrubber.anonymize_text(part) for part in parts]},
            )
    _clear_caches()


def _render_module(name: str, chooser: MemberSelector) -> list[str]:
    """HTML of the main part of each of a module's pages."""
    module = pdoc.doc.Module.from_name(name)
    pdoc.render.env.filters["chosen"] = chooser.select_members
    pdoc.render.env.globals["docformat"] = (
        "numpy" if name.partition(".")[0] in NUMPY_STYLE else "restructuredtext"
    )
    return _paginate(pdoc.render.html_module(module, {name: module}), name)


def _paginate(main: str, name: str) -> list[str]:
    """Cut a main part between members, into pages of about ``PAGE_CHARS`` at most."""
    head, *members = main.strip().removesuffix("</main>").split(MEMBER_START)
    parts = [head]
    for member in members:
        if len(parts[-1]) + len(member) > PAGE_CHARS and MEMBER_START in parts[-1]:
            parts.append(f"<main>\n<h1>{name}</h1>\n")
        parts[-1] += MEMBER_START + member
    return [f"{part.replace(MEMBER_START, '')}</main>" for part in parts]


def _clear_caches() -> None:
    """Clear caches of pdoc and ours: syntax trees of a group take hundreds of megabytes."""
    for module in (pdoc.doc, pdoc.doc_ast, pdoc.doc_types, pdoc.docstrings, pdoc.render_helpers):
        for function in vars(module).values():
            if hasattr(function, "cache_clear"):
                function.cache_clear()
    pdoc.doc.Module.from_name.cache_clear()
    clear_source_caches()


def _configure_pdoc() -> None:
    pdoc.render.configure(show_source=False, search=False)
    pdoc.render.env.loader = DictLoader({"module.html.jinja2": page_templates.MODULE_TEMPLATE})
    pdoc.render.env.filters["definition"] = member_definition
    pdoc.render.env.filters["own_text"] = own_docstring
    pdoc.render.env.filters["to_html"] = _to_html
    pdoc.render.env.filters["tidy"] = _tidy_docstring_html
    # With these extensions code blocks keep their language in a class and their text as written.
    pdoc.render_helpers.markdown_extensions = {
        "code-friendly": None,
        "cuddled-lists": None,
        "fenced-code-blocks": None,
        "highlightjs-lang": None,
        "pyshell": None,
        "tables": None,
    }
    speed_up_source_lookup()
    warnings.simplefilter("ignore")


def _to_html(text: str) -> str:
    """HTML of Markdown; the fixed seed makes the obfuscation of mail addresses repeatable."""
    random.seed(0)
    return str(pdoc.render_helpers.to_html(text))


def _tidy_docstring_html(html: str) -> str:
    """HTML of a docstring with headings ranked below every name, and leftovers of reST fixed."""
    return _COLONS.sub(":", _HEADING.sub(r"\1h6>", html)).replace("<code>~", "<code>")


def _redirect_output() -> TextIO:
    """Reserve standard output for answers; output of imported modules is discarded."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return answers


def _send_answer(answers: TextIO, value: dict[str, Any]) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()


def _audit_event(event: str, _arguments: tuple[Any, ...]) -> None:
    if _FORBIDDEN_EVENTS.fullmatch(event):
        raise PermissionError(f"a module being documented may not do this: {event}")


def _die_with_parent() -> None:
    if hasattr(ctypes.CDLL(None), "prctl"):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


if __name__ == "__main__":
    main()
