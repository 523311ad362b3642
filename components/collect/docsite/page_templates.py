"""HTML templates of the embedded site, as code: a changed template changes the stage's digest."""

from __future__ import annotations

from string import Template

MODULE_TEMPLATE = """\
{% macro documented(text) %}{{ text | to_markdown | to_html | tidy | safe }}{% endmacro %}
{% macro member(doc, level) %}
<!-- member -->
<h{{ level }} id="{{ doc.qualname }}">{{ doc.fullname }}</h{{ level }}>
<pre><code class="language-python">{{ doc | definition }}</code></pre>
{{ documented(doc | own_text) }}
{% if doc.kind == "class" %}
{% for inner in doc | chosen %}
{{ member(inner, [level + 1, 5] | min) }}
{% endfor %}
{% endif %}
{% endmacro %}
<main>
<h1>{{ module.modulename }}</h1>
{{ documented(module | own_text) }}
{% for doc in module | chosen %}
{{ member(doc, 2) }}
{% endfor %}
</main>
"""
"""Jinja template of a module's main part, which is cut into pages at ``<!-- member -->``."""

PAGE_FRAME = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="pdoc">
<title>$title</title>
<style>
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; color: #222; }
header, footer { padding: .5rem 1rem; background: #f4f4f2; }
.columns { display: flex; gap: 2rem; padding: 1rem; }
aside { flex: 0 0 14rem; font-size: .9rem; }
main { flex: 1; min-width: 0; }
pre { overflow-x: auto; background: #f8f8f6; padding: .5rem; }
</style>
</head>
<body>
<header>
<a href="/">Documentation of Python packages</a>
<nav aria-label="Site"><a href="/">Index</a> <a href="$print">Printable version</a></nav>
</header>
<div class="columns">
<aside>
<nav aria-label="Modules">
<strong>$package</strong>
<ul>
$siblings
</ul>
</nav>
</aside>
$main
</div>
<footer>
<p>Generated with pdoc from the packages installed on this machine.
<a href="#">Back to the top</a></p>
</footer>
</body>
</html>
""")
"""Frame of every page, with fields ``title``, ``print``, ``package``, ``siblings``, ``main``."""
