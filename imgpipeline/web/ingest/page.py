"""The API as a page of its own: what `/openapi.json` says, without anything from other servers."""

from typing import Any

from jinja2 import Environment

_PAGE = Environment(autoescape=True).from_string(
    """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{{ api.info.title }}</title>
<style>body{font:16px/1.5 system-ui;max-width:50rem;margin:2rem auto;padding:0 1rem}code,h2{font-family:monospace}
h2{font-size:1.1rem;margin-top:2rem}pre{white-space:pre-wrap;font:inherit}</style>
<h1>{{ api.info.title }} {{ api.info.version }}</h1>
<pre>{{ api.info.description }}</pre>
<p>For programs: <a href="openapi.json">openapi.json</a></p>
{% for path, operations in api.paths.items() %}{% for method, operation in operations.items() %}
<h2>{{ method.upper() }} {{ path }}</h2>
<pre>{{ operation.description }}</pre>
{% if operation.parameters %}<ul>{% for parameter in operation.parameters %}
<li><code>{{ parameter.name }}</code> ({{ parameter.in }}{{ ", required" if parameter.required }})</li>
{% endfor %}</ul>{% endif %}
{% endfor %}{% endfor %}</html>
"""
)


def api_page(api: dict[str, Any]) -> str:
    """Returns the page.

    Args:
        api: The OpenAPI document.
    """
    return _PAGE.render(api=api)
