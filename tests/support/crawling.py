"""Going through a console as somebody does who follows every link."""

import re
from collections import Counter
from collections.abc import AsyncIterator
from html import unescape
from urllib.parse import urljoin, urlsplit

import httpx

ALIKE = 4
"""So many addresses of one shape are looked at."""
_LINK = re.compile(r'<(?:a|link|script|img)\b[^>]*?\s(?:href|src)="([^"#]*)')


async def crawl(client: httpx.AsyncClient) -> AsyncIterator[tuple[str, str, httpx.Response]]:
    """Every address that can be come to by links, the page that it was found on, and what was answered."""
    await client.get("/api/overview")  # the dashboard, which does not wait until it has counted, links to what is there
    starts = ["/", "/commands?limit=2"]  # so few on a page that there is another
    found, seen, alike = [("", each) for each in starts], set(starts), Counter[str]()
    while found:
        page, address = found.pop(0)
        if alike[shape(address)] >= ALIKE:
            continue
        alike[shape(address)] += 1
        answer = await client.get(address)
        yield page, address, answer
        if "text/html" not in answer.headers.get("content-type", ""):
            continue
        for link in _LINK.findall(answer.text):
            leads_to = urlsplit(urljoin(f"http://here{address}", unescape(link)))
            assert leads_to.netloc == "here", f"{address} leads elsewhere: {link}"
            target = leads_to.path + (f"?{leads_to.query}" if leads_to.query else "")
            if target not in seen:
                seen.add(target)
                found.append((address, target))


def shape(address: str) -> str:
    """An address without what tells one thing from another of its kind."""
    path, _, query = address.partition("?")
    parts = path.strip("/").split("/")
    kind = parts[:1] + [each for each in parts[2:][-1:] if re.fullmatch(r"[a-z-]{2,}", each)]
    names = sorted(each.partition("=")[0] for each in query.split("&"))
    return f"{len(parts)}:{'/'.join(kind)}?{'&'.join(names)}"
