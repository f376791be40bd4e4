"""What axe-core says of a page."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page


def serious_problems(page: Page, address: str) -> list[tuple[str, str, str, list[str]]]:
    """Open a page and return its problems for people with a keyboard or a screen reader: address, rule, help, nodes."""
    page.goto(address)
    return [
        (address, problem["id"], problem["help"], [node["html"][:200] for node in problem["nodes"][:3]])
        for problem in Axe().run(page).response["violations"]
        if problem["impact"] in ("serious", "critical")
    ]
