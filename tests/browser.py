"""Chromium, driven through its own protocol: what stands in the frames of a page of a running server."""

import asyncio
import json
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
    "--disable-features=IsolateSandboxedIframes",
)  # fmt: skip
PATIENCE = 120
"""Seconds for a page to load and draw; a first visit compiles MLflow's pages."""


class Tab:
    """One tab. errors: what the console of a page made of a blob showed, as MLflow shows artifacts."""

    def __init__(self, socket: "aiohttp.ClientWebSocketResponse") -> None:
        self.socket = socket
        self.sent = 0
        self.frames: set[int] = set()
        self.errors: list[str] = []

    async def ask(self, method: str, **params: Any) -> Any:
        """Send a command and take what happens until its answer comes."""
        self.sent += 1
        await self.socket.send_json({"id": self.sent, "method": method, "params": params})
        while (message := json.loads((await self.socket.receive()).data)).get("id") != self.sent:
            told = message["params"]
            if message["method"] == "Runtime.executionContextCreated":
                self.frames.add(told["context"]["id"])
            elif message["method"] == "Runtime.executionContextDestroyed":
                self.frames.discard(told["executionContextId"])
            elif message["method"] in ("Runtime.exceptionThrown", "Log.entryAdded") and "blob:" in json.dumps(told):
                self.errors.append(json.dumps(told)[:500])
        return message.get("result", {}).get("result", {}).get("value")

    async def count(self, address: str, selector: str) -> int:
        """How many elements a page that stands in a frame of the page at the address has, once there are any."""
        await self.ask("Page.navigate", url="about:blank")
        await self.ask("Page.navigate", url=address)
        found, end = 0, time.monotonic() + PATIENCE
        code = f"location.protocol == 'blob:' ? document.querySelectorAll({json.dumps(selector)}).length : 0"
        while time.monotonic() < end:
            await asyncio.sleep(1)
            before = found
            counts = [await self.ask("Runtime.evaluate", contextId=frame, expression=code) for frame in {*self.frames}]
            found = max((count or 0 for count in counts), default=0)
            if found and found == before:
                break
        return found


async def _counts(port: str, addresses: Sequence[str], selector: str) -> tuple[list[int], list[str]]:
    async with aiohttp.ClientSession() as session:
        pages = await (await session.get(f"http://127.0.0.1:{port}/json/list")).json()
        place = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
        tab = Tab(await session.ws_connect(place, max_msg_size=0))
        for domain in ("Page", "Runtime", "Log"):
            await tab.ask(f"{domain}.enable")
        return [await tab.count(address, selector) for address in addresses], tab.errors


def counts_in_frames(addresses: Sequence[str], selector: str, profile: Path) -> tuple[list[int], list[str]]:
    """For each address how many elements a page framed there has, and the errors of those pages."""
    words = [str(CHROMIUM), *FLAGS, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as browser:
        try:
            assert browser.stderr is not None
            port = next(found[1] for line in browser.stderr if (found := re.search(r"ws://127\.0\.0\.1:(\d+)/", line)))
            return asyncio.run(_counts(port, addresses, selector))
        finally:
            browser.terminate()
